"""etcd's URLs: endpoints, https or not, user and password.

Laws: pure functions; what is shown never holds a secret.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from urllib.parse import unquote, urlsplit

from cajun_fast.errors import ConfigError
from cajun_fast.metadata.options import StoreOptions
from cajun_fast.metadata.urls import redact

PORT = 2379
_FORM = "http://host:2379, https://host:2379, or several with commas between"


@dataclass(frozen=True, slots=True)
class Endpoints:
    addresses: tuple[str, ...]
    secure: bool
    #: The URL without secrets.
    shown: str
    #: With the user and password of the URL, if it had them.
    options: StoreOptions


def endpoints_of(given: str | Sequence[str], options: StoreOptions) -> Endpoints:
    """``http://h:1,http://i:2`` or ``http://h:1,i:2``; raises ConfigError with the remedy."""
    texts = (
        given.split(",") if isinstance(given, str) else [part for text in given for part in text.split(",")]
    )
    if not texts or not texts[0]:
        raise ConfigError(f"etcd: there is no endpoint: write {_FORM}")
    schemes, addresses = set(), []
    scheme = "http"
    for text in texts:
        scheme, address, options = _endpoint(text.strip(), scheme, options)
        schemes.add(scheme)
        addresses.append(address)
    if len(schemes) > 1:
        raise ConfigError("etcd: some endpoints are http and some https: use one of the two for all")
    return Endpoints(tuple(addresses), scheme == "https", f"{scheme}://{','.join(addresses)}", options)


def _endpoint(text: str, scheme: str, options: StoreOptions) -> tuple[str, str, StoreOptions]:
    shown = redact(text if "://" in text else f"{scheme}://{text}")
    try:
        parts = urlsplit(text if "://" in text else f"{scheme}://{text}")
        host, port = parts.hostname, parts.port
    except ValueError as exc:
        raise ConfigError(f"etcd endpoint {shown!r}: {redact(str(exc))}: write {_FORM}") from None
    scheme = "http" if parts.scheme == "etcd" else parts.scheme
    if scheme not in ("http", "https") or not host or parts.path.strip("/") or parts.query:
        raise ConfigError(f"etcd endpoint {shown!r} is not of the form {_FORM}")
    if parts.username is not None:
        options = replace(options, user=unquote(parts.username), password=unquote(parts.password or ""))
    return scheme, f"[{host}]:{port or PORT}" if ":" in host else f"{host}:{port or PORT}", options
