"""One actor: its messages, its answers, one at a time."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import weakref
from typing import Any

import pytest

from cajun_fast.actors import Actor, ActorSystem, Context
from cajun_fast.errors import (
    ActorNotFoundError,
    AskTimeoutError,
    DeliveryError,
    RemoteActorError,
)
from cajun_fast.pid import Pid

from .conftest import Recorder, until


async def test_messages_are_handled_in_the_order_in_which_they_were_told(system: ActorSystem) -> None:
    pid = await system.spawn(Recorder)
    for n in range(500):
        pid.tell(n)
    assert await pid.ask("last") == [*range(500), "last"]


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_what_a_handler_returns_answers_the_ask(system: ActorSystem, asynchronous: bool) -> None:
    def plain(message: Any, context: Context) -> Any:
        return message * 2

    async def waiting(message: Any, context: Context) -> Any:
        await asyncio.sleep(0)
        return message * 2

    pid = await system.spawn(waiting if asynchronous else plain)
    assert await asyncio.gather(*(pid.ask(n) for n in range(20))) == [n * 2 for n in range(20)]


async def test_a_plain_function_that_returns_an_awaitable_is_awaited(system: ActorSystem) -> None:
    active = 0

    def receive(message: Any, context: Context) -> Any:
        async def work() -> Any:
            nonlocal active
            active += 1
            assert active == 1
            await asyncio.sleep(0.001)
            active -= 1
            return message

        return work()

    pid = await system.spawn(receive)
    assert await asyncio.gather(*(pid.ask(n) for n in range(10))) == list(range(10))


async def test_one_message_at_a_time_across_awaits(system: ActorSystem) -> None:
    log: list[str] = []

    async def receive(message: Any, context: Context) -> None:
        log.append(f"begin {message}")
        await asyncio.sleep(0.002 if message % 2 else 0)
        log.append(f"end {message}")

    pid = await system.spawn(receive)
    await asyncio.gather(*(pid.ask(n) for n in range(8)))
    assert log == [f"{what} {n}" for n in range(8) for what in ("begin", "end")]


async def test_while_one_actor_awaits_others_run(system: ActorSystem) -> None:
    gate = asyncio.Event()

    async def receive(message: Any, context: Context) -> None:
        await gate.wait()

    waiting = await system.spawn(receive, "waiting")
    recorder = await system.spawn(Recorder)
    answer = waiting.ask("wait")
    assert await recorder.ask(1) == [1]
    cell = system.cell("waiting")
    assert cell is not None
    assert cell.state == "suspended"
    gate.set()
    await answer
    await until(lambda: cell.state == "running")


async def test_a_handler_runs_in_a_task_where_time_limits_and_cancellation_work(system: ActorSystem) -> None:
    async def receive(message: Any, context: Context) -> str:
        assert asyncio.current_task() is not None
        try:
            async with asyncio.timeout(0.01):
                await asyncio.Event().wait()
        except TimeoutError:
            return "limited"
        return "never"

    pid = await system.spawn(receive)
    assert await pid.ask(1) == "limited"


async def test_context_variables_of_whoever_spawns_or_tells_do_not_reach_the_handler(
    system: ActorSystem,
) -> None:
    variable = contextvars.ContextVar("variable", default="clean")
    variable.set("the test's")

    async def receive(message: Any, context: Context) -> str:
        return variable.get()

    pid = await system.spawn(receive)
    async with ActorSystem("n2"):  # one that was started under the variable keeps its value: it is its base
        assert await pid.ask(1) == "clean"


async def test_what_a_handler_raises_reaches_the_asker_and_the_actor_lives_on(system: ActorSystem) -> None:
    def receive(message: Any, context: Context) -> Any:
        return 10 // message

    pid = await system.spawn(receive)
    with pytest.raises(RemoteActorError, match="ZeroDivisionError"):
        await pid.ask(0)
    assert await pid.ask(2) == 5


async def test_a_cancelled_future_that_a_handler_awaits_fails_its_ask_only(system: ActorSystem) -> None:
    async def receive(message: Any, context: Context) -> str:
        if message == "bad":
            future = asyncio.get_running_loop().create_future()
            future.cancel()
            await future
        return "good"

    pid = await system.spawn(receive)
    with pytest.raises(RemoteActorError, match="CancelledError"):
        await pid.ask("bad")
    assert await pid.ask("good") == "good"


async def test_a_handler_that_cancels_its_own_task_ends_that_message_only(system: ActorSystem) -> None:
    async def receive(message: Any, context: Context) -> str:
        if message == "bad":
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            await asyncio.sleep(1)
        return "good"

    pid = await system.spawn(receive)
    with pytest.raises(RemoteActorError, match="CancelledError"):
        await pid.ask("bad")
    assert await pid.ask("good") == "good"


class Stopped(SystemExit):
    """What a program raises that wants to end."""


def test_an_exit_from_a_sync_handler_ends_the_loop_and_is_told_to_the_asker() -> None:
    asks: list[asyncio.Future[Any]] = []

    def receive(message: Any, context: Context) -> None:
        raise Stopped(3)

    async def main() -> None:
        system = ActorSystem("n1")
        await system.start()
        asks.append((await system.spawn(receive)).ask(1))
        await asks[0]

    with pytest.raises(SystemExit) as caught:
        asyncio.run(main())
    assert caught.value.code == 3
    assert isinstance(asks[0].exception(), RemoteActorError)


# ---- Sender, reply, forward ------------------------------------------------------------------------------


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_what_an_actor_tells_carries_it_as_the_sender(system: ActorSystem, asynchronous: bool) -> None:
    senders: list[Any] = []

    def end(message: Any, context: Context) -> None:
        senders.append(context.sender)

    async def waiting(message: Any, context: Context) -> None:
        await asyncio.sleep(0)
        target.tell(message)

    def plain(message: Any, context: Context) -> None:
        target.tell(message)

    target = await system.spawn(end)
    source = await system.spawn(waiting if asynchronous else plain, "source")
    target.tell("from the test")
    await source.ask("go")
    await until(lambda: len(senders) == 2)
    assert senders == [None, source]
    assert isinstance(senders[1], Pid)


async def test_reply_answers_early_and_the_returned_value_is_ignored(system: ActorSystem) -> None:
    gate = asyncio.Event()

    async def receive(message: Any, context: Context) -> str:
        context.reply("early")
        await gate.wait()
        return "late"

    pid = await system.spawn(receive)
    assert await pid.ask(1) == "early"
    gate.set()
    assert system.dead_letters.total == 0


async def test_reply_to_a_tell_tells_its_sender(system: ActorSystem) -> None:
    recorder = Recorder()

    class Asking(Actor):
        def receive(self, message: Any, context: Context) -> None:
            if message == "go":
                echo.tell("hello")
            else:
                recorder.seen.append(message)

    echo = await system.spawn(lambda message, context: context.reply(f"{message} back"))
    asking = await system.spawn(Asking)
    asking.tell("go")
    await until(lambda: recorder.seen)
    assert recorder.seen == ["hello back"]


async def test_an_answer_that_nobody_waits_for_is_a_dead_letter(system: ActorSystem) -> None:
    pid = await system.spawn(lambda message, context: context.reply("nobody hears"))
    pid.tell(1)
    await until(lambda: system.dead_letters.total)
    assert system.dead_letters.counts == {"nobody-asked": 1}
    await pid.ask(1)
    assert system.dead_letters.total == 1


async def test_a_second_answer_is_a_dead_letter(system: ActorSystem) -> None:
    def receive(message: Any, context: Context) -> None:
        context.reply(1)
        context.reply(2)

    assert await (await system.spawn(receive)).ask("x") == 1
    assert [letter.message for letter in system.dead_letters] == [2]


async def test_a_reply_can_be_given_after_the_handler_has_ended_and_other_messages_come_between(
    system: ActorSystem,
) -> None:
    replies: list[Any] = []

    def receive(message: Any, context: Context) -> Any:
        if message == "later":
            replies.append(context.reply_later())
            return "ignored"
        return "now"

    pid = await system.spawn(receive)
    late = pid.ask("later")
    assert await pid.ask("other") == "now"
    assert not late.done()
    assert replies[0].waiting
    assert replies[0].send("at last") is True
    assert replies[0].send("again") is False
    assert await late == "at last"


async def test_a_reply_may_fail_the_ask(system: ActorSystem) -> None:
    def receive(message: Any, context: Context) -> None:
        reply = context.reply_later()
        with pytest.raises(TypeError, match="not with 'text'"):
            reply.fail("text")  # type: ignore[arg-type]
        assert reply.fail(KeyError("k"))

    with pytest.raises(RemoteActorError, match="KeyError"):
        await (await system.spawn(receive)).ask(1)


async def test_a_reply_that_is_dropped_unanswered_tells_the_asker_so(system: ActorSystem) -> None:
    def receive(message: Any, context: Context) -> None:
        context.reply_later()

    with pytest.raises(DeliveryError, match="dropped it unanswered"):
        await (await system.spawn(receive, "careless")).ask(1)


async def test_reply_later_of_a_tell_does_nothing(system: ActorSystem) -> None:
    outcomes: list[bool] = []
    pid = await system.spawn(lambda message, context: outcomes.append(context.reply_later().send(1)))
    pid.tell(1)
    await until(lambda: outcomes)
    assert outcomes == [False]


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_forward_keeps_sender_and_asker(system: ActorSystem, asynchronous: bool) -> None:
    async def waiting(message: Any, context: Context) -> str:
        await asyncio.sleep(0)
        context.forward(target)
        return "ignored"

    def plain(message: Any, context: Context) -> str:
        context.forward(target)
        return "ignored"

    target = await system.spawn(lambda message, context: (message, context.sender))
    middle = await system.spawn(waiting if asynchronous else plain)

    async def source(message: Any, context: Context) -> Any:
        return await middle.ask(message)

    first = await system.spawn(source)
    assert await first.ask("x") == ("x", first)


async def test_forward_to_nobody_tells_the_asker(system: ActorSystem) -> None:
    pid = await system.spawn(lambda message, context: context.forward(system.pid("nobody")))
    with pytest.raises(ActorNotFoundError, match="nobody"):
        await pid.ask(1)


async def test_forward_that_fails_leaves_the_ask_with_the_handler(system: ActorSystem) -> None:
    def receive(message: Any, context: Context) -> str:
        with pytest.raises(TypeError):
            context.forward("not a pid")  # type: ignore[arg-type]
        return "mine still"

    assert await (await system.spawn(receive)).ask(1) == "mine still"


# ---- Context ---------------------------------------------------------------------------------------------


async def test_a_context_names_self_node_and_system(system: ActorSystem) -> None:
    def receive(message: Any, context: Context) -> tuple[Any, ...]:
        return context.self, context.node_id, context.system.node_id, context.sender, context.message

    pid = await system.spawn(receive, "me")
    assert await pid.ask("m") == (pid, "n1", "n1", None, "m")


async def test_one_context_serves_all_messages_unless_a_handler_keeps_it(system: ActorSystem) -> None:
    ids: list[int] = []
    kept: list[Context] = []

    def receive(message: Any, context: Context) -> None:
        ids.append(id(context))
        if message == "keep":
            kept.append(context)

    pid = await system.spawn(receive)
    for message in (1, 2, "keep", 4):
        await pid.ask(message)
    assert ids[0] == ids[1] == ids[2]
    assert ids[3] != ids[2]
    assert kept[0].message == "keep"
    assert kept[0].self == pid


async def test_a_kept_context_still_answers_for_its_own_message(system: ActorSystem) -> None:
    kept: list[Context] = []

    async def receive(message: Any, context: Context) -> Any:
        if message == "keep":
            kept.append(context)
            return context.reply_later()
        return kept[0].message

    pid = await system.spawn(receive)
    with pytest.raises(DeliveryError):
        await asyncio.gather(pid.ask("keep", timeout=0.05), asyncio.sleep(0))
    assert await pid.ask("other") == "keep"


async def test_a_message_is_not_kept_alive_after_it_was_handled(system: ActorSystem) -> None:
    class Message:
        pass

    for handler in (lambda m, c: None, _async_nothing):
        pid = await system.spawn(handler)
        message = Message()
        alive = weakref.ref(message)
        pid.tell(message)
        del message
        await pid.ask("after")
        gc.collect()
        assert alive() is None


async def _async_nothing(message: Any, context: Context) -> None:
    await asyncio.sleep(0)


async def test_a_stopped_actor_leaves_nothing_behind(system: ActorSystem) -> None:
    class Plain(Actor):
        def receive(self, message: Any, context: Context) -> None:
            pass

    pid = await system.spawn(Plain, "gone")
    cell = system.cell("gone")
    assert cell is not None
    instance = weakref.ref(cell.instance)
    alive = weakref.ref(cell)
    await pid.ask(1)
    await system.stop_actor("gone")
    other = await system.spawn(Recorder)
    await other.ask(1)  # the lent context has gone on
    del cell
    gc.collect()
    assert instance() is None
    assert alive() is None


# ---- Deadlines -------------------------------------------------------------------------------------------


async def test_a_message_whose_deadline_passes_in_the_mailbox_is_a_dead_letter(system: ActorSystem) -> None:
    gate = asyncio.Event()
    seen: list[Any] = []

    async def receive(message: Any, context: Context) -> None:
        seen.append(message)
        if message == "block":
            await gate.wait()

    pid = await system.spawn(receive)
    pid.tell("block")
    pid.tell("too late", deadline=0.01)
    pid.tell("in time", deadline=60.0)
    await asyncio.sleep(0.03)
    gate.set()
    await pid.ask("end")
    assert seen == ["block", "in time", "end"]
    assert [(letter.message, letter.reason) for letter in system.dead_letters] == [("too late", "expired")]


async def test_an_ask_beyond_its_time_out_fails_while_its_message_waits(system: ActorSystem) -> None:
    gate = asyncio.Event()

    async def receive(message: Any, context: Context) -> str:
        await gate.wait()
        return "late"

    pid = await system.spawn(receive)
    with pytest.raises(AskTimeoutError):
        await pid.ask(1, timeout=0.02)
    gate.set()
    assert await pid.ask(2) == "late"
