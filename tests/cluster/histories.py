"""What a story of node processes wrote down (see ``hosted/hosted_splits.py``), and the verdict on it, message by
message: lost, doubled, reordered, two owners at once: none; every failure told.

Laws: nothing is asked of the nodes here. What a killed process had in its mailboxes is gone with it and may be missing;
what a paused one had in its hands may come once more, late, from each pause. Nothing else is forgiven.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import cajun_fast as cf

#: Errors after which a message may have been handled or not.
UNKNOWN = {"OutcomeUnknownError", "AskTimeoutError"}
#: Seconds before a kill in which what was accepted may still have stood in the mailbox: longer than any standstill.
IN_MAILBOX = 15.0

#: Seconds in which a node that was taken for lost is back.
BACK = 10.0

Message = tuple[str, str, int]  # actor, sender, number


@dataclass(frozen=True, slots=True)
class Handled:
    at: int
    message: Message
    node: str
    pid: int
    epoch: int


@dataclass(frozen=True, slots=True)
class Sent:
    at: int
    kind: str
    incarnation: int


@dataclass(frozen=True, slots=True)
class Told:
    at: int
    outcome: str
    incarnation: int


@dataclass(frozen=True, slots=True)
class Kill:
    at: int
    node: str
    pid: int


@dataclass(slots=True)
class Faults:
    """What the story did to the processes."""

    kills: list[Kill] = field(default_factory=list)
    #: Pids that were stopped, once for each time.
    pauses: list[int] = field(default_factory=list)
    #: Epochs of an actor that began with a move in order.
    moved: set[tuple[str, int]] = field(default_factory=set)
    #: Senders that were killed: nobody is left to be told.
    silenced: set[str] = field(default_factory=set)


@dataclass(slots=True)
class History:
    """All lines of one story."""

    handled: list[Handled] = field(default_factory=list)
    sent: dict[Message, Sent] = field(default_factory=dict)
    told: dict[Message, Told] = field(default_factory=dict)
    letters: dict[Message, str] = field(default_factory=dict)
    ended: set[str] = field(default_factory=set)
    #: Of each sender: the lives of its node, and when it was first seen in them.
    lives: dict[str, dict[int, int]] = field(default_factory=lambda: defaultdict(dict))

    @classmethod
    def read(cls, path: Path) -> History:
        made = cls()
        for line in path.read_text().splitlines():
            at, what, *words = line.split()
            match what, words:
                case "handled", [actor, node, pid, epoch, sender, number]:
                    message = actor, sender, int(number)
                    made.handled.append(Handled(int(at), message, node, int(pid), int(epoch)))
                case "sent", [actor, sender, number, kind, life]:
                    made.sent[actor, sender, int(number)] = Sent(int(at), kind, int(life))
                    made.lives[sender].setdefault(int(life), int(at))
                case "told", [actor, sender, number, outcome, life]:
                    made.told[actor, sender, int(number)] = Told(int(at), outcome, int(life))
                case "letter", [actor, _node, sender, number, reason]:
                    made.letters[actor, sender, int(number)] = reason
                case "ended", [sender]:
                    made.ended.add(sender)
                case _:
                    raise AssertionError(f"a line that nobody writes: {line!r}")
        return made


class Verdict:
    """One story's; ``check`` raises AssertionError with the first messages at fault."""

    def __init__(self, history: History, faults: Faults) -> None:
        self._history = history
        self._faults = faults
        self._by_message: dict[Message, list[Handled]] = defaultdict(list)
        self._by_actor: dict[str, list[Handled]] = defaultdict(list)

    def check(self, states: Mapping[str, Mapping[str, list[int]]]) -> Counter[str]:
        """``states``: of the durable actors, at the end. Returns how often what was told."""
        rows = self._without_late_ones()
        for row in rows:
            self._by_message[row.message].append(row)
            self._by_actor[row.message[0]].append(row)
        self._everything_is_told()
        for actor, handled in self._by_actor.items():
            self._one_owner(actor, handled)
            if actor not in states:
                self._in_order(handled)
        for actor, state in states.items():
            self._once_in_its_state(actor, state)
        for message in self._history.sent:
            if message[0] not in states and message in self._history.told:
                self._told_truly(message)
        return Counter(told.outcome for told in self._history.told.values())

    # ---- two owners

    def _without_late_ones(self) -> list[Handled]:
        """All but the line that each paused process may have been about to write."""
        left = Counter(self._faults.pauses)
        latest: dict[str, int] = {}
        kept = []
        for row in self._history.handled:
            actor = row.message[0]
            if row.epoch < latest.get(actor, 0):
                assert left[row.pid] > 0, (
                    f"an earlier owner acted again: {row}, epoch {latest[actor]} had begun"
                )
                left[row.pid] -= 1
                continue
            latest[actor] = row.epoch
            kept.append(row)
        return kept

    def _one_owner(self, actor: str, handled: list[Handled]) -> None:
        owner: dict[int, tuple[str, int]] = {}
        for row in handled:
            assert row.epoch >= 0, f"handled by a node that does not own it: {row}"
            held = owner.setdefault(row.epoch, (row.node, row.pid))
            assert held == (row.node, row.pid), f"two owners in one epoch: {held} and {row}"

    # ---- order, doubles

    def _in_order(self, handled: list[Handled]) -> None:
        """Those that are handled for the first time; a repetition stands behind the crash that it is owed to."""
        last: dict[str, Handled] = {}
        seen: set[Message] = set()
        for row in handled:
            if row.message in seen:
                continue
            seen.add(row.message)
            actor, sender, number = row.message
            before = last.get(sender)
            if before is not None and not self._crashed(actor, before.epoch, row.epoch):
                assert number > before.message[2], f"out of order: {row} behind {before}"
            last[sender] = row

    def _not_repeated(self, message: Message) -> None:
        """Only what goes at least once is, and only where its owner or its sender lost its place, or their link what it
        knew, meanwhile.
        """
        sent, rows = self._history.sent[message], self._by_message[message]
        if sent.kind != "least":
            assert len(rows) <= 1, f"{message} ({sent.kind}) was handled twice: {rows}"
        for before, now in pairwise(rows):
            lost = self._sender_was_lost(message[1], before.at, now.at)
            lost = lost or self._crashed(message[0], before.epoch, now.epoch)
            lost = lost or self._link_was_lost(message[1], before.at, now.at)
            assert lost, f"{message} was handled twice, and nobody was lost: {rows}"

    def _sender_was_lost(self, sender: str, since: int, until: int) -> bool:
        """Whether its node lost its seat: others may have forgotten it a while before it came back in its next life."""
        return any(since <= at <= until + BACK * 1e9 for at in self._history.lives[sender].values())

    def _link_was_lost(self, sender: str, since: int, until: int) -> bool:
        """Whether a link of its node had lost what it knew: what goes exactly once is told as unknown then."""
        return any(
            told.outcome == "OutcomeUnknownError" and since <= told.at <= until + 1e9
            for message, told in self._history.told.items()
            if message[1] == sender
        )

    def _crashed(self, actor: str, before: int, now: int) -> bool:
        """Whether between two epochs an owner was lost, rather than the actor moved in order."""
        return any((actor, epoch) not in self._faults.moved for epoch in range(before + 1, now + 1))

    # ---- what senders were told

    def _everything_is_told(self) -> None:
        silent = [
            message
            for message in self._history.sent
            if message not in self._history.told and message[1] not in self._faults.silenced
        ]
        assert not silent, f"{len(silent)} senders were told nothing: {silent[:5]}"

    def _told_truly(self, message: Message) -> None:
        self._not_repeated(message)
        told, rows = self._history.told[message], self._by_message[message]
        if told.outcome == "ok":
            assert rows or self._may_be_lost(message, told.at), f"{message} was lost in silence"
        elif told.outcome not in UNKNOWN:
            self._is_a_delivery_error(message, told.outcome)
            assert not rows, f"{message} was told as {told.outcome} and was handled: {rows}"

    def _may_be_lost(self, message: Message, at: int) -> bool:
        """In a mailbox, and not in silence, or its node was killed."""
        if self._history.sent[message].kind == "ask":
            return False
        if message in self._history.letters:
            return True
        actor = message[0]
        for kill in self._faults.kills:
            earlier = [row for row in self._by_actor[actor] if row.at <= kill.at]
            was_there = not earlier or earlier[-1].pid == kill.pid
            if was_there and kill.at - IN_MAILBOX * 1e9 <= at <= kill.at + 1e9:
                return True
        return False

    def _is_a_delivery_error(self, message: Message, outcome: str) -> None:
        if outcome == "stopped":  # with the copy that had lost its ownership, in whose mailbox it waited
            return
        error: Any = getattr(cf, outcome, None)
        assert error is not None, f"{message}: {outcome}"
        assert issubclass(error, cf.DeliveryError), f"{message}: {outcome}"
        assert not issubclass(error, cf.ActorNotFoundError), (
            f"{message}: not found, and it was there all the time"
        )

    def _once_in_its_state(self, actor: str, state: Mapping[str, list[int]]) -> None:
        for sender, numbers in state.items():
            assert numbers == sorted(set(numbers)), (
                f"{actor} counts something of {sender} twice or out of order: {numbers}"
            )
        for message in self._history.sent:
            if message[0] != actor or message not in self._history.told:
                continue
            outcome = self._history.told[message].outcome
            counted = message[2] in state.get(message[1], ())
            if outcome == "ok":
                assert counted, f"{message} was committed, as its sender was told, and is not in the state"
            elif outcome not in UNKNOWN:
                self._is_a_delivery_error(message, outcome)
                assert not counted, f"{message} was told as {outcome} and is in the state"
