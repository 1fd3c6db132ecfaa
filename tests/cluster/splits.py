"""A cluster on real sockets whose members can be cut off from each other, one way or both, and from the store; and a
history of every message: who handled it, under which ownership, and what its sender was told.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import ssl
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import cajun_fast as cf
from cajun_fast.actors.registry import Registry
from cajun_fast.messaging.network import SocketNetwork
from cajun_fast.metadata.store import MetadataStore
from cajun_fast.ports import Address, Listener, Ports, ProtocolFactory
from cajun_fast.testing.proxy import Proxy, Rules
from tests.cluster.conftest import eventually
from tests.cluster.worlds import FaultyStore

ACTORS = 6


class Cable:
    """All ways between the members: each dial goes through a proxy of its own pair."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)
        self._names: dict[int, str] = {}
        self._proxies: dict[tuple[str, str], tuple[Proxy, Address]] = {}
        self._cut: set[tuple[str, str]] = set()

    def of(self, node: str) -> Plug:
        return Plug(self, node)

    def listens(self, node: str, address: Address) -> None:
        self._names[address.port] = node

    async def way(self, node: str, address: Address) -> Address:
        target = self._names[address.port]
        known = self._proxies.get((node, target))
        if known is None or known[0].target.port != address.port:
            proxy = Proxy(Address(address.host, address.port), self._chance)
            known = self._proxies[node, target] = (proxy, await proxy.start())
            self._apply()
        return known[1]

    def cut(self, one: str, other: str) -> None:
        """Nothing that ``one`` says reaches ``other`` any more; connections stand."""
        self._cut.add((one, other))
        self._apply()

    def heal(self) -> None:
        self._cut.clear()
        self._apply()

    def _apply(self) -> None:
        for (one, other), (proxy, _) in self._proxies.items():
            proxy.there = Rules(drop=float((one, other) in self._cut))
            proxy.back = Rules(drop=float((other, one) in self._cut))

    async def stop(self) -> None:
        for proxy, _ in self._proxies.values():
            await proxy.stop()


class Plug:
    """The network of one node."""

    def __init__(self, cable: Cable, node: str) -> None:
        self._cable, self._node, self._inner = cable, node, SocketNetwork(unix=False)

    async def listen(
        self, host: str, port: int, protocol_factory: ProtocolFactory, *, ssl: ssl.SSLContext | None = None
    ) -> Listener:
        listener = await self._inner.listen(host, port, protocol_factory)
        self._cable.listens(self._node, listener.address)
        return listener

    async def dial(
        self,
        address: Address,
        protocol_factory: ProtocolFactory,
        *,
        ssl: ssl.SSLContext | None = None,
        timeout: float,
    ) -> Any:
        way = await self._cable.way(self._node, address)
        return await self._inner.dial(way, protocol_factory, timeout=timeout)


@dataclass(slots=True)
class Handled:
    actor: str
    sender: str
    number: int
    node: str
    epoch: int
    standing_still: bool


@dataclass(slots=True)
class History:
    handled: list[Handled] = field(default_factory=list)
    sent: dict[tuple[str, str, int], asyncio.Future[None]] = field(default_factory=dict)


