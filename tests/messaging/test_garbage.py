"""What the engine makes for a message is freed by count: the collector is not called for it and finds nothing."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest

from tests.messaging.nodes import tell_all

TELLS, BURST = 20_000, 500
ASKS = 2_000


class Collection(NamedTuple):
    generation: int
    found: int


@pytest.fixture
def collections() -> Iterator[list[Collection]]:
    """Each collection while the test runs, by the default thresholds."""
    noted: list[Collection] = []

    def note(phase: str, info: dict[str, int]) -> None:
        if phase == "stop":
            noted.append(Collection(info["generation"], info["collected"]))

    before = gc.get_threshold()
    gc.set_threshold(700, 10, 10)
    gc.callbacks.append(note)
    yield noted
    gc.callbacks.remove(note)
    gc.set_threshold(*before)


def message(i: int) -> dict[str, Any]:
    return {"id": i, "op": "add", "v": 1.5, "tag": "x" * 32}


@pytest.mark.parametrize("where", ["here", "there"])
async def test_messages_leave_nothing_to_collect(
    make_node: Callable[..., Any], collections: list[Collection], where: str
) -> None:
    a, b = await make_node("a"), await make_node("b")
    a.knows(b)

    def answer(message: Any, context: Any) -> Any:
        return message if message["op"] == "echo" else None

    await (a if where == "here" else b).actors.spawn(answer, "x")
    pid = a.pid("x", a if where == "here" else b)
    await pid.ask(message(0) | {"op": "echo"})
    gc.collect()
    tracked = len(gc.get_objects())
    collections.clear()
    for start in range(0, TELLS, BURST):
        await tell_all(pid, [message(i) for i in range(start, start + BURST)])
        await pid.send(message(0))
    for _ in range(ASKS):
        await pid.ask(message(0) | {"op": "echo"})
    # A list of messages is the test's own: at most one collection of the youngest for each of those.
    assert len(collections) <= TELLS // BURST + ASKS // 700 + 2, collections
    assert all(each.generation < 2 for each in collections)
    gc.collect()
    assert sum(each.found for each in collections) < 50, collections
    assert len(gc.get_objects()) < tracked + 500
