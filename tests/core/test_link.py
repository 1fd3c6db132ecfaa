"""Two link machines joined in memory: whatever happens to the connection, no message is lost, doubled or reordered,
and every failure is told."""

from __future__ import annotations

import contextlib
import random
import struct

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from cajun_fast._core.frame import TYPES, encode_frame
from cajun_fast._core.names import MOST_NAME_BYTES
from cajun_fast._core.probe import answer, fault
from cajun_fast.errors import (
    ActorNotFoundError,
    BackpressureError,
    CircuitBreakerOpenError,
    MessageExpiredError,
    MessageTooLargeError,
    OutcomeUnknownError,
    ProtocolError,
    RemoteActorError,
    WrongThreadError,
)
from tests.core.link_world import FULL, LARGE, MOVING, TAKEN, World

ACTORS = [f"x{i}" for i in range(5)]
SMALL = {"window": 20_000, "max_message": 200_000, "max_bulk": 400_000, "bulk_window": 40_000, "max_names": 4}


@pytest.fixture
def world():
    world = World()
    for actor_id in ACTORS:
        world.settle_actor(actor_id, "b")
    yield world
    world.close()


def numbers(world, actor_id):
    return [n for n, _ in world.logs[actor_id]]


def ask(world, actor_id, message, timeout=5.0):
    async def asking():
        return world.a.exchange.pid(actor_id).ask(message, timeout=timeout)

    return world.loop.run_until_complete(asking())


# ---- the property --------------------------------------------------------------------------------------------------


class Links(RuleBasedStateMachine):
    """Everything that can happen to two links of one sender, in any order."""

    restarts = False

    @initialize()
    def begin(self):
        self.world = World(**SMALL)
        for i, actor_id in enumerate(ACTORS):
            self.world.settle_actor(actor_id, "bc"[i % 2])
        for home in "bc":
            self.world.connect(home)

    @rule(
        actor=st.sampled_from(ACTORS), waits=st.booleans(), count=st.integers(1, 5),
        size=st.sampled_from([0, 0, 0, 3000]), routes=st.sampled_from([True, True, True, False]),
    )  # fmt: skip
    def send(self, actor, waits, count, size, routes):
        for _ in range(count):
            self.world.send(actor, waits=waits, size=size)
        while routes and self.world.route():
            pass

    @rule(
        actor=st.sampled_from(ACTORS), waits=st.booleans(), seconds=st.sampled_from([None, None, 0.001, 0.01])
    )
    def send_large(self, actor, waits, seconds):
        self.world.send(actor, waits=waits, size=LARGE, seconds=seconds)

    @rule(actor=st.sampled_from(ACTORS), seconds=st.sampled_from([0.001, 0.01]), waits=st.booleans())
    def send_with_deadline(self, actor, seconds, waits):
        self.world.send(actor, waits=waits, seconds=seconds)

    @rule(home=st.sampled_from("bc"), side=st.integers(0, 1), most=st.integers(1, 100_000))
    def move(self, home, side, most):
        if home in self.world.pipes:
            self.world.pipes[home].move(side, most)

    @rule(home=st.sampled_from("bc"))
    def move_all(self, home):
        if home in self.world.pipes:
            self.world.pipes[home].move(0)
            self.world.pipes[home].move(1)

    @rule(home=st.sampled_from("bc"))
    def cut(self, home):
        self.world.cut(home)

    @rule(home=st.sampled_from("bc"))
    def connect(self, home):
        self.world.connect(home)

    @rule(actor=st.sampled_from(ACTORS), mode=st.sampled_from([FULL, MOVING]))
    def refuse(self, actor, mode):
        self.world.actors[actor].mode = mode

    @rule(actor=st.sampled_from(ACTORS))
    def open(self, actor):
        self.world.actors[actor].open()

    @rule(actor=st.sampled_from(ACTORS), home=st.sampled_from("bc"))
    def move_actor(self, actor, home):
        if self.world.where[actor] != home:
            self.world.settle_actor(actor, home)

    @rule()
    def route(self):
        while self.world.route():
            pass

    @rule(actor=st.sampled_from(ACTORS))
    def forget_the_way(self, actor):
        self.world.a.exchange.lane(actor).unbind()

    @rule(actor=st.sampled_from(ACTORS))
    def rebind(self, actor):
        lane = self.world.a.exchange.lane(actor)
        if lane.carrier is not None:
            lane.bind_carrier(self.world.a.link(self.world.where[actor]))

    @rule(milliseconds=st.integers(1, 20))
    def time_passes(self, milliseconds):
        self.world.clock.now += milliseconds * 1_000_000
        self.world.a.exchange.expire(self.world.clock.now)
        for link in self.world.a.links.values():
            link.tick(self.world.clock.now)

    @precondition(lambda self: self.restarts)
    @rule(home=st.sampled_from("bc"))
    def restart(self, home):
        self.world.restart(home)

    @invariant()
    def memory_is_bounded(self):
        if hasattr(self, "world"):
            for link in self.world.a.links.values():
                assert link.held_bytes <= 2 * SMALL["window"] + 2 * LARGE + 50_000

    def teardown(self):
        if hasattr(self, "world"):
            self.world.drain()
            self.world.check(unknown_allowed=self.restarts)
            self.world.check_empty()
            self.world.close()


