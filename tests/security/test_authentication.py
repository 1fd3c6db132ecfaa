"""Who cannot prove that they hold the key is turned away, whatever else they know, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from typing import Any

import pytest

from cajun_fast.errors import ConfigError
from cajun_fast.messaging.auth import KeyRing
from cajun_fast.messaging.door import Cause
from tests.messaging.nodes import until
from tests.security.outsider import AUTH, HELLO, PROOF, Outsider, digest, frame, hello, said


@pytest.fixture
async def b(office: Any, make_node_with: Any) -> Any:
    return await make_node_with("b", office.security("b", tls=False))


def key_of(office: Any) -> str:
    return office.secret.read_text().split()[0]


async def attempt(talk: Any, *arguments: Any) -> Any:
    return await asyncio.wait_for(asyncio.to_thread(talk, *arguments), 20)


def shake(address: Any, node: str = "x", target: str = "b", **options: Any) -> Outsider:
    with Outsider(address, node, target, **options) as client:
        client.shake_hands()
    return client


def nothing_came_of_it(node: Any) -> bool:
    return not node.messaging.nodes and not node.messaging.door.half_open


async def test_a_client_written_from_the_document_proves_itself_and_is_heard(office: Any, b: Any) -> None:
    log = await b.record("x")

    def talk() -> int:
        with Outsider(b.address, "plain", "b", key=key_of(office)) as client:
            client.shake_hands()
            return client.tell("x", {"n": 1})

    assert await attempt(talk) == 0
    assert log == [{"n": 1}]


async def test_another_key_is_refused_counted_and_logged_with_the_address(
    office: Any, b: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        client = await attempt(lambda: shake(b.address, key=office.fresh()))
    assert client.refusal is not None
    assert client.refusal[0] == 8
    await until(lambda: nothing_came_of_it(b))
    assert b.messaging.door.turned_down == {Cause.AUTH: 1}
    assert "127.0.0.1:" in caplog.text
    assert key_of(office) not in caplog.text


async def test_no_proof_is_no_entry(b: Any) -> None:
    def talk() -> tuple[bytes, bool]:
        with Outsider(b.address, "x", "b") as client:
            client.socket.sendall(hello("x", "b"))
            answer = client.read_frame()
            client.send(3, struct.pack("<QQ", 0, 0))  # RESUME, as if nobody had asked
            return answer, client.ended()

    answer, ended = await attempt(talk)
    assert (answer[2], answer[16]) == (AUTH, 1)
    assert ended
    await until(lambda: nothing_came_of_it(b))


async def test_a_proof_that_was_heard_is_worth_nothing_a_second_time(office: Any, b: Any) -> None:
    honest = await attempt(lambda: shake(b.address, key=key_of(office)))
    assert honest.refusal is None

    def replay() -> int:
        with Outsider(b.address, "x", "b") as client:
            client.socket.sendall(honest.said.hello)
            assert client.read_frame() != honest.said.challenge
            client.socket.sendall(honest.said.proof)
            return client.read_frame()[16]

    assert await attempt(replay) == 8


async def test_a_node_cannot_be_made_to_answer_its_own_challenge(office: Any, b: Any) -> None:
    """b dials us, believing that we are a; we dial b, as a, and hand each side what the other one says."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(5)
        port = listener.getsockname()[1]
        b.messaging.add_node("a", 1, [b.address._replace(port=port)])
        b.messaging.link("a")

        def reflect() -> tuple[int, bytes]:
            theirs = Outsider(b.address, "a", "b")
            ours, _ = listener.accept()
            victim = Outsider.__new__(Outsider)
            victim.socket, victim.buffer, victim.refusal = ours, b"", None
            ours.settimeout(5)
            dialled = victim.read_frame()  # HELLO of b to a
            theirs.socket.sendall(hello("a", "b"))
            challenge = theirs.read_frame()
            as_a = challenge[:16] + challenge[16:-1] + b"a"  # the same nonce, in a's name
            ours.sendall(as_a)
            proof = victim.read_frame()  # b proves: as the one who dialled, to a
            theirs.socket.sendall(proof)
            refusal = theirs.read_frame()
            # and as acceptor: b's own HELLO and proof come back to it
            ours.sendall(dialled + proof)
            end = ours.recv(4096)
            theirs.close()
            ours.close()
            return refusal[16], end

        code, end = await attempt(reflect)
    assert code == 8
    assert end == b"" or end[2] == 2, "b believed its own words"
    assert not b.messaging.link("a").is_up


@pytest.mark.parametrize("lie", ["node", "target", "incarnation", "version", "nonce", "cluster", "role"])
async def test_what_is_changed_on_the_way_spoils_the_proof(office: Any, b: Any, lie: str) -> None:
    """An honest dialler, and somebody between who rewrites its HELLO."""
    at = {"version": 2, "incarnation": 8, "nonce": 40, "role": 64, "cluster": 68, "node": 69, "target": 70}[
        lie
    ]

    def talk() -> Any:
        honest = hello("x", "b")
        changed = bytearray(honest)
        changed[16 + at] ^= 1
        with Outsider(b.address, "x", "b") as client:
            client.socket.sendall(bytes(changed))
            challenge = client.read_frame()
            proof = digest(key_of(office), b"dialler", said(bytes(32), honest, challenge))
            client.socket.sendall(frame(AUTH, PROOF + proof))
            return client.read_frame()

    answer = await attempt(talk)
    assert (answer[2], answer[16]) == (2, 8)
    await until(lambda: nothing_came_of_it(b))


