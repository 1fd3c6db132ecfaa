"""The two halves of a hand-off against a store, a network that loses answers, and nodes that die at any step: at
most one copy runs at any moment, and in the end exactly one does wherever a node is left that could run it.
"""

from __future__ import annotations

from collections import deque

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from cajun_fast.cluster.movement import arrival, departure
from cajun_fast.cluster.movement.arrival import Arrival
from cajun_fast.cluster.movement.departure import Departure

S, D = departure.State, departure.Event
A, E = arrival.State, arrival.Event
FROZEN = {S.PACKING, S.SENDING, S.COMMITTING, S.REASKING, S.CLOSING, S.STARTING, S.MOVED, S.LOST}


class World(RuleBasedStateMachine):
    """Owners by letter: s has it, t shall have it, l is whom the leader gives it to when its owner is lost."""

    @initialize(steps=st.integers(0, 8))
    def begin(self, steps: int) -> None:
        self.owner, self.revision = "s", 1
        self.source, self.acts = Departure(), deque(Departure().begin())
        self.target: Arrival | None = None
        self.lives = {"s": True, "t": True}
        self.seat = self.granted_seat = 1
        self.commit: tuple[int, int] | None = None  # on its way to the store: revision and seat it relies on
        self.answer: departure.Event | None = None  # of the commit, on its way back
        self.claimed = False  # the record names t by this hand-off's claim
        self.closed = False  # the copy on s has ended
        self.told_gone = False
        for _ in range(steps):  # or luck would seldom lead to where it matters
            if self.acts and self.commit is None and self.answer is None:
                self.step("good")

    # ---- s

    def feed(self, event: departure.Event) -> None:
        self.acts.extend(self.source.on(event))

    @precondition(lambda self: self.lives["s"] and self.acts)
    @rule(luck=st.sampled_from(["good", "good", "good", "lost", "bad"]))
    def step(self, luck: str) -> None:  # noqa: C901 - a row for each act
        act = self.acts.popleft()
        reached = luck != "bad" and self.lives["t"]
        fine = luck == "good" and self.lives["t"]
        match act:
            case departure.Act.ASK:
                if reached:
                    self.target, self.granted_seat = Arrival(), self.seat
                self.feed(D.GRANTED if fine else D.FAILED)
            case departure.Act.HOLD | departure.Act.PACK:
                good = D.QUIET if act is departure.Act.HOLD else D.PACKED
                self.feed(good if luck == "good" else D.FAILED)
            case departure.Act.SEND:
                if reached and self.target is not None:
                    self.target_event(E.COMPLETE)
                ready = self.target is not None and self.target.state is A.READY
                self.granted_seat = self.seat
                self.feed(D.TAKEN if fine and ready else D.FAILED)
            case departure.Act.ASK_AGAIN:
                ready = self.target is not None and self.target.state is A.READY
                self.granted_seat = self.seat
                self.feed(D.GRANTED if fine and ready else D.FAILED)
            case departure.Act.COMMIT:
                self.commit = (1, self.granted_seat)
            case departure.Act.CLOSE:
                self.closed = True
                self.feed(D.CLOSED)
            case departure.Act.START:
                if reached:
                    self.target_event(E.GO)
                self.feed(D.STARTED if fine else D.FAILED)
            case departure.Act.FORGET:
                if reached:
                    self.target_event(E.FORGET)
            case departure.Act.DROP:
                self.closed = True

    @precondition(lambda self: self.lives["s"])
    @rule(seldom=st.integers(0, 3))
    def cancel(self, seldom: int) -> None:
        if seldom:
            return
        if not self.source.is_over and not self.source.is_decided:
            self.acts.clear()
        self.feed(D.CANCELLED)

    # ---- the store

    @precondition(lambda self: self.commit is not None)
    @rule()
    def store_decides(self) -> None:
        assert self.commit is not None
        (revision, seat), self.commit = self.commit, None
        if self.revision != revision:
            self.answer = D.OUTRUN
        elif self.seat != seat:
            self.answer = D.STALE
        else:
            self.owner, self.revision, self.claimed = "t", self.revision + 1, True
            self.answer = D.COMMITTED

    @precondition(lambda self: self.answer is not None and self.lives["s"])
    @rule()
    def answer_comes(self) -> None:
        answer, self.answer = self.answer, None
        assert answer is not None
        self.feed(answer)

    @precondition(lambda self: self.lives["t"])
    @rule()
    def seat_changes(self) -> None:
        self.seat += 1

    # ---- t

    def target_event(self, event: arrival.Event) -> None:
        if self.target is None or not self.lives["t"]:
            return
        if event is E.GO and not (self.owner == "t" and self.claimed):
            return  # the shell reads the directory first
        for act in self.target.on(event):
            if act is arrival.Act.LOOK_UP:
                self.target_event(self.record_event())

    def record_event(self) -> arrival.Event:
        if self.owner == "t" and self.claimed:
            return E.OURS
        if self.owner == "s":
            return E.UNCHANGED if self.lives["s"] else E.ORPHANED
        return E.OTHER

    @precondition(lambda self: self.target is not None)
    @rule()
    def watch_reports(self) -> None:
        if self.revision > 1:
            self.target_event(self.record_event())

    @precondition(lambda self: self.target is not None)
    @rule(event=st.sampled_from([E.SILENCE, E.STARTED]))
    def target_goes_on(self, event: arrival.Event) -> None:
        assert self.target is not None
        # a start behind silence comes only once the copy on s had its time to end
        if event is E.SILENCE and self.target.state is A.OWNING and self.lives["s"] and not self.closed:
            return
        if event is E.STARTED and self.target.state is not A.STARTING:
            return
        self.target_event(event)

    # ---- nodes die

    @rule(node=st.sampled_from(["s", "t"]), seldom=st.integers(0, 5))
    def node_dies(self, node: str, seldom: int) -> None:
        if seldom == 0:
            self.lives[node] = False
            if node == "t":
                self.target = None
                self.seat = 0

    @precondition(lambda self: not self.lives["s"] and not self.told_gone)
    @rule()
    def loss_is_seen(self) -> None:
        self.told_gone = True
        self.target_event(E.GONE)

    @precondition(lambda self: self.owner in self.lives and not self.lives[self.owner])
    @rule()
    def leader_gives_it_away(self) -> None:
        self.owner, self.revision, self.claimed = "l", self.revision + 1, False

    # ---- the laws

    def running(self) -> list[str]:
        found = []
        if self.lives["s"] and not self.closed and self.source.state not in FROZEN:
            found.append("s")
        if self.target is not None and self.target.state in (A.STARTING, A.RUNNING):
            found.append("t")
        if self.owner == "l":
            found.append("l")
        return found

    @invariant()
    def at_most_one_runs(self) -> None:
        assert len(self.running()) <= 1, self.running()

    @invariant()
    def whoever_runs_owns(self) -> None:
        for each in self.running():
            assert each == self.owner, f"{each} runs and {self.owner} owns"

    def teardown(self) -> None:
        if not hasattr(self, "owner"):
            return
        for _ in range(40):  # everything that is under way comes to its end, with good luck
            if self.lives["s"] and self.acts:
                self.step("good")
            if self.commit is not None:
                self.store_decides()
            if self.answer is not None and self.lives["s"]:
                self.answer_comes()
            if not self.lives["s"] and not self.told_gone:
                self.loss_is_seen()
            if self.target is not None:
                self.watch_reports()
                self.target_goes_on(E.SILENCE)
                self.target_goes_on(E.STARTED)
            if self.owner in self.lives and not self.lives[self.owner]:
                self.leader_gives_it_away()
            self.at_most_one_runs()
        late = self.owner == "t" and (self.target is None or self.target.state is A.FORGOTTEN)
        assert late or self.running() == [self.owner], (self.running(), self.owner, self.source, self.target)


