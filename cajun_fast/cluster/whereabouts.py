"""Where an ask stands that was not answered: found out on the node that holds its target, told to the one who asked.

Laws: looks only; costs nothing before a time-out. The causes are those of ``AskTimeoutError``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cajun_fast._core.cell import Cell
from cajun_fast._core.lane import Lane
from cajun_fast.actors.stack import lines_of
from cajun_fast.errors import AskTimeoutError


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """What was found. ``busy``: what the target's handler does with another message, as far as that can be seen."""

    cause: str
    node: str
    position: int | None = None
    since: float | None = None  # seconds
    where: str = ""
    busy: bool = False
    detail: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain values; ``from_dict`` is the inverse."""
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Whereabouts:
        """Unknown fields are passed over. Raises KeyError for what is no such map."""
        known = {name: plain[name] for name in cls.__slots__ if name in plain}
        return cls(**{"cause": plain["cause"], "node": plain["node"], **known})


def found_here(cell: Cell | None, node: str, asker: str, tag: int, now_ns: int) -> Whereabouts:
    """What the node that should hold the target says."""
    if cell is None:
        return Whereabouts("not-found", node)
    position = cell.position(asker, tag)
    hand = cell.in_hand
    if hand is not None and hand[:2] == (asker, tag):
        return Whereabouts("in-handler", node, None, _seconds(now_ns, hand[2]), _line(cell))
    if position and cell.state not in ("running", "suspended"):
        return Whereabouts("not-running", node, position, detail=cell.state)
    if position and hand is not None:
        return Whereabouts("queued", node, position, _seconds(now_ns, hand[2]), _line(cell), busy=True)
    if position:
        return Whereabouts("queued", node, position)
    return Whereabouts("not-answered", node)


def waiting_in(lane: Lane, node: str, tag: int) -> Whereabouts | None:
    """What the asker's own lane says; None: the ask went on from here."""
    position = lane.position(tag)
    if not position:
        return None
    if lane.inbox is None and lane.resolving:
        return Whereabouts("no-way", node, position)
    to = "its mailbox" if lane.carrier is None else f"the way to node {lane.carrier.peer!r}"
    return Whereabouts("no-room", node, position, detail=to)


def timeout_error(target: str, timeout: float, asker: str, found: Whereabouts) -> AskTimeoutError:
    """The error that tells of it."""
    lost = found.cause in ("no-way", "no-room")
    rest = "it was not sent" if lost else "whether it handled the message is not known"
    return AskTimeoutError(
        f"actor {target!r} gave no answer within {timeout:g} s: {_sentence(found, asker)}; {rest}",
        target,
        node=found.node,
        cause=found.cause,
        position=found.position,
        since=found.since,
        where=found.where,
    )


def _sentence(found: Whereabouts, asker: str) -> str:
    node = "this node" if found.node == asker else f"node {found.node!r}"
    since = f" for {found.since:.2f} s" if found.since is not None else ""
    at = f", at {found.where}" if found.where else ""
    behind = f", behind a message that has been in its handler{since}{at}" if found.busy else ""
    return {
        "not-found": f"there is no such actor on {node}",
        "no-way": f"it waits on {node}, place {found.position}: where the actor lives is not known yet",
        "no-room": f"it waits on {node}, place {found.position}, for room in {found.detail}",
        "on-its-way": f"{node} has not acknowledged it{found.detail}",
        "queued": f"it waits in the mailbox on {node}, place {found.position}{behind}",
        "in-handler": f"it has been in its handler on {node}{since}{at}",
        "not-running": f"it waits in the mailbox on {node}, place {found.position}; the actor is {found.detail}",
        "not-answered": f"its handler on {node} has taken it and not answered, or the answer is on its way",
        "node-stuck": f"{node} lives, but its event loop has stood{since}",
        "node-silent": f"nothing is heard from {node}{since}",
        "node-gone": f"{node} is no member any more",
    }.get(found.cause, f"where it stands could not be found out{found.detail}")


def _seconds(now_ns: int, began_ns: int) -> float:
    return max(0, now_ns - began_ns) / 1e9


def _line(cell: Cell) -> str:
    task = cell.task
    return " > ".join(lines_of(task)[:4]) if task is not None else ""
