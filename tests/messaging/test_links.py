"""Two nodes over real sockets, and a bad network between them: histories are compared message by message."""

from __future__ import annotations

import asyncio
import gc
import time

import pytest

from cajun_fast._core.frame import HEADER_SIZE, TYPES
from cajun_fast.errors import (
    ActorNotFoundError,
    BackpressureError,
    CircuitBreakerOpenError,
    MessageExpiredError,
    OutcomeUnknownError,
    RemoteActorError,
)
from cajun_fast.messaging import parting
from cajun_fast.messaging.connection import Connection
from cajun_fast.messaging.handshake import Hello
from cajun_fast.messaging.network import SocketNetwork
from cajun_fast.testing.proxy import Rules
from tests.messaging.nodes import tell_all, until

DATA_AND_ACKS = frozenset({TYPES["DATA"], TYPES["ACK"], TYPES["BULK"]})


async def pair(make_node, make_proxy=None, *, unix=False, **settings):
    """a, b, and the proxy on a's way to b."""
    a, b = await make_node("a", unix=unix, **settings), await make_node("b", unix=unix, **settings)
    proxy = None
    if make_proxy is None:
        a.knows(b)
    else:
        proxy = await make_proxy(b.address, unix=unix)
        a.knows(b, await proxy.start())
    return a, b, proxy


@pytest.mark.parametrize("unix", [False, True], ids=["tcp", "unix"])
async def test_messages_asks_and_errors_cross_over(make_node, unix):
    a, b, _ = await pair(make_node, unix=unix)
    log = await b.record("x")
    assert await a.pid("x", b).ask("first") == 1
    assert a.messaging.peer("b").connection.kind == ("unix" if unix else "tcp")
    await tell_all(a.pid("x", b), list(range(1000)))
    await a.pid("x", b).send(b"z" * 1_000_000)
    assert log == ["first", *range(1000), b"z" * 1_000_000]

    def bad(message, context):
        raise ValueError("nonsense")

    await b.actors.spawn(bad, "bad")
    with pytest.raises(RemoteActorError, match="actor 'bad' on node 'b' raised ValueError: nonsense"):
        await a.pid("bad", b).ask(1)
    a.table.patience = 2
    with pytest.raises(ActorNotFoundError):
        await a.pid("nobody", b).ask(1)


async def test_a_unix_socket_that_is_not_there_is_passed_over_for_tcp(make_node):
    a, b = await make_node("a", unix=True), await make_node("b", unix=True)
    a.knows(b, b.address._replace(path="/nowhere/b.sock"))
    await b.record("x")
    assert await a.pid("x", b).ask(1) == 1
    assert a.messaging.liveness("b").transport == "tcp"


FAULTS = {
    "drops frames": Rules(drop=0.02),
    "drops acks": Rules(drop=0.5, kinds=frozenset({TYPES["ACK"]})),
    "duplicates frames": Rules(duplicate=0.05, kinds=DATA_AND_ACKS),
    "swaps frames": Rules(swap=0.05, kinds=DATA_AND_ACKS),
    "cuts": Rules(cut=0.02),
    "delays": Rules(delay=0.001),
    "throttles": Rules(rate=2_000_000),
    "everything": Rules(drop=0.01, duplicate=0.02, swap=0.02, cut=0.01, delay=0.0002, kinds=DATA_AND_ACKS),
}


@pytest.mark.parametrize("unix", [False, True], ids=["tcp", "unix"])
@pytest.mark.parametrize("fault", FAULTS)
async def test_nothing_is_lost_doubled_or_reordered_whatever_the_network_does(
    make_node, make_proxy, fault, unix
):
    a, b, proxy = await pair(make_node, make_proxy, unix=unix, failure_threshold=1000)
    logs = {f"x{i}": await b.record(f"x{i}") for i in range(3)}
    proxy.there = proxy.back = FAULTS[fault]
    count = 400
    await asyncio.gather(
        *(tell_all(a.pid(actor, b), list(range(count)), lambda: asyncio.sleep(0.001)) for actor in logs)
    )
    waited = [a.pid("x0", b).send(count + n) for n in range(20)]
    await asyncio.wait_for(asyncio.gather(*waited), 20)
    await until(lambda: not a.link(b).unsettled)
    assert logs["x0"] == list(range(count + 20))
    assert logs["x1"] == logs["x2"] == list(range(count))
    assert a.dead == []
    struck = {kind: number for kind, number in proxy.counts.items() if number}
    assert len(struck) > 1 or fault in ("delays", "throttles"), struck