class RestartedLinks(Links):
    """The same, with peers that are killed."""

    restarts = True


TestLinks = Links.TestCase
TestLinks.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)
TestRestartedLinks = RestartedLinks.TestCase
TestRestartedLinks.settings = settings(max_examples=40, stateful_step_count=60, deadline=None)


# ---- stories ---------------------------------------------------------------------------------------------------------


def test_messages_of_one_sender_arrive_in_order_and_once(world):
    for _ in range(100):
        world.send("x0")
    world.drain()
    assert numbers(world, "x0") == list(range(100))


def test_a_cut_connection_resends_what_was_not_acknowledged_and_nothing_is_handled_twice(world):
    world.connect("b")
    world.route()
    for _ in range(50):
        world.send("x0")
    world.route()
    world.pipes["b"].move(0)  # all of it is handled, no ack comes back
    world.connect("b")
    world.drain()
    assert numbers(world, "x0") == list(range(50))
    assert world.a.links["b"].resent == 50
    assert world.homes["b"].links["a"].inbound.duplicates == 50


def test_what_fills_many_slabs_goes_again_in_order(world):
    world.connect("b")
    for _ in range(800):
        world.send("x0", size=3000)
        world.route()
    assert world.a.links["b"].held_bytes > 2_000_000
    world.a.links["b"].collect()  # written, and lost with the connection
    world.cut("b")
    world.drain()
    assert numbers(world, "x0") == list(range(800))


def test_what_follows_a_refused_message_does_not_overtake_it_when_the_mailbox_opens_in_between(world):
    world.connect("b")
    world.send("x0")
    world.route()
    pipe = world.pipes["b"]
    pipe.move(0), pipe.move(1)
    world.actors["x0"].mode = FULL
    world.send("x0")
    world.send("x0")
    data = b"".join(world.a.links["b"].collect())
    cut = len(data) - 1
    pipe.flying[0] += data
    pipe.move(0, cut)  # number 1 is refused, number 2 is not whole yet
    world.actors["x0"].open()
    world.drain()
    assert numbers(world, "x0") == [0, 1, 2]


def test_refusals_that_were_told_on_a_lost_connection_are_told_again(world):
    world.connect("b")
    world.actors["x0"].mode = MOVING
    world.send("x0")
    world.route()
    world.pipes["b"].move(0)
    world.homes["b"].links["a"].collect()  # the refusal is written, and lost with the connection
    world.cut("b")
    world.settle_actor("x0", "c")
    world.drain()
    assert numbers(world, "x0") == [0]
    assert world.homes["c"].links["a"].inbound.messages == 1


def test_a_room_that_was_lost_with_its_connection_is_not_waited_for(world):
    world.connect("b")
    world.actors["x0"].mode = FULL
    world.send("x0")
    world.route()
    pipe = world.pipes["b"]
    pipe.move(0), pipe.move(1), pipe.move(0)
    assert world.a.links["b"].waits["blocked"] == 1
    world.actors["x0"].open()
    world.homes["b"].links["a"].collect()  # ROOM is written, and lost
    world.connect("b")
    for _ in range(4):
        world.pipes["b"].move(0), world.pipes["b"].move(1)
    assert numbers(world, "x0") == [0]


