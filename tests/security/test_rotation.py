"""Certificates change under load: nothing is lost, doubled or reordered, and nothing that cannot be used is used."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
from typing import Any

import pytest

from cajun_fast.management.certificates import make_node
from cajun_fast.messaging import renewal
from cajun_fast.messaging.security import Security, Tls
from tests.messaging.nodes import until


class Load:
    """Sends numbers from a to b until it is told to stop."""

    def __init__(self, a: Any, b: Any) -> None:
        self.a, self.b, self.sent = a, b, 0

    async def __aenter__(self) -> Load:
        self.log = await self.b.record("x")
        self._task = asyncio.create_task(self._run())
        return self

    async def _run(self) -> None:
        pid = self.a.pid("x", self.b)
        while True:
            for _ in range(20):
                pid.tell(self.sent)
                self.sent += 1
            await pid.send(self.sent)
            self.sent += 1

    async def more(self) -> None:
        seen = self.sent
        await until(lambda: self.sent > seen + 200)

    async def __aexit__(self, *_: Any) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await until(lambda: not self.a.link(self.b).unsettled)
        assert self.log == list(range(len(self.log)))
        assert self.sent <= len(self.log) <= self.sent + 1
        assert self.a.dead == []


async def pair(office: Any, make_node_with: Any, **options: Any) -> tuple[Any, Any]:
    a, b = [await make_node_with(name, office.security(name, **options)) for name in "ab"]
    a.knows(b)
    b.knows(a)
    return a, b


def shown(node: Any, peer: str) -> Any:
    return node.messaging.peer(peer).connection.tls.certificate.get("serialNumber")


async def test_new_certificates_are_shown_without_a_message_missed(office: Any, make_node_with: Any) -> None:
    a, b = await pair(office, make_node_with)
    async with Load(a, b) as load:
        await load.more()
        for turn in range(6):
            node, other = (a, b) if turn % 2 else (b, a)
            before = shown(other, node.name)
            make_node(office.folder, node.name)
            await until(lambda o=other, n=node.name, s=before: shown(o, n) != s)
            await load.more()
        assert a.messaging.security.reloads + b.messaging.security.reloads >= 6


async def test_the_authority_is_exchanged_in_three_steps(office: Any, make_node_with: Any) -> None:
    """Trust both; new certificates; trust the new one only. Each node at its own time."""
    new = office.other()
    trusted = [office.path / f"ca-{name}.pem" for name in "ab"]
    for path in trusted:
        shutil.copy(office.folder.ca, path)
    securities = [
        Security(tls=Tls(office.files(name, ca=path)), keys=office.keys(), reload_interval=0.05)
        for name, path in zip("ab", trusted, strict=True)
    ]
    a, b = [await make_node_with(name, each) for name, each in zip("ab", securities, strict=True)]
    a.knows(b)
    b.knows(a)

    async def changed(node: Any, change: Any) -> None:
        before = node.messaging.security.reloads
        change()
        await until(lambda: node.messaging.security.reloads > before)

    def replace(name: str) -> None:
        new.files(name)
        os.replace(new.folder.key(name), office.folder.key(name))
        os.replace(new.folder.cert(name), office.folder.cert(name))

    async with Load(a, b) as load:
        await load.more()
        both = office.folder.ca.read_bytes() + new.folder.ca.read_bytes()
        for node, path in zip((a, b), trusted, strict=True):
            await changed(node, lambda path=path: path.write_bytes(both))
        for node in (a, b):
            await changed(node, lambda name=node.name: replace(name))
            await load.more()
        for node, path in zip((a, b), trusted, strict=True):
            await changed(node, lambda path=path: path.write_bytes(new.folder.ca.read_bytes()))
            await load.more()
        assert load.a.link(b).is_up


async def test_files_that_cannot_be_used_leave_what_works(
    office: Any, make_node_with: Any, caplog: pytest.LogCaptureFixture
) -> None:
    a, b = await pair(office, make_node_with)
    good = office.folder.cert("b").read_bytes()
    async with Load(a, b) as load:
        await load.more()
        with caplog.at_level(logging.ERROR):
            office.folder.cert("b").write_bytes(b"half a fi")
            await until(lambda: b.messaging.security.fault)
        assert "the old ones go on" in caplog.text
        assert b.messaging.security.status().fault
        await load.more()
        a.messaging.peer("b").connection.abort()  # new connections are made with the old papers too
        await load.more()
        office.folder.cert("b").write_bytes(good)
        await until(lambda: not b.messaging.security.fault)


async def test_a_connection_ends_with_its_certificate(
    office: Any, make_node_with: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = await pair(office, make_node_with)
    await b.record("x")
    await a.pid("x", b).ask(1)
    first = a.messaging.peer("b").connection
    left = renewal.seconds_left
    monkeypatch.setattr(
        renewal, "seconds_left", lambda end: -1.0 if a.messaging.peer("b").connection is first else left(end)
    )
    await until(lambda: a.messaging.peer("b").connection is not first)
    await a.pid("x", b).ask(2)


async def test_a_key_that_was_taken_away_ends_the_connections_that_it_made(
    office: Any, make_node_with: Any
) -> None:
    a = await make_node_with("a", office.security_with_keys("a", office.secret))
    other = office.path / "b.key"
    other.touch(0o600)
    other.write_text(office.secret.read_text())
    b = await make_node_with("b", office.security_with_keys("b", other))
    a.knows(b)
    await b.record("x")
    await a.pid("x", b).ask(1)
    other.write_text(office.fresh())
    await until(lambda: b.messaging.peer("a").connection is None)
    await until(lambda: not a.link(b).is_up)