def test_hand_offs_have_one_owner_whatever_is_lost() -> None:
    run_state_machine_as_test(
        World, settings=settings(max_examples=250, stateful_step_count=30, deadline=None)
    )


def test_every_row_of_the_tables_leads_somewhere() -> None:
    for state in departure.State:
        assert (state in departure.FINAL) != (state in departure.TABLE)
    for arrived in arrival.State:
        assert (arrived in arrival.FINAL) != (arrived in arrival.TABLE)
    reached = {row[0] for rows in departure.TABLE.values() for row in rows.values()}
    assert reached == set(departure.State) - {S.ASKING}


@pytest.mark.parametrize(
    ("events", "end", "acts"),
    [
        ("granted quiet packed taken committed closed started", "moved", "hold pack send commit close start"),
        ("granted quiet packed taken stale granted committed closed failed", "moved",
         "hold pack send commit ask-again commit close start"),
        ("failed", "stayed", "forget"),
        ("granted failed", "stayed", "hold go-on forget"),
        ("granted quiet packed failed", "stayed", "hold pack send go-on forget"),
        ("granted quiet packed taken cancelled outrun", "lost", "hold pack send commit drop forget"),
        ("granted quiet packed taken cancelled committed cancelled closed started", "moved",
         "hold pack send commit close start"),
    ],
)  # fmt: skip
def test_departures_as_transcripts(events: str, end: str, acts: str) -> None:
    machine = Departure()
    told = [act.value for event in events.split() for act in machine.on(D(event))]
    assert (machine.state.value, " ".join(told)) == (end, acts)


def test_what_cannot_come_is_an_error_of_the_caller() -> None:
    machine = Departure()
    with pytest.raises(ValueError, match="cannot come"):
        machine.on(D.COMMITTED)
    machine.on(D.FAILED, "no room")
    assert machine.reason == "no room"
    with pytest.raises(ValueError, match="after the end"):
        machine.on(D.GRANTED)
    assert machine.on(D.CANCELLED) == ()


@pytest.mark.parametrize(
    ("events", "end", "acts"),
    [
        ("complete go started", "running", "watch-out start"),
        ("complete ours go started", "running", "watch-out watch-out start"),
        ("complete ours gone started", "running", "watch-out watch-out start"),
        ("complete silence unchanged silence ours silence failed", "failed",
         "watch-out look-up watch-out look-up watch-out start give-back"),
        ("complete gone orphaned", "forgotten", "watch-out look-up forget"),
        ("broken complete go", "forgotten", "forget"),
        ("complete forget ours go", "forgotten", "watch-out forget"),
    ],
)  # fmt: skip
def test_arrivals_as_transcripts(events: str, end: str, acts: str) -> None:
    machine = Arrival()
    told = [act.value for event in events.split() for act in machine.on(E(event))]
    assert (machine.state.value, " ".join(told)) == (end, acts)
