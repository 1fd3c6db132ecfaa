"""The pool of channels to etcd, on channels of air: room, waiting, replacement, isolation."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from cajun_fast.errors import MetadataStoreUnavailableError
from cajun_fast.metadata.base import OwnedTasks
from cajun_fast.metadata.etcd_channel import PER_CHANNEL, ChannelPool, Endpoint


class FakeChannel:
    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint, self.closed = endpoint, False

    def get_state(self, try_to_connect: bool) -> None:
        pass

    async def close(self) -> None:
        self.closed = True


class Pool:
    """A ChannelPool on channels of air."""

    def __init__(self, endpoints: list[str], size: int) -> None:
        self.made: list[FakeChannel] = []
        self.owned = OwnedTasks()
        self.pool = ChannelPool(endpoints, size, self._dial, self.owned)
        self.pool.open()

    def _dial(self, endpoint: Endpoint, reply_bytes: int) -> FakeChannel:
        self.made.append(FakeChannel(endpoint))
        return self.made[-1]

    async def hold(self, until: asyncio.Event) -> Any:
        async with self.pool.unary(5.0) as slot:
            await until.wait()
            return slot


async def test_calls_fill_one_channel_before_the_next() -> None:
    air, go = Pool(["a:1"], 2), asyncio.Event()
    calls = [asyncio.ensure_future(air.hold(go)) for _ in range(PER_CHANNEL + 1)]
    await asyncio.sleep(0)
    assert [slot.calls for slot in air.pool._unary] == [PER_CHANNEL, 1]
    go.set()
    await asyncio.gather(*calls)
    assert [slot.calls for slot in air.pool._unary] == [0, 0]


async def test_a_full_pool_lets_wait_in_order_and_not_for_ever() -> None:
    air, go = Pool(["a:1"], 1), asyncio.Event()
    holding = [asyncio.ensure_future(air.hold(go)) for _ in range(PER_CHANNEL)]
    await asyncio.sleep(0)
    with pytest.raises(MetadataStoreUnavailableError, match="max_connections"):
        async with air.pool.unary(0.02):
            pass
    waiting = [asyncio.ensure_future(air.hold(go)) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[1].cancel()
    await asyncio.gather(waiting[1], return_exceptions=True)
    go.set()
    await asyncio.gather(*holding, waiting[0], waiting[2])
    assert air.pool._unary[0].calls == 0
    assert not air.pool._waiting


async def test_a_waiter_cancelled_when_it_was_chosen_passes_the_room_on() -> None:
    air = Pool(["a:1"], 1)
    gates = [asyncio.Event() for _ in range(PER_CHANNEL)]
    holding = [asyncio.ensure_future(air.hold(gate)) for gate in gates]
    await asyncio.sleep(0)
    done = asyncio.Event()
    done.set()
    chosen, next_one = (asyncio.ensure_future(air.hold(done)) for _ in range(2))
    await asyncio.sleep(0)
    gates[0].set()
    await holding[0]
    chosen.cancel()
    await asyncio.wait_for(next_one, 1)
    for gate in gates:
        gate.set()
    await asyncio.gather(*holding)


async def test_the_line_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cajun_fast.metadata.etcd_channel.WAITING_PER_CHANNEL", 5)
    air, go = Pool(["a:1"], 1), asyncio.Event()
    tasks = [asyncio.ensure_future(air.hold(go)) for _ in range(PER_CHANNEL + 5)]
    await asyncio.sleep(0)
    with pytest.raises(MetadataStoreUnavailableError, match="too many"):
        await air.hold(go)
    go.set()
    await asyncio.gather(*tasks)


async def test_a_broken_channel_is_dialled_anew_elsewhere() -> None:
    air, go = Pool(["a:1", "b:2"], 1), asyncio.Event()
    call = asyncio.ensure_future(air.hold(go))
    await asyncio.sleep(0)
    broken = air.pool._unary[0]
    assert broken.endpoint.address == "a:1"
    air.pool.on_failure(broken)
    air.pool.on_failure(broken)
    assert air.pool._unary[0].endpoint.address == "b:2"
    assert {kind: air.pool.stream(kind).endpoint.address for kind in ("watch", "lease")} == {
        "watch": "b:2",
        "lease": "b:2",
    }
    assert not broken.channel.closed
    go.set()
    await call
    await air.owned.close(1.0)
    assert broken.channel.closed


async def test_streams_have_channels_of_their_own() -> None:
    air = Pool(["a:1"], 3)
    slots = [*air.pool._unary, air.pool.stream("watch"), air.pool.stream("lease")]
    assert len({id(slot.channel) for slot in slots}) == 5
    await air.pool.close()
    assert all(channel.closed for channel in air.made)
