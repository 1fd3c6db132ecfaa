"""Start and stop: nothing half done, children first, in bounded time; timers."""

from __future__ import annotations

import asyncio
import gc
import logging
from typing import Any

import pytest

from cajun_fast.actors import Actor, ActorSettings, ActorSystem, Context, Timer, counted_ids
from cajun_fast.errors import (
    ActorAlreadyExistsError,
    ActorNotFoundError,
    ConfigError,
    NotRunningError,
    RemoteActorError,
    WrongThreadError,
)

from .conftest import Recorder, until

# ---- Start -----------------------------------------------------------------------------------------------


async def test_spawn_is_done_when_pre_start_is_and_messages_wait_meanwhile(system: ActorSystem) -> None:
    gate = asyncio.Event()

    class Slow(Recorder):
        async def pre_start(self) -> None:
            await gate.wait()
            self.seen.append("started")

    spawning = asyncio.ensure_future(system.spawn(Slow, "slow"))
    await until(lambda: system.cell("slow"))
    system.pid("slow").tell("early")
    answer = system.pid("slow").ask("asked")
    await asyncio.sleep(0.01)
    assert not spawning.done()
    gate.set()
    assert await spawning == system.pid("slow")
    assert await answer == ["started", "early", "asked"]


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("where", ["__init__", "pre_start"])
async def test_a_start_that_fails_leaves_nothing_behind(
    system: ActorSystem, where: str, asynchronous: bool
) -> None:
    class Broken(Actor):
        def __init__(self) -> None:
            if where == "__init__":
                raise LookupError("no such thing")

        def receive(self, message: Any, context: Context) -> None: ...
        def post_stop(self) -> None:
            raise AssertionError("it never started")

    async def waiting(self: Any) -> None:
        self.context.spawn(Recorder, "child")
        await asyncio.sleep(0)
        raise LookupError("no such thing")

    def plain(self: Any) -> None:
        raise LookupError("no such thing")

    Broken.pre_start = waiting if asynchronous else plain  # type: ignore[method-assign]
    with pytest.raises(LookupError, match="no such thing"):
        await system.spawn(Broken, "broken")
    assert system.actor_count == 0
    assert await (await system.spawn(Recorder, "broken")).ask(1) == [1]


async def test_a_spawn_that_is_cancelled_leaves_nothing_behind(system: ActorSystem) -> None:
    class Slow(Recorder):
        async def pre_start(self) -> None:
            await asyncio.Event().wait()

    spawning = asyncio.ensure_future(system.spawn(Slow, "slow"))
    await until(lambda: system.cell("slow"))
    spawning.cancel()
    with pytest.raises(asyncio.CancelledError):
        await spawning
    await until(lambda: system.actor_count == 0)