async def test_a_newer_incarnation_ends_a_link_only_after_its_proof(
    office: Any, make_node_with: Any, b: Any
) -> None:
    a = await make_node_with("a", office.security("a", tls=False))
    a.knows(b)
    log = await b.record("x")
    await a.pid("x", b).ask("up")
    liar = await attempt(lambda: shake(b.address, "a", key=office.fresh(), incarnation=99))
    assert liar.refusal is not None
    await a.pid("x", b).ask("still")
    assert log == ["up", "still"]
    assert b.link(a).incarnation == 1


async def test_one_side_with_keys_and_one_without_refuse_each_other_and_say_what_to_do(
    office: Any, make_node_with: Any, b: Any, caplog: pytest.LogCaptureFixture
) -> None:
    a = await make_node_with("a", None)
    a.knows(b)
    with caplog.at_level(logging.WARNING):
        a.messaging.link("b")
        await until(lambda: "asks for a proof and this node has no key" in caplog.text)
        b.knows(a)
        b.messaging.link("a")
        await until(lambda: "asks for no proof and gives none" in caplog.text)
    assert not a.link(b).is_up
    assert not b.link(a).is_up


async def test_a_handshake_that_breaks_off_at_any_byte_leaves_nothing(office: Any, b: Any) -> None:
    honest = await attempt(lambda: shake(b.address, key=key_of(office)))
    whole = honest.said.hello + honest.said.proof

    def talk() -> None:
        for length in range(len(whole)):
            with Outsider(b.address, "x", "b") as client:
                client.socket.sendall(whole[:length])

    known = list(b.messaging.nodes)
    await attempt(talk)
    await until(lambda: not b.messaging.door.half_open)
    assert b.messaging.nodes == known
    log = await b.record("x")
    again = await attempt(lambda: shake(b.address, "y", key=key_of(office)))
    assert again.refusal is None
    assert log == []


async def test_guessing_gets_slower_and_a_node_at_the_same_address_still_gets_in(office: Any, b: Any) -> None:
    def guess() -> float:
        import time

        begin = time.monotonic()
        assert shake(b.address, key=office.fresh()).refusal is not None
        return time.monotonic() - begin

    for _ in range(8):
        await attempt(guess)
    assert b.messaging.door.pause("127.0.0.1") > 0.3
    assert await attempt(guess) >= 0.3
    honest = await attempt(lambda: shake(b.address, key=key_of(office)))
    assert honest.refusal is None


async def test_the_keys_rotate_without_a_connection_being_missed(office: Any, make_node_with: Any) -> None:
    """Old key in front, the new one behind it; then the new one in front, on one node before the other; then alone."""
    old, new = key_of(office), office.fresh()
    paths = [office.path / f"{name}.key" for name in "ab"]

    def keep(*keys: str, only: int | None = None) -> None:
        for i, path in enumerate(paths):
            if only in (None, i):
                path.touch(0o600)
                path.write_text("\n".join(keys))

    keep(old)
    a, b = [
        await make_node_with(name, office.security_with_keys(name, path))
        for name, path in zip("ab", paths, strict=True)
    ]
    a.knows(b)
    log = await b.record("x")
    sent = 0

    async def load() -> None:
        nonlocal sent
        while True:
            await a.pid("x", b).send(sent)
            sent += 1
            await asyncio.sleep(0)

    sending = asyncio.create_task(load())
    for step in (
        lambda: keep(old, new),
        lambda: keep(new, old, only=0),
        lambda: keep(new, old),
        lambda: keep(new, only=1),
        lambda: keep(new),
    ):
        before = a.messaging.security.reloads + b.messaging.security.reloads
        step()
        await until(lambda n=before: a.messaging.security.reloads + b.messaging.security.reloads > n)
        await until(lambda n=sent: sent > n + 50)
    new_ring = KeyRing([new.encode()])
    await until(lambda: new_ring.holds(a.messaging.peer("b").connection.introduction.key))
    await until(lambda n=sent: sent > n + 50)
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    await until(lambda: not a.link(b).unsettled)
    assert log == list(range(len(log)))
    assert sent <= len(log) <= sent + 1
    assert a.dead == []
    outdated = await attempt(lambda: shake(b.address, key=old))
    assert outdated.refusal is not None


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "0 keys"),
        ("short", "5 bytes"),
        ("a" * 64, "1 of them different"),
        ("# only a remark\n", "0 keys"),
    ],
)
def test_a_key_that_is_none_is_refused_before_anything_starts(office: Any, text: str, why: str) -> None:
    office.secret.write_text(text)
    security = office.security("b", tls=False)
    with pytest.raises(ConfigError, match=why) as caught:
        security.load("b")
    assert str(office.secret) in str(caught.value)
    assert "aaaa" not in str(caught.value)


def test_a_key_is_in_no_repr_and_does_not_travel(office: Any) -> None:
    import pickle

    security = office.security("b", tls=False)
    security.load("b")
    assert repr(security.ring) == "<KeyRing of 1>"
    assert key_of(office) not in repr(security) + repr(vars(security)) + repr(security.status())
    with pytest.raises(TypeError):
        pickle.dumps(security.ring)
    assert HELLO == 1
