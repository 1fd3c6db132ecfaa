"""What etcd's and gRPC's refusals mean: try again, log in again, or tell the caller; never a gRPC traceback.

Laws: pure functions over (code, text). Text from etcd is matched by the parts that have not changed from 3.4
to 3.6.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass

from cajun_fast.errors import CajunError, CompactedError, ConfigError, LeaseLostError, MetadataStoreError


class Cure(enum.Enum):
    RETRY = "retry"  # no answer, or none yet: may or may not have been applied
    LOGIN = "login"  # the token is not known (any more): surely not applied
    NONE = "none"  # refused for good


@dataclass(frozen=True, slots=True)
class Fault:
    """One failed call."""

    code: str  # name of the gRPC status code
    text: str
    cure: Cure
    #: Whether the server is known not to have applied it.
    unapplied: bool = False

    def __str__(self) -> str:
        return f"{self.code}: {self.text}"


_TRANSIENT = {"UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED", "ABORTED", "INTERNAL", "UNKNOWN"}
#: Said before anything was proposed to the cluster.
_UNAPPLIED = (
    "no leader",
    "too many requests",
    "connection refused",
    "failed to connect",
    "not ready",
    "not capable",
)
_REFUSED = ("permission denied", "compacted", "space exceeded", "too many operations", "request is too large")


def diagnose(code: str, text: str) -> Fault:
    text = _brief(text)
    lower = text.lower()
    if code == "UNAUTHENTICATED" or "invalid auth token" in lower or "auth revision" in lower:
        return Fault(code, text, Cure.LOGIN, unapplied=True)
    if any(phrase in lower for phrase in _REFUSED):
        return Fault(code, text, Cure.NONE, unapplied=True)
    if code in _TRANSIENT or (code == "RESOURCE_EXHAUSTED" and "too many requests" in lower):
        return Fault(code, text, Cure.RETRY, any(phrase in lower for phrase in _UNAPPLIED))
    return Fault(code, text, Cure.NONE, unapplied=True)


def _brief(text: str | None) -> str:
    """gRPC repeats its addresses and error trees: keep the end of the story."""
    text = re.sub(r"\s+", " ", text or "no text").strip()
    found = re.search(r"last error: (.*)$", text)
    return (found[1] if found else text)[:300]


def refusal(fault: Fault, store: str, operation: str) -> CajunError:
    """The error for the caller of what is refused for good."""
    lower = fault.text.lower()
    where = f"etcd at {store} refused {operation} ({fault.text})"
    if "requested lease not found" in lower:
        return LeaseLostError(f"{where}: the lease is over, take a new one")
    if "compacted" in lower:
        return CompactedError(f"{where}: list again and go on from there")
    if "user name is empty" in lower:
        return ConfigError(f"{where}: it wants to know who asks, give user and password")
    if "authentication failed" in lower:
        return ConfigError(f"{where}: check user and password")
    if "permission denied" in lower:
        return MetadataStoreError(f"{where}: grant the user's role readwrite on the prefix /cajun/<cluster>/")
    if "space exceeded" in lower:
        return MetadataStoreError(
            f"{where}: compact, defragment, then 'etcdctl alarm disarm'; raise the quota"
        )
    if "too many operations" in lower:
        return MetadataStoreError(f"{where}: split the transaction, or raise the server's --max-txn-ops")
    if "too large" in lower or "larger than max" in lower:
        return MetadataStoreError(f"{where}: split it, or raise the server's --max-request-bytes")
    return MetadataStoreError(f"{where}: {fault.code}")


def remedy(text: str) -> str:
    """What to do about an etcd that does not answer."""
    lower = text.lower()
    if "certificate" in lower or "ssl" in lower or "tls" in lower or "handshake" in lower:
        return "check ca_file, cert_file and key_file, and the names in the server's certificate"
    if "no leader" in lower or "timed out" in lower or "leader changed" in lower:
        return "a majority of its members must run: etcdctl endpoint status --cluster"
    if "name resolution" in lower or "dns" in lower:
        return "the host's name is not known: correct the URL"
    return "check that etcd runs there and that the URL is right: etcdctl --endpoints=<url> endpoint health"
