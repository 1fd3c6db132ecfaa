"""What ``doctor`` looks at: this installation, a node's settings, the store, and the cluster as its nodes tell it.

Laws: read-only, but that a file of SQLite which is not there yet is made, as a node would; every finding that is not
well has a remedy; each check is bounded in time.
"""

from __future__ import annotations

import asyncio
import dataclasses
import importlib.util
import os
import re
import resource
import socket
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from cajun_fast.cluster.factory import ClusterFactory
from cajun_fast.cluster.security import security_of
from cajun_fast.cluster.settings import store_of
from cajun_fast.cluster.system import ClusterActorSystem
from cajun_fast.config import ClusterConfig
from cajun_fast.errors import CajunError, RemoteActorError
from cajun_fast.management.operations import Operations
from cajun_fast.metadata.urls import redact
from cajun_fast.persistence.registry import open_persistence
from cajun_fast.ports import Ports

#: Seconds that a certificate should still hold.
SOON = 14 * 86_400
#: Seconds by which wall clocks may differ before certificates and logs mislead.
CLOCKS_APART = 2.0
#: Seconds that a store may take for one read before leases suffer.
SLOW_STORE = 0.25
#: The first etcd of 3.5 without the faults that lose data.
SOUND_ETCD = (3, 5, 6)
UPGRADE_ETCD = "upgrade its members one by one to 3.5.6 or later"
#: Seconds that a persistence has for an answer.
PATIENCE = 10.0
#: Open files: each link and each connection is one.
FILES = 4096


@dataclass(frozen=True, slots=True)
class Finding:
    """``level``: ok, hint, bad."""

    level: str
    subject: str
    text: str
    remedy: str = ""


class Findings:
    """All of them, in the order of the checks."""

    def __init__(self) -> None:
        self._list: list[Finding] = []

    def ok(self, subject: str, text: str) -> None:
        self._list.append(Finding("ok", subject, text))

    def hint(self, subject: str, text: str, remedy: str) -> None:
        self._list.append(Finding("hint", subject, text, remedy))

    def bad(self, subject: str, text: str, remedy: str) -> None:
        self._list.append(Finding("bad", subject, text, remedy))

    @property
    def well(self) -> bool:
        return not any(each.level == "bad" for each in self._list)

    def plain(self) -> list[dict[str, Any]]:
        return [dataclasses.asdict(each) for each in self._list]


async def diagnose(client: ClusterConfig, node: ClusterConfig | None, findings: Findings) -> None:
    """Everything. ``client``: how to get into the cluster; ``node``: the settings of a node of this machine."""
    check_installation(findings)
    if node is not None:
        findings.ok("configuration", f"node {node.system_id!r} of cluster {node.cluster_name!r}")
        check_imports(node, findings)
        check_certificates(node, findings)
        check_http(node, findings)
        await check_persistence(node, findings)
    if not await check_store(client, findings):
        return
    try:
        async with ClusterFactory.create_cluster_system(client) as system:
            await check_cluster(system, findings, node)
    except CajunError as error:
        findings.bad("cluster", f"it cannot be joined: {error}", "see what the error names")


# ---- this machine --------------------------------------------------------------------------------------------------


def check_installation(findings: Findings) -> None:
    findings.ok("python", sys.version.split()[0])
    if importlib.util.find_spec("uvloop") is None:
        findings.hint("uvloop", "it is not installed: asyncio's own loop is slower", "pip install uvloop")
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if files != resource.RLIM_INFINITY and files < FILES:
        findings.hint(
            "open files",
            f"a process may open {files} files",
            f"ulimit -n {FILES}, or LimitNOFILE= in systemd",
        )


def check_imports(node: ClusterConfig, findings: Findings) -> None:
    """Whether the modules of actor types are found; they are not run."""
    for name in node.imports:
        try:
            found = importlib.util.find_spec(name) is not None
        except (ImportError, ValueError):  # of its package
            found = False
        if not found:
            findings.bad(
                "imports",
                f"module {name!r} is not found from {os.getcwd()}",
                "correct its name, start in its folder, or add that folder to PYTHONPATH",
            )


