"""An authority, papers for a few nodes, keys; and nodes that use them."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from cajun_fast.management.certificates import Folder, make_authority, make_node
from cajun_fast.messaging.security import Keys, Security, Tls
from cajun_fast.messaging.tls import TlsFiles
from tests.messaging.nodes import Node

pytest.importorskip("cryptography")


class Office:
    """Issues papers for tests, below ``path``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.folder = Folder(path / "certs")
        make_authority(self.folder)
        self.secret = path / "cluster.key"
        self.secret.touch(0o600)
        self.new_keys(self.fresh())

    @staticmethod
    def fresh() -> str:
        return secrets.token_hex(32)

    def new_keys(self, *keys: str) -> None:
        self.secret.write_text("\n".join(keys) + "\n")

    def other(self) -> Office:
        """Another authority, another key."""
        path = self.path / secrets.token_hex(4)
        path.mkdir()
        return Office(path)

    def files(self, node: str, *, ca: Path | None = None, **options: Any) -> TlsFiles:
        make_node(self.folder, node, **options)
        return TlsFiles(str(self.folder.cert(node)), str(self.folder.key(node)), str(ca or self.folder.ca))

    def tls(self, node: str, **options: Any) -> Tls:
        return Tls(self.files(node), **options)

    def keys(self) -> Keys:
        return Keys(file=str(self.secret))

    def security(self, node: str, *, tls: bool = True, auth: bool = True, **options: Any) -> Security:
        return Security(
            tls=self.tls(node) if tls else None,
            keys=self.keys() if auth else None,
            reload_interval=0.05,
            **options,
        )

    def security_with_keys(self, node: str, path: Path) -> Security:
        return Security(keys=Keys(file=str(path)), reload_interval=0.05)


@pytest.fixture
def office(tmp_path: Path) -> Office:
    return Office(tmp_path)


@pytest.fixture
async def make_node_with() -> AsyncIterator[Callable[..., Awaitable[Node]]]:
    made: list[Node] = []

    async def make(name: str, security: Security | None, incarnation: int = 1, **options: Any) -> Node:
        node = await Node(name, incarnation, security=security, **options).start()
        made.append(node)
        return node

    yield make
    for node in reversed(made):
        await node.stop()
