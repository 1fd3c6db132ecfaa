"""Cursor, state and outbox against a model: two durable actors that pay each other, nodes that are killed before, after
and between commits, stores that answer late, never, or not to this node, senders that are killed too. The whole engine
runs, in turned time; what is checked is what users are promised. ``HYPOTHESIS_PROFILE=thorough`` takes a long look.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
from collections.abc import Coroutine, Sequence
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

import cajun_fast as cf
from cajun_fast.actors.registry import Registry
from cajun_fast.errors import PersistenceError, PersistenceUnavailableError
from cajun_fast.persistence import Commit, Epoch, Persistence, Restored
from cajun_fast.persistence.memory import MemoryPersistence
from cajun_fast.testing.members import Members
from cajun_fast.testing.turned import TurnedLoop

HOSTS = "abc"
ACTORS = "xy"
ACCOUNTS = st.sampled_from(ACTORS)
EXAMPLES = settings().max_examples
_names = itertools.count(1)


class Ledger(cf.Actor):
    """Keeps who has told it what, and how often it has paid."""

    durable = True

    def __init__(self) -> None:
        self.seen: list[list[Any]] = []
        self.paid = 0

    def get_state(self) -> Any:
        return [self.seen, self.paid]

    def set_state(self, state: Any) -> None:
        self.seen, self.paid = list(state[0]), state[1]

    def receive(self, message: Any, context: cf.Context) -> Any:
        if message == "state":
            return self.get_state()
        verb, sender, number = message
        self.seen.append([sender, number])
        if verb in ("pay", "fail"):
            self.paid += 1
            other = "y" if context.self.id == "x" else "x"
            context.system.pid(other).tell(["put", context.self.id, self.paid])
        if verb == "fail":
            raise ValueError("after it has changed and told")
        return len(self.seen)


class Access:
    """One node's way to the store, until it is killed. ``held``: nothing comes back until later, and nothing was done;
    ``deaf``: it is done, and nothing comes back; ``away``: each call is refused; ``dead``: both, for ever."""

    def __init__(self, inner: Persistence) -> None:
        self.inner, self.url, self.parallel = inner, inner.url, inner.parallel
        self.mode = "good"
        self._free = asyncio.Event()

    def turn(self, mode: str) -> None:
        self.mode = mode
        self._free.set()
        self._free = asyncio.Event()

    async def _while(self, *modes: str) -> None:
        while self.mode in modes:
            await self._free.wait()

    async def _call(self, work: Coroutine[Any, Any, Any]) -> Any:
        try:
            await self._while("held", "dead")
            if self.mode == "away":
                raise PersistenceUnavailableError("the test says so")
            result = await work
            await self._while("deaf", "dead")
            return result
        finally:
            work.close()

    async def commit(self, commits: Sequence[Commit]) -> list[PersistenceError | None]:
        outcomes: list[PersistenceError | None] = await self._call(self.inner.commit(commits))
        return outcomes

    async def restore(self, actor_id: str, epoch: Epoch, birth: str) -> Restored:
        restored: Restored = await self._call(self.inner.restore(actor_id, epoch, birth))
        return restored

    async def close(self) -> None:
        await self.inner.close()


class DurableMachine(RuleBasedStateMachine):
    """Three hosts of which at least one lives, and a client that sees the end."""

    @initialize()
    def begin(self) -> None:
        self.runner = asyncio.Runner(loop_factory=TurnedLoop)
        name = f"machine-{next(_names)}"
        self.url, self.rows = f"memory://{name}", MemoryPersistence(name)._rows
        self.stores: dict[str, Access] = {}
        self.lives = dict.fromkeys(HOSTS, 0)
        self.numbers = itertools.count(1)
        #: Life of a sender -> actor -> numbers in the order in which they were sent, without those that must fail.
        self.sent: dict[str, dict[str, list[int]]] = {}
        self.killed: set[str] = set()
        self.asks: list[tuple[str, list[Any], asyncio.Future[Any]]] = []
        self.early: list[list[Any]] = []
        self.run(self._begin())

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        self.runner.run(work)

    async def _begin(self) -> None:
        types = Registry()
        types.actor("ledger")(Ledger)
        self.members = Members(types=types, delay=0.001)
        await self.members.start("k", client=True, placement_rehost_timeout=600.0)
        await self._start(*HOSTS)
        for actor, host in zip(ACTORS, HOSTS, strict=False):
            await self.members["k"].create_actor_on_node("ledger", actor, host)

    async def _start(self, *names: str) -> None:
        values = {"persistence": self.url, "actors_stop_timeout": 0.1, "placement_rehost_timeout": 600.0}
        for system in await self.members.start(*names, **values):
            durability = system._node.durable.durability
            assert durability is not None
            self.lives[system.node_id] += 1
            store: Any = Access(durability.persistence)
            durability.persistence = durability.committer._persistence = store
            self.stores[system.node_id] = store

    # ---- what is sent

    def _message(self, verb: str, sender: str, actor: str) -> list[Any]:
        life = sender if sender == "k" else f"{sender}{self.lives[sender]}"
        number = next(self.numbers)
        if verb != "fail":
            self.sent.setdefault(life, {}).setdefault(actor, []).append(number)
        return [verb, life, number]

    @rule(
        sender=st.sampled_from("kkabc"), actor=ACCOUNTS, verb=st.sampled_from(["put", "pay", "pay", "fail"])
    )
    def tell(self, sender: str, actor: str, verb: str) -> None:
        async def work() -> None:
            name = sender if sender in self.members.nodes else "k"
            self.members[name].pid(actor).tell(self._message(verb, name, actor))

        self.run(work())

    @rule(actor=ACCOUNTS, verb=st.sampled_from(["put", "pay"]))
    def ask(self, actor: str, verb: str) -> None:
        async def work() -> None:
            self._ask(actor, verb)
            await asyncio.sleep(0)

        self.run(work())

    def _ask(self, actor: str, verb: str) -> None:
        message = self._message(verb, "k", actor)
        answer = asyncio.ensure_future(self.members["k"].pid(actor).ask(message, timeout=600))
        answer.add_done_callback(lambda _: self._look_whether_it_stands(actor, message))
        self.asks.append((actor, message, answer))

    def _look_whether_it_stands(self, actor: str, message: list[Any]) -> None:
        row = self.rows.get(actor)
        if (
            row is None
            or row.state is None
            or message[1:] not in self.members["k"].exchange.decode(row.state)[0]
        ):
            self.early.append(message)

    # ---- what goes wrong

    @rule(seconds=st.sampled_from([0.0, 0.001, 0.002, 0.005, 0.05, 1.0, 20.0]))
    def pass_time(self, seconds: float) -> None:
        self.run(asyncio.sleep(seconds))
        if seconds > 1.0:
            gc.collect()  # lanes that nobody uses are forgotten

    @rule(whose=st.sampled_from(["x", "y", "all"]), mode=st.sampled_from(["good", "held", "deaf", "away"]))
    def turn_store(self, whose: str, mode: str) -> None:
        for host in HOSTS if whose == "all" else self._owners(whose):
            if host in self.members.nodes:
                self.run(self._turn(host, mode))

    async def _turn(self, host: str, mode: str) -> None:
        self.stores[host].turn(mode)

    def _owners(self, actor: str) -> list[str]:
        """Who has it, or thinks so."""
        nodes = self.members.nodes.items()
        return [name for name, system in nodes if system._node.actors.cell(actor) is not None]

    @precondition(lambda self: len(self.members.nodes) > 2)
    @rule(host=st.sampled_from(HOSTS))
    def kill(self, host: str) -> None:
        if host in self.members.nodes:
            self.run(self._kill(host))

    @precondition(lambda self: len(self.members.nodes) > 2)
    @rule(
        actor=ACCOUNTS,
        mode=st.sampled_from(["good", "held", "deaf"]),
        payee=st.sampled_from(["good", "held"]),
        asks=st.lists(st.sampled_from(["put", "pay"]), max_size=3),
        pause=st.sampled_from([0.0, 0.002, 0.004, 0.01, 0.1]),
        outage=st.sampled_from([0.0, 0.0, 15.0]),
    )
    def kill_owner(
        self, actor: str, mode: str, payee: str, asks: list[str], pause: float, outage: float
    ) -> None:
        """While it has something to do, before or after the commit, and whom it pays cannot commit; with the store away
        from all for a while."""

        async def work() -> None:
            for other in self._owners("y" if actor == "x" else "x"):
                await self._turn(other, payee)
            for host in self._owners(actor)[:1]:
                for verb in asks:
                    self._ask(actor, verb)
                    await asyncio.sleep(pause)
                await self._turn(host, mode)
                self._ask(actor, "pay")
                await asyncio.sleep(pause)
                await self._kill(host)
            if outage:
                await self._turn_all("away")
                await asyncio.sleep(outage)
                await self._turn_all("good")

        self.run(work())

    async def _turn_all(self, mode: str) -> None:
        for host in set(HOSTS) & set(self.members.nodes):
            self.stores[host].turn(mode)

    async def _kill(self, host: str) -> None:
        self.stores[host].turn("dead")
        self.killed.add(f"{host}{self.lives[host]}")
        await self.members.crash(host)

    @rule(host=st.sampled_from(HOSTS))
    def come_back(self, host: str) -> None:
        async def work() -> None:
            if host not in self.members.nodes:
                await self._start(host)

        self.run(work())

    # ---- the verdict

    def teardown(self) -> None:
        try:
            self.run(self._finish())
        finally:
            self.runner.close()

    async def _finish(self) -> None:
        async with self.members:
            await self._turn_all("good")
            for _, _, future in self.asks:
                await future
            await self.members.until(self._is_quiet, 600)
            states = {actor: await self._state(actor) for actor in ACTORS}
        assert not self.early, "they were answered before their commit"
        for actor, other in ("xy", "yx"):
            self._check(actor, states[actor], states[other])

    async def _state(self, actor: str) -> Any:
        return await self.members["k"].pid(actor).ask("state", timeout=600)

    async def _is_quiet(self) -> bool:
        """Nobody keeps anything for anybody, every payment has come, and the outboxes know it."""
        if any(system.exchange.ways.active for system in self.members.nodes.values()):
            return False
        (x, x_paid), (y, y_paid) = [await self._state(actor) for actor in ACTORS]
        return all(
            len([number for sender, number in seen if sender == payer]) >= paid
            for seen, payer, paid in ((y, "x", x_paid), (x, "y", y_paid))
        )

    def _check(self, actor: str, state: Any, other: Any) -> None:
        seen, _ = state
        by: dict[str, list[int]] = {}
        for sender, number in seen:
            by.setdefault(sender, []).append(number)
        payments = by.pop("y" if actor == "x" else "x", [])
        assert payments == list(range(1, other[1] + 1)), f"paid to {actor}: {payments}, of {other[1]}"
        for sender in {*by, *self.sent}:
            told, came = self.sent.get(sender, {}).get(actor, []), by.get(sender, [])
            due = told[: len(came)] if sender in self.killed else told
            assert came == due, f"{sender} told {actor} {told}, came {came}"
        for target, (_, sender, number), future in self.asks:
            if target == actor:
                assert seen[future.result() - 1] == [sender, number], "the answer is of the state that stands"


@pytest.mark.timeout(4 * EXAMPLES)
def test_whatever_is_killed_each_message_changes_each_state_once_and_each_outbox_empties() -> None:
    run_state_machine_as_test(
        DurableMachine,
        settings=settings(
            max_examples=max(5, 3 * EXAMPLES // 10),
            stateful_step_count=30,
            deadline=None,
            derandomize=EXAMPLES <= 100,  # what is run by everybody fails for everybody, or for nobody
        ),
    )
