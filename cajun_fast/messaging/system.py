"""The messaging system of a node: who its peers are, and one link to each.

Laws: which nodes exist is told from outside (add_node, remove_node); links are made on first use and live until their
peer's incarnation ends. One timer beats for all links. Connections from strangers are bounded in number and time.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from cajun_fast._core.breaker import CircuitBreaker
from cajun_fast._core.codec import Serializer
from cajun_fast._core.lane import Exchange
from cajun_fast._core.link import Link
from cajun_fast._core.ports import Replies
from cajun_fast._core.turns import Dispatcher
from cajun_fast.config_rules import is_loopback
from cajun_fast.errors import NodeUnavailableError, NotRunningError
from cajun_fast.messaging import parting
from cajun_fast.messaging.auth import KeyRing, fresh_nonce
from cajun_fast.messaging.connection import Connection
from cajun_fast.messaging.door import Cause, Door
from cajun_fast.messaging.handshake import Feature, Hello, Refusal, Refused
from cajun_fast.messaging.link_ports import LinkPorts
from cajun_fast.messaging.liveness import Liveness, PeerState
from cajun_fast.messaging.peer import Peer
from cajun_fast.messaging.renewal import Renewal
from cajun_fast.messaging.security import Security
from cajun_fast.messaging.serializer import make_codec
from cajun_fast.messaging.settings import LinkSettings
from cajun_fast.messaging.tls_transport import TlsTransport
from cajun_fast.ports import Address, Heart, Listener, Ports

log = logging.getLogger("cajun_fast.messaging")
#: Seconds that a node which stops waits for the others to take in what was written to them.
HANG_UP = 1.0

Watcher = Callable[[str, int], None]
LivenessWatcher = Callable[[str, int, PeerState], None]


def _nothing(*_: object) -> None:
    pass


class MessagingSystem:
    """Links to other nodes. ``new_home(actor_id)`` gives the node an actor is known to have moved to, or None."""

    def __init__(
        self,
        node_id: str,
        incarnation: int,
        cluster: str,
        exchange: Exchange,
        dispatcher: Dispatcher,
        ports: Ports,
        settings: LinkSettings | None = None,
        *,
        serializer: Serializer | None = None,
        client: bool = False,
        new_home: Callable[[str], str | None] = lambda actor_id: None,
        security: Security | None = None,
    ) -> None:
        self.node_id, self.incarnation, self.cluster = node_id, incarnation, cluster
        self.exchange, self.dispatcher = exchange, dispatcher
        self.loop: asyncio.AbstractEventLoop = exchange.loop
        self.settings = settings or LinkSettings()
        self.security = security or Security()
        self.serializer = serializer or make_codec(exchange)
        exchange.encode, exchange.decode = self.serializer.encode, self.serializer.decode
        self.random = ports.random
        self.client = client
        self.new_home = new_home
        self.stopping = False
        self.heartbeat = self.settings.heartbeat_timeout / 4
        #: Told when a peer's connection is lost or stands again: (node, incarnation).
        self.on_suspect: Watcher = _nothing
        self.on_reachable: Watcher = _nothing
        #: Told of every change of a peer's state: (node, incarnation or 0, state). Must not raise or wait.
        self.on_liveness: LivenessWatcher = _nothing
        self.now = ports.clock.now_ns
        self._network = ports.network
        self._hearts = ports.hearts
        self.heart: Heart | None = None
        self._listener: Listener | None = None
        self._peers: dict[str, Peer] = {}
        self._parting: set[Peer] = set()
        self._handshakes: dict[Connection, asyncio.TimerHandle] = {}
        self._connections: set[Connection] = set()
        self._gone = asyncio.Event()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._next_stream = self.random.getrandbits(32) << 16 | 1
        #: Bounds on strangers; counts whom it turned down.
        self.door = Door(self.settings, self.now)
        self._beat_ns = self.now()

    # ---- life ------------------------------------------------------------------------------------------------

    async def start(self, host: str, port: int) -> Address:
        """Listen; returns the true address. Raises ConfigError for one that cannot be had, and for certificates and
        keys that cannot be used."""
        self.security.load(self.node_id)
        # Connections run in the context they are made in, which must be nobody's: handlers run straight from them.
        self._listener = await self.loop.create_task(
            self._network.listen(host, port, lambda: self._protocol(None, None)),
            name="listen",
            context=self.dispatcher.base.copy(),
        )
        if self.security.gap and not is_loopback(host):
            log.warning(
                "node %r listens on %s:%d %s",
                self.node_id,
                host,
                self._listener.address.port,
                self.security.gap,
            )
        self.heart = await self._hearts.start(host, self.heartbeat)
        self._beat()
        if self.security.may_change:
            self.start_task(Renewal(self, self._peers).run(), "renewal")
        return self._listener.address

    async def stop(self, *, left: bool = False) -> None:
        """Wait a while until what was accepted is settled, then close all connections; what is left is settled as
        lost. ``left``: this node has left its cluster in order, and the others part from it. Cut short, it closes them
        all the same."""
        self.stopping = True
        if self._listener is not None:
            self._listener.close()
            await self._listener.wait_closed()
        peers, patience = self._peers.values(), self.settings.stop_timeout
        try:
            await parting.settled(peers, patience)
            await parting.say_goodbye(peers, left=left, timeout=patience)
        finally:  # whoever waits here may be cancelled: nothing may be left open
            await self._close_all()

    async def _close_all(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        for peer in [*self._peers.values(), *self._parting]:
            await peer.close(f"node {self.node_id!r} stopped")
        self._peers.clear()
        if self.heart is not None:
            self.heart.close()
        await self._hang_up()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _hang_up(self) -> None:
        """Until every socket is closed; who does not take in what was written within a while is cut off."""
        for connection in list(self._connections):
            connection.close()
        try:
            async with asyncio.timeout(HANG_UP):
                while self._connections:
                    self._gone.clear()
                    await self._gone.wait()
        except TimeoutError:
            for connection in list(self._connections):
                connection.abort()

    def start_task(self, coroutine: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """A task that ends with the system at the latest."""
        task = self.loop.create_task(coroutine, name=name, context=self.dispatcher.base.copy())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _beat(self) -> None:
        now = self.now()
        fair = self._was_awake(now)
        self.exchange.now = now
        if self.heart is not None:
            self.heart.turn()
        self.exchange.expire(now)
        for peer in self._parting:
            peer.link.tick(now)
        for peer in list(self._peers.values()):
            peer.beat(now, fair=fair)
            if peer.is_stranger and peer.connection is None:
                self._forget_stranger(peer, now)
        self._timer = self.loop.call_later(self.heartbeat, self._beat)

    def _was_awake(self, now: int) -> bool:
        """Whether the last beat was in time. If not, a handler has blocked this node, and what its peers sent lies
        unread: their silence proves nothing yet."""
        late, self._beat_ns = now - self._beat_ns > 2e9 * self.heartbeat, now
        return not late

    def _forget_stranger(self, peer: Peer, now: int) -> None:
        if now - peer.down_since > self.settings.stranger_memory * 1e9:
            del self._peers[peer.node]
            self.start_task(peer.close("it was never a member and is gone"), f"forget {peer.node}")

    # ---- membership ------------------------------------------------------------------------------------------

    def add_node(self, node_id: str, incarnation: int, addresses: Iterable[Address]) -> None:
        """That incarnation of the node lives there; a newer one takes an older one's place."""
        if node_id == self.node_id:
            return
        peer = self._peers.get(node_id)
        if peer is None:
            peer = self._peers[node_id] = Peer(self, node_id)
        elif peer.incarnation is not None and incarnation < peer.incarnation:
            return
        peer.learn(incarnation, tuple(addresses))

    def remove_node(self, node_id: str, incarnation: int, *, in_order: bool = False) -> None:
        """That incarnation is gone for good: what it may have seen is told as unknown, the rest finds another way.
        ``in_order``: it still answers for what is on its way to it, and that is waited for."""
        peer = self._peers.get(node_id)
        if peer is None or (peer.incarnation is not None and peer.incarnation > incarnation):
            return
        if peer.link.incarnation is not None and peer.link.incarnation > incarnation:
            return
        del self._peers[node_id]
        close = self._part(peer) if in_order else peer.close("it left the cluster or was lost")
        self.start_task(close, f"close {node_id}")

    async def _part(self, peer: Peer) -> None:
        self._parting.add(peer)
        try:
            await parting.settled([peer], self.settings.stop_timeout, self.exchange.asks)
        finally:
            self._parting.discard(peer)
            await peer.close("it left the cluster")

    @property
    def nodes(self) -> list[str]:
        """Ids of the nodes that are known."""
        return list(self._peers)

    def links(self) -> list[Link]:
        """All links, those without a connection among them."""
        return [peer.link for peer in self._peers.values()]

    def link(self, node_id: str) -> Link:
        """The link to a node, and a connection in the making. Raises NodeUnavailableError for one that is not known."""
        if self.stopping:
            raise NotRunningError(f"node {self.node_id!r} is stopped")
        peer = self._peers.get(node_id)
        if peer is None:
            raise NodeUnavailableError(
                f"no node {node_id!r} is known: it left, was lost or never joined", node_id
            )
        peer.want()
        return peer.link

    def peer(self, node_id: str) -> Peer | None:
        """What is known of a node, for inspection."""
        return self._peers.get(node_id)

    def breaker(self, node_id: str) -> CircuitBreaker | None:
        """A node's circuit breaker, None for an unknown node."""
        peer = self._peers.get(node_id)
        return None if peer is None else peer.breaker

    def node_alive(self, node_id: str) -> bool | None:
        """Whether it was heard from within the heartbeat limit; None where no connection says."""
        peer = self._peers.get(node_id)
        if peer is None or (peer.connection is None and peer.established == 0):
            return None
        return peer.connection is not None

    def liveness(self, node_id: str) -> Liveness | None:
        """What is known of a node's life, judged four times in each heartbeat limit; None for an unknown node."""
        peer = self._peers.get(node_id)
        return None if peer is None else peer.liveness(self.now())

    def watch(self, node_id: str, on: bool = True) -> None:
        """Keep a connection to the node, so that its life can be judged without any message to it. An unknown node is
        passed over; who is removed is forgotten."""
        peer = self._peers.get(node_id)
        if peer is not None:
            peer.watched = on
            if on and not self.stopping:
                peer.want()

    async def ping(self, node_id: str, timeout: float = 1.0) -> None:
        """Return once a connection to the node stands. Raises NodeUnavailableError after ``timeout`` seconds."""
        self.link(node_id)
        deadline = self.loop.time() + timeout
        while self.node_alive(node_id) is not True:
            if self.loop.time() >= deadline:
                raise NodeUnavailableError(f"node {node_id!r} did not answer within {timeout} s", node_id)
            await asyncio.sleep(min(0.01, timeout))

    # ---- for peers and connections ----------------------------------------------------------------------------

    def make_link(self, node: str, incarnation: int | None) -> Link:
        """A fresh link; each has a lane number of its own."""
        self._next_stream += 1
        settings = self.settings
        ports = LinkPorts(
            node, self.replies_for, self.new_home, self._on_bye, self.exchange.dead_letters,
            self.security.rights(node), self.door.note_forbidden,
        )  # fmt: skip
        return Link(
            self.exchange, node, incarnation, self.serializer, ports, stream=self._next_stream,
            window=settings.window_bytes, max_message=settings.max_message_bytes, max_bulk=settings.max_bulk_bytes,
            max_names=settings.max_names, max_name_bytes=settings.max_name_bytes,
            bulk_window=settings.bulk_window_bytes,
        )  # fmt: skip

    def replies_for(self, node: str) -> Replies:
        """Where answers to asks of ``node`` go. Raises NodeUnavailableError for an unknown one."""
        return self.exchange.asks if node == self.node_id else self.link(node).replies

    def hello(self, target: str, stream: int, established: int) -> Hello:
        """What this node says of itself."""
        nonce = self.random.randbytes(32) if self.ring is None else fresh_nonce()
        return Hello(
            self.node_id, self.incarnation, self.cluster, target, stream, established, nonce, client=self.client,
            features=Feature.TRACE | Feature.CHUNKS | (0 if self.heart is None else Feature.BEAT),
        )  # fmt: skip

    @property
    def ring(self) -> KeyRing | None:
        """The keys of this node; None: nobody proves anything."""
        return self.security.ring

    def peer_for(self, hello: Hello) -> Peer:
        """The peer that says hello; one that membership has not told of yet is taken in, without an address."""
        peer = self._peers.get(hello.node)
        if peer is None:
            if self.stopping:
                raise Refused(Refusal.STOPPING, f"node {self.node_id!r} is stopping")
            strangers = sum(peer.is_stranger for peer in self._peers.values())
            if strangers >= self.settings.max_strangers:
                raise Refused(
                    Refusal.LIMIT,
                    f"{strangers} nodes that are no members are connected already: raise max_strangers",
                )
            peer = self._peers[hello.node] = Peer(self, hello.node)
        return peer

    async def dial(self, address: Address, peer: Peer) -> Connection:
        """A connection on which our HELLO, or TLS below it, is on its way."""
        made: list[Connection] = []

        def protocol() -> asyncio.BaseProtocol:
            return self._protocol(peer, address.host, made)

        try:
            await self._network.dial(address, protocol, timeout=self.settings.dial_timeout)
        except BaseException:
            for connection in made:
                connection.forsake()
            raise
        return made[-1]

    def _protocol(
        self, peer: Peer | None, host: str | None, made: list[Connection] | None = None
    ) -> asyncio.BaseProtocol:
        """A connection, with TLS below it where that is on. ``host``: the one that was dialled."""
        connection = Connection(self, peer)
        if made is not None:
            made.append(connection)
        papers = self.security.papers
        return connection if papers is None else TlsTransport(connection, papers, host)

    def opened(self, connection: Connection) -> bool:
        """A socket is open: its handshake has a bounded time. False: there are too many, it is closed."""
        cause = None if connection.dialled else self.door.enter(connection.place, len(self._connections))
        if cause is not None:
            self.door.note(cause, connection.address, self.door.explain(cause))
        if self.stopping or cause is not None:
            connection.abort()
            return False
        self._connections.add(connection)
        limit = self.settings.handshake_timeout
        self._handshakes[connection] = self.loop.call_later(limit, self._too_slow, connection)
        return True

    def judge_silence(self, peer: Peer, connection: Connection) -> None:
        """Nothing was heard for too long."""
        peer.log.warning("node %s was silent for %.1f s", peer.node, (self.now() - connection.heard_ns) / 1e9)
        connection.abort()

    def _too_slow(self, connection: Connection) -> None:
        self.note_refusal(connection, f"no handshake within {self.settings.handshake_timeout} s", Cause.SLOW)
        connection.abort()

    def settled(self, connection: Connection) -> None:
        """A handshake is over."""
        timer = self._handshakes.pop(connection, None)
        if timer is not None:
            timer.cancel()
            if not connection.dialled:
                self.door.leave(connection.place)

    def gone(self, connection: Connection) -> None:
        """A socket is closed."""
        self.settled(connection)
        self._connections.discard(connection)
        self._gone.set()

    def note_refusal(self, connection: Connection, reason: str, cause: Cause) -> None:
        """A connection is turned down: counted, and logged at a bounded rate."""
        self.door.note(cause, connection.address, reason)

    @property
    def turned_down(self) -> int:
        """Connections that were ended before they carried anything, or because of what they brought."""
        return self.door.turned_down.total()

    def on_up(self, peer: Peer) -> None:
        """A peer's connection stands."""
        peer.log.debug("connected with node %s by %s", peer.node, peer.connection and peer.connection.kind)
        self.on_reachable(peer.node, peer.link.incarnation or 0)

    def on_down(self, peer: Peer) -> None:
        """A peer's connection is gone."""
        self.on_suspect(peer.node, peer.link.incarnation or 0)

    def _on_bye(self, link: Link, reason: str) -> None:
        log.debug("node %s says good-bye: %s", link.peer, reason)
        peer = self._peers.get(link.peer)
        if peer is not None and peer.link is link:
            peer.leaves = True
