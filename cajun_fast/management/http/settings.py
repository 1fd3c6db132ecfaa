"""How management over HTTP is served and guarded: from the settings of a node, or in code.

Laws: read once, before anything is opened; what would leave a door open is an error that names the remedy. A secret
stands in no message and no ``repr``.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cajun_fast.config import HttpConfig
from cajun_fast.errors import ConfigError

#: Names by which a machine calls itself.
LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
#: Characters that a token must have at least: 128 bits in base64.
SHORTEST_TOKEN = 16


@dataclass(frozen=True, slots=True)
class HttpSettings:
    """``token``: None where none is wanted. ``names``: hosts under which it may be called; empty: any."""

    host: str = "127.0.0.1"
    port: int = 0
    writable: bool = False
    token: str | None = field(default=None, repr=False)
    certificate: str | None = None
    key: str | None = None
    client_ca: str | None = None
    names: tuple[str, ...] = LOOPBACK

    @classmethod
    def of(cls, config: HttpConfig, environ: Mapping[str, str] | None = None) -> HttpSettings:
        """From the group ``http`` of a node's configuration. Raises ConfigError."""
        host, port = _listen(config.listen or "127.0.0.1:0")
        token = _token(config, os.environ if environ is None else environ)
        _check_files(config)
        if not is_loopback(host) and token is None and config.client_ca is None:
            raise ConfigError(
                f"setting http.listen={config.listen!r} is wrong: other machines can call there, and nobody is asked "
                "who he is; set http.token_file (or http.token_env), or http.client_ca with http.certificate, or "
                "listen on 127.0.0.1"
            )
        own = () if host in ("0.0.0.0", "::") else (f"[{host}]" if ":" in host else host,)
        return cls(
            host,
            port,
            config.writable,
            token,
            config.certificate,
            config.key,
            config.client_ca,
            tuple(dict.fromkeys((*LOOPBACK, *own, *config.names))),
        )


def is_loopback(host: str) -> bool:
    """Whether only this machine can call there."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _listen(address: str) -> tuple[str, int]:
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isdecimal() or int(port) > 65535:
        raise ConfigError(
            f"setting http.listen={address!r:.200} is wrong: give host:port, e.g. 127.0.0.1:8090; port 0: any free one"
        )
    return host.strip("[]"), int(port)


def _token(config: HttpConfig, environ: Mapping[str, str]) -> str | None:
    if config.token_file is not None and config.token_env is not None:
        raise ConfigError("settings http.token_file and http.token_env are both set: keep one")
    if config.token_file is not None:
        where = f"http.token_file={config.token_file!r}"
        try:
            text = Path(config.token_file).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as exc:
            raise ConfigError(f"setting {where} is wrong: the file cannot be read: {exc}") from exc
        return _checked(text.strip().partition("\n")[0].strip(), where)
    if config.token_env is not None:
        where = f"http.token_env={config.token_env!r}"
        if config.token_env not in environ:
            raise ConfigError(f"setting {where} is wrong: there is no such variable; set it to the token")
        return _checked(environ[config.token_env].strip(), where)
    return None


def _checked(token: str, where: str) -> str:
    if len(token) < SHORTEST_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
        raise ConfigError(
            f"setting {where} is wrong: the token there must have {SHORTEST_TOKEN} or more printable ASCII characters "
            "without spaces; make one with: openssl rand -base64 32"
        )
    return token


def _check_files(config: HttpConfig) -> None:
    if (config.certificate is None) != (config.key is None):
        raise ConfigError("settings http.certificate and http.key go together: set both, or neither")
    if config.client_ca is not None and config.certificate is None:
        raise ConfigError(
            f"setting http.client_ca={config.client_ca!r} is wrong: client certificates need HTTPS; set "
            "http.certificate and http.key too"
        )
    for name in ("certificate", "key", "client_ca"):
        path = getattr(config, name)
        if path is not None and not os.access(path, os.R_OK):
            raise ConfigError(
                f"setting http.{name}={path!r} is wrong: there is no such file that can be read"
            )
