"""The system actor ``cajun:inspect@<node>``: what a node says of itself when another member asks.

Laws: an answer changes nothing that anybody else could see; every list is bounded by who asks, and the bound by what
stands here. A question is a name and a function that its room puts in by ``answer``; what it raises goes to whoever
asked, as the error that it is.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from cajun_fast._core.lane import Exchange
from cajun_fast.cluster.host import decode_answer, encode_error
from cajun_fast.errors import CajunError, ConfigError, NodeUnavailableError, ProtocolError

#: Nodes that one question to all of them is put to at the same time.
QUESTIONS_AT_ONCE = 32

Answer = Callable[[Mapping[str, Any]], Any | Awaitable[Any]]


def inspector_id(node_id: str) -> str:
    """Id of a node's inspector."""
    return f"cajun:inspect@{node_id}"


class Inspector:
    """The handler; see the module's laws."""

    def __init__(self, node_id: str) -> None:
        self._node_id = node_id
        self._answers: dict[str, Answer] = {}

    @property
    def questions(self) -> list[str]:
        """What can be asked here."""
        return sorted(self._answers)

    def answer(self, question: str, function: Answer) -> None:
        """From now on ``function(arguments)`` answers that question; it may be a coroutine function.

        Raises ConfigError for a question that has its answer already."""
        if question in self._answers:
            raise ConfigError(f"question {question!r} is answered by {self._answers[question]!r} already")
        self._answers[question] = function

    async def receive(self, message: Any, context: Any) -> Any:
        """One question: a map with ``ask`` and its arguments; answers a map with ``ok`` or ``error``."""
        try:
            match message:
                case {"ask": str(question)} if question in self._answers:
                    found = self._answers[question](message)
                    return {"ok": await found if inspect.isawaitable(found) else found}
            raise ProtocolError(f"node {self._node_id!r} does not know the question {message!r:.200}")
        except Exception as error:  # the answer to whoever asked; nothing is swallowed
            return encode_error(error)


async def ask_node(
    exchange: Exchange, node: str, question: str, arguments: Mapping[str, Any], timeout: float
) -> Any:
    """One node's answer. Raises NodeUnavailableError, AskTimeoutError, and what the answer raised."""
    pid = exchange.pid(inspector_id(node))
    try:
        return decode_answer(await pid.ask({**arguments, "ask": question}, timeout=timeout), pid)
    except TimeoutError as error:
        raise NodeUnavailableError(
            f"node {node!r} did not answer within {timeout:g} s: {error}", node
        ) from error


async def ask_nodes(
    exchange: Exchange, nodes: Iterable[str], question: str, arguments: Mapping[str, Any], timeout: float
) -> dict[str, Any]:
    """The answer of each node, or the CajunError that came instead of it."""
    room = asyncio.Semaphore(QUESTIONS_AT_ONCE)

    async def one(node: str) -> tuple[str, Any]:
        async with room:
            try:
                return node, await ask_node(exchange, node, question, arguments, timeout)
            except CajunError as error:
                return node, error

    return dict(await asyncio.gather(*(one(node) for node in nodes)))
