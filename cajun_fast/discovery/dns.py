"""Nodes as DNS names them: SRV records, or A and AAAA, as a headless Kubernetes service gives.

Laws: asks and remembers nothing; how long an answer holds is the resolver's business. No records are an empty answer;
a name that does not exist, a server that fails or is silent is DiscoveryError.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from cajun_fast.config import NodeAddress
from cajun_fast.errors import ConfigError, DiscoveryError


def first_label(host: str) -> str:
    """``worker-2.workers.example.`` → ``worker-2``: the pod's name, which is its node's id there."""
    return host.partition(".")[0]


class DnsDiscovery:
    """Asks for ``_service._proto.name`` as SRV, where port and node id (the target's first label) come from the answer;
    for any other name as A and AAAA, where the port has to be given and the id is the address itself. ``id_of`` makes
    another id of the target or address.
    """

    def __init__(
        self,
        name: str,
        *,
        port: int | None = None,
        id_of: Callable[[str], str] | None = None,
        timeout: float = 2.0,
        resolver: Any = None,
    ) -> None:
        """``resolver``: of ``dns.asyncresolver``, instead of the machine's. Raises ConfigError for a name without
        a port that is no service, and where the extra is not installed.
        """
        self._is_service = name.startswith("_")
        if not name.strip(".") or (port is None and not self._is_service):
            raise ConfigError(
                f"DNS name {name!r} names no service, so the port has to be given: dns://{name}:8080, or "
                f"dns://_cajun._tcp.{name} for SRV records"
            )
        self.name = name
        self._port = port
        self._id_of = id_of or (first_label if self._is_service else str)
        self._timeout = timeout
        self._dns = _library()
        self._resolver = resolver or self._dns.asyncresolver.Resolver()

    @classmethod
    def from_url(cls, url: str) -> DnsDiscovery:
        """``dns://_service._proto.name`` or ``dns://name:port``. Raises ConfigError."""
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError as exc:
            raise ConfigError(f"discovery {url!r} cannot be read: {exc}") from exc
        if parts.scheme != "dns" or not host or parts.path not in ("", "/"):
            raise ConfigError(
                f"discovery {url!r} is unknown: write dns://_service._tcp.name or dns://name:port"
            )
        return cls(host, port=port)

    async def find(self) -> Mapping[str, NodeAddress]:
        if self._is_service:
            found = {}
            for record in await self._ask("SRV"):
                host = record.target.to_text().rstrip(".")
                if host:  # "." says that there is decidedly no such service
                    found[self._id_of(host)] = NodeAddress(host, self._port or record.port)
            return found
        assert self._port is not None
        hosts = [record.address for kind in ("A", "AAAA") for record in await self._ask(kind)]
        return {self._id_of(host): NodeAddress(host, self._port) for host in hosts}

    async def _ask(self, kind: str) -> Any:
        try:
            answer = await self._resolver.resolve(
                self.name, kind, lifetime=self._timeout, raise_on_no_answer=False
            )
        except (self._dns.exception.DNSException, OSError) as exc:
            raise DiscoveryError(
                f"DNS does not say where nodes of {self.name!r} are ({kind}): {exc}"
            ) from exc
        return answer.rrset or ()


def _library() -> Any:
    try:
        import dns.asyncresolver
        import dns.exception
    except ImportError as exc:
        raise ConfigError("discovery by DNS needs a library: pip install 'cajun-fast[dns]'") from exc
    return dns
