"""The fate of a message: which stage it reached, on which node, and why it ended there.

    last = system.manager.last_message_id(pid)      # right after pid.tell(…): the number that the link gave it
    print(await system.manager.explain(last))

A message that goes to another node has an identity: (node, incarnation, stream, sequence). Nobody makes an object of it
unless it is asked for: the link's counters tell what became of a number, and the flight recorder (see
``_core/flight.pxd``) has the stages of the messages that are measured, and every refusal and loss. A message that stays
on its node has no number.

Laws: looking changes nothing; a question to other nodes is bounded; what is not known is said to be unknown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from cajun_fast._core.lane import Pid
from cajun_fast._core.link import Link
from cajun_fast.cluster.inspector import ask_nodes
from cajun_fast.errors import CajunError

if TYPE_CHECKING:
    from cajun_fast.cluster.node import Node

QUESTION = "fate"
VERDICTS = {
    1: "its mailbox was full",
    2: "the actor was not there",
    5: "it could not be decoded",
    6: "the actor was being moved",
    7: "its deadline had passed",
    8: "this node may not send there",
    9: "it was too large",
}
FINAL = (5, 7, 8, 9)
Row = Sequence[Any]


@dataclass(frozen=True, slots=True)
class MessageId:
    """Who numbered it, in which life, on which lane, and the number. As text: ``node/incarnation/stream/sequence``."""

    node: str
    incarnation: int
    stream: int
    sequence: int

    def __str__(self) -> str:
        return f"{self.node}/{self.incarnation}/{self.stream}/{self.sequence}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """The inverse of ``str``. Raises ValueError for anything else."""
        try:
            node, *numbers = text.rsplit("/", 3)
            incarnation, stream, sequence = map(int, numbers)
        except ValueError as error:
            raise ValueError(f"a message id is node/incarnation/stream/sequence, got {text!r}") from error
        return cls(node, incarnation, stream, sequence)


@dataclass(frozen=True, slots=True)
class FateEvent:
    """Something that was noted. ``stage``: see ``_core/flight.pxd``; ``age`` in seconds when it was asked for."""

    stage: str
    node: str
    age: float
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Fate:
    """``stage`` is one of never-sent, waits, on-its-way, accepted, arrived, handled, failed, let-go, came-back, ended,
    unknown; ``text`` is for people; ``events`` are the notes, the oldest first."""

    message_id: MessageId
    stage: str
    node: str
    target: str | None
    text: str
    events: tuple[FateEvent, ...] = ()

    def __str__(self) -> str:
        return f"message {self.message_id}: {self.text}"


@dataclass(frozen=True, slots=True)
class Noted:
    """A message that the flight recorder knows, with the last stage that was noted here."""

    message_id: MessageId
    stage: str
    target: str
    age: float
    detail: str = ""


class Fates:
    """What one node knows of messages, and whom it asks; see the module's laws."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def start(self) -> None:
        """From now on other nodes may ask."""
        self._node.inspector.answer(QUESTION, self._answer)

    # ---- ids

    def last_id(self, pid: Pid) -> MessageId | None:
        """Of the last message of this node to that actor over its present link; None: none went over one."""
        carrier = pid.lane.carrier
        if not isinstance(carrier, Link):
            return None
        sequence = carrier.last_of(pid.lane)
        return MessageId(*self._own, carrier.stream, sequence) if sequence else None

    def noted(self, lost: bool, limit: int, target: str | None) -> list[Noted]:
        """The newest first."""
        exchange = self._node.exchange
        rows = (exchange.losses if lost else exchange.flight).last(limit, target)
        return [self._noted(row) for row in rows]

    def _noted(self, row: Row) -> Noted:
        stage, detail, node, stream, sequence, target, at = row
        owner = self._own if node is None else (node, self._life_of(node, stream))
        message_id = MessageId(owner[0], owner[1], stream, sequence)
        return Noted(message_id, stage, target, self._age(at), VERDICTS.get(detail, ""))

    @property
    def _own(self) -> tuple[str, int]:
        return self._node.owner.node, self._node.owner.incarnation

    def _life_of(self, node: str, stream: int) -> int:
        peer = self._node.messaging.peer(node)
        lives = peer is not None and peer.link.inbound.stream == stream
        return int(peer.link.incarnation or 0) if lives and peer is not None else 0

    def _age(self, at_ns: int) -> float:
        return max(0, self._node.ports.clock.now_ns() - at_ns) / 1e9

    # ---- what this node knows

    def _answer(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        return self.here(MessageId.parse(str(asked["id"])))

    def here(self, message_id: MessageId) -> dict[str, Any]:
        """As plain values: the state of the link that carries or carried it, and the notes."""
        mine = (message_id.node, message_id.incarnation) == self._own
        exchange = self._node.exchange
        of = None if mine else message_id.node
        rows = [
            row
            for flight in (exchange.flight, exchange.losses)
            for row in flight.find(of, message_id.stream, message_id.sequence)
        ]
        return {
            "node": self._node.owner.node,
            "link": self._sender_side(message_id) if mine else self._receiver_side(message_id),
            "events": [[stage, detail, target, self._age(at)] for stage, detail, _, _, _, target, at in rows],
            "measured": exchange.sampler.every,
            "letter": self._letter(str(message_id)),
        }

    def _letter(self, text: str) -> str | None:
        """Why it is a dead letter here; None: it is not among those that are kept."""
        letters = self._node.actors.dead_letters
        return next((letter.reason for letter in letters if letter.message_id == text), None)

    def _sender_side(self, message_id: MessageId) -> dict[str, Any] | None:
        messaging = self._node.messaging
        for name in messaging.nodes:
            peer = messaging.peer(name)
            if peer is not None and peer.link.stream == message_id.stream:
                window = peer.link.window
                return {
                    "peer": name,
                    "next": window.next_seq,
                    "flushed": window.flushed,
                    "acked": window.acked,
                }
        return None

    def _receiver_side(self, message_id: MessageId) -> dict[str, Any] | None:
        peer = self._node.messaging.peer(message_id.node)
        if peer is None or peer.link.inbound.stream != message_id.stream:
            return None
        return {"watermark": peer.link.inbound.watermark}

    # ---- all that can be known

    async def explain(self, message_id: MessageId, timeout: float) -> Fate:
        """Ask who can know. Nodes that do not answer in time are left out."""
        others = [name for name in self._node.members.nodes if name != self._node.owner.node]
        answers = await ask_nodes(self._node.exchange, others, QUESTION, {"id": str(message_id)}, timeout)
        found = {self._node.owner.node: self.here(message_id)}
        found |= {name: answer for name, answer in answers.items() if not isinstance(answer, CajunError)}
        return judge(message_id, found)


def judge(message_id: MessageId, found: Mapping[str, Mapping[str, Any]]) -> Fate:
    """What all answers together say."""
    events = sorted(
        (
            FateEvent(str(stage), node, float(age), VERDICTS.get(int(detail), ""))
            for node, answer in found.items()
            for stage, detail, _, age in answer["events"]
        ),
        key=lambda event: -event.age,
    )
    targets = [row[2] for answer in found.values() for row in answer["events"]]
    target = str(targets[0]) if targets else None
    stage, node, text = _verdict(message_id, found, {event.stage: event for event in events})
    for name, answer in found.items():
        if answer.get("letter") is not None:
            text += f" (dead letter on node {name!r}: {answer['letter']})"
    return Fate(message_id, stage, node, target, text, tuple(events))


def _verdict(
    message_id: MessageId, found: Mapping[str, Mapping[str, Any]], noted: Mapping[str, FateEvent]
) -> tuple[str, str, str]:
    for stage, text in (
        ("handled", "its handler has ended on node {!r}"),
        ("failed", "its handler raised on node {!r}"),
        ("let-go", "its mailbox on node {!r} let it go: policy, deadline, or the actor's end"),
    ):
        if stage in noted:
            return stage, noted[stage].node, text.format(noted[stage].node)
    sender = found.get(message_id.node, {})
    for stage, became, text in (
        ("unknown", "unknown", "its receiver was lost before it answered: it may or may not have been handled"),
        ("voided", "ended", "it ended on node {!r} before it left: its deadline, or an open circuit breaker"),
    ):  # fmt: skip
        if stage in noted:
            return became, noted[stage].node, text.format(noted[stage].node)
    refused, ended = noted.get("came-back") or noted.get("turned-away"), noted.get("ended")
    if refused is not None:
        final = ended is not None or refused.detail in {VERDICTS[verdict] for verdict in FINAL}
        rest = "it ended there" if final else "it goes another way, under another number"
        return ("ended" if final else "came-back"), refused.node, f"it was refused: {refused.detail}; {rest}"
    if ended is not None:
        return "ended", ended.node, f"it found no way from node {ended.node!r} any more, and ended there"
    if "unseen" in noted:
        node = noted["unseen"].node
        return (
            "came-back",
            node,
            f"its receiver was lost before it saw it; node {node!r} sends it another way",
        )
    return _by_numbers(message_id, found, sender.get("link"), noted)


def _by_numbers(
    message_id: MessageId,
    found: Mapping[str, Mapping[str, Any]],
    link: Mapping[str, Any] | None,
    noted: Mapping[str, FateEvent],
) -> tuple[str, str, str]:
    """No note has the last word: what do the links' counters say?"""
    if "arrived" in noted:
        node = noted["arrived"].node
        return "arrived", node, f"it has reached its mailbox on node {node!r} and its handler has not ended"
    sequence, node = message_id.sequence, message_id.node
    for name, answer in found.items():
        side = answer["link"] or {}
        if name != node and int(side.get("watermark", 0)) >= sequence:
            return "accepted", name, (
                f"node {name!r} took it into the mailbox; whether it was handled is not noted (one in "
                f"{answer['measured']} is)"
            )  # fmt: skip
    if link is None:
        return (
            "unknown",
            node,
            "nobody who answered knows it: its link has ended, and notes are kept for a while",
        )
    if sequence >= int(link["next"]):
        return "never-sent", node, f"node {node!r} has not given that number yet"
    if sequence <= int(link["acked"]):
        return (
            "accepted",
            str(link["peer"]),
            f"node {link['peer']!r} acknowledged it: it stood in the mailbox",
        )
    if sequence <= int(link["flushed"]):
        return (
            "on-its-way",
            str(link["peer"]),
            f"written to node {link['peer']!r}, which has not acknowledged it",
        )
    return "waits", node, f"it waits on node {node!r} for its connection to node {link['peer']!r}"