def test_a_stopped_consumer_stops_its_own_messages_only(world):
    world.connect("b")
    world.actors["x0"].mode = FULL
    for _ in range(10):
        world.send("x0")
        world.send("x1")
    while world.route():
        pass
    for _ in range(4):
        world.pipes["b"].move(0), world.pipes["b"].move(1)
    assert len(numbers(world, "x1")) == 10
    assert numbers(world, "x0") == []
    world.drain()
    assert len(numbers(world, "x0")) == 10


def test_a_full_window_raises_for_tell_and_keeps_send_waiting():
    world = World(**SMALL)
    world.settle_actor("x0", "b")
    world.send("x0", size=3000)
    world.route()
    sent = 1
    while world.send("x0", size=3000) is not None:
        sent += 1
    assert 5 <= sent <= 8
    with pytest.raises(BackpressureError, match="no room on the way"):
        world.a.exchange.pid("x0").tell({"n": -1})
    waiting = world.send("x0", size=3000, waits=True)
    assert not world.waiters[waiting].done()
    world.drain()
    assert world.waiters[waiting].done()
    assert numbers(world, "x0") == list(range(sent + 1))
    world.close()


@pytest.mark.parametrize("bound", ["waiting_bytes_limit", "waiting_bytes_total"])
def test_what_waits_for_a_stopped_consumer_is_bounded_in_bytes_too(world, bound):
    exchange = world.a.exchange
    setattr(exchange, bound, 300_000)
    world.connect("b")
    world.actors["x0"].mode = FULL
    sent = 0
    for _ in range(200):
        while world.route():
            pass
        world.pipes["b"].move(0), world.pipes["b"].move(1)
        sent += world.send("x0", size=10_000) is not None
    assert 30 <= sent <= 40
    assert 300_000 <= exchange.waiting_bytes <= 400_000
    assert world.send("x1") is not None, "others go on"
    world.drain()
    assert len(numbers(world, "x0")) == sent
    assert exchange.waiting_bytes == 0


def test_asks_are_answered_faulted_and_failed_with_the_actor_named(world):
    answers = [ask(world, "x0", {"n": n}) for n in range(2)]
    missing = ask(world, "x1", {"n": 2})
    world.drain()
    (replies, tag, _), (other, other_tag, _) = world.actors["x0"].asked
    answer(replies, tag, {"sum": 3})
    fault(other, other_tag, ValueError("nonsense"))
    replies, tag, _ = world.actors["x1"].asked[0]
    fault(replies, tag, ActorNotFoundError("no such"))
    world.drain()
    assert answers[0].result() == {"sum": 3}
    with pytest.raises(
        RemoteActorError, match=r"actor 'x0' on node 'b' raised ValueError: nonsense"
    ) as caught:
        answers[1].result()
    assert "ValueError" in caught.value.traceback
    with pytest.raises(ActorNotFoundError) as caught:
        missing.result()
    assert caught.value.actor_id == "x1"


def test_an_ask_outside_of_the_running_loop_is_turned_away(world):
    with pytest.raises(WrongThreadError, match="running event loop"):
        world.a.exchange.pid("x0").ask({"n": 1})
    assert len(world.a.exchange.asks) == 0


def test_asks_and_answers_wait_for_a_few_kilobytes_of_company_and_tells_for_more(world):
    world.send("x0")
    world.drain()
    pipe = world.pipes["b"]
    for _ in range(200):
        world.send("x0", size=50)
    assert [wire.pushes for wire in pipe.wires] == [0, 0]
    world.drain()
    asks = [ask(world, "x0", {"n": n, "pad": "x" * 50}) for n in range(1000, 1100)]
    assert pipe.wires[0].pushes >= 3
    world.drain()
    assert numbers(world, "x0") == [*range(201), *range(1000, 1100)]
    for replies, tag, n in world.actors["x0"].asked:
        answer(replies, tag, {"n": n, "pad": "x" * 50})
    assert pipe.wires[1].pushes >= 3
    world.drain()
    assert [each.result()["n"] for each in asks] == list(range(1000, 1100))


