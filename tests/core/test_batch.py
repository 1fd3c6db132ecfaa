"""The batch queues: bounds one by one, what the traps of batched registration need, and a plain model."""

import sys

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from cajun_fast._core.batch import BatchQueue, KeyedBatchQueue, Verdict

AGE = 5_000_000
COUNT, BYTES, PENDING = 4, 100, 9

sizes = st.sampled_from([0, 1, 20, 33, 50, 99, 100, 101, 500])


class Waiting:
    """One item as the model keeps it."""

    def __init__(self, key, item, size, since):
        self.key, self.item, self.size, self.since = key, item, size, since


class LineModel(RuleBasedStateMachine):
    """What the two queues share; a list, and every sum made anew each time."""

    def __init__(self):
        super().__init__()
        self.queue = self.make(COUNT, BYTES, AGE, PENDING)
        self.line, self.now, self.paused, self.number = [], 1_000, 0, 0

    def full(self):
        return len(self.line) >= COUNT or sum(each.size for each in self.line) >= BYTES

    def append(self, key, item, size):
        self.line.append(Waiting(key, item, size, self.now))
        return self.verdict()

    def verdict(self):
        return Verdict.READY if self.full() else Verdict.QUEUED

    def next_item(self):
        self.number += 1
        return f"item {self.number}"

    def take_from_line(self):
        batch = []
        while self.line and len(batch) < COUNT:
            if batch and sum(each.size for each in batch) + self.line[0].size > BYTES:
                break
            batch.append(self.line.pop(0))
        return batch

    @rule(step=st.sampled_from([0, 1, AGE // 2, AGE - 1, AGE]))
    def wait(self, step):
        self.now += step

    @rule(ahead=st.integers(-AGE, 3 * AGE))
    def pause(self, ahead):
        self.paused = self.now + ahead
        self.queue.pause(self.paused)

    @invariant()
    def a_batch_is_due_by_count_bytes_or_age_but_not_in_a_pause(self):
        ripe = bool(self.line) and (self.full() or self.now >= self.line[0].since + AGE)
        assert self.queue.due(self.now) == (ripe and self.now >= self.paused)

    @invariant()
    def the_deadline_is_when_it_becomes_due(self):
        deadline = self.queue.deadline()
        if not self.line:
            assert deadline is None
            return
        assert self.queue.due(deadline)
        if self.full():
            assert deadline == max(self.paused, self.line[0].since)
        else:
            assert not self.queue.due(deadline - 1)

    @invariant()
    def the_sums_agree(self):
        assert self.queue.count == len(self.line)
        assert self.queue.bytes == sum(each.size for each in self.line)


class BatchQueueAgainstModel(LineModel):
    make = BatchQueue

    @rule(size=sizes)
    def add(self, size):
        item = self.next_item()
        full = len(self.line) == PENDING
        expected = Verdict.REFUSED if full else self.append(None, item, size)
        assert self.queue.add(item, size, self.now) is expected

    @rule()
    def take(self):
        assert self.queue.take() == [each.item for each in self.take_from_line()]

    @invariant()
    def its_length_is_what_waits(self):
        assert len(self.queue) == len(self.line)


class KeyedBatchQueueAgainstModel(LineModel):
    """Beside the model, what was written is replayed: no key may ever end on an older intention."""

    make = KeyedBatchQueue
    keys = st.sampled_from("abcdefgh")

    def __init__(self):
        super().__init__()
        self.held, self.out, self.newest, self.written = {}, {}, {}, {}

    def waiting(self, key):
        return next((each for each in self.line if each.key == key), None)

    @rule(key=keys, size=sizes)
    def put(self, key, size):
        item, older, replaced = self.next_item(), self.waiting(key), None
        verdict = Verdict.QUEUED
        if older is not None:
            replaced, older.item, older.size = older.item, item, size
            verdict = self.verdict()
        elif key in self.held:
            replaced = self.held[key].item
            self.held[key] = Waiting(key, item, size, None)
        elif len(self.line) + len(self.held) >= PENDING:
            verdict = Verdict.REFUSED
        elif key in self.out:
            self.held[key] = Waiting(key, item, size, None)
        else:
            verdict = self.append(key, item, size)
        if verdict is not Verdict.REFUSED:
            self.newest[key] = self.number
        assert self.queue.put(key, item, size, self.now) == (verdict, replaced)

    @rule(key=keys)
    def discard(self, key):
        slot = self.held.pop(key, None)
        if slot is None:
            slot = self.waiting(key)
            self.line = [each for each in self.line if each.key != key]
        assert self.queue.discard(key) == (slot.item if slot else None)

    @rule()
    def take(self):
        batch = self.take_from_line()
        assert not self.out.keys() & {each.key for each in batch}
        self.out.update({each.key: each for each in batch})
        assert self.queue.take() == [each.item for each in batch]

    def release(self, key):
        slot = self.held.pop(key, None)
        if slot is not None:
            self.append(key, slot.item, slot.size)
        return slot is not None

    @precondition(lambda self: self.out)
    @rule(data=st.data())
    def settle(self, data):
        key = data.draw(st.sampled_from(sorted(self.out)))
        number = int(self.out.pop(key).item.split()[1])
        assert number > self.written.get(key, 0)
        self.written[key] = number
        assert self.queue.settle(key, self.now) == self.release(key)

    @precondition(lambda self: self.out)
    @rule(data=st.data())
    def restore(self, data):
        key = data.draw(st.sampled_from(sorted(self.out)))
        slot, expected = self.out.pop(key), None
        if self.release(key):
            expected = slot.item
        else:
            self.append(key, slot.item, slot.size)
        assert self.queue.restore(key, self.now) == expected

    @invariant()
    def its_length_is_what_waits_and_what_is_held(self):
        assert len(self.queue) == len(self.line) + len(self.held)
        assert self.queue.outstanding == len(self.out)


TestBatchQueueAgainstModel = BatchQueueAgainstModel.TestCase
TestBatchQueueAgainstModel.settings = settings(stateful_step_count=30)
TestKeyedBatchQueueAgainstModel = KeyedBatchQueueAgainstModel.TestCase
TestKeyedBatchQueueAgainstModel.settings = settings(stateful_step_count=30)


def keyed(**limits):
    return KeyedBatchQueue(**{"max_count": 50, "max_bytes": 10_000, "max_age_ns": AGE, **limits})


def test_fifty_registrations_leave_together_and_the_rest_follow_by_age():
    queue = BatchQueue(50, 1_000_000, AGE)
    verdicts = [queue.add(number, 10, 0) for number in range(60)]
    assert verdicts == [Verdict.QUEUED] * 49 + [Verdict.READY] * 11
    assert queue.take() == list(range(50))
    assert not queue.due(AGE - 1)
    assert queue.deadline() == AGE
    assert queue.due(AGE)
    assert queue.take() == list(range(50, 60))
    assert queue.take() == []


def test_a_batch_ends_before_it_would_be_too_large_and_one_giant_goes_alone():
    queue = BatchQueue(50, 100, AGE)
    for item, size in [("a", 60), ("b", 40), ("c", 1), ("giant", 500), ("d", 1)]:
        queue.add(item, size, 0)
    assert [queue.take() for _ in range(4)] == [["a", "b"], ["c"], ["giant"], ["d"]]


def test_a_bounded_queue_refuses_and_keeps_nothing_of_what_it_refused():
    queue = BatchQueue(10, 100, AGE, max_pending=1)
    queue.add("kept", 1, 0)
    assert queue.add("refused", 1, 0) is Verdict.REFUSED
    assert queue.take() == ["kept"]


def test_a_pause_after_a_failure_keeps_retries_from_running_hot():
    queue = BatchQueue(1, 100, AGE)
    queue.add("x", 1, 0)
    queue.pause(1_000 * AGE)
    assert not queue.due(999 * AGE)
    assert queue.deadline() == 1_000 * AGE
    assert queue.due(1_000 * AGE)


def test_a_newer_item_replaces_the_waiting_one_keeps_its_place_and_its_age_and_hands_it_back():
    queue = keyed()
    queue.put("x", "x: old", 10, 0)
    queue.put("y", "y", 10, 1)
    assert queue.put("x", "x: new", 3, AGE - 1) == (Verdict.QUEUED, "x: old")
    assert queue.bytes == 13
    assert queue.due(AGE)
    assert queue.take() == ["x: new", "y"]


def test_a_newer_item_waits_until_the_outcome_of_the_outstanding_one_is_known():
    queue = keyed()
    queue.put("x", "old", 1, 0)
    assert queue.take() == ["old"]
    assert queue.put("x", "new", 1, 0) == (Verdict.QUEUED, None)
    assert queue.take() == []
    assert not queue.due(100 * AGE)
    assert queue.settle("x", 7) is True
    assert queue.deadline() == 7 + AGE
    assert queue.take() == ["new"]


def test_a_failed_old_value_is_never_put_back_over_a_newer_one():
    queue = keyed()
    queue.put("x", "old", 1, 0)
    queue.take()
    queue.put("x", "new", 1, 0)
    assert queue.restore("x", 0) == "old"
    assert queue.take() == ["new"]
    assert queue.settle("x", 0) is False
    assert len(queue) == queue.outstanding == 0


def test_a_stopped_actor_is_not_resurrected_by_its_failed_registration():
    queue = keyed()
    queue.put("actor", "register", 1, 0)
    queue.take()
    queue.put("actor", "unregister", 1, 0)
    queue.restore("actor", 0)
    assert queue.take() == ["unregister"]
    queue.settle("actor", 0)
    assert queue.take() == []


def test_one_bad_key_fails_alone_and_waits_behind_the_others():
    queue = keyed(max_count=3)
    for key in "abcd":
        queue.put(key, key, 1, 0)
    assert queue.take() == ["a", "b", "c"]
    assert queue.restore("b", 5) is None
    queue.settle("a", 5)
    queue.settle("c", 5)
    assert queue.take() == ["d", "b"]


def test_what_is_discarded_never_leaves_and_is_handed_back():
    queue = keyed()
    for key in "abc":
        queue.put(key, key, 10, 0)
    assert queue.discard("a") == "a"
    assert queue.discard("a") is None
    queue.put("a", "a again", 1, 3)
    assert queue.deadline() == AGE
    assert queue.take() == ["b", "c", "a again"]
    assert queue.discard("b") is None
    queue.put("b", "b held", 1, 0)
    assert queue.discard("b") == "b held"
    assert queue.settle("b", 0) is False


def test_taking_until_empty_flushes_everything_at_a_stop():
    queue = keyed(max_count=50)
    for number in range(1_234):
        queue.put(f"actor-{number}", number, 1, 0)
    taken = []
    while batch := queue.take():
        taken += batch
    assert taken == list(range(1_234))
    assert queue.outstanding == 1_234


def test_items_that_come_and_go_behind_a_stuck_one_leave_no_gaps_that_grow():
    queue = keyed(max_count=1_000_000, max_bytes=1_000_000)
    queue.put("stuck", "stuck", 1, 0)
    gone = object()
    before = sys.getrefcount(gone)
    for number in range(10_000):
        queue.put(("key", number), gone, 1, 0)
        assert queue.discard(("key", number)) is gone
    assert sys.getrefcount(gone) == before
    assert queue.places < 200
    assert queue.take() == ["stuck"]


def test_a_queue_does_not_hold_what_it_gave_away():
    queue, item = BatchQueue(1, 100, AGE), object()
    before = sys.getrefcount(item)
    queue.add(item, 1, 0)
    queue.add("another", 1, 0)
    queue.take()
    assert sys.getrefcount(item) == before


def test_what_is_held_counts_as_pending_and_a_replacement_is_never_refused():
    queue = keyed(max_pending=1)
    queue.put("x", 1, 1, 0)
    queue.take()
    queue.put("x", 2, 1, 0)
    assert queue.put("y", 1, 1, 0) == (Verdict.REFUSED, None)
    assert queue.put("x", 3, 1, 0) == (Verdict.QUEUED, 2)


@pytest.mark.parametrize("end", ["settle", "restore"])
def test_an_end_without_a_beginning_is_refused_by_name(end):
    queue = keyed()
    queue.put("x", 1, 1, 0)
    with pytest.raises(KeyError, match="nothing is outstanding for key 'x'"):
        getattr(queue, end)("x", 0)
    assert queue.take() == [1]


@pytest.mark.parametrize("make", [BatchQueue, KeyedBatchQueue])
@pytest.mark.parametrize(
    ("limits", "error", "text"),
    [
        ((0, 1, 1), ValueError, "max_count=0"),
        ((1, 0, 1), ValueError, "max_bytes=0"),
        ((1, 1, -1), ValueError, "max_age_ns=-1"),
        ((1, 1, 1, -1), ValueError, "max_pending=-1"),
        ((1.0, 1, 1), TypeError, r"max_count=1.0"),
        ((1, 1, None), TypeError, "max_age_ns=None"),
    ],
)
def test_a_limit_that_cannot_be_is_refused_by_name_and_value(make, limits, error, text):
    with pytest.raises(error, match=text):
        make(*limits)


def test_a_negative_size_is_refused_and_nothing_is_kept():
    plain, by_key = BatchQueue(1, 1, 1), keyed()
    with pytest.raises(ValueError, match="size=-1 of 'x'"):
        plain.add("x", -1, 0)
    with pytest.raises(ValueError, match="size=-1 of 'x'"):
        by_key.put("k", "x", -1, 0)
    assert len(plain) == len(by_key) == 0
