"""Whether a peer lives: the judgement by itself, and over real sockets and processes."""

from __future__ import annotations

from typing import Any

import pytest

from cajun_fast.messaging.liveness import PeerState, Signs, judge
from tests.messaging.nodes import until

NOW, LIMIT = 100_000, 1_000
OLD = NOW - LIMIT - 1

JUDGEMENTS = [
    ({}, "unknown"),
    ({"wanted": NOW - LIMIT}, "unknown"),
    ({"wanted": OLD}, "silent"),
    ({"heard": NOW - LIMIT}, "alive"),
    ({"heard": OLD}, "silent"),
    ({"heard": NOW, "beat": NOW, "standing": 10 * LIMIT}, "alive"),
    ({"heard": OLD, "beat": OLD}, "silent"),
    ({"heard": OLD, "beat": NOW, "standing": LIMIT + 1}, "stuck"),
    ({"heard": OLD, "beat": NOW, "standing": LIMIT}, "cut"),
    ({"beat": NOW, "wanted": OLD}, "cut"),
    ({"heard": OLD, "beat": NOW, "stuck": NOW - LIMIT, "connected": True}, "stuck"),
    ({"heard": OLD, "beat": NOW, "stuck": OLD, "connected": True}, "cut"),
    ({"heard": OLD, "beat": NOW, "stuck": NOW}, "cut"),
]


@pytest.mark.parametrize(("signs", "state"), JUDGEMENTS, ids=str)
def test_the_signs_are_judged_together(signs: dict[str, Any], state: str) -> None:
    assert judge(Signs(NOW, LIMIT, **signs)) == state


async def test_a_watched_node_is_connected_to_and_judged_without_any_message(make_node: Any) -> None:
    a, b = await make_node("a"), await make_node("b")
    a.knows(b)
    assert a.messaging.liveness("b").state is PeerState.UNKNOWN
    assert a.messaging.liveness("nobody") is None
    told: list[tuple[str, int, PeerState]] = []
    a.messaging.on_liveness = lambda *news: told.append(news)
    a.messaging.watch("b")
    await until(lambda: told)
    assert told == [("b", 1, "alive")]
    await b.stop()
    await until(lambda: a.messaging.liveness("b").state is PeerState.SILENT)
    await until(lambda: a.messaging.liveness("b").refused)
    assert not a.messaging.liveness("b").connected