def test_a_large_message_that_fills_its_room_leaves_that_of_the_small_ones(world):
    world.connect("b")
    first = world.send("x0", size=9_000_000)
    while world.route():
        pass
    assert world.send("x1") is not None
    answer = ask(world, "x2", {"n": 99})
    while world.route():
        pass
    world.pipes["b"].move(0)
    assert numbers(world, "x1") == [1]
    assert numbers(world, "x2") == [99]
    assert not answer.done()
    with pytest.raises(BackpressureError):
        world.a.exchange.pid("x1").tell({"n": -1, "pad": b"y" * LARGE})
    with pytest.raises(BackpressureError):
        world.a.exchange.pid("x0").tell({"n": -1})  # it would stand behind the large one
    waiting = world.send("x1", size=LARGE, waits=True)
    world.drain()
    assert world.waiters[waiting].done()
    assert numbers(world, "x0") == [first]
    assert numbers(world, "x1") == [1, waiting]
    world.check_empty()


@pytest.mark.parametrize("again", [False, True])
def test_only_so_much_of_a_large_message_is_on_its_way_that_the_next_small_one_is_soon_there(world, again):
    world.connect("b")
    number = world.send("x0", size=4_000_000)
    world.route()
    if again:
        world.pipes["b"].move(0), world.connect("b")
    pipe = world.pipes["b"]
    for _ in range(40):  # the peer takes nothing in: a slow network
        pipe.collect(0)
    assert 300_000 < len(pipe.flying[0]) < 600_000
    small = world.send("x1")
    world.route()
    pipe.move(0)
    assert numbers(world, "x1") == [small]
    world.drain()
    assert numbers(world, "x0") == [number]


def test_large_messages_hold_what_comes_behind_them_for_the_same_actor_only(world):
    world.connect("b")
    world.send("x0", size=1_000_000)
    world.send("x0")
    world.send("x1")
    while world.route():
        pass
    world.pipes["b"].move(0)
    assert numbers(world, "x1") == [2]
    assert numbers(world, "x0") == []
    world.drain()
    assert numbers(world, "x0") == [0, 1]


def test_a_large_message_that_is_refused_leaves_no_bytes_behind(world):
    world.connect("b")
    world.actors["x0"].mode = MOVING
    world.send("x0", size=1_000_000)
    world.route()
    for _ in range(8):
        world.pipes["b"].move(0), world.pipes["b"].move(1)
    assert world.homes["b"].links["a"].waits["transfers"] == 0
    world.drain()
    assert numbers(world, "x0") == [0]
    world.check_empty()


def test_memory_for_large_messages_is_kept_for_the_next_one_and_given_back_when_none_comes(world):
    world.connect("b")
    transfers = world.homes["b"].links["a"].inbound.transfers
    for _ in range(2):
        world.send("x0", size=5_000_000, pad="x")  # large bytes are read to where they stay
        world.drain()
        assert transfers.spare_bytes > 5_000_000
        world.homes["b"].links["a"].tick(world.clock.now)
    assert transfers.spare_bytes > 5_000_000
    world.homes["b"].links["a"].tick(world.clock.now)
    assert transfers.spare_bytes == 0
    world.send("x0", size=100_000)
    world.drain()
    assert numbers(world, "x0") == [0, 1, 2]


def test_a_message_over_the_limit_is_refused_at_the_sender_and_changes_nothing(world):
    world.send("x0")
    world.drain()
    before = world.a.links["b"].held_bytes
    with pytest.raises(MessageTooLargeError, match="16777216"):
        world.a.exchange.pid("x0").tell({"pad": bytes(17 << 20)})
    assert world.a.links["b"].held_bytes == before


def test_a_message_over_the_receivers_limit_is_refused_there_and_the_connection_lives_on():
    world = World()
    world.homes["b"].link_options = {"max_message": 100_000}
    world.settle_actor("x0", "b")
    large = world.send("x0", size=150_000, waits=True)
    world.send("x0")
    world.drain()
    with pytest.raises(TypeError, match="max_message_bytes"):
        world.waiters[large].result()
    assert numbers(world, "x0") == [1]
    world.close()


