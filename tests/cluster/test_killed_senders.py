"""What others see of a volatile sender whose process is killed: what it had sent was delivered or is gone, in order and
never twice; late answers to it go nowhere and hurt nobody, since whoever asked is gone; nothing stands in a link to it.
"""

from __future__ import annotations

import gc
import signal
from typing import Any

import pytest

import cajun_fast as cf
from cajun_fast._core.link import Link
from tests.cluster.conftest import eventually
from tests.cluster.test_processes import Nodes, nodes

__all__ = ["nodes"]
pytestmark = pytest.mark.processes


class Heard(cf.Actor):
    """Answers no ask before it is told to."""

    def __init__(self) -> None:
        self.told: list[int] = []
        self.asked: list[int] = []
        self.replies: list[Any] = []

    def receive(self, message: Any, context: cf.Context) -> Any:
        match message:
            case ["tell", int(number)]:
                self.told.append(number)
            case ["ask", int(number)]:
                self.asked.append(number)
                self.replies.append(context.reply_later())
            case "answer":
                replies, self.replies = self.replies, []
                for reply in replies:
                    reply.send("late")
                return len(replies)
        return None


def kept_for(node: str) -> int:
    """Bytes that stand in any link to it, however it is still known."""
    links = [each for each in gc.get_objects() if isinstance(each, Link) and each.peer == node]
    return sum(each.window.retained + each.bulk.bytes for each in links) + sum(
        not each.ended for each in links
    )


async def test_a_killed_sender_leaves_nothing_doubled_or_out_of_order_and_no_memory(
    nodes: Nodes,
) -> None:
    await nodes.start("a")
    builder = cf.ClusterConfig.Builder("b", nodes.store).with_messaging_port(0)
    for name, value in nodes.settings.items():
        builder.with_setting(name, float(value))
    async with cf.ClusterFactory.create_cluster_system(builder.build()) as b:
        heard = Heard()
        await b.register(lambda message, context: heard.receive(message, context), "x")
        for life in (1, 2):
            heard.told.clear()
            heard.asked.clear()
            await b.create_actor_on_node("caller", f"caller-{life}", "a")
            b.pid(f"caller-{life}").tell("x")
            await eventually(lambda: len(heard.told) > 500 and len(heard.replies) >= 20, 30)
            await nodes.signal("a", signal.SIGKILL)
            await eventually(lambda: "a" not in b.known_nodes, 30)
            assert heard.told == list(range(len(heard.told))), "a gap, a double or another order"
            assert heard.asked == list(range(len(heard.asked)))
            seen = len(heard.told)
            assert await b.pid("x").ask("answer") == len(heard.asked), "none of them was answered before"
            assert "a" not in b._node.messaging.nodes
            await eventually(lambda: kept_for("a") == 0)
            await nodes.start("a")  # its next life is not taken for the one before
            assert len(heard.told) == seen, "what was in flight came later"
    assert await nodes.stop() == [0]
