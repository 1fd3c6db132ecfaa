"""What a node shows and what it asks of others, as one object: papers, keys, rights.

Laws: loaded before anything listens; loaded again when the files have changed, and then as a whole or not at all: what
cannot be used leaves what works in place, is logged, and is told by ``status``. Secrets come from a file or from the
environment; they are in no repr, no log and no error.
"""

from __future__ import annotations

import logging
import os
import ssl
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cajun_fast.access import AccessRule
from cajun_fast.errors import ConfigError
from cajun_fast.messaging.access import Rights
from cajun_fast.messaging.auth import KeyRing
from cajun_fast.messaging.tls import Papers, TlsFiles, papers_from, papers_of, seconds_left

log = logging.getLogger("cajun_fast.messaging")


@dataclass(frozen=True, slots=True)
class SecurityStatus:
    """For health and metrics. ``certificate_seconds``: until this node's certificate ends; None without one.
    ``fault``: why the newest files are not in use, "" if they are."""

    tls: bool
    authentication: bool
    authorization: bool
    certificate_seconds: float | None
    certificate_expires: float | None
    keys: int
    reloads: int
    fault: str


class Tls:
    """Where papers come from: files, or contexts that were made elsewhere (and are never read again)."""

    def __init__(
        self,
        files: TlsFiles | None = None,
        *,
        context: ssl.SSLContext | None = None,
        client_context: ssl.SSLContext | None = None,
        minimum: str = "1.2",
        mutual: bool = True,
        check_host: bool = True,
    ) -> None:
        """Raises ConfigError unless it is either files or both contexts."""
        if (files is None) == (context is None) or (context is None) != (client_context is None):
            raise ConfigError(
                "TLS takes either the files cert, key and ca, or two contexts: context for nodes that dial this one, "
                "client_context for those that it dials"
            )
        self.files = files
        self._contexts = (context, client_context)
        self._minimum, self.mutual, self._check_host = minimum, mutual, check_host

    def read(self) -> bytes:
        """What there is now, to be compared. Raises ConfigError."""
        return b"" if self.files is None else self.files.read()

    def papers(self, node_id: str) -> Papers:
        """Contexts of what there is now. Raises ConfigError."""
        if self.files is not None:
            return papers_of(
                self.files, node_id, minimum=self._minimum, mutual=self.mutual, check_host=self._check_host
            )
        context, client_context = self._contexts
        assert context is not None
        assert client_context is not None
        return papers_from(context, client_context, node_id, mutual=self.mutual)


class Keys:
    """Where the key ring comes from: a file, or a variable of the environment."""

    def __init__(self, *, file: str | None = None, env: str | None = None) -> None:
        """Raises ConfigError unless it is one of them."""
        if (file is None) == (env is None):
            raise ConfigError(
                "authentication takes its keys from a file or from a variable of the environment: name one"
            )
        self.file, self.env = file, env

    def ring(self) -> KeyRing:
        """The keys of now. Raises ConfigError naming where they come from, never what they are."""
        if self.env is not None:
            text = os.environ.get(self.env, "")
            where = f"the variable {self.env}"
        else:
            assert self.file is not None
            text = _secret(self.file)
            where = f"the key file {self.file!r}"
        try:
            return KeyRing.parse(text)
        except ConfigError as error:
            raise ConfigError(f"{where}: {error}") from None


def _secret(name: str) -> str:
    try:
        path = Path(name)
        if path.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH | stat.S_IROTH):
            log.warning("the key file %r can be read or written by others: chmod 600 it", name)
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise ConfigError(f"the key file {name!r} cannot be read: {reason}") from None


class Security:
    """One per node. Without arguments: everybody comes in, nothing is hidden."""

    def __init__(
        self,
        *,
        tls: Tls | None = None,
        keys: Keys | None = None,
        rules: Iterable[AccessRule] = (),
        reload_interval: float = 10.0,
    ) -> None:
        self._tls, self._keys = tls, keys
        self._rules = tuple(rules)
        self._seen: bytes | None = None
        self.reload_interval = reload_interval
        self.papers: Papers | None = None
        self.ring: KeyRing | None = None
        self.reloads = 0
        self.fault = ""

    def __repr__(self) -> str:
        return f"<Security: tls={self._tls is not None}, keys={self._keys is not None}, rules={len(self._rules)}>"

    @property
    def is_on(self) -> bool:
        """Whether there is TLS or authentication."""
        return self._tls is not None or self._keys is not None

    @property
    def gap(self) -> str:
        """What stands open where others can connect; "" if nothing does."""
        if self._tls is None and self._keys is None:
            return (
                "without TLS and without authentication: whoever can connect is a member, "
                "and whoever sits on the way reads and changes what is said"
            )
        if self._tls is None:
            return "without TLS: whoever sits on the way reads and changes what is said"
        if self._keys is None and not self._tls.mutual:
            return "without authentication: whoever can connect is a member"
        return ""

    @property
    def may_change(self) -> bool:
        """Whether there is anything to be read again."""
        return self._keys is not None or (self._tls is not None and self._tls.files is not None)

    def load(self, node_id: str) -> None:
        """Read everything. Raises ConfigError, and then nothing has changed."""
        seen = None if self._tls is None else self._tls.read()
        papers = self.papers
        if self._tls is not None and (papers is None or seen != self._seen):
            papers = self._tls.papers(node_id)
        ring = None if self._keys is None else self._keys.ring()
        self.papers, self.ring, self._seen = papers, ring, seen

    def reload(self, node_id: str) -> bool:
        """Read again what has changed; returns whether it did. Never raises."""
        before = self.papers, self.ring
        try:
            self.load(node_id)
        except ConfigError as error:
            if self.fault != str(error):
                log.error("new certificates or keys are not used, the old ones go on: %s", error)
            self.fault = str(error)
            return False
        self.fault = ""
        if before == (self.papers, self.ring):
            return False
        self.reloads += 1
        log.info("certificates and keys were read again")
        return True

    def rights(self, peer: str) -> Rights | None:
        """What a peer may do; None: everything."""
        return Rights(peer, self._rules) if self._rules else None

    def status(self) -> SecurityStatus:
        """As it is now."""
        expires = None if self.papers is None else self.papers.expires
        return SecurityStatus(
            self._tls is not None, self._keys is not None, bool(self._rules), seconds_left(expires), expires,
            0 if self.ring is None else len(self.ring), self.reloads, self.fault,
        )  # fmt: skip