def test_a_message_that_is_parked_beyond_its_deadline_is_not_delivered_and_its_sender_is_told(world):
    late = world.send("x0", waits=True, seconds=0.1)
    world.send("x0")
    world.route()  # into the window of a link that has no connection
    world.clock.now += 200_000_000
    world.a.links["b"].tick(world.clock.now)
    with pytest.raises(MessageExpiredError):
        world.waiters[late].result()
    world.drain()
    assert numbers(world, "x0") == [1]


def test_a_message_that_goes_again_beyond_its_deadline_is_refused_by_the_receiver(world):
    world.connect("b")
    late = world.send("x0", waits=True, seconds=0.1)
    world.route()
    world.a.links["b"].collect()  # handed to the transport, and lost with it
    world.cut("b")
    world.clock.now += 200_000_000
    world.drain()
    with pytest.raises(MessageExpiredError):
        world.waiters[late].result()
    assert numbers(world, "x0") == []


def test_the_sender_is_told_though_the_peer_keeps_its_connection_and_gives_no_verdict(world):
    world.connect("b")
    late = world.send("x0", waits=True, seconds=0.1)
    world.route()
    world.a.links["b"].collect()  # it is at the peer, whose loop stands
    world.clock.now += 200_000_000
    world.a.links["b"].tick(world.clock.now)
    assert not world.waiters[late].done(), "the verdict is given a while"
    world.clock.now += 1_000_000_000
    world.a.links["b"].tick(world.clock.now)
    with pytest.raises(OutcomeUnknownError, match="deadline"):
        world.waiters[late].result()


def test_what_a_slow_connection_has_not_taken_ends_with_its_deadline(world):
    world.connect("b")
    world.send("x0")
    world.route()
    world.pipes["b"].move(0)
    late = world.send("x0", waits=True, seconds=0.1)  # in the window; nobody collects
    world.clock.now += 200_000_000
    world.a.links["b"].tick(world.clock.now)
    with pytest.raises(MessageExpiredError):
        world.waiters[late].result()
    world.drain()
    assert numbers(world, "x0") == [0]


@pytest.mark.parametrize("up", [True, False])
def test_large_messages_that_have_not_gone_and_what_is_behind_them_end_with_their_deadlines(world, up):
    world.connect("b")
    world.send("x0", size=1_000_000)
    late = [
        world.send("x1", size=LARGE, waits=True, seconds=0.1),
        world.send("x1", waits=True, seconds=0.1),
        world.send("x0", waits=True, seconds=0.1),
    ]
    last = [world.send("x1"), world.send("x0")]
    while world.route():
        pass
    world.pipes["b"].move(0)
    if not up:
        world.cut("b")
    world.clock.now += 200_000_000
    world.a.links["b"].tick(world.clock.now)
    for number in late:
        with pytest.raises(MessageExpiredError):
            world.waiters[number].result()
    world.drain()
    assert numbers(world, "x0") == [0, last[1]]
    assert numbers(world, "x1") == [last[0]]
    world.check_empty()


def test_a_local_message_beyond_its_deadline_ends_once():
    world = World()
    world.settle_actor("x0", "b")
    node = world.homes["b"]
    lane = node.exchange.pid("x0")
    node.clock = lambda: world.clock.now + 10**9
    lane.tell({"n": 0}, deadline=0.5)
    assert [reason for _, _, reason in node.letters.all] == ["MessageExpiredError"]
    world.close()


def test_asks_that_are_parked_end_when_the_breaker_opens_and_tracked_messages_stay(world):
    parked = ask(world, "x0", {"n": 0})
    large = ask(world, "x0", {"n": 1, "pad": b"x" * LARGE})
    told = world.send("x0", waits=True)
    world.route()
    world.a.links["b"].park(lambda target: CircuitBreakerOpenError("open", "b", target))
    for future in (parked, large):
        with pytest.raises(CircuitBreakerOpenError):
            future.result()
    with pytest.raises(CircuitBreakerOpenError):
        ask(world, "x0", {"n": 1})
    assert not world.waiters[told].done()
    world.a.links["b"].park(None)
    world.drain()
    assert world.waiters[told].done()
    assert len(numbers(world, "x0")) == 1


