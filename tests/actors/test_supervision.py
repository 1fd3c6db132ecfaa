"""Failures: resume, restart, stop, escalate, and the budget of restarts."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cajun_fast.actors import Actor, ActorSystem, Context, Directive, Supervision
from cajun_fast.actors.supervision import RestartLedger
from cajun_fast.clock import ManualClock
from cajun_fast.errors import ActorNotFoundError, ConfigError, RemoteActorError
from cajun_fast.ports import Ports

from .conftest import until


class Fragile(Actor):
    """Adds what it is told; "bad" raises; "get" answers."""

    log: list[Any]

    def __init__(self, log: list[Any], asynchronous: bool = False) -> None:
        self.log = log
        self.total = 0
        log.append("made")

    def pre_start(self) -> None:
        self.log.append("pre_start")

    def post_stop(self) -> None:
        self.log.append("post_stop")

    def pre_restart(self, error: BaseException, message: Any) -> None:
        self.log.append(("pre_restart", type(error), message, self.total))

    def receive(self, message: Any, context: Context) -> Any:
        if message == "bad":
            raise ValueError("bad message")
        if message == "key":
            raise KeyError("k")
        if message == "get":
            return self.total
        self.total += message
        return None


class FragileAsync(Fragile):
    async def pre_start(self) -> None:
        await asyncio.sleep(0)
        super().pre_start()

    async def pre_restart(self, error: BaseException, message: Any) -> None:
        await asyncio.sleep(0)
        super().pre_restart(error, message)

    async def receive(self, message: Any, context: Context) -> Any:
        await asyncio.sleep(0)
        return super().receive(message, context)


BOTH = pytest.mark.parametrize("kind", [Fragile, FragileAsync])


@BOTH
async def test_resume_keeps_the_state(system: ActorSystem, kind: type[Fragile]) -> None:
    pid = await system.spawn(kind, "x", [])
    for message in (1, "bad", 2):
        pid.tell(message)
    assert await pid.ask("get") == 3


@BOTH
async def test_restart_makes_a_fresh_instance_and_keeps_the_mailbox(
    system: ActorSystem, kind: type[Fragile]
) -> None:
    log: list[Any] = []
    pid = await system.spawn(kind, "x", log, supervision=Directive.RESTART)
    for message in (1, "bad", 2, 3):
        pid.tell(message)
    assert await pid.ask("get") == 5
    assert log == ["made", "pre_start", ("pre_restart", ValueError, "bad", 1), "made", "pre_start"]
    assert system.dead_letters.total == 0


@BOTH
async def test_stop_ends_the_actor_and_what_waits_is_told(system: ActorSystem, kind: type[Fragile]) -> None:
    log: list[Any] = []
    pid = await system.spawn(kind, "x", log, supervision=Directive.STOP)
    pid.tell("bad")
    pid.tell(2)
    with pytest.raises(ActorNotFoundError):
        await pid.ask("get")
    await until(lambda: "post_stop" in log)
    assert [letter.message for letter in system.dead_letters] == [2]
    assert system.actor_count == 0


@BOTH
async def test_the_budget_of_restarts_is_kept_within_its_window(kind: type[Fragile]) -> None:
    clock = ManualClock()
    log: list[Any] = []
    strategy = Supervision(Directive.RESTART, max_restarts=2, within=10.0)
    async with ActorSystem("n1", ports=Ports(clock=clock)) as system:
        pid = await system.spawn(kind, "x", log, supervision=strategy)
        for _ in range(2):
            with pytest.raises(RemoteActorError):
                await pid.ask("bad")
        clock.advance(10.0)  # the two are forgotten
        for _ in range(3):
            with pytest.raises(RemoteActorError):
                await pid.ask("bad")
        await until(lambda: system.actor_count == 0)
    assert log.count("made") == 5


@given(
    st.integers(0, 5),
    st.integers(1, 20),
    st.lists(st.integers(0, 12), max_size=40),
)
def test_the_ledger_agrees_with_counting_all_restarts_ever(most: int, within: int, steps: list[int]) -> None:
    strategy = Supervision(Directive.RESTART, max_restarts=most, within=within, delay=0.5, max_delay=3.0)
    ledger = RestartLedger()
    now = 0
    granted: list[int] = []
    for step in steps:
        now += step
        recent = [at for at in granted if now - at < within]
        allowed = ledger.spend(strategy, now * 10**9)
        assert allowed == (len(recent) < most)
        if allowed:
            granted.append(now)
            assert ledger.delay == min(0.5 * 2 ** len(recent), 3.0)


async def test_a_mapping_chooses_by_the_nearest_type_of_exception(system: ActorSystem) -> None:
    rules = Supervision(
        {LookupError: Directive.STOP, ValueError: Directive.RESUME, KeyError: Directive.RESTART}
    )
    log: list[Any] = []
    pid = await system.spawn(Fragile, "x", log, supervision=rules)
    for message in (1, "bad", 1):
        pid.tell(message)
    assert await pid.ask("get") == 2
    pid.tell("key")
    assert await pid.ask("get") == 0
    assert rules.directive(IndexError()) is Directive.STOP
    assert rules.directive(OSError()) is Directive.RESTART


async def test_a_decider_function_is_asked_and_one_that_fails_means_stop() -> None:
    assert Supervision(lambda error: Directive.RESUME).directive(OSError()) is Directive.RESUME
    error = ValueError("x")
    assert Supervision(lambda error: 1 / 0).directive(error) is Directive.STOP  # type: ignore[arg-type, return-value]
    assert "ZeroDivisionError" in error.__notes__[0]
    assert Supervision(lambda error: 7).directive(error) is Directive.STOP  # type: ignore[arg-type, return-value]


@pytest.mark.parametrize(
    ("wrong", "names"),
    [
        ({"rules": "restart"}, "rules='restart'"),
        ({"rules": {int: Directive.STOP}}, "map exception types"),
        ({"max_restarts": -1}, "max_restarts=-1"),
        ({"within": 0}, "within=0"),
        ({"then": Directive.RESUME}, "STOP or ESCALATE"),
        ({"delay": 5.0, "max_delay": 1.0}, "delay=5.0"),
    ],
)
def test_a_strategy_that_makes_no_sense_is_refused(wrong: dict[str, Any], names: str) -> None:
    with pytest.raises(ConfigError, match=names):
        Supervision(**wrong)


# ---- Restart in detail -----------------------------------------------------------------------------------


async def test_a_restart_that_fails_uses_the_budget_and_then_stops(system: ActorSystem) -> None:
    made = 0

    class Once(Actor):
        def __init__(self) -> None:
            nonlocal made
            made += 1
            if made > 1:
                raise RuntimeError("cannot be made again")

        def receive(self, message: Any, context: Context) -> None:
            raise ValueError

    pid = await system.spawn(Once, "x", supervision=Supervision(Directive.RESTART, max_restarts=3))
    pid.tell(1)
    pid.tell("waits")
    await until(lambda: system.actor_count == 0)
    assert made == 4
    assert [letter.message for letter in system.dead_letters] == ["waits"]


async def test_restarts_wait_longer_each_time_and_a_stop_does_not_wait_for_them(system: ActorSystem) -> None:
    strategy = Supervision(Directive.RESTART, delay=3600.0, max_delay=3600.0)
    pid = await system.spawn(Fragile, "x", [], supervision=strategy)
    pid.tell("bad")
    cell = system.cell("x")
    assert cell is not None
    await until(lambda: cell.state == "restarting")
    pid.tell("waits")
    assert cell.mailbox_size == 1
    assert await asyncio.wait_for(system.stop_actor("x"), 1)
    assert system.dead_letters.counts == {"stopped": 1}


async def test_a_restart_ends_children_and_timers(system: ActorSystem) -> None:
    class Parent(Actor):
        def pre_start(self) -> None:
            self.context.spawn(Fragile, "child", [])
            self.context.schedule(3600, "tick", interval=1)

        def receive(self, message: Any, context: Context) -> Any:
            if message == "bad":
                raise ValueError
            return [pid.id for pid in context.children]

    pid = await system.spawn(Parent, "p", supervision=Directive.RESTART)
    before = system.cell("p/child")
    pid.tell("bad")
    assert await pid.ask("children") == ["p/child"]
    assert system.cell("p/child") is not before
    cell = system.cell("p")
    assert cell is not None
    assert cell.timers is not None
    assert len(cell.timers) == 1


async def test_an_error_in_pre_restart_does_not_keep_the_actor_from_restarting(system: ActorSystem) -> None:
    class Bad(Fragile):
        def pre_restart(self, error: BaseException, message: Any) -> None:
            raise OSError("in the hook")

    pid = await system.spawn(Bad, "x", [], supervision=Directive.RESTART)
    pid.tell(1)
    pid.tell("bad")
    assert await pid.ask("get") == 0


# ---- Escalate --------------------------------------------------------------------------------------------


class Boss(Actor):
    def __init__(self, log: list[Any], **child: Any) -> None:
        self.log = log
        self.child = child
        log.append("boss made")

    def pre_start(self) -> None:
        for name in ("a", "b"):
            self.context.spawn(Fragile, name, self.log, **self.child)

    def receive(self, message: Any, context: Context) -> str:
        return "alive"


async def test_escalate_lets_the_parents_strategy_decide(system: ActorSystem) -> None:
    log: list[Any] = []
    boss = await system.spawn(Boss, "boss", log, supervision=Directive.RESTART)
    await system.stop_actor("boss")
    log.clear()

    class Escalating(Boss):
        def pre_start(self) -> None:
            self.context.spawn(Fragile, "a", self.log, supervision=Directive.ESCALATE)

    boss = await system.spawn(Escalating, "boss", log, supervision=Directive.RESTART)
    system.pid("boss/a").tell("bad")
    await until(lambda: log.count("boss made") == 2)
    assert await boss.ask(1) == "alive"
    assert await system.pid("boss/a").ask("get") == 0


@pytest.mark.parametrize(
    ("rule", "left"),
    [(Directive.RESUME, ["boss", "boss/a"]), (Directive.STOP, []), (Directive.ESCALATE, [])],
)
async def test_what_the_parent_decides_holds_for_both(
    system: ActorSystem, rule: Directive, left: list[str]
) -> None:
    class Escalating(Boss):
        def pre_start(self) -> None:
            self.context.spawn(Fragile, "a", self.log, supervision=Directive.ESCALATE)

    await system.spawn(Escalating, "boss", [], supervision=rule)
    child = system.pid("boss/a")
    child.tell(4)
    with pytest.raises(RemoteActorError):
        await child.ask("bad")
    await until(lambda: sorted(system.actor_ids()) == left)
    if left:
        assert await child.ask("get") == 4


async def test_all_for_one_restarts_the_siblings(system: ActorSystem) -> None:
    strategy = Supervision(Directive.RESTART, all_for_one=True)

    class Family(Boss):
        def pre_start(self) -> None:
            for name in ("a", "b"):
                self.context.spawn(Fragile, name, self.log, supervision=strategy)

    await system.spawn(Family, "boss", [])
    a, b = system.pid("boss/a"), system.pid("boss/b")
    a.tell(1)
    b.tell(1)
    assert await b.ask("get") == 1
    a.tell("bad")
    assert await a.ask("get") == 0
    assert await b.ask("get") == 0


# ---- Log -------------------------------------------------------------------------------------------------


async def test_failures_are_logged_at_a_bounded_rate(caplog: pytest.LogCaptureFixture) -> None:
    clock = ManualClock()
    with caplog.at_level(logging.ERROR, "cajun_fast.actors"):
        async with ActorSystem("n1", ports=Ports(clock=clock)) as system:
            pid = await system.spawn(Fragile, "x", [])
            for _ in range(200):
                pid.tell("bad")
            await pid.ask("get")
            assert len(caplog.records) == 10
            clock.advance(1.0)
            pid.tell("bad")
            await pid.ask("get")
    assert "190 more failures were not logged" in caplog.messages[-1]
    assert caplog.records[0].exc_info is not None


async def test_an_error_that_the_asker_was_told_is_not_logged_again(
    system: ActorSystem, caplog: pytest.LogCaptureFixture
) -> None:
    pid = await system.spawn(Fragile, "x", [])
    with pytest.raises(RemoteActorError):
        await pid.ask("bad")
    assert caplog.messages == []
