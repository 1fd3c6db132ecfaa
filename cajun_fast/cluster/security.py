"""From settings to what a node shows and asks of others, and what is seen of it in health and metrics.

Laws: nothing is read before a node starts; a node without TLS and keys shows nothing of this.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from cajun_fast.config import ClusterConfig
from cajun_fast.messaging.door import Cause
from cajun_fast.messaging.security import Keys, Security, Tls
from cajun_fast.messaging.tls import TlsFiles

if TYPE_CHECKING:
    from cajun_fast.cluster.node import Node

#: Causes that have a gauge: all others stand in refused_connections.
SHOWN = (Cause.TLS, Cause.AUTH, Cause.SLOW, Cause.HANDSHAKES, Cause.FORBIDDEN)


def security_of(config: ClusterConfig) -> Security:
    """What a node shows and asks of others. Nothing is read before its links open."""
    said = config.security
    files = None if said.tls_files is None else TlsFiles(*said.tls_files)
    tls = (
        Tls(
            files,
            context=said.tls_context,
            client_context=said.tls_client_context,
            minimum=said.tls_minimum,
            mutual=said.tls_mutual,
            check_host=said.tls_check_host,
        )
        if said.has_tls
        else None
    )
    keys = Keys(file=said.key_file, env=said.key_env) if said.has_keys else None
    return Security(tls=tls, keys=keys, rules=said.allow, reload_interval=said.reload_interval)


def show_security(node: Node) -> None:
    """Have the node's metrics show when its certificate ends, whether its newest files are in use, and whom it turned
    down for what."""
    security, metrics = node.security, node.metrics
    if not security.is_on:
        return
    metrics.add_gauge("tls_certificate_expiry_seconds", lambda: security.status().certificate_seconds)
    metrics.add_gauge("security_files_in_use", lambda: float(not security.fault))
    metrics.add_gauge("handshakes_under_way", lambda: float(node.messaging.door.half_open))
    for cause in SHOWN:
        metrics.add_gauge(f"refused_{cause.name.lower()}", partial(_refused, node, cause))


def _refused(node: Node, cause: Cause) -> float:
    return float(node.messaging.door.turned_down[cause])


def is_secure(node: Node) -> bool:
    """For health: the certificate counts, and the newest files are in use."""
    status = node.security.status()
    return not status.fault and (status.certificate_seconds is None or status.certificate_seconds > 0)