def test_the_end_of_a_peer_tells_unknown_for_what_it_may_have_seen_and_sends_the_rest_elsewhere(world):
    world.connect("b")
    seen = world.send("x0", waits=True)
    asked = ask(world, "x1", {"n": 99})
    while world.route():
        pass
    world.a.links["b"].collect()
    unseen = world.send("x0", waits=True)
    world.restart("b")
    with pytest.raises(OutcomeUnknownError, match="it was killed"):
        world.waiters[seen].result()
    with pytest.raises(OutcomeUnknownError):
        asked.result()
    world.drain()
    assert world.waiters[unseen].result() is None
    assert numbers(world, "x0") == [unseen]


def test_answers_whose_asker_is_gone_are_counted(world):
    """Acknowledged; on its way; large and on its way; given after the end: all but the first."""
    world.connect("b")
    home, asked = world.homes["b"], world.actors["x0"].asked
    for n in range(4):
        ask(world, "x0", {"n": n})
    while world.route():
        pass
    world.pipes["b"].move(0)
    (first, tag, _), *others = asked
    answer(first, tag, {"n": 0})
    world.drain()
    assert home.exchange.answers_lost == 0
    for number, pad in enumerate((b"", b"y" * LARGE)):
        replies, tag, _ = others[number]
        answer(replies, tag, {"pad": pad})
    home.links["a"].end("it was killed")
    assert home.exchange.answers_lost == 2
    replies, tag, _ = others[2]
    answer(replies, tag, {"n": 3})
    fault(replies, tag, RemoteActorError("x0", "ValueError", "late"))
    assert home.exchange.answers_lost == 4
    assert home.letters.all == [], "nobody sent these as messages"


def test_refusals_of_long_ago_do_not_count_when_the_way_ends(world):
    """Whoever looks for a way gives up after so many in a row; one that worked meanwhile was the end of the row."""
    world.connect("b")
    lane = world.a.exchange.lane("x0")
    world.actors["x0"].mode = MOVING
    world.send("x0")
    for _ in range(20):
        while world.route():
            pass
        world.pipes["b"].move(0), world.pipes["b"].move(1)
    assert lane.refusals >= 10
    world.actors["x0"].mode = TAKEN
    world.drain()
    taken = len(world.logs["x0"])
    assert taken
    world.send("x0")
    world.restart("b")
    assert lane.refusals == 0
    world.drain()
    assert len(world.logs["x0"]) == taken + 1


def test_a_lane_that_the_router_binds_while_it_waits_for_its_verdicts_goes_on_afterwards():
    """What it bound could not go at once, and its ROOM had come before its last verdict."""
    links = Links()
    links.begin()
    links.refuse(actor="x3", mode=MOVING)
    links.refuse(actor="x1", mode=FULL)
    links.send(actor="x3", count=4, routes=True, size=3000, waits=True)
    links.send(actor="x1", count=4, routes=True, size=3000, waits=False)
    links.send_large(actor="x3", seconds=None, waits=True)
    links.move_all(home="c")
    links.send(actor="x1", count=4, routes=True, size=3000, waits=True)
    links.move_all(home="c")
    links.teardown()


def test_at_the_end_of_a_peer_each_guarantee_does_what_it_says(world):
    """All four are at the peer, unacknowledged, when it is killed."""
    world.connect("b")
    most, least, once, waited = (
        world.send("x0", guarantee=0), world.send("x0", guarantee=1), world.send("x0", guarantee=2),
        world.send("x0", guarantee=1, waits=True),
    )  # fmt: skip
    world.route()
    world.pipes["b"].move(0)
    assert numbers(world, "x0") == [most, least, once, waited]
    world.restart("b")
    world.drain()
    assert numbers(world, "x0") == [most, least, once, waited, least, waited], (
        "sent again, in order, and only those"
    )
    assert [message["n"] for _, message, _ in world.a.letters.all] == [most, once]
    assert world.waiters[waited].result() is None