async def check_persistence(node: ClusterConfig, findings: Findings) -> None:
    """Whether durable actors of that node could keep their state."""
    if node.persistence is None:
        return
    try:
        async with asyncio.timeout(PATIENCE), open_persistence(node.persistence) as kept:
            await kept.ids(limit=1)
    except CajunError as error:
        findings.bad("persistence", str(error), "start it, or correct the setting persistence")
    except TimeoutError:
        findings.bad(
            "persistence",
            f"{redact(node.persistence)} gave no answer within {PATIENCE:g} s",
            "start it, or correct the setting persistence",
        )
    else:
        findings.ok("persistence", f"{redact(node.persistence)} answers")


def check_certificates(node: ClusterConfig, findings: Findings) -> None:
    security = security_of(node)
    try:
        security.load(node.system_id)
    except CajunError as error:
        findings.bad("certificates", str(error), "cajun-fast cert makes certificates and keys for a cluster")
        return
    status = security.status()
    if not status.tls and not status.authentication:
        findings.hint(
            "security",
            "links are neither encrypted nor authenticated",
            "fine on one machine; else see docs/security.md",
        )
    left = status.certificate_seconds
    if left is not None and left < SOON:
        findings.bad(
            "certificates",
            f"this node's holds for {left / 86_400:.1f} more days",
            "renew it: cajun-fast cert",
        )
    elif left is not None:
        findings.ok("certificates", f"this node's holds for {left / 86_400:.0f} more days")


def check_http(node: ClusterConfig, findings: Findings) -> None:
    if node.http.listen is None:
        return
    try:
        from cajun_fast.management.http import HttpSettings

        HttpSettings.of(node.http)
    except ImportError as error:
        findings.bad("http", f"packages are missing: {error}", "pip install 'cajun-fast[http]'")
    except CajunError as error:
        findings.bad("http", str(error), "correct that setting")
    else:
        findings.ok("http", f"management is served at {node.http.listen}")


# ---- the store -----------------------------------------------------------------------------------------------------


async def check_store(client: ClusterConfig, findings: Findings) -> bool:
    """Whether it answers."""
    store = store_of(client, Ports())
    try:
        await store.connect()
        took = [await timed(store.ping) for _ in range(5)]
        check_server(await store.server_version(), findings)
    except CajunError as error:
        findings.bad("store", str(error), "start it, or correct --store")
        return False
    finally:
        await store.close()
    slowest = max(took)
    if slowest > SLOW_STORE:
        findings.hint(
            "store",
            f"it took {slowest:.2f} s for one answer: leases may run out under load",
            "give it a faster disk or less to do, or raise membership.lease_ttl",
        )
    else:
        findings.ok("store", f"it answers within {slowest * 1e3:.1f} ms")
    return True


def check_server(version: str | None, findings: Findings) -> None:
    """Of etcd: whether it keeps what it is told to keep."""
    if version is None:
        return
    numbers = tuple(int(each) for each in re.findall(r"\d+", version)[:3])
    if (3, 5) <= numbers < SOUND_ETCD:
        findings.bad("etcd", f"version {version} can corrupt its data under load", UPGRADE_ETCD)
    elif numbers < (3, 5):
        findings.hint("etcd", f"version {version} is old and gets no more corrections", UPGRADE_ETCD)
    else:
        findings.ok("etcd", f"version {version}")


async def timed(call: Callable[[], Awaitable[Any]]) -> float:
    """Seconds that a call takes."""
    began = time.perf_counter()
    await call()
    return time.perf_counter() - began


# ---- the cluster ---------------------------------------------------------------------------------------------------


async def check_cluster(
    system: ClusterActorSystem, findings: Findings, node: ClusterConfig | None = None
) -> None:
    ask = Operations(system)
    rows = [row for row in await ask.nodes() if row["node"] != system.node_id]
    if not rows:
        findings.hint(
            "cluster", f"no node of {system.config.cluster_name!r} lives", "cajun-fast node starts one"
        )
        check_port(node, None, findings)
        return
    check_port(node, next((row for row in rows if node and row["node"] == node.system_id), None), findings)
    if not any(row["is_leader"] for row in rows):
        findings.bad(
            "leader",
            "nobody leads",
            "wait a lease long; if it stays so, look at the nodes' logs and the store",
        )
    else:
        findings.ok("leader", next(row["node"] for row in rows if row["is_leader"]))
    check_versions(rows, system.version, findings)
    names = [row["node"] for row in rows]
    reports = await ask.manager.inspect_nodes("report", nodes=names, timeout=3.0)
    told = [link for each in reports.values() if isinstance(each, dict) for link in each["links"]]
    stuck = {
        link["peer"] for link in told if link["state"] == "stuck"
    }  # this command has come too late to see it
    for name in names:
        check_node(name, reports[name], findings, is_stuck=name in stuck)
    await check_clocks(ask, names, findings)