class Split:
    """Three members, each with a store of its own that can be cut off; senders on all of them."""

    def __init__(self, store: Callable[[], MetadataStore], seed: int = 1) -> None:
        self.cable = Cable(seed)
        self.types = Registry()
        self.types.actor("historian")(self._historian())
        self.stores = {name: FaultyStore(store()) for name in "abc"}
        self.members: dict[str, cf.ClusterActorSystem] = {}
        self.history = History()
        self.letters: dict[str, set[tuple[str, str, int]]] = defaultdict(set)
        self._sending: asyncio.Task[None] | None = None

    def _historian(self) -> type[cf.Actor]:
        split = self

        class Historian(cf.Actor):
            def receive(self, message: Any, context: Any) -> str:
                node = split.members[context.node_id]._node
                standing = node.hosting.owned.get(context.self.id)
                sender, number = message
                if sender != "probe":
                    split.history.handled.append(
                        Handled(
                            context.self.id,
                            sender,
                            number,
                            context.node_id,
                            standing.record.epoch if standing is not None else -1,
                            node.membership.paused or node.membership.fenced,
                        )
                    )
                return str(context.node_id)

        return Historian

    async def start(self) -> None:
        for name, store in self.stores.items():
            builder = cf.ClusterConfig.Builder(name, "memory://unused").with_messaging_port(0)
            builder.with_setting("membership.lease_ttl", 2.0).with_setting(
                "membership.suspicion_timeout", 0.5
            )
            system = cf.ClusterActorSystem(
                builder.build(), ports=Ports(network=self.cable.of(name)), store=store, types=self.types
            )
            await system.start()
            self.members[name] = system
            system.dead_letters.subscribe(lambda letter, name=name: self._letter(name, letter))  # type: ignore[misc]
        await self.whole()
        for n in range(ACTORS):
            home = "abc"[n % 3]
            await self.members[home].register("historian", f"h{n}")
        for system in self.members.values():
            for n in range(ACTORS):
                await system.pid(f"h{n}").ask(["probe", 0], timeout=10)
        self._sending = asyncio.ensure_future(self._send())

    def _letter(self, node: str, letter: Any) -> None:
        message = letter.message
        if isinstance(message, bytes):
            message = self.members[node].exchange.decode(message)
        if isinstance(message, list) and len(message) == 2:
            self.letters[node].add((letter.target, message[0], message[1]))

    async def _send(self) -> None:
        for number in itertools.count(1):
            for name, system in self.members.items():
                for n in range(ACTORS):
                    actor = f"h{n}"
                    future = asyncio.ensure_future(system.pid(actor).send([name, number]))
                    self.history.sent[actor, name, number] = future
            await asyncio.sleep(0.03)

    async def whole(self) -> None:
        """Until everybody sees and hears everybody, and nobody stands still."""
        names = set(self.members)

        def settled() -> bool:
            return all(
                set(system.known_nodes) == names
                and not system.is_fenced
                and all(
                    (seen := system._node.messaging.liveness(other)) is not None and seen.connected
                    for other in names - {name}
                )
                for name, system in self.members.items()
            )

        try:
            await eventually(settled, 40)
        except TimeoutError:
            raise AssertionError(f"the cluster is not whole again: {self.state()}") from None

    def state(self) -> dict[str, Any]:
        """How each member looks at the others, for a test that fails."""
        return {
            name: {
                "standing still": system.is_fenced,
                "knows": sorted(system.known_nodes),
                "hears": {
                    other: str(system._node.messaging.liveness(other)) for other in set(self.members) - {name}
                },
                "breakers": {
                    other: str(system._node.messaging.breaker(other)) for other in set(self.members) - {name}
                },
            }
            for name, system in self.members.items()
        }

    def isolate(self, name: str, *, mute: bool = True, deaf: bool = True) -> None:
        """``mute``: nobody hears it; ``deaf``: it hears nobody."""
        for other in set(self.members) - {name}:
            if mute:
                self.cable.cut(name, other)
            if deaf:
                self.cable.cut(other, name)

    async def heal(self) -> None:
        self.cable.heal()
        for store in self.stores.values():
            store.rise()
        await self.whole()

    async def finish(self) -> None:
        """No more is sent; everything that was has its outcome, and every actor answers everybody."""
        assert self._sending is not None
        self._sending.cancel()
        await asyncio.gather(self._sending, return_exceptions=True)
        for system in self.members.values():
            for n in range(ACTORS):
                await eventually(lambda: _answers(system, f"h{n}"), 20)  # noqa: B023
        _, pending = await asyncio.wait(self.history.sent.values(), timeout=30)
        assert not pending, f"{len(pending)} senders were told nothing"

    async def stop(self) -> None:
        self.cable.heal()
        for store in self.stores.values():
            store.rise()
        if self._sending is not None:
            self._sending.cancel()
        for system in self.members.values():
            await system.stop()
        await self.cable.stop()

    # ---- the verdict

    def check(self) -> Counter[str]:
        """Nothing handled twice or out of order, no two owners at once, nothing lost in silence."""
        handled = self.history.handled
        assert not [each for each in handled if each.standing_still or each.epoch < 0]
        twice = [key for key, n in Counter((e.actor, e.sender, e.number) for e in handled).items() if n > 1]
        assert not twice, f"handled twice: {twice[:5]}"
        self._check_owners()
        counts: Counter[str] = Counter()
        seen = {(each.actor, each.sender, each.number) for each in handled}
        letters = set().union(*self.letters.values())
        for key, future in self.history.sent.items():
            error = future.exception()
            counts["ok" if error is None else type(error).__name__] += 1
            if error is None:
                assert key in seen or key in letters, f"{key} stood in a mailbox and was lost in silence"
            elif not isinstance(error, cf.OutcomeUnknownError):
                assert isinstance(error, cf.DeliveryError), f"{key}: {error!r}"
                assert key not in seen, f"{key} was told as not delivered and was handled: {error!r}"
        return counts

    def _check_owners(self) -> None:
        latest: dict[str, int] = {}
        owner: dict[tuple[str, int], str] = {}
        order: dict[tuple[str, int, str], int] = {}
        for each in self.history.handled:
            assert each.epoch >= latest.get(each.actor, 0), f"an earlier owner acted again: {each}"
            latest[each.actor] = each.epoch
            assert owner.setdefault((each.actor, each.epoch), each.node) == each.node, f"two owners: {each}"
            before = order.get((each.actor, each.epoch, each.sender), 0)
            assert each.number > before, f"out of order after {before}: {each}"
            order[each.actor, each.epoch, each.sender] = each.number


async def _answers(system: cf.ClusterActorSystem, actor: str) -> bool:
    try:
        await system.pid(actor).ask(["probe", 0], timeout=3)
    except (cf.CajunError, TimeoutError):
        return False
    return True