def test_refusals_in_a_row_are_counted_and_a_message_that_was_taken_begins_anew(world):
    lane = world.a.exchange.lane("x0")
    world.connect("b")
    world.actors["x0"].mode = MOVING
    world.send("x0")
    pipe = world.pipes["b"]
    for round_ in range(1, 4):
        world.route()
        pipe.move(0), pipe.move(1)
        assert lane.refusals == round_
    world.drain()
    world.actors["x0"].mode = MOVING
    world.send("x0")
    pipe.move(0), pipe.move(1)
    assert lane.refusals == 1


def test_a_change_of_the_way_alone_is_no_refusal(world):
    world.connect("b")
    lane = world.a.exchange.lane("x0")
    world.send("x0")
    world.route()
    lane.unbind()
    world.send("x0")
    world.drain()
    assert lane.refusals == 0
    assert numbers(world, "x0") == [0, 1]


def test_a_change_of_the_way_waits_for_what_is_on_the_old_one(world):
    world.connect("b"), world.connect("c")
    world.send("x0")
    world.route()
    world.settle_actor("x0", "c")
    world.a.exchange.lane("x0").unbind()
    world.send("x0")
    while world.route():
        pass
    world.pipes["c"].move(0)  # what went that way would be there first
    world.drain()
    assert numbers(world, "x0") == [0, 1]


def test_a_number_whose_messages_are_on_their_way_is_not_given_to_another_name():
    world = World(**{**SMALL, "max_names": 4})
    for i in range(5):
        world.settle_actor(f"y{i}", "b")
    sent = []
    for i in range(5):
        sent.append(world.send(f"y{i}", waits=True))
        with contextlib.suppress(BackpressureError):
            world.route()
    world.drain()
    world.check(unknown_allowed=False)
    assert [numbers(world, f"y{i}") for i in range(4)] == [[0], [1], [2], [3]]
    assert isinstance(world.waiters[4].exception(), BackpressureError)
    world.close()


def test_names_that_are_given_again_keep_senders_and_targets_apart_over_a_reconnect():
    world = World(**{**SMALL, "max_names": 4})
    for i in range(12):
        world.settle_actor(f"y{i}", "b")
    for _ in range(5):
        for i in range(12):
            world.send(f"y{i}")
            while world.route():
                pass
            world.connect("b")
            world.pipes["b"].move(0), world.pipes["b"].move(1)
    world.drain()
    world.check(unknown_allowed=False)
    assert all(len(numbers(world, f"y{i}")) == 5 for i in range(12))
    assert world.a.links["b"].waits["names"] <= 4
    world.close()


@pytest.mark.parametrize("reconnects", [False, True])
def test_long_names_take_the_place_of_several_short_ones_and_the_peer_never_keeps_more_than_the_bound(
    reconnects,
):
    bound = 3 * 1024
    world = World(max_name_bytes=bound)
    ids = [f"short-{i:03}-{'x' * 90}" for i in range(40)] + [f"long-{i}-{'y' * 1010}" for i in range(4)]
    dice = random.Random(5)
    for actor_id in ids:
        world.settle_actor(actor_id, "b")
    world.connect("b")
    for _ in range(30):
        for actor_id in dice.sample(ids, 6):
            world.send(actor_id, waits=True)  # waits where messages of others hold the names
            while world.route():
                pass
            if reconnects and dice.random() < 0.2:
                world.connect("b")
            for _ in range(3):
                world.pipes["b"].move(0), world.pipes["b"].move(1)
            assert world.homes["b"].links["a"].inbound.names_size <= bound
            assert world.a.links["b"].names.size <= bound
    world.drain()
    world.check(unknown_allowed=False)
    assert sum(len(numbers(world, actor_id)) for actor_id in ids) == 180
    world.close()


def test_names_that_are_all_in_use_up_to_their_bytes_are_not_taken_from_anybody():
    world = World(max_name_bytes=3 * 1024)
    ids = [f"{i}-{'x' * 1000}" for i in range(4)]
    for actor_id in ids:
        world.settle_actor(actor_id, "b")
        world.send(actor_id, waits=True)
        with contextlib.suppress(BackpressureError):
            world.route()
    world.drain()
    world.check(unknown_allowed=False)
    assert [numbers(world, actor_id) for actor_id in ids] == [[0], [1], [2], []]
    assert isinstance(world.waiters[3].exception(), BackpressureError)
    world.close()


