"""Requests side by side: in order for one id, bounded together, each answered once."""

from __future__ import annotations

import asyncio
from typing import Any

import cajun_fast as cf
from cajun_fast.cluster.errands import Errands
from tests.cluster.conftest import Cluster
from tests.cluster.worlds import turned


class Answer:
    def __init__(self) -> None:
        self.given: list[Any] = []

    def send(self, value: Any) -> bool:
        self.given.append(value)
        return True


def test_what_is_about_one_id_is_done_in_order_and_the_rest_side_by_side() -> None:
    async def story() -> None:
        done: list[str] = []

        async def work(name: str, seconds: float) -> str:
            await asyncio.sleep(seconds)
            done.append(name)
            return name

        errands, answers = Errands("t", repr), [Answer() for _ in range(3)]
        await errands.begin("x", work("x1", 5), answers[0])
        await errands.begin("x", work("x2", 1), answers[1])
        await errands.begin("y", work("y1", 2), answers[2])
        await asyncio.sleep(10)
        assert done == ["y1", "x1", "x2"]
        assert [answer.given for answer in answers] == [["x1"], ["x2"], ["y1"]]
        assert len(errands) == 0
        await errands.stop()

    turned(story)


def test_an_error_is_an_answer_and_the_next_one_for_the_id_goes_on() -> None:
    async def story() -> None:
        async def broken() -> None:
            raise ValueError("no")

        async def fine() -> int:
            return 7

        errands, answers = Errands("t", repr), [Answer(), Answer()]
        await errands.begin("x", broken(), answers[0])
        await errands.begin("x", fine(), answers[1])
        await asyncio.sleep(1)
        assert [answer.given for answer in answers] == [["ValueError('no')"], [7]]
        await errands.stop()

    turned(story)


def test_who_brings_one_too_many_waits_and_a_stop_ends_it_all() -> None:
    async def story() -> None:
        errands, answers = Errands("t", repr, at_once=2), [Answer() for _ in range(4)]
        for answer in answers[:2]:
            await errands.begin("", asyncio.sleep(100), answer)
        third = asyncio.ensure_future(errands.begin("", asyncio.sleep(1), answers[2]))
        await asyncio.sleep(50)
        assert not third.done()
        await asyncio.sleep(60)
        assert third.done()
        await errands.begin("x", asyncio.sleep(500), answers[0])
        await errands.stop()
        await errands.begin("x", asyncio.sleep(1), answers[3])
        assert answers[3].given == ["RuntimeError('this node is stopping')"]

    turned(story)


class Small(cf.Actor):
    def receive(self, message: Any, context: Any) -> Any:
        return message


async def test_actors_that_are_created_from_afar_share_batches(cluster: Cluster) -> None:
    cluster.types.actor("small")(type("Small", (Small,), {}))
    a, b = await cluster.start("a", "b")
    before = b._node.registrar.batches
    pids = await asyncio.gather(*(a.create_actor_on_node("small", f"s{n}", "b") for n in range(200)))
    assert b._node.registrar.batches - before <= 100
    assert await pids[7].ask(3) == 3
    assert await asyncio.gather(*(a.stop_actor(f"s{n}") for n in range(200))) == [True] * 200
