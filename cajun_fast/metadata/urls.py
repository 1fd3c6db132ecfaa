"""Store URLs: taking them apart, and saying them without their secrets.

Laws: pure functions; an error never shows a password.
"""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, unquote, urlsplit

from cajun_fast.errors import ConfigError

_SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*)://")
#: A password may hold signs that somebody forgot to encode: everything up to the last @ goes, rather a host
#: too many.
_USERINFO = re.compile(r"(?<=://).*@")
_SECRET = re.compile(r"(?i)((?:password|token|secret|key)=)[^&,#]*")


def scheme_of(url: str) -> str:
    """In lower case; raises ConfigError for text that is no URL."""
    found = _SCHEME.match(url)
    if found is None:
        raise ConfigError(
            f"store {redact(url)!r} is not a URL: write memory://, sqlite:///cluster.db or http://host:2379"
        )
    return found[1].lower()


def redact(url: str) -> str:
    """The URL without user, password and secret parameters: what logs and messages may show."""
    return _SECRET.sub(r"\1…", _USERINFO.sub("", url))


def split_path(url: str) -> tuple[str, dict[str, str]]:
    """Path and parameters of ``scheme:///path?name=value``: three slashes relative, four absolute."""
    parts = urlsplit(url)
    if parts.netloc:
        raise ConfigError(
            f"store {redact(url)!r} names a host {parts.hostname!r}: write sqlite:/// (three slashes) before "
            "a relative path, sqlite://// (four) before an absolute one"
        )
    path = unquote(parts.path[1:])
    if not path:
        raise ConfigError(f"store {redact(url)!r} names no file: write sqlite:///folder/cluster.db")
    return path, dict(parse_qsl(parts.query, keep_blank_values=True))