@pytest.fixture
def no_collections():
    """What only a collection would let go is not bounded: a busy node may not have one for long."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def buffers():
    """Bytes that connections of this process read into, those that are gone too."""
    return sum(len(each.get_buffer(0)) for each in gc.get_objects() if isinstance(each, Connection))


async def test_a_link_that_flaps_a_thousand_times_under_load_keeps_every_message_and_little_memory(
    make_node, make_proxy, no_collections
):
    a, b, proxy = await pair(
        make_node,
        make_proxy,
        failure_threshold=10**6,
        first_pause=0.0005,
        longest_pause=0.001,
        window_bytes=1 << 20,
    )
    log = await b.record("x")
    await a.pid("x", b).ask("warm")
    sent = 0
    flaps = 0
    peak = 0
    pid = a.pid("x", b)
    while flaps < 1000:
        for _ in range(20):
            try:
                pid.tell(sent)
            except BackpressureError:
                break
            sent += 1
        up = a.link(b).is_up
        peak = max(peak, a.link(b).held_bytes)
        if up:
            before = a.messaging.peer("b").established
            proxy.cut()
            flaps += 1
            await until(lambda seen=before: not a.link(b).is_up or a.messaging.peer("b").established > seen)
        await asyncio.sleep(0)
    await asyncio.wait_for(pid.send(sent), 20)
    assert log == ["warm", *range(sent + 1)]
    assert peak <= (1 << 20) + 70_000
    assert buffers() <= 4 * (512 << 10)
    assert proxy.connections >= 1000
    left = {key: count for key, count in a.link(b).waits.items() if count}
    assert set(left) <= {"names"}, left


async def test_dials_that_cross_end_in_one_link(make_node):
    for round_ in range(20):
        a, b = await make_node(f"a{round_}"), await make_node(f"b{round_}")
        a.knows(b), b.knows(a)
        to_b, to_a = await b.record("x"), await a.record("y")
        await asyncio.gather(a.pid("x", b).send(1), b.pid("y", a).send(2))
        await asyncio.gather(a.pid("x", b).send(3), b.pid("y", a).send(4))
        await until(lambda a=a, b=b: len(a.messaging._connections) == len(b.messaging._connections) == 1)
        assert (to_b, to_a) == ([1, 3], [2, 4])
        assert a.link(b).is_up
        assert b.link(a).is_up


async def test_a_stopped_consumer_holds_up_nobody_but_its_own_senders(make_node):
    a, b, _ = await pair(make_node)
    gate = asyncio.Event()
    log = []

    async def stopped(message, context):
        await gate.wait()
        log.append(message)

    await b.actors.spawn(stopped, "stopped", mailbox_capacity=100)
    others = await b.record("other")
    pid = a.pid("stopped", b)
    sent = 0
    with pytest.raises(BackpressureError):  # noqa: PT012 - how many go before it is what is asked
        for _ in range(200_000):
            pid.tell(sent)
            sent += 1
            if sent % 100 == 0:
                await asyncio.sleep(0)
    held = a.link(b).held_bytes + a.actors.pid("stopped").lane.waiting_count * 100
    assert held < 16 << 20
    waiting = pid.send(sent)
    started = time.perf_counter()
    for n in range(100):
        await a.pid("other", b).ask(n)
    assert time.perf_counter() - started < 5
    assert len(others) == 100
    assert not waiting.done()
    gate.set()
    await asyncio.wait_for(waiting, 20)
    await until(lambda: len(log) == sent + 1, 20)
    assert log == list(range(sent + 1))


async def test_a_full_way_can_make_dead_letters_instead_of_raising(make_node):
    a, b, _ = await pair(make_node, window_bytes=10_000)
    b_gone = a.pid("x", "b")
    await b.messaging.stop()
    a.actors.exchange.raise_when_full = False
    for n in range(2000):
        b_gone.tell({"n": n})
    letters = [message for message, reason in a.dead if reason == "no-room"]
    assert letters
    assert letters == sorted(letters, key=lambda message: message["n"])


async def test_a_silent_peer_is_noticed_within_the_heartbeat_limit(make_node, make_proxy):
    a, b, proxy = await pair(make_node, make_proxy)
    await b.record("x")
    await a.pid("x", b).ask(1)
    seen = asyncio.Event()
    a.messaging.on_suspect = lambda node, incarnation: seen.set()
    proxy.stall()
    started = time.perf_counter()
    await asyncio.wait_for(seen.wait(), 5)
    assert time.perf_counter() - started < a.settings.heartbeat_timeout * 3
    assert a.messaging.node_alive("b") is False
    proxy.flow()
    await asyncio.wait_for(a.pid("x", b).send(2), 5)


async def test_a_node_that_was_blocked_itself_accuses_nobody(make_node):
    a, b, _ = await pair(make_node)
    await b.record("x")
    await a.pid("x", b).ask(1)
    suspected = []
    a.messaging.on_suspect = lambda node, incarnation: suspected.append(node)
    time.sleep(a.settings.heartbeat_timeout * 2)  # noqa: ASYNC251 - it is the block that is tested
    await asyncio.sleep(a.settings.heartbeat_timeout * 0.6)
    assert suspected == []


async def test_the_breaker_parks_tracked_messages_fails_asks_at_once_and_lets_them_go_in_order(
    make_node, make_proxy
):
    a, b, proxy = await pair(
        make_node, make_proxy, failure_threshold=3, failure_spacing=0.01, reset_timeout=0.2
    )
    log = await b.record("x")
    proxy.refusing = True
    pid = a.pid("x", b)
    for n in range(50):
        pid.tell(n)
    parked = pid.ask("parked")
    with pytest.raises(CircuitBreakerOpenError, match=r"node-b.*actor 'x'"):
        await asyncio.wait_for(parked, 5)
    with pytest.raises(CircuitBreakerOpenError):
        await pid.ask("refused at once")
    pid.tell(50)
    late = pid.send("late", deadline=0.05)
    with pytest.raises(MessageExpiredError):
        await asyncio.wait_for(late, 5)
    dials = proxy.connections
    proxy.refusing = False
    await until(lambda: len(log) == 51)
    assert proxy.connections <= dials + 2, "one probe, not many"
    assert log == list(range(51))
    assert a.messaging.breaker("b").state == "closed"


async def test_a_new_incarnation_closes_the_breaker_and_an_old_one_is_refused(make_node, make_proxy):
    a, b, proxy = await pair(
        make_node, make_proxy, failure_threshold=2, failure_spacing=0.01, reset_timeout=60
    )
    await b.record("x")
    proxy.refusing = True
    a.pid("x", b).tell(1)
    await until(lambda: a.messaging.breaker("b").state == "open")
    second = await make_node("b", 2)
    log = await second.record("x")
    a.knows(second)
    assert await asyncio.wait_for(a.pid("x", b).ask(2), 5) == 2
    assert log == [1, 2]
    b.knows(a)
    b.pid("y", a).tell("from the dead")
    await asyncio.sleep(0.2)
    assert a.link(second).is_up
    assert b.link(a).is_up is False


async def test_who_learns_of_a_new_incarnation_by_its_own_dial_finds_an_end_to_it(make_node):
    a, b, _ = await pair(make_node)
    await b.record("x")
    await a.pid("x", b).ask(1)
    second = await make_node("b", 2)
    await second.record("x")
    await a.record("y")
    peer = a.messaging.peer("b")
    peer.addresses = (second.address,)  # membership has not told of it yet
    second.knows(a)
    peer.connection.abort()
    reached = []
    a.messaging.on_reachable = second.messaging.on_reachable = lambda *who: reached.append(who)
    early = a.pid("x", second).send(2)  # by the link to the first incarnation, as far as a knows
    assert isinstance((await asyncio.gather(early, return_exceptions=True))[0], None | OutcomeUnknownError)
    await asyncio.wait_for(a.pid("x", second).send(3), 5)
    await asyncio.wait_for(second.pid("y", a).send(4), 5)
    await until(lambda: a.link(second).is_up and second.link(a).is_up)
    assert reached == [("a", 1), ("b", 2)] or reached == [("b", 2), ("a", 1)], "one connection, no more"


async def test_a_restarted_sender_is_not_swallowed(make_node):
    b = await make_node("b")
    log = await b.record("x")
    for incarnation in range(1, 4):
        a = await make_node("a", incarnation)
        a.knows(b)
        for n in range(5):
            a.pid("x", b).tell([incarnation, n])
        await a.pid("x", b).send([incarnation, 5])
        await a.stop()
    assert log == [[incarnation, n] for incarnation in range(1, 4) for n in range(6)]


async def test_a_peer_that_lost_its_state_is_noticed_and_what_it_may_have_seen_is_told_as_unknown(
    make_node, make_proxy
):
    a, b, proxy = await pair(make_node, make_proxy)
    log = await b.record("x")
    await a.pid("x", b).send(1)
    proxy.back = Rules(drop=1.0, kinds=frozenset({TYPES["ACK"]}))
    lost = a.pid("x", b).send(2)
    await until(lambda: log == [1, 2])
    b.messaging.remove_node("a", 1)  # b forgets all it knew of a
    await until(lambda: not a.link(b).is_up)
    proxy.back = Rules()
    with pytest.raises(OutcomeUnknownError):
        await asyncio.wait_for(lost, 5)
    await asyncio.wait_for(a.pid("x", b).send(3), 5)
    assert log == [1, 2, 3]


async def test_what_was_told_before_an_orderly_stop_arrives(make_node):
    a, b, _ = await pair(make_node)
    log = await b.record("x")
    await a.pid("x", b).ask("up")
    for n in range(5000):
        a.pid("x", b).tell(n)
    await a.stop()
    assert log == ["up", *range(5000)]
    assert a.dead == []


async def test_who_leaves_in_order_waits_until_the_others_have_hung_up(make_node):
    """What was sent to it while it left lies unread there, and comes back with a verdict."""
    a, b, _ = await pair(make_node, stop_timeout=20.0)
    b.knows(a)
    log = await b.record("x")
    await a.pid("x", b).ask(1)
    await until(lambda: not b.link(a).unsettled)
    reading = b.messaging.peer("a").connection.transport
    reading.pause_reading()
    late = asyncio.ensure_future(a.pid("x", b).ask(2))
    await until(lambda: a.link(b).unsettled)
    stopping = asyncio.ensure_future(b.messaging.stop(left=True))
    link = a.link(b)
    a.messaging.remove_node("b", 1, in_order=True)
    assert "b" not in a.messaging.nodes
    await asyncio.sleep(0.05)
    assert [stopping.done(), late.done(), link.ended] == [False, False, False]
    reading.resume_reading()
    assert await asyncio.wait_for(late, 5) == 2
    await asyncio.wait_for(stopping, 5)
    assert log == [1, 2]


async def test_two_that_leave_at_the_same_time_do_not_wait_for_each_other(make_node):
    a, b, _ = await pair(make_node, stop_timeout=20.0)
    b.knows(a)
    await b.record("x")
    await a.pid("x", b).ask(1)
    await asyncio.wait_for(asyncio.gather(a.messaging.stop(left=True), b.messaging.stop(left=True)), 5)


async def test_a_stop_that_is_cut_short_closes_every_connection_all_the_same(make_node, monkeypatch):
    a, b = await make_node("a"), await make_node("b")
    a.knows(b)
    await b.record("x")
    assert await a.pid("x", b).ask(1) == 1
    with monkeypatch.context() as patch:
        patch.setattr(parting, "settled", lambda *_: asyncio.sleep(3600))
        cut = asyncio.ensure_future(a.messaging.stop())
        await asyncio.sleep(0)
        cut.cancel()
        await asyncio.gather(cut, return_exceptions=True)
    assert not a.messaging._connections
    await until(lambda: not b.messaging._connections)


class Impatient(SocketNetwork):
    """Gives its first dial up when that connection carries a link already, as a loop does whose time-out comes in the
    turn in which all this happens: it closes the socket, and tells the connection nothing.
    """

    gave_up = False

    async def dial(self, *arguments, **options):
        transport, connection = await super().dial(*arguments, **options)
        if not self.gave_up:
            self.gave_up = True
            await connection.settled
            transport.set_protocol(asyncio.Protocol())
            transport.abort()
            raise TimeoutError
        return transport, connection


async def test_a_dial_that_is_given_up_when_its_connection_stands_leaves_no_link_without_an_end(make_node):
    a, b, _ = await pair(make_node)
    log = await b.record("x")
    a.messaging._network = network = Impatient()
    await asyncio.wait_for(a.pid("x", b).send(1), 10)
    assert network.gave_up
    await asyncio.wait_for(a.pid("x", b).send(2), 10)
    assert log == [1, 2]
    assert a.messaging.peer("b").connection in a.messaging._connections


async def test_an_idle_link_costs_nearly_no_cpu(make_node):
    a, b, _ = await pair(make_node)
    await b.record("x")
    await a.pid("x", b).ask(1)
    before = time.process_time()
    await asyncio.sleep(1.0)
    assert time.process_time() - before < 0.05


async def test_a_handshake_that_outlives_the_removal_of_its_node_is_begun_again(make_node, make_proxy):
    """Else the other side would count on a connection that this side has forgotten, and never dial again."""
    a, b, proxy = await pair(make_node, make_proxy)
    await b.record("x")
    await a.record("y")
    proxy.there = Rules(drop=1.0, kinds=frozenset(TYPES.values()) - {TYPES["HELLO"]})
    early = a.pid("x", b).send(1)
    peer = None

    def half_way():
        nonlocal peer
        peer = b.messaging.peer("a")
        return peer is not None and peer.link.incarnation is not None

    await until(half_way)
    (connection,) = b.messaging._connections
    resume = a.messaging.peer("b").resume()
    b.messaging.remove_node("a", 1)
    b.knows(a)
    await until(lambda: peer.ended)
    proxy.there = Rules()
    connection.on_handshake(connection, resume.encode())  # it comes now
    await asyncio.wait_for(asyncio.gather(early, return_exceptions=True), 5)
    await asyncio.wait_for(b.pid("y", a).send(2), 5)
    await asyncio.wait_for(a.pid("x", b).send(3), 5)
    assert b.messaging.peer("a").connection is not None
    assert peer.connection is None


@pytest.mark.parametrize(("older", "ends"), [(1, False), (1 << 40, True)])
async def test_a_hello_that_was_said_long_ago_and_comes_late_ends_no_younger_link(make_node, older, ends):
    """Held back by the network while its connection was given up. One of another life of the peer, whose streams have
    another base, does end it: that peer has lost what it knew."""
    a, b, _ = await pair(make_node)
    b.knows(a)
    log = await b.record("x")
    assert await a.pid("x", b).ask("before") == 1
    mine, theirs = b.link(a), a.link(b)
    stream = theirs.stream - older if older == 1 else theirs.stream ^ older
    late = Hello("a", a.incarnation, "c", "b", stream, 100)
    reader, writer = await asyncio.open_connection("127.0.0.1", b.address.port)
    try:
        writer.write(late.encode())
        head = await asyncio.wait_for(reader.readexactly(HEADER_SIZE), 10)
        assert head[2] == TYPES["HELLO" if ends else "REFUSE"]
    finally:
        writer.close()
    assert (b.link(a) is mine) is not ends
    assert await a.pid("x", b).ask("after", timeout=10) == 2
    assert log == ["before", "after"]
