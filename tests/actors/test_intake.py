"""The bounded mailbox: what each policy does, and who is told."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from cajun_fast.actors import ActorSettings, ActorSystem, Context
from cajun_fast.errors import ActorNotFoundError, BackpressureError, MailboxFullError
from cajun_fast.pid import Pid

from .conftest import Recorder, until


async def filled(system: ActorSystem, policy: str, seen: list[Any]) -> tuple[Pid, asyncio.Event]:
    """An actor that holds "first" in its handler and 0, 1, 2, 3 in a mailbox of four."""
    gate = asyncio.Event()

    async def receive(message: Any, context: Context) -> Any:
        seen.append(message)
        await gate.wait()
        return message

    pid = await system.spawn(receive, mailbox_capacity=4, mailbox_policy=policy)
    pid.tell("first")
    await until(lambda: seen)
    for n in range(4):
        pid.tell(n)
    return pid, gate


async def test_block_refuses_a_tell_and_nothing_is_lost(system: ActorSystem) -> None:
    seen: list[Any] = []
    pid, gate = await filled(system, "block", seen)
    with pytest.raises(BackpressureError, match="nothing was sent"):
        pid.tell("too many")
    gate.set()
    await pid.ask("end")
    assert seen == ["first", 0, 1, 2, 3, "end"]
    assert system.dead_letters.total == 0


async def test_block_lets_send_and_ask_wait_for_room_in_order(system: ActorSystem) -> None:
    seen: list[Any] = []
    pid, gate = await filled(system, "block", seen)
    sends = [pid.send(f"send {n}") for n in range(6)]
    answer = pid.ask("ask")
    await asyncio.sleep(0)
    assert not any(send.done() for send in sends)
    gate.set()
    await asyncio.gather(*sends)
    assert await answer == "ask"
    assert seen == ["first", 0, 1, 2, 3, *(f"send {n}" for n in range(6)), "ask"]


async def test_ready_is_done_when_the_mailbox_has_drained_to_half(system: ActorSystem) -> None:
    pid, gate = await filled(system, "block", [])
    ready = pid.ready()
    assert not ready.done()
    gate.set()
    await asyncio.wait_for(ready, 1)
    pid.tell("fits")


async def test_those_who_wait_for_room_are_told_when_the_actor_stops(system: ActorSystem) -> None:
    pid, gate = await filled(system, "block", [])
    send = pid.send("waits")
    asyncio.get_running_loop().call_later(0.01, gate.set)
    await system.stop_actor(pid.id)
    with pytest.raises(ActorNotFoundError):
        await send


async def test_drop_new_lets_the_new_one_go_and_tells_its_asker(system: ActorSystem) -> None:
    seen: list[Any] = []
    pid, gate = await filled(system, "drop-new", seen)
    pid.tell("new")
    with pytest.raises(MailboxFullError, match="full at 4 messages"):
        await pid.ask("asked")
    with pytest.raises(MailboxFullError):
        await pid.send("sent")
    gate.set()
    await until(lambda: len(seen) == 5)
    assert seen == ["first", 0, 1, 2, 3]
    assert [letter.message for letter in system.dead_letters] == ["new", "sent"]
    assert system.dead_letters.counts == {"mailbox-full": 2}


async def test_drop_oldest_lets_the_oldest_one_go_and_tells_its_asker(system: ActorSystem) -> None:
    seen: list[Any] = []
    pid, gate = await filled(system, "drop-oldest", seen)
    pid.tell("new")
    asked = pid.ask("asked")  # pushes 1 out
    for n in range(10, 14):
        pid.tell(n)
    with pytest.raises(MailboxFullError):
        await asked
    gate.set()
    await until(lambda: len(seen) == 5)
    assert seen == ["first", 10, 11, 12, 13]
    assert [letter.message for letter in system.dead_letters] == [0, 1, 2, 3, "new"]


async def test_fail_raises_where_the_sender_stands(system: ActorSystem) -> None:
    seen: list[Any] = []
    pid, gate = await filled(system, "fail", seen)
    with pytest.raises(MailboxFullError, match="mailbox_capacity"):
        pid.tell("new")
    with pytest.raises(MailboxFullError):
        await pid.ask("asked")
    with pytest.raises(MailboxFullError):
        await pid.send("sent")
    gate.set()
    await until(lambda: len(seen) == 5)
    assert system.dead_letters.total == 0


async def test_the_settings_give_capacity_and_policy_to_actors_that_say_nothing() -> None:
    async with ActorSystem("n1", settings=ActorSettings(mailbox_capacity=2)) as system:
        pid = await system.spawn(Recorder)
        pid.tell(1)
        pid.tell(2)
        with pytest.raises(BackpressureError):
            pid.tell(3)


async def test_a_tell_without_room_may_be_a_dead_letter_instead_of_an_error() -> None:
    settings = ActorSettings(mailbox_capacity=1, raise_when_full=False)
    async with ActorSystem("n1", settings=settings) as system:
        pid = await system.spawn(Recorder)
        pid.tell(1)
        pid.tell(2)
        assert system.dead_letters.counts == {"no-room": 1}