async def test_an_id_has_one_owner(system: ActorSystem) -> None:
    await system.spawn(Recorder, "x")
    with pytest.raises(ActorAlreadyExistsError, match=r"'x'.*'n1'"):
        await system.spawn(Recorder, "x")
    await system.stop_actor("x")
    await system.spawn(Recorder, "x")


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ("", "must not be empty"),
        ("x" * 256, "256 bytes"),
        ("cajun:x", "reserved"),
        (7, "give a str"),
        ("\ud800", "UTF-8"),
    ],
)
async def test_a_bad_id_is_refused_with_the_rule(system: ActorSystem, wrong: Any, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        await system.spawn(Recorder, wrong)
    assert system.actor_count == 0


async def test_the_engines_own_functions_may_have_reserved_ids(system: ActorSystem) -> None:
    pid = await system.register_function(lambda message, context: message, "cajun:host@n1")
    assert await pid.ask(1) == 1


async def test_ids_are_made_by_the_strategy() -> None:
    async with ActorSystem("n1", settings=ActorSettings(ids=counted_ids("n1-"))) as system:
        assert [(await system.spawn(Recorder)).id for _ in range(2)] == ["n1-recorder-1", "n1-recorder-2"]
        assert (await system.spawn(lambda message, context: None)).id == "n1-lambda-3"


class NoReceive:
    """Not an actor."""


class HalfDurable(Recorder):
    """Says its state and cannot take it back."""

    durable = True

    def get_state(self) -> Any:
        return self.seen


class Durable(HalfDurable):
    """Whole, and yet nobody here could keep its state."""

    def set_state(self, state: Any) -> None:
        self.seen = state


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (Recorder(), "give the class Recorder"),
        (42, "cannot be an actor"),
        (NoReceive, "no receive"),
        (HalfDurable, "no set_state"),
        (Durable, "no persistence: set persistence"),
    ],
)
async def test_what_cannot_be_an_actor_is_refused(system: ActorSystem, wrong: Any, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        await system.spawn(wrong)


async def test_wrong_props_are_refused(system: ActorSystem) -> None:
    for props, says in (
        ({"mailbox_capacity": 0}, "mailbox_capacity=0"),
        ({"mailbox_policy": "drop-some"}, "give one of 'block'"),
        ({"supervision": "restart"}, "Supervision or a Directive"),
    ):
        with pytest.raises(ConfigError, match=says):
            await system.spawn(Recorder, "x", **props)
    assert system.actor_count == 0


async def test_arguments_of_a_function_go_by_keyword(system: ActorSystem) -> None:
    def receive(message: Any, context: Context, *, factor: int) -> Any:
        return message * factor

    assert await (await system.spawn(receive, factor=3)).ask(2) == 6
    with pytest.raises(ConfigError, match="by keyword"):
        await system.spawn(receive, None, 3)


async def test_an_instance_may_have_a_receive_of_its_own(system: ActorSystem) -> None:
    class Switching(Actor):
        def __init__(self) -> None:
            self.receive = lambda message, context: ("its own", message)  # type: ignore[method-assign]

    assert await (await system.spawn(Switching)).ask(1) == ("its own", 1)


async def test_an_actors_attributes_stay_where_the_interpreter_reads_them_fast(system: ActorSystem) -> None:
    seen: list[Any] = []
    pid = await system.spawn(Recorder, "one", seen)
    assert await pid.ask(1) == [1]
    instance = system.cell("one").instance
    made_a_dict = [each for each in gc.get_referents(instance) if isinstance(each, dict)]
    assert not made_a_dict, "somebody has asked for its __dict__"


async def test_without_a_start_or_after_a_stop_nothing_can_be_spawned() -> None:
    system = ActorSystem("n1")
    with pytest.raises(NotRunningError, match="await start"):
        await system.spawn(Recorder)
    await system.start()
    with pytest.raises(NotRunningError, match="started before"):
        await system.start()
    pid = await system.spawn(Recorder)
    await system.stop()
    await system.stop()
    with pytest.raises(NotRunningError, match="is stopped"):
        await system.spawn(Recorder)
    with pytest.raises(NotRunningError):
        pid.tell(1)


async def test_other_threads_are_turned_away(system: ActorSystem) -> None:
    seen: list[Any] = []
    pid = await system.spawn(Recorder, None, seen)
    caught: list[BaseException] = []

    def elsewhere() -> None:
        for call in (lambda: pid.tell(1), lambda: asyncio.run(system.spawn(Recorder))):
            try:
                call()
            except WrongThreadError as error:
                caught.append(error)
        pid.tell_threadsafe("by the loop")

    await asyncio.to_thread(elsewhere)
    assert len(caught) == 2
    await until(lambda: seen == ["by the loop"])


# ---- Children --------------------------------------------------------------------------------------------


class Parent(Actor):
    """Spawns what it is told by name and answers with the child's id."""

    async def receive(self, message: Any, context: Context) -> Any:
        child = context.spawn(Recorder, message)
        child.tell("before it started")
        await child
        return child.id, [pid.id for pid in context.children], await child.ask("then")


async def test_children_are_named_below_their_parent(system: ActorSystem) -> None:
    parent = await system.spawn(Parent, "p")
    assert await parent.ask("a") == ("p/a", ["p/a"], ["before it started", "then"])
    assert (await parent.ask("b"))[1] == ["p/a", "p/b"]
    assert (await parent.ask(None))[0] == "p/recorder-1"
    with pytest.raises(ActorAlreadyExistsError):
        await parent.ask("a")


async def test_a_child_whose_start_fails_is_logged_and_told_to_who_awaits_it(
    system: ActorSystem, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(Recorder):
        async def pre_start(self) -> None:
            raise LookupError("no such thing")

    async def receive(message: Any, context: Context) -> str:
        child = context.spawn(Broken, "c")
        with pytest.raises(LookupError):
            await child
        return "told"

    assert await (await system.spawn(receive, "p")).ask(1) == "told"
    assert "child 'p/c' did not start" in caplog.text
    await until(lambda: system.actor_count == 1)


async def test_children_stop_before_their_parents(system: ActorSystem) -> None:
    log: list[str] = []

    class Node(Actor):
        def __init__(self, depth: int) -> None:
            self.depth = depth

        def pre_start(self) -> None:
            for name in "ab" if self.depth else "":
                self.context.spawn(Node, name, self.depth - 1)

        async def post_stop(self) -> None:
            await asyncio.sleep(0.001)
            log.append(self.context.self.id)

        def receive(self, message: Any, context: Context) -> None: ...

    await system.spawn(Node, "r", 2)
    await until(lambda: system.actor_count == 7)
    assert await system.stop_actor("r")
    assert len(log) == 7
    for index, actor_id in enumerate(log):
        assert not any(later.startswith(f"{actor_id}/") for later in log[index:])
    assert system.actor_count == 0


async def test_context_stop_ends_itself_or_a_descendant_and_nobody_else(system: ActorSystem) -> None:
    def receive(message: Any, context: Context) -> Any:
        if message == "spawn":
            return context.spawn(Recorder, "c").id
        context.stop(system.pid(message) if message else None)
        return "still here"

    pid = await system.spawn(receive, "p")
    await system.spawn(Recorder, "other")
    assert await pid.ask("spawn") == "p/c"
    assert await pid.ask("p/c") == "still here"
    await until(lambda: system.cell("p/c") is None)
    with pytest.raises(RemoteActorError, match="itself and its descendants"):
        await pid.ask("other")
    with pytest.raises(ActorNotFoundError):
        await pid.ask("nobody")
    assert await pid.ask(None) == "still here"
    await until(lambda: system.cell("p") is None)


# ---- Stop ------------------------------------------------------------------------------------------------


async def test_at_stop_the_running_handler_ends_and_the_rest_is_told(system: ActorSystem) -> None:
    gate = asyncio.Event()
    log: list[Any] = []

    class Slow(Actor):
        async def receive(self, message: Any, context: Context) -> str:
            await gate.wait()
            log.append(message)
            return "finished"

        async def post_stop(self) -> None:
            log.append("post_stop")

    pid = await system.spawn(Slow, "slow")
    first = pid.ask("first")
    await until(lambda: (cell := system.cell("slow")) and cell.handled)
    pid.tell("told")
    asked = pid.ask("asked")
    stopping = asyncio.ensure_future(system.stop_actor("slow"))
    await asyncio.sleep(0)
    with pytest.raises(ActorNotFoundError):
        await pid.ask("while it stops")
    gate.set()
    assert await stopping
    assert await first == "finished"
    with pytest.raises(ActorNotFoundError, match="stopped before it came"):
        await asked
    assert log == ["first", "post_stop"]
    assert [(letter.message, letter.reason) for letter in system.dead_letters] == [("told", "stopped")]
    assert await system.stop_actor("slow") is False


async def test_an_actor_that_waits_for_its_own_end_is_told_so_at_once(system: ActorSystem) -> None:
    class Impatient(Actor):
        def pre_start(self) -> None:
            if self.context.self.id == "p":
                self.context.spawn(Impatient, "c")

        async def receive(self, message: Any, context: Context) -> None:
            await context.system.stop_actor(message)

    pid = await system.spawn(Impatient, "p")
    with pytest.raises(RemoteActorError, match=r"use context\.stop"):
        await pid.ask("p")
    with pytest.raises(RemoteActorError, match=r"use context\.stop"):
        await system.pid("p/c").ask("p")
    await pid.ask("p/c")
    assert list(system.actor_ids()) == ["p"]


async def test_a_handler_that_does_not_end_is_cancelled(caplog: pytest.LogCaptureFixture) -> None:
    log: list[str] = []

    async def endless(message: Any, context: Context) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            log.append("cancelled")
            raise

    async with ActorSystem("n1", settings=ActorSettings(stop_timeout=0.05)) as system:
        pid = await system.spawn(endless, "endless")
        ask = pid.ask(1)
        await asyncio.sleep(0)
        await until(lambda: (cell := system.cell("endless")) and cell.handled)
        assert await system.stop_actor("endless")
        with pytest.raises(RemoteActorError, match="CancelledError"):
            await ask
    assert log == ["cancelled"]
    assert "has not ended its handler" in caplog.text


async def test_stop_is_bounded_and_names_who_would_not_stop(caplog: pytest.LogCaptureFixture) -> None:
    release = asyncio.Event()

    async def stubborn(message: Any, context: Context) -> None:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    system = ActorSystem("n1", settings=ActorSettings(stop_timeout=30.0))
    await system.start()
    pid = await system.spawn(stubborn, "stubborn")
    await system.spawn(Recorder, "good")
    pid.tell(1)
    await until(lambda: (cell := system.cell("stubborn")) and cell.handled)
    began = asyncio.get_running_loop().time()
    with caplog.at_level(logging.ERROR):
        await system.stop(timeout=0.05)
    assert asyncio.get_running_loop().time() - began < 5
    assert "would not stop: stubborn" in caplog.text
    assert system.actor_count == 0
    release.set()
    await asyncio.sleep(0.01)


async def test_an_error_in_post_stop_is_logged_and_the_actor_is_gone(
    system: ActorSystem, caplog: pytest.LogCaptureFixture
) -> None:
    class Bad(Recorder):
        def post_stop(self) -> None:
            raise OSError("in the hook")

    await system.spawn(Bad, "bad")
    assert await system.stop_actor("bad")
    assert "post_stop of actor 'bad' failed" in caplog.text
    assert system.actor_count == 0


async def test_the_router_is_told_of_each_actor_that_is_gone() -> None:
    gone: list[str] = []

    class Noting:
        def resolve(self, lane: Any) -> None:
            lane.fail(ActorNotFoundError("nobody"))

        def refresh(self, lane: Any) -> None: ...
        def actor_stopped(self, actor_id: str) -> None:
            gone.append(actor_id)

    async with ActorSystem("n1", router=Noting()) as system:
        await system.spawn(Recorder, "a")
        await system.spawn(Recorder, "b")
        await system.stop_actor("a")
        assert gone == ["a"]
    assert gone == ["a", "b"]


# ---- Timers ----------------------------------------------------------------------------------------------


async def test_scheduled_messages_come_when_due_and_periodic_ones_again(system: ActorSystem) -> None:
    log: list[Any] = []
    timers: list[Timer] = []

    class Ticking(Actor):
        def pre_start(self) -> None:
            timers.append(self.context.schedule(0.002, "tick", interval=0.002))
            timers.append(self.context.schedule(0, "once"))

        def receive(self, message: Any, context: Context) -> None:
            log.append(message)

    await system.spawn(Ticking, "t")
    await until(lambda: log.count("tick") >= 3)
    assert log.count("once") == 1
    assert [timer.active for timer in timers] == [True, False]
    assert 0 <= timers[0].remaining < 0.003
    timers[0].cancel()
    await asyncio.sleep(0.01)
    count = len(log)
    await asyncio.sleep(0.01)
    assert len(log) == count
    cell = system.cell("t")
    assert cell is not None
    assert not cell.timers


async def test_timers_end_with_their_actor(system: ActorSystem) -> None:
    timers: list[Timer] = []

    class Ticking(Recorder):
        def pre_start(self) -> None:
            timers.append(self.context.schedule(0.001, "tick", interval=0.001))

    await system.spawn(Ticking, "t")
    await system.stop_actor("t")
    assert not timers[0].active
    before = system.dead_letters.total  # a tick may have waited when it stopped
    await asyncio.sleep(0.01)
    assert system.dead_letters.total == before


@pytest.mark.parametrize(("delay", "interval"), [(-1, None), (1, 0), (1, -2), (float("nan"), None)])
async def test_times_that_make_no_sense_are_refused(
    system: ActorSystem, delay: float, interval: float | None
) -> None:
    def receive(message: Any, context: Context) -> None:
        context.schedule(delay, "x", interval=interval)

    with pytest.raises(RemoteActorError, match="ValueError"):
        await (await system.spawn(receive)).ask(1)


async def test_a_timer_whose_message_finds_no_room_makes_a_dead_letter(system: ActorSystem) -> None:
    gate = asyncio.Event()

    async def receive(message: Any, context: Context) -> None:
        if message == "first":
            context.schedule(0.001, "tick", interval=0.001)
        await gate.wait()

    pid = await system.spawn(receive, mailbox_capacity=1)
    pid.tell("first")
    await until(lambda: system.dead_letters.total >= 2)
    assert set(system.dead_letters.counts) == {"BackpressureError"}
    gate.set()


async def test_hooks_may_use_the_context_and_init_may_not(system: ActorSystem) -> None:
    class Early(Recorder):
        def __init__(self) -> None:
            super().__init__()
            self.context  # noqa: B018

    class Fine(Recorder):
        def pre_start(self) -> None:
            self.seen.append(self.context.self.id)

    with pytest.raises(NotRunningError, match="pre_start"):
        await system.spawn(Early)
    assert await (await system.spawn(Fine, "fine")).ask(1) == ["fine", 1]


# ---- Frozen, for a move to another node ------------------------------------------------------------------


async def test_a_frozen_actor_handles_nothing_and_its_senders_park(system: ActorSystem) -> None:
    recorder = Recorder()
    pid = await system.spawn(lambda message, context: recorder.seen.append(message), "x")
    cell = system.cell("x")
    assert cell is not None
    pid.tell("in the mailbox")
    cell.freeze()
    ask = pid.ask("parked")
    await asyncio.sleep(0.01)
    assert recorder.seen == []
    assert cell.mailbox_size == 1
    cell.thaw()
    await ask
    assert recorder.seen == ["in the mailbox", "parked"]


async def test_the_mailbox_of_a_frozen_actor_can_be_taken_out_in_order(system: ActorSystem) -> None:
    pid = await system.spawn(Recorder, "x")
    cell = system.cell("x")
    assert cell is not None
    pid.tell(1)
    ask = pid.ask(2)
    pid.tell(3, deadline=60.0)
    cell.freeze()
    taken = cell.drain()
    assert [entry[0] for entry in taken] == [1, 2, 3]
    assert [entry[3] != 0 for entry in taken] == [False, True, False]
    assert [entry[4] != 0 for entry in taken] == [False, False, True]
    assert cell.mailbox_size == 0
    ask.cancel()
