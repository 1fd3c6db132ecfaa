"""The mailbox ring, held against a deque; its references; its memory."""

import gc
import sys
import weakref
from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cajun_fast._core.mailbox import Mailbox, Policy, Verdict

FIRST, KEEP, ENTRY_BYTES = 4, 8, 32


class Message:
    """Something that can be watched."""


class Model:
    """The same mailbox, the plain way."""

    def __init__(self, capacity, policy):
        self.capacity, self.policy, self.queue = capacity, policy, deque()

    def push(self, *entry):
        if len(self.queue) < self.capacity:
            self.queue.append(entry)
            return Verdict.ACCEPTED, None
        if self.policy != Policy.DROP_OLDEST:
            return Verdict.FULL, None
        dropped = self.queue.popleft()
        self.queue.append(entry)
        return Verdict.DROPPED_OLDEST, dropped

    def pop(self):
        return self.queue.popleft() if self.queue else None


# Runs of pushes and pops make the ring wrap, grow while wrapped and run empty; single steps would rarely.
steps = st.lists(st.tuples(st.sampled_from(["push", "pop", "clear"]), st.integers(1, 40)), max_size=60)


@given(st.integers(1, 70), st.sampled_from(Policy), steps)
def test_it_answers_like_a_bounded_deque_whatever_comes(capacity, policy, steps):
    mailbox, model, number = Mailbox(capacity, policy), Model(capacity, policy), 0
    for what, times in steps:
        if what == "clear":
            assert mailbox.clear() == len(model.queue)
            model.queue.clear()
            assert mailbox.allocated == 0
            continue
        for _ in range(times):
            if what == "push":
                number += 1
                entry = (number, f"{number}" if number % 3 else None, number % 5 or None, number * 2**40)
                assert mailbox.push(*entry) == model.push(*entry)
            else:
                assert mailbox.pop() == model.pop()
            assert len(mailbox) == len(model.queue) <= mailbox.allocated <= capacity or len(mailbox) == 0
    assert [mailbox.pop() for _ in range(len(mailbox))] == list(model.queue)


@pytest.mark.parametrize("policy", [Policy.BLOCK, Policy.DROP_NEW, Policy.FAIL])
def test_a_full_mailbox_keeps_what_it_has_and_says_so(policy):
    mailbox = Mailbox(2, policy)
    assert [mailbox.push(text)[0] for text in "abc"] == [Verdict.ACCEPTED, Verdict.ACCEPTED, Verdict.FULL]
    assert [mailbox.pop()[0], mailbox.pop()[0], mailbox.pop()] == ["a", "b", None]


def test_drop_oldest_hands_back_the_whole_entry_that_had_to_go():
    mailbox = Mailbox(1, Policy.DROP_OLDEST)
    mailbox.push("old", "its sender", "its extra", 2**64 - 1)
    assert mailbox.push("new") == (Verdict.DROPPED_OLDEST, ("old", "its sender", "its extra", 2**64 - 1))
    assert mailbox.pop() == ("new", None, None, 0)


@pytest.mark.parametrize("policy", Policy)
def test_every_reference_is_given_back_by_pop_clear_drop_and_the_end_of_the_mailbox(policy):
    parts = message, sender, extra = Message(), Message(), Message()
    before = [sys.getrefcount(each) for each in parts]
    mailbox = Mailbox(3, policy)
    for _ in range(5):
        mailbox.push(message, sender, extra)
    mailbox.pop()
    mailbox.clear()
    for _ in range(3):
        mailbox.push(message, sender, extra)
    assert [sys.getrefcount(each) - 3 for each in parts] == before
    del mailbox
    assert [sys.getrefcount(each) for each in parts] == before


def test_a_message_that_was_not_let_in_is_not_held():
    mailbox = Mailbox(1, Policy.DROP_NEW)
    mailbox.push("first")
    message = Message()
    gone = weakref.ref(message)
    mailbox.push(message)
    del message
    assert gone() is None


@pytest.mark.parametrize("place", ["message", "sender", "extra"])
def test_the_garbage_collector_sees_a_cycle_through_each_part_of_a_waiting_entry(place):
    mailbox, message = Mailbox(4), Message()
    message.mailbox = mailbox
    mailbox.push(**{"message": None, place: message})
    gone = weakref.ref(message)
    del mailbox, message
    gc.collect()
    assert gone() is None


