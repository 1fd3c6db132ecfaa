"""What a member says of itself to another: its links, its hottest actors, its dead letters, what happened."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any

import pytest

import cajun_fast as cf
from cajun_fast.clock import ManualClock
from cajun_fast.cluster.events import EventLog
from tests.cluster.conftest import Cluster, eventually


class Worker(cf.Actor):
    def receive(self, message: Any, context: Any) -> Any:
        if message == "hog":
            time.sleep(0.02)
        return message


class Waiter(cf.Actor):
    def __init__(self, release: asyncio.Event) -> None:
        self.release = release

    async def receive(self, message: Any, context: Any) -> None:
        await self.release.wait()


@pytest.mark.parametrize("store_url", ["memory"], indirect=True)
async def test_a_report_counts_what_the_test_sent_itself(cluster: Cluster) -> None:
    a, b = await cluster.start("a", "b")
    await a.register(Worker, "x")
    pid = b.pid("x")
    for n in range(100):
        pid.tell(n)
    await pid.ask("last")
    report = await b.manager.inspect("a", "report")
    (link,) = report["links"]
    assert (report["node"], report["actors"], report["is_fenced"]) == ("a", 1, False)
    assert (link["peer"], link["up"], link["breaker"]) == ("b", True, "closed")
    assert link["received"] >= 101
    assert link["received_bytes"] > 100
    own = await b.manager.inspect("b", "report")
    assert own["links"][0]["sent"] >= 101


@pytest.mark.parametrize("store_url", ["memory"], indirect=True)
async def test_the_hog_stands_first_and_measuring_ends_when_nobody_looks(cluster: Cluster) -> None:
    a, b = await cluster.start("a", "b")
    for name in ("calm", "hog"):
        await a.register(Worker, name)
    await b.manager.inspect("a", "report", hottest=5)
    assert a._node.actors.dispatcher.timing
    for _ in range(5):
        await b.pid("hog").ask("hog")
    await b.pid("calm").ask("calm")
    hottest = (await b.manager.inspect("a", "report", hottest=5))["hottest"]
    assert [row["id"] for row in hottest] == ["hog", "calm"]
    assert hottest[0]["busy"] > 2 * hottest[1]["busy"]
    a._node.inspector._answers["report"].__self__.hottest.forget()
    assert not a._node.actors.dispatcher.timing


class Holder(cf.Actor):
    """Has the loop for a while, at once or after an await; or waits, and holds nothing."""

    async def receive(self, message: Any, context: cf.Context) -> Any:
        if message == "wait":
            await asyncio.sleep(0.5)
            return message
        if message == "after an await":
            await asyncio.sleep(0)
        time.sleep(0.2)  # noqa: ASYNC251 - it is what is to be found
        if message == "fail":
            raise ValueError(message)
        return message


def blocks(message: Any, context: cf.Context) -> Any:
    time.sleep(0.2)
    if message == "fail":
        raise ValueError(message)
    return message


@pytest.mark.parametrize("store_url", ["memory"], indirect=True)
@pytest.mark.parametrize("message", ["at once", "after an await", "fail"])
@pytest.mark.parametrize("hog", [Holder, blocks])
async def test_who_holds_the_loop_is_found_at_the_next_look(cluster: Cluster, hog: Any, message: str) -> None:
    a, b = await cluster.start("a", "b")
    await a.register(hog, "hog")
    await a.register(Holder, "waiter")
    await b.manager.inspect("a", "report", hottest=5)
    waits = asyncio.ensure_future(b.pid("waiter").ask("wait"))
    with contextlib.suppress(cf.RemoteActorError):
        await b.pid("hog").ask(message)
    await waits
    rows = {row["id"]: row for row in (await b.manager.inspect("a", "report", hottest=5))["hottest"]}
    assert rows["hog"]["hold"] >= 0.2
    assert rows["hog"]["busy"] > 0
    waiter = rows.get("waiter")
    assert waiter is None or (waiter["hold"] == 0 and waiter["busy"] < rows["hog"]["busy"])
    again = {row["id"]: row for row in (await b.manager.inspect("a", "report", hottest=5))["hottest"]}
    assert "hog" not in again or again["hog"]["hold"] < 0.1


def sleeps_at(message: Any, context: cf.Context) -> Any:
    if message == "sleep":
        time.sleep(0.2)
    return message


@pytest.mark.parametrize("store_url", ["memory"], indirect=True)
@pytest.mark.parametrize("looked", [True, False], ids=["somebody looks", "nobody looks"])
async def test_one_long_hold_among_many_short_ones_is_found(cluster: Cluster, looked: bool) -> None:
    a, b = await cluster.start("a", "b")
    await a.register(sleeps_at, "hog")
    await a.register(blocks, "other")
    if looked:
        await b.manager.inspect("a", "report", hottest=5)
    hog = b.pid("hog")
    for n in range(600):
        hog.tell("sleep" if n == 400 else n)
    await hog.ask("last")
    loop = a.metrics.snapshot().loop
    assert loop.held_by == "hog"
    assert loop.longest_hold >= 0.15
    if looked:
        rows = {row["id"]: row for row in (await b.manager.inspect("a", "report", hottest=5))["hottest"]}
        assert rows["hog"]["hold"] >= 0.15
        assert rows["hog"]["busy"] > 0


@pytest.mark.parametrize("store_url", ["memory"], indirect=True)
async def test_who_gets_the_most_bytes_is_found_and_nobody_counts_them_else(cluster: Cluster) -> None:
    a, b = await cluster.start("a", "b")
    for name in ("letters", "parcels", "freight"):
        await a.register(Worker, name)
    await b.pid("parcels").ask(b"x" * 10_000)
    assert a._node.actors.cell("parcels").bytes_in == 0
    await b.manager.inspect("a", "report", hottest=1)
    for _ in range(20):
        await b.pid("letters").ask("y" * 10)
        await b.pid("parcels").ask(b"x" * 10_000)
    await b.pid("freight").ask(b"z" * 2_000_000)  # in chunks
    rows = {row["id"]: row for row in (await b.manager.inspect("a", "report", hottest=3))["hottest"]}
    assert rows["freight"]["bytes"] > 5 * rows["parcels"]["bytes"] > 100 * rows["letters"]["bytes"] > 0
    shown = {name: await b.manager.inspect("a", "actor", id=name) for name in rows}
    assert 200_000 <= shown["parcels"]["received_bytes"] <= 205_000
    assert 2_000_000 <= shown["freight"]["received_bytes"] <= 2_000_100


@pytest.mark.parametrize("store_url", ["memory"], indirect=True)
async def test_an_actor_is_shown_with_its_queue_and_the_line_on_which_it_waits(cluster: Cluster) -> None:
    a, b = await cluster.start("a", "b")
    release = asyncio.Event()
    await a.register(Waiter, "w", release)
    for n in range(3):
        await b.pid("w").send(n)
    shown = await b.manager.inspect("a", "actor", id="w")
    assert (shown["state"], shown["queue"]) == ("suspended", 2)
    assert "test_inspector.py" in shown["handler"]
    assert "receive" in shown["handler"]
    with pytest.raises(cf.ActorNotFoundError, match="'nobody' does not stand on node 'a'"):
        await b.manager.inspect("a", "actor", id="nobody")
    release.set()


@pytest.mark.parametrize("store_url", ["memory"], indirect=True)
async def test_dead_letters_come_newest_first_chosen_and_bounded(cluster: Cluster) -> None:
    a, b = await cluster.start("a", "b")
    for n in range(5):
        a.pid("nobody").tell({"n": n})
    await eventually(lambda: a.dead_letters.total == 5)
    answer = await b.manager.inspect("a", "dead-letters", limit=2)
    assert (answer["total"], [letter["target"] for letter in answer["letters"]]) == (5, ["nobody"] * 2)
    assert (await b.manager.inspect("a", "dead-letters", target="other"))["letters"] == []


@pytest.mark.parametrize("store_url", ["memory"], indirect=True)
async def test_what_happened_is_told_once_to_whoever_knows_the_number(cluster: Cluster) -> None:
    a, b = await cluster.start("a", "b")
    await cluster.leader()
    first = await b.manager.inspect("a", "report")
    kinds = [event["kind"] for event in first["events"]]
    assert "node-joined" in kinds
    again = await b.manager.inspect("a", "report", after=first["last_event"], life=a.incarnation)
    assert again["events"] == []
    assert (await b.manager.inspect("a", "report", after=first["last_event"], life=99))["events"]


@pytest.mark.parametrize("store_url", ["memory"], indirect=True)
async def test_a_node_that_does_not_answer_is_an_answer_among_the_others(cluster: Cluster) -> None:
    (a,) = await cluster.start("a")
    answers = await a.manager.inspect_nodes("report", nodes=["a", "gone"], timeout=0.3)
    assert answers["a"]["node"] == "a"
    assert isinstance(answers["gone"], cf.CajunError)
    with pytest.raises(cf.RemoteActorError, match="does not know the question"):
        await a.manager.inspect("a", "nonsense")
    with pytest.raises(cf.ConfigError, match="answered by"):
        a.inspector.answer("report", dict)


def test_the_log_forgets_the_oldest_and_survives_its_listeners() -> None:
    log = EventLog(ManualClock(), keep=3)
    heard: list[int] = []

    def broken(event: Any) -> None:
        raise ValueError

    log.subscribe(broken)
    end = log.subscribe(lambda event: heard.append(event.number))
    for n in range(5):
        log.add("kind", f"text {n}", n=n)
    end()
    log.add("kind", "after the end")
    assert heard == [1, 2, 3, 4, 5]
    assert [event.number for event in log.after(0)] == [4, 5, 6]
    assert [event.number for event in log.after(5)] == [6]
