"""The fate of messages: what ``explain`` says, held against what the handlers themselves wrote down."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import Any

import pytest

import cajun_fast as cf
from cajun_fast.cluster.fate import Fate, MessageId, judge
from tests.metrics.conftest import Member, until


class Log(cf.Actor):
    """Writes down what it handles; "fail" raises, "wait" waits."""

    def __init__(self, seen: list[Any], gate: asyncio.Event | None = None) -> None:
        self.seen, self.gate = seen, gate

    async def receive(self, message: Any, context: cf.Context) -> None:
        if self.gate is not None:
            await self.gate.wait()
        if message == "fail":
            raise ValueError("as planted")
        self.seen.append(message)


class Leaver(cf.Actor):
    """Stops at "go"."""

    def receive(self, message: Any, context: cf.Context) -> None:
        if message == "go":
            context.stop()


def test_an_id_is_read_back_from_its_text() -> None:
    message_id = MessageId("eu/node-1", 3, 65537, 42)
    assert MessageId.parse(str(message_id)) == message_id
    for wrong in ("", "a/1/2", "a/1/2/x"):
        with pytest.raises(ValueError, match="node/incarnation/stream/sequence"):
            MessageId.parse(wrong)


def test_without_any_note_the_counters_decide() -> None:
    def of(sequence: int, **side: int) -> Fate:
        link = {"peer": "b", "next": 100, "flushed": 80, "acked": 60}
        b = {"node": "b", "link": side or None, "events": [], "measured": 8}
        a = {"node": "a", "link": link, "events": [], "measured": 8}
        return judge(MessageId("a", 1, 5, sequence), {"a": a, "b": b})

    assert of(100).stage == "never-sent"
    assert (of(90).stage, of(90).node) == ("waits", "a")
    assert (of(70).stage, of(70).node) == ("on-its-way", "b")
    assert (of(50).stage, of(50).node) == ("accepted", "b")
    assert of(70, watermark=75).stage == "accepted"
    nobody: dict[str, Any] = {"a": {"node": "a", "link": None, "events": [], "measured": 8}}
    assert judge(MessageId("a", 1, 5, 1), nobody).stage == "unknown"


async def test_each_stage_is_told_from_either_node(member: Member) -> None:
    a, b = await member("a"), await member("b")
    seen: list[Any] = []
    gate = asyncio.Event()
    await a.register(Log, "log", seen, gate)
    there = b.pid("log")
    assert b.manager.last_message_id(there) is None
    ids = []
    for message in ("one", "fail"):
        await there.send(message)
        ids.append(b.manager.last_message_id(there))
    assert None not in ids
    one, fail = (str(each) for each in ids)
    fate = await b.manager.explain(one)
    assert (fate.stage, fate.node, fate.target) == ("arrived", "a", "log")
    gate.set()
    await until(lambda: a.metrics.snapshot().types[-1].failed)
    for asker in (a, b):
        fate = await asker.manager.explain(one)
        assert (fate.stage, fate.node, fate.target) == ("handled", "a", "log")
        assert [event.stage for event in fate.events] == ["sent", "arrived", "handled"]
        assert (await asker.manager.explain(fail)).stage == "failed"
    assert "handler has ended on node 'a'" in str(fate)
    assert {each.stage for each in a.manager.recent_messages(target="log")} == {
        "arrived",
        "handled",
        "failed",
    }
    assert a.manager.last_message_id(a.pid("log")) is None


async def test_a_refused_message_is_told_with_its_reason(member: Member) -> None:
    a, b = await member("a"), await member("b")
    seen: list[Any] = []
    await a.register(Log, "log", seen)
    there = b.pid("log")
    await there.send(1)
    before = b.manager.last_message_id(there)
    assert before is not None
    peer = b._node.messaging.peer("a")
    assert peer is not None
    assert peer.connection is not None
    back = a._node.messaging.peer("b")
    assert back is not None
    known, peer.addresses, back.addresses = peer.addresses, (), ()  # nobody dials before the deadline
    peer.connection.abort()
    there.tell("late", deadline=0.001)
    late = MessageId(before.node, before.incarnation, before.stream, before.sequence + 1)
    await until(lambda: b.dead_letters.total)
    peer.addresses = known
    peer.want()
    fate = await b.manager.explain(late)
    assert fate.stage == "ended"
    assert (await b.manager.explain(before)).stage == "handled"
    assert [each.message_id for each in b.manager.lost_messages(target="log")][:1] == [late]


async def test_every_message_of_a_rough_ride_is_accounted_for(member: Member) -> None:
    """A small mailbox that drops, deadlines, cut connections, and at the end the receiver's death.

    All of them are measured: how many are by default follows the load, and then the rest of a quick burst is known to
    be accepted and no more.
    """
    all_of_them = {"observability.sample_budget": 100_000}
    a, b = await member("a", all_of_them), await member("b", all_of_them)
    seen: list[Any] = []
    gate = asyncio.Event()
    gate.set()
    chance = random.Random(7)
    await a.register(Log, "log", seen, gate, mailbox_capacity=8, mailbox_policy=cf.MailboxPolicy.DROP_NEW)
    there = b.pid("log")
    await there.send(-1)
    ids: dict[int, MessageId] = {}
    for number in range(400):
        if chance.random() < 0.02:
            b._node.messaging.peer("a").connection.abort()  # type: ignore[union-attr]
        if chance.random() < 0.05:
            gate.clear() if gate.is_set() else gate.set()
        there.tell(number, deadline=chance.choice([None, None, 0.002, 5.0]))
        found = b.manager.last_message_id(there)
        assert found is not None
        ids[number] = found
        if chance.random() < 0.3:
            await asyncio.sleep(0.001)
    gate.set()
    link = b._node.messaging.link("a")
    await until(lambda: not link.unsettled and a.metrics.snapshot().queued == 0)
    await asyncio.sleep(0.05)
    assert len(set(ids.values())) == 400
    fates = {number: await b.manager.explain(each) for number, each in ids.items()}
    stages = Counter(fate.stage for fate in fates.values())
    handled = {number for number, fate in fates.items() if fate.stage == "handled"}
    assert handled == set(seen) - {-1}
    assert set(stages) <= {"handled", "let-go", "ended"}, stages
    assert len(handled) < 400  # some were lost, each for a reason
    assert all(fate.node for fate in fates.values())
    assert len(seen) == len(set(seen))


async def test_what_dies_with_its_receiver_is_told_as_unknown(member: Member) -> None:
    a, b = await member("a"), await member("b")
    gate = asyncio.Event()
    await a.register(Log, "log", [], gate)
    there = b.pid("log")
    await there.send(1)
    link = b._node.messaging.link("a")
    peer = b._node.messaging.peer("a")
    assert peer is not None
    assert peer.connection is not None
    peer.connection.transport.pause_reading()  # no acknowledgement comes any more
    there.tell(2)
    last = b.manager.last_message_id(there)
    await until(lambda: last is not None and link.flushed >= last.sequence)
    link.end("killed")
    assert last is not None
    fate = judge(last, {"b": b._node.fates.here(last)})
    assert (fate.stage, fate.target) == ("unknown", "log")
    assert "may or may not" in fate.text
    gate.set()


async def test_a_dead_letter_at_the_sender_names_the_message_it_was(member: Member) -> None:
    a, b = await member("a"), await member("b")
    await a.register(Leaver, "log")
    there = b.pid("log")
    await there.send("stay")
    there.tell("go")
    there.tell("too late")
    sent = b.manager.last_message_id(there)
    await until(lambda: b.dead_letters.total)
    (letter,) = b.dead_letters
    assert sent is not None
    assert letter.message_id is not None
    named = MessageId.parse(letter.message_id)
    assert named.stream == sent.stream
    assert named.sequence >= sent.sequence  # it may have been tried again, under another number
    fate = await a.manager.explain(letter.message_id)
    assert (fate.stage, fate.node) == ("ended", "b")
    assert "the actor was not there; it ended there" in str(fate)
    assert "(dead letter on node 'b': ActorNotFoundError)" in str(fate)


async def test_a_dead_letter_at_the_mailbox_s_door_names_the_message_measured_or_not(member: Member) -> None:
    a, b = await member("a", {"observability.sample_budget": 0}), await member("b")
    gate = asyncio.Event()
    await a.register(Log, "log", [], gate, mailbox_capacity=1, mailbox_policy=cf.MailboxPolicy.DROP_NEW)
    there = b.pid("log")
    for number in range(4):
        await there.send(number)
    last = b.manager.last_message_id(there)
    letters = list(a.dead_letters)
    assert letters
    assert letters[-1].message_id == str(last)
    fate = await b.manager.explain(last)
    assert fate.stage == "let-go"
    assert "(dead letter on node 'a': mailbox-full)" in str(fate)
    gate.set()


async def test_a_dead_letter_out_of_a_mailbox_names_the_message_where_it_is_measured(member: Member) -> None:
    a, b = await member("a"), await member("b")
    gate = asyncio.Event()
    await a.register(Log, "log", [], gate, mailbox_capacity=1, mailbox_policy=cf.MailboxPolicy.DROP_OLDEST)
    there = b.pid("log")
    ids = []
    for number in range(4):
        await there.send(number)
        ids.append(str(b.manager.last_message_id(there)))
    assert [letter.message_id for letter in a.dead_letters] == ids[1:3]
    a.pid("log").tell("from here")
    assert [letter.message_id for letter in a.dead_letters] == ids[1:4]
    a.pid("log").tell("pushes that out, which no link has numbered")
    assert [letter.message_id for letter in a.dead_letters] == [*ids[1:4], None]
    gate.set()


async def test_an_error_about_a_message_that_was_numbered_names_it(member: Member) -> None:
    a, b = await member("a"), await member("b")
    gate = asyncio.Event()
    await a.register(Log, "log", [], gate)
    there = b.pid("log")
    await there.send(1)
    link, peer = b._node.messaging.link("a"), b._node.messaging.peer("a")
    assert peer is not None
    assert peer.connection is not None
    peer.connection.transport.pause_reading()  # no acknowledgement comes any more
    sending = asyncio.ensure_future(there.send(2))
    await until(lambda: link.unsettled)
    last = b.manager.last_message_id(there)
    await until(lambda: last is not None and link.flushed >= last.sequence)
    link.end("killed")
    with pytest.raises(cf.OutcomeUnknownError, match=rf"\(message {last}\)$") as caught:
        await sending
    assert caught.value.message_id == str(last)
    assert cf.OutcomeUnknownError("x").message_id is None
    gate.set()
