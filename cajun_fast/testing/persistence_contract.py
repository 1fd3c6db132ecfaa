"""The contract suite of persistences: every sentence of ``cajun_fast.persistence.base`` as a test.

Laws: a persistence is seen only through its interface. Runs under pytest with pytest-asyncio in auto mode::

    class TestMine(PersistenceContract):
        def make(self, tmp_path):
            return MyPersistence(tmp_path / "state")     # the same place each time it is called in one test
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from cajun_fast.errors import NotRunningError, StaleOwnerError
from cajun_fast.persistence.base import Commit, Epoch, Event, Persistence, Reply, Restored, Told

FIRST, SECOND = Epoch("r1", 5), Epoch("r1", 9)


class PersistenceContract:
    """Subclass it and write ``make``."""

    def make(self, tmp_path: Path) -> Persistence:
        raise NotImplementedError

    @pytest.fixture
    async def store(self, tmp_path: Path) -> AsyncIterator[Persistence]:
        async with self.make(tmp_path) as store:
            yield store

    # ---- owners

    async def test_a_new_actor_has_nothing(self, store: Persistence) -> None:
        assert await store.restore("a", FIRST, "b1") == Restored(version=0, life=1, birth="b1")

    async def test_what_was_committed_comes_back_whole(self, store: Persistence) -> None:
        await store.restore("a", FIRST, "b1")
        whole: dict[str, Any] = {
            "state": b"s1",
            "schema": 3,
            "events": [(1, b"e1"), (2, b"e2")],
            "cursors": {"n#1": 7, "m#2": 1},
            "replies": [Reply("n#1", 6, True, b"six"), Reply("n#1", 7, False, b"seven")],
            "told": [Told(1, "x", "@a#1", 1, 2, b"hello"), Told(2, "y", "@a#1", 1, 0, b"", b"trace")],
        }
        await done(store, commit(0, **whole))
        again = await store.restore("a", SECOND, "b2")
        assert (again.version, again.life, again.birth) == (1, 2, "b1")
        assert (again.state, again.schema) == (b"s1", 3)
        assert list(again.events) == [Event(1, 3, b"e1"), Event(2, 3, b"e2")]
        assert dict(again.cursors) == whole["cursors"]
        assert sorted(again.replies) == whole["replies"]
        assert list(again.outbox) == whole["told"]

    async def test_an_older_owner_is_refused_and_changes_nothing(self, store: Persistence) -> None:
        await store.restore("a", FIRST, "b")
        await done(store, commit(0, state=b"1"))
        await store.restore("a", SECOND, "b")
        (outcome,) = await store.commit([commit(1, state=b"old", told=[Told(1, "x", "s", 1, 2, b"")])])
        assert isinstance(outcome, StaleOwnerError)
        assert outcome.actor_id == "a"
        stands = await store.peek("a")
        assert stands is not None
        assert (stands.state, stands.version, list(stands.outbox)) == (b"1", 1, [])

    async def test_an_older_owner_cannot_own_again(self, store: Persistence) -> None:
        await store.restore("a", SECOND, "b")
        with pytest.raises(StaleOwnerError, match="later owner"):
            await store.restore("a", FIRST, "b")
        await done(store, commit(0, epoch=SECOND, state=b"1"))

    async def test_an_owner_may_own_again(self, store: Persistence) -> None:
        await store.restore("a", FIRST, "b")
        assert (await store.restore("a", FIRST, "b")).life == 2
        await done(store, commit(0, state=b"1"))

    async def test_another_realm_begins_its_own_count(self, store: Persistence) -> None:
        await store.restore("a", SECOND, "b")
        other = Epoch("r2", 1)
        await store.restore("a", other, "b")
        await done(store, commit(0, epoch=other, state=b"1"))
        (outcome,) = await store.commit([commit(1, epoch=SECOND)])
        assert isinstance(outcome, StaleOwnerError)

    async def test_a_commit_on_another_version_is_refused(self, store: Persistence) -> None:
        await store.restore("a", FIRST, "b")
        for version in (1, 7):
            (outcome,) = await store.commit([commit(version, state=b"x")])
            assert isinstance(outcome, StaleOwnerError)

    async def test_the_same_commit_again_is_done_once(self, store: Persistence) -> None:
        await store.restore("a", FIRST, "b")
        first = commit(0, events=[(1, b"e")], told=[Told(1, "x", "s", 1, 2, b"")])
        await done(store, first)
        await done(store, first)
        stands = await store.peek("a")
        assert stands is not None
        assert (stands.version, len(stands.events), len(stands.outbox)) == (1, 1, 1)

    async def test_an_actor_that_nobody_owns_takes_no_commit(self, store: Persistence) -> None:
        (outcome,) = await store.commit([commit(0, state=b"1")])
        assert isinstance(outcome, StaleOwnerError)

    # ---- parts of a commit

    async def test_what_is_not_given_stays(self, store: Persistence) -> None:
        await store.restore("a", FIRST, "b")
        await done(store, commit(0, state=b"1", schema=2, cursors={"n": 1}))
        await done(store, commit(1, cursors={"m": 4}))
        stands = await store.peek("a")
        assert stands is not None
        assert (stands.state, stands.schema, dict(stands.cursors)) == (b"1", 2, {"n": 1, "m": 4})

    async def test_a_state_takes_the_place_of_the_events_before_it(self, store: Persistence) -> None:
        await store.restore("a", FIRST, "b")
        await done(store, commit(0, events=[(1, b"a"), (2, b"b")]))
        await done(store, commit(1, state=b"s", events=[(3, b"c")]))
        await done(store, commit(2, events=[(4, b"d")]))
        stands = await store.peek("a")
        assert stands is not None
        assert [(each.number, each.value) for each in stands.events] == [(3, b"c"), (4, b"d")]

    async def test_an_empty_state_is_a_state(self, store: Persistence) -> None:
        await store.restore("a", FIRST, "b")
        await done(store, commit(0, state=b""))
        stands = await store.peek("a")
        assert stands is not None
        assert stands.state == b""

    async def test_answers_below_a_number_go(self, store: Persistence) -> None:
        await store.restore("a", FIRST, "b")
        replies = [Reply(stream, number, True, b"") for stream in ("m", "n") for number in (1, 2, 3)]
        await done(store, commit(0, replies=replies))
        await done(store, commit(1, trims={"n": 3}))
        stands = await store.peek("a")
        assert stands is not None
        assert sorted((each.stream, each.number) for each in stands.replies) == [
            ("m", 1),
            ("m", 2),
            ("m", 3),
            ("n", 3),
        ]

    async def test_a_dropped_stream_goes_with_its_answers(self, store: Persistence) -> None:
        await store.restore("a", FIRST, "b")
        replies = [Reply("m", 1, True, b""), Reply("n", 1, True, b"")]
        await done(store, commit(0, cursors={"m": 1, "n": 1}, replies=replies))
        await done(store, commit(1, dropped=["m"]))
        stands = await store.peek("a")
        assert stands is not None
        assert dict(stands.cursors) == {"n": 1}
        assert [each.stream for each in stands.replies] == ["n"]

    async def test_finished_rows_leave_the_outbox(self, store: Persistence) -> None:
        await store.restore("a", FIRST, "b")
        await done(store, commit(0, told=[Told(row, "x", "s", row, 2, b"%d" % row) for row in (1, 2, 3)]))
        await done(store, commit(1, finished=[1, 3]))
        stands = await store.peek("a")
        assert stands is not None
        assert [each.row for each in stands.outbox] == [2]

    # ---- many

    async def test_one_that_is_refused_does_not_disturb_the_others(self, store: Persistence) -> None:
        for name in ("a", "b", "c"):
            await store.restore(name, FIRST, "b")
        await store.restore("b", SECOND, "b")
        outcomes = await store.commit([commit(0, name, state=name.encode()) for name in ("a", "b", "c")])
        assert [type(each) for each in outcomes] == [type(None), StaleOwnerError, type(None)]
        states = [(await whole(store, name)).state for name in ("a", "b", "c")]
        assert states == [b"a", None, b"c"]

    async def test_many_at_once(self, store: Persistence) -> None:
        names = [f"actor-{number:03d}" for number in range(200)]
        await asyncio.gather(*(store.restore(name, FIRST, "b") for name in names))
        for version in range(3):
            groups = [names[start : start + 50] for start in range(0, 200, 50)]
            work = [
                store.commit(
                    [commit(version, name, state=b"%d" % version, cursors={"n": version}) for name in group]
                )
                for group in groups
            ]
            for outcomes in await asyncio.gather(*work):
                assert outcomes == [None] * 50
        assert [(await whole(store, name)).version for name in names] == [3] * 200

    async def test_ids_are_text_of_any_kind(self, store: Persistence) -> None:
        for name in ("a/b", "ä→", "x'y\"z;--", "a" * 255):
            await store.restore(name, FIRST, "b")
            await done(store, commit(0, name, state=name.encode(), cursors={name: 1}))
            assert (await whole(store, name)).state == name.encode()

    async def test_numbers_are_as_large_as_they_come(self, store: Persistence) -> None:
        epoch = Epoch("r", 1 << 62)
        await store.restore("a", epoch, "b")
        await done(store, commit(0, epoch=epoch, cursors={"n": 1 << 62}, events=[(1 << 40, b"")]))
        assert (await whole(store, "a")).cursors["n"] == 1 << 62

    async def test_a_large_state(self, store: Persistence) -> None:
        state = bytes(range(256)) * 16384
        await store.restore("a", FIRST, "b")
        await done(store, commit(0, state=state))
        assert (await whole(store, "a")).state == state

    # ---- looking, forgetting, closing

    async def test_ids_in_order_and_in_pages(self, store: Persistence) -> None:
        for name in ("b", "a", "ab", "a%", "c"):
            await store.restore(name, FIRST, "b")
        assert await store.ids() == sorted(["b", "a", "ab", "a%", "c"])
        assert await store.ids("a") == sorted(["a", "ab", "a%"])
        assert await store.ids(limit=2) == sorted(["b", "a", "ab", "a%", "c"])[:2]
        assert await store.ids(after="ab") == ["b", "c"]

    async def test_a_deleted_actor_begins_anew(self, store: Persistence) -> None:
        await store.restore("a", FIRST, "b1")
        await done(store, commit(0, state=b"1", cursors={"n": 3}, told=[Told(1, "x", "s", 1, 2, b"")]))
        assert await store.delete("a") is True
        assert await store.delete("a") is False
        assert await store.peek("a") is None
        (outcome,) = await store.commit([commit(1, state=b"2")])
        assert isinstance(outcome, StaleOwnerError)
        assert await store.restore("a", SECOND, "b2") == Restored(version=0, life=1, birth="b2")

    async def test_peeking_owns_nothing(self, store: Persistence) -> None:
        assert await store.peek("a") is None
        await store.restore("a", FIRST, "b")
        await store.peek("a")
        await done(store, commit(0, state=b"1"))

    async def test_two_views_see_one_truth(self, store: Persistence, tmp_path: Path) -> None:
        async with self.make(tmp_path) as other:
            await store.restore("a", FIRST, "b")
            await done(store, commit(0, state=b"1"))
            assert (await other.restore("a", SECOND, "b")).state == b"1"
            (outcome,) = await store.commit([commit(1, state=b"2")])
            assert isinstance(outcome, StaleOwnerError)

    async def test_of_two_owners_that_race_one_commits(self, store: Persistence, tmp_path: Path) -> None:
        async with self.make(tmp_path) as other:
            for turn in range(20):
                one, two = Epoch("r1", 2 * turn + 1), Epoch("r1", 2 * turn + 2)
                version = (await store.restore("a", one, "b")).version
                outcomes, _ = await asyncio.gather(
                    store.commit([commit(version, epoch=one, state=b"one")]), other.restore("a", two, "b")
                )
                stands = await whole(store, "a")
                assert (stands.version == version + 1) == (outcomes == [None])

    async def test_use_before_connect_and_after_close(self, tmp_path: Path) -> None:
        store = self.make(tmp_path)
        with pytest.raises(NotRunningError, match="connect"):
            await store.restore("a", FIRST, "b")
        await store.connect()
        await store.close()
        await store.close()
        with pytest.raises(NotRunningError):
            await store.commit([commit(0)])


def commit(version: int, actor_id: str = "a", *, epoch: Epoch = FIRST, **parts: Any) -> Commit:
    return Commit(actor_id=actor_id, epoch=epoch, version=version, **parts)


async def done(store: Persistence, what: Commit) -> None:
    assert await store.commit([what]) == [None]


async def whole(store: Persistence, actor_id: str) -> Restored:
    stands = await store.peek(actor_id)
    assert stands is not None
    return stands