# ---- hostile and broken peers ------------------------------------------------------------------------------------


def frames_refused(world, data, match):
    world.connect("b")
    pipe = world.pipes["b"]
    pipe.move(0), pipe.move(1)
    with pytest.raises(ProtocolError, match=match):
        world.homes["b"].links["a"].feed(data)


HOSTILE = {
    "a foreign magic": (b"GET / HTTP/1.1\r\n\r\n", "begins with"),
    "an unknown frame": (encode_frame(99), "not known"),
    "a gap": (encode_frame(TYPES["DATA"], b"x" * 8, 7), "gap"),
    "number 0": (encode_frame(TYPES["DATA"], b"x" * 8, 0), "gap"),
    "a short record": (encode_frame(TYPES["DATA"], b"\4\0\0\0" + b"x" * 8, 1), "record of 4 bytes"),
    "a record beyond its frame": (encode_frame(TYPES["DATA"], b"\x50\0\0\0" + b"x" * 8, 1), "record of 80 bytes"),
    "a name out of bounds": (
        encode_frame(TYPES["DATA"], b"\x09\0\0\0" + b"\1\0\4\0" + b"\0\0\0\0" + b"x", 1), "name number"
    ),
    "an unknown name": (encode_frame(TYPES["DATA"], b"\x09\0\0\0\7\0\0\0\1\0\0\0x", 1), "never given"),
    "an acknowledgement of nothing": (encode_frame(TYPES["ACK"], bytes(20), 5), "only 0 was sent"),
    "a short acknowledgement": (encode_frame(TYPES["ACK"], bytes(3), 0), "ACK of 3"),
    "refusals that are not there": (encode_frame(TYPES["ACK"], bytes(16) + b"\x09\0\0\0", 0), "too early"),
    "a chunk of nothing": (encode_frame(TYPES["BULK"], bytes(8), 1), "chunk of 8"),
    "a second stream": (encode_frame(TYPES["START"], b"", 999), "stream 999"),
    "a control frame too long": (encode_frame(TYPES["PING"], bytes(70_000)), "are the most"),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
def test_a_broken_protocol_ends_the_connection(world, case):
    data, match = HOSTILE[case]
    frames_refused(world, data, match)


def test_a_record_that_breaks_the_protocol_is_not_acknowledged(world):
    data, match = HOSTILE["an unknown name"]
    frames_refused(world, data, match)
    assert world.homes["b"].links["a"].inbound.watermark == 0


def test_bytes_of_large_messages_are_bounded_and_asked_for_only_within_the_limit(world):
    head = (16 << 20).to_bytes(4, "little") + bytes(4)
    chunks = b"".join(encode_frame(TYPES["BULK"], head + b"x", number) for number in range(1, 6))
    frames_refused(world, chunks, "over the limit")


def test_transfers_that_are_never_finished_are_bounded_in_number(world):
    head = (17 << 20).to_bytes(4, "little") + bytes(4)  # too large: none of it is kept
    chunks = b"".join(encode_frame(TYPES["BULK"], head + b"x", number) for number in range(1, 5000))
    frames_refused(world, chunks, "4096 large messages")


def named(number, size):
    id = b"%07d" % number
    return record(number, 0, id + b"x" * (size - len(id)))


def record(target, kind, payload, flags=0):
    return struct.pack("<IIBBH", 8 + len(payload), target, kind, flags, 0) + payload


def test_bytes_of_names_are_bounded(world):
    world.connect("b")
    pipe = world.pipes["b"]
    pipe.move(0), pipe.move(1)
    link = world.homes["b"].links["a"]

    def name(numbers, size=1024):
        for i in range(0, len(numbers), 128):
            body = b"".join(named(number, size) for number in numbers[i : i + 128])
            link.feed(encode_frame(TYPES["DATA"], body, 1))

    most = MOST_NAME_BYTES // 1024
    name(range(1, most + 1))
    name(range(1, most + 1))  # said again: it counts once
    assert link.inbound.names_size == MOST_NAME_BYTES
    name([7], 100)
    name([most + 1], 900)
    with pytest.raises(ProtocolError, match="bytes of names"):
        name([most + 2], 100)