def test_the_garbage_collector_sees_every_entry_of_a_wrapped_ring():
    mailbox = Mailbox(4)
    for _ in range(4):
        mailbox.push("passes by")
    for _ in range(3):
        mailbox.pop()
    messages = [Message() for _ in range(3)]
    for message in messages:
        message.mailbox = mailbox
        mailbox.push(message)
    gone = [weakref.ref(message) for message in messages]
    assert {id(message) for message in messages} <= {id(each) for each in gc.get_referents(mailbox)}
    del mailbox, message, messages
    gc.collect()
    assert [ref() for ref in gone] == [None] * 3


def test_the_garbage_collector_breaks_a_cycle_that_only_the_mailbox_can_break():
    mailbox, message = Mailbox(4), object()
    before = sys.getrefcount(message)
    mailbox.push(mailbox)
    mailbox.push(message)
    del mailbox
    gc.collect()
    assert sys.getrefcount(message) == before


def test_a_destructor_may_use_the_mailbox_that_is_being_cleared():
    mailbox = Mailbox(10)

    class Tenacious:
        def __del__(self):
            mailbox.push("from the destructor")

    mailbox.push(Tenacious())
    mailbox.push(Tenacious())
    assert mailbox.clear() == 2
    assert len(mailbox) == 2
    assert mailbox.pop() == ("from the destructor", None, None, 0)


def test_an_unused_mailbox_has_no_buffer_and_an_idle_one_a_small_one():
    mailbox = Mailbox(100_000)
    empty = sys.getsizeof(mailbox)
    assert mailbox.allocated == 0
    mailbox.push("one")
    mailbox.pop()
    assert mailbox.allocated == FIRST
    assert sys.getsizeof(mailbox) == empty + FIRST * ENTRY_BYTES
    for number in range(10_000):
        mailbox.push(number)
    assert mailbox.allocated >= 10_000
    while mailbox.pop():
        pass
    assert mailbox.allocated <= KEEP
    assert sys.getsizeof(mailbox) + KEEP * ENTRY_BYTES < 512


def test_the_buffer_of_a_burst_serves_the_next_burst_of_another_mailbox_and_is_not_given_to_a_few_messages():
    first, second, third = Mailbox(50_000), Mailbox(50_000), Mailbox(50_000)
    for mailbox in (first, second):
        for number in range(40_000):
            mailbox.push(number)
        assert [mailbox.pop()[0] for _ in range(40_000)] == list(range(40_000))
    for number in range(20):
        third.push(number)
    assert third.allocated == 32


def test_a_spare_buffer_that_is_too_small_is_left_alone():
    holds_any_spare, small, growing = Mailbox(100_000), Mailbox(32), Mailbox(1000)
    for number in range(70_000):
        holds_any_spare.push(number)
    for number in range(64):
        growing.push(number)
    for number in range(32):
        small.push(number)
    while small.pop():
        pass
    for number in range(64, 100):
        growing.push(number)
    assert [growing.pop()[0] for _ in range(100)] == list(range(100))


def test_a_ring_that_has_wrapped_grows_without_disorder():
    mailbox = Mailbox(1000)
    for number in range(4):
        mailbox.push(number)
    assert [mailbox.pop()[0], mailbox.pop()[0], mailbox.pop()[0]] == [0, 1, 2]
    for number in range(4, 40):
        mailbox.push(number)
    assert [mailbox.pop()[0] for _ in range(37)] == list(range(3, 40))


@pytest.mark.parametrize("capacity", [0, -1, 2**31])
def test_a_capacity_out_of_range_is_refused_by_name_and_value(capacity):
    with pytest.raises(ValueError, match=rf"capacity={capacity} .* from 1 to 2147483647"):
        Mailbox(capacity)


@pytest.mark.parametrize("capacity", [1.5, "7", None, True])
def test_a_capacity_that_is_no_int_is_refused_by_name_and_value(capacity):
    with pytest.raises(TypeError, match=rf"capacity={capacity!r} must be an int"):
        Mailbox(capacity)


def test_an_unknown_policy_is_refused_and_the_known_one_is_told():
    with pytest.raises(ValueError, match="9"):
        Mailbox(1, 9)
    assert Mailbox(7, Policy.FAIL).policy is Policy.FAIL
    assert Mailbox(7).capacity == 7