def check_port(node: ClusterConfig | None, living: dict[str, Any] | None, findings: Findings) -> None:
    """Whether the node of this machine could listen, if it does not run."""
    if node is None or node.messaging.port == 0 or living is not None:
        return
    host, port = node.messaging.host, node.messaging.port
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as door:
        door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            door.bind((host, port))
        except OSError as error:
            findings.bad(
                "port", f"{host}:{port}: {error.strerror}", "free it, or set messaging.port to another one"
            )
        else:
            findings.ok("port", f"{host}:{port} is free for node {node.system_id!r}")


def check_versions(rows: list[dict[str, Any]], mine: str, findings: Findings) -> None:
    versions = {row["version"] for row in rows}
    if versions == {mine}:
        findings.ok("versions", f"all of {len(rows)} nodes are {mine}")
        return
    said = ", ".join(f"{row['node']}: {row['version']}" for row in rows)
    findings.hint(
        "versions", f"{said}; this command: {mine}", "cajun-fast roll brings all nodes to one version"
    )


def check_node(name: str, report: Any, findings: Findings, *, is_stuck: bool = False) -> None:
    """What one node says of itself."""
    if isinstance(report, RemoteActorError):
        findings.bad(
            f"node {name}",
            f"it cannot say how it is: {report.type_name}: {report.text}",
            "its log says more; nodes of one version understand each other",
        )
        return
    if isinstance(report, CajunError) and is_stuck:
        findings.bad(
            f"node {name}",
            "its process lives, and its event loop stands: a handler does not return",
            "py-spy dump --pid shows which; where it answers again, cajun-fast top does",
        )
        return
    if isinstance(report, CajunError):
        findings.bad(f"node {name}", str(report), "is its process stuck, or its port closed by a firewall?")
        return
    well = True
    for check, passed in report["health"].items():
        if not passed:
            well = False
            findings.bad(
                f"node {name}", f"{check.replace('_', ' ')} is not well", REMEDIES.get(check, "see its log")
            )
    for link in report["links"]:
        if link["breaker"] != "closed":
            well = False
            findings.bad(
                f"node {name}",
                f"cannot reach {link['peer']}",
                "is that node alive, and its address right for this host?",
            )
    if report["dead_letters"]:
        said = ", ".join(f"{why}: {count}" for why, count in report["dead_letters"].items())
        findings.hint(f"node {name}", f"dead letters ({said})", "cajun-fast dead-letters shows them")
    if well:
        findings.ok(f"node {name}", f"{report['actors']} actors, {report['handled']} messages handled")


REMEDIES = {
    "metadata_store": "start the store, or mend the way to it",
    "membership": "the node is fenced: it comes back by itself when the store answers",
    "messaging": "no link stands: look at addresses and firewalls",
    "event_loop": "a handler holds the loop: cajun-fast top shows which",
}


async def check_clocks(ask: Operations, names: list[str], findings: Findings) -> None:
    """Wall clocks: nothing in the cluster goes by them, but certificates do, and whoever reads logs."""
    apart: dict[str, float] = {}
    for name in names:
        before = time.time()
        try:
            answer = await ask.manager.inspect(name, "wall-clock", timeout=3.0)
        except CajunError:
            continue  # that it does not answer was said
        after = time.time()
        apart[name] = max(0.0, before - answer, answer - after)
    wrong = {name: gap for name, gap in apart.items() if gap > CLOCKS_APART}
    if wrong:
        said = ", ".join(f"{name}: {gap:.1f} s" for name, gap in wrong.items())
        findings.hint(
            "clocks", f"they differ from this machine's ({said})", "run chrony or systemd-timesyncd on all"
        )
    elif apart:
        findings.ok("clocks", f"{len(apart)} nodes and this machine agree")
