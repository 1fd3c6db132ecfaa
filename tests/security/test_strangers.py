"""What a stranger can take up is small, bounded and given back: connections, time, memory, lines of the log."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import resource
import socket
import time
from typing import Any

import pytest

from cajun_fast.messaging.door import LINES_AT_ONCE, Cause
from tests.messaging.nodes import until
from tests.security.outsider import Outsider, frame, hello

MODES = pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])


def resident() -> int:
    """Bytes of this process that are in memory."""
    with open("/proc/self/statm") as stream:
        return int(stream.read().split()[1]) * resource.getpagesize()


def stranger(port: int, address: str = "127.0.0.2") -> socket.socket:
    """A connection from another address of this machine."""
    return socket.create_connection(("127.0.0.1", port), timeout=5, source_address=(address, 0))


async def attempt(talk: Any) -> Any:
    return await asyncio.wait_for(asyncio.to_thread(talk), 50)


@MODES
async def test_who_sends_nothing_or_one_byte_at_a_time_is_cut_off(
    office: Any, make_node_with: Any, tls: bool
) -> None:
    b = await make_node_with("b", office.security("b", tls=tls), handshake_timeout=0.4)
    drip = hello("x", "b") if not tls else b"\x16\x03\x01\x01\x00\x01" + bytes(200)

    def talk(data: bytes) -> float:
        begin = time.monotonic()
        with stranger(b.address.port) as slow:
            slow.settimeout(0.05)
            for i in range(200):
                with contextlib.suppress(TimeoutError):
                    if data:
                        slow.send(data[i : i + 1])
                    if slow.recv(1) == b"":
                        break
        return time.monotonic() - begin

    def safe(data: bytes) -> float:
        begin = time.monotonic()
        try:
            return talk(data)
        except ConnectionError:
            return time.monotonic() - begin

    for data in (b"", drip):
        assert await attempt(lambda data=data: safe(data)) < 5
    await until(lambda: b.messaging.door.turned_down[Cause.SLOW] == 2)
    assert b.messaging.door.half_open == 0


@MODES
async def test_ten_thousand_connections_take_up_little_and_shut_nobody_out(
    office: Any, make_node_with: Any, tls: bool, caplog: pytest.LogCaptureFixture
) -> None:
    b = await make_node_with(
        "b", office.security("b", tls=tls), handshake_timeout=300.0, max_handshakes_per_address=50
    )
    a = await make_node_with("a", office.security("a", tls=tls))
    a.knows(b)
    await b.record("x")
    peak, count = 0, 2_000 if tls else 10_000  # of TLS only the first bytes differ, and they are not read

    def flood() -> None:
        nonlocal peak
        with contextlib.ExitStack() as stack:
            for _ in range(60):
                stack.enter_context(stranger(b.address.port))
            for _ in range(count - 60):
                stranger(b.address.port).close()
                peak = max(peak, b.messaging.door.half_open)

    with caplog.at_level(logging.WARNING):
        before = resident()
        flooding = asyncio.create_task(attempt(flood))
        await until(lambda: b.messaging.door.half_open >= 50 or flooding.done(), 30)
        assert (
            await asyncio.wait_for(a.pid("x", b).ask(1), 20) == 1
        )  # from its own address, in the middle of it
        await flooding
    assert 40 <= peak <= 52
    assert (
        b.messaging.door.turned_down[Cause.HANDSHAKES] > 0.5 * count
    )  # others had gone before they were looked at
    await until(lambda: b.messaging.door.half_open == 0, 20)
    assert resident() - before < 30 << 20
    assert len(caplog.records) < LINES_AT_ONCE + 40
    assert b.messaging.nodes == ["a"]


async def test_handshakes_are_bounded_over_all_addresses_too(office: Any, make_node_with: Any) -> None:
    b = await make_node_with(
        "b", office.security("b", tls=False), max_handshakes=10, max_handshakes_per_address=4
    )
    with contextlib.ExitStack() as stack:
        for i in range(30):
            stack.enter_context(await asyncio.to_thread(stranger, b.address.port, f"127.0.0.{2 + i % 5}"))
        await until(lambda: b.messaging.door.turned_down[Cause.HANDSHAKES] == 20)
        assert b.messaging.door.half_open == 10
    await until(lambda: b.messaging.door.half_open == 0)


async def test_connections_are_bounded_altogether(office: Any, make_node_with: Any) -> None:
    b = await make_node_with("b", None, max_connections=3)
    held = []
    for name in "pqrs":
        client = Outsider(b.address, name, "b")
        held.append(client)
        if len(held) <= 3:
            await asyncio.to_thread(client.shake_hands)
    assert await asyncio.to_thread(held[3].ended)
    assert b.messaging.door.turned_down[Cause.CONNECTIONS] == 1
    for client in held:
        client.close()


async def test_nodes_that_are_no_members_are_bounded(make_node_with: Any) -> None:
    b = await make_node_with("b", None, max_strangers=2)
    refusals = []
    for name in "pqr":
        with Outsider(b.address, name, "b") as client:
            await asyncio.to_thread(client.shake_hands)
            refusals.append(client.refusal)
    assert refusals[:2] == [None, None]
    assert refusals[2][0] == 7


@pytest.mark.parametrize(
    "data",
    [
        frame(1, bytes(1025)),
        b"\xcf\x01\x01\x00\xff\xff\xff\xff" + bytes(8),
        frame(5, bytes(5000)),
        frame(16, bytes(100)),
        b"\xcf\x01",
        b"",
        os.urandom(9000),
    ],
    ids=["long hello", "4 GiB hello", "long proof", "data", "two bytes", "nothing", "noise"],
)
async def test_nothing_beyond_a_small_hello_is_read(office: Any, make_node_with: Any, data: bytes) -> None:
    b = await make_node_with("b", office.security("b", tls=False), handshake_timeout=0.3)

    def talk() -> bool:
        with Outsider(b.address, "x", "b") as client, contextlib.suppress(ConnectionError):
            client.socket.sendall(data)
            return client.ended()
        return True

    before = resident()
    for _ in range(20 if len(data) > 2 else 2):
        assert await attempt(talk)
    assert resident() - before < 5 << 20
    assert b.messaging.nodes == []


async def test_memory_is_flat_through_thousands_of_failed_proofs(office: Any, make_node_with: Any) -> None:
    b = await make_node_with("b", office.security("b", tls=False))
    b.messaging.door.pause = lambda place: 0.0  # type: ignore[method-assign]

    def fail(times: int) -> None:
        for _ in range(times):
            with Outsider(b.address, "x", "b", key="f" * 40 + "0123456789abcdef") as client:
                client.shake_hands()
                assert client.refusal is not None

    await attempt(lambda: fail(300))
    before = resident()
    await attempt(lambda: fail(2000))
    assert resident() - before < 4 << 20
    assert b.messaging.door.turned_down[Cause.AUTH] == 2300


async def test_a_unix_socket_is_its_owners_only(make_node_with: Any) -> None:
    b = await make_node_with("b", None, unix=True)
    path = b.address.path
    assert path is not None
    folder = os.stat(os.path.dirname(path))
    assert folder.st_mode & 0o777 == 0o700
    assert folder.st_uid == os.geteuid()
    if os.geteuid() != 0:
        pytest.skip("only root can try as somebody else")
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.setgid(65534)
            os.setuid(65534)
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(path)
        except PermissionError:
            code = 0
        finally:
            os._exit(code)
    assert (await asyncio.to_thread(os.waitpid, child, 0))[1] == 0
