"""One peer: its link, the connection that carries it, and the work of getting one.

    wanted ──▶ dial ──▶ handshake ──▶ up ──▶ lost ──▶ dial …      (pauses jittered and growing; the breaker watches)

Laws: at most one connection carries the link. Each has an era, the higher of the counts that both sides said of their
connections so far: of two connections the one of the later era stands, and of one era the one that the smaller node id
dialled; both sides judge alike, whatever order they learn of them in. A newer incarnation ends the old link; an older
one is refused. The breaker counts what the peer fails at, never our own stop; failures close together count once.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from cajun_fast._core.breaker import CircuitBreaker, State
from cajun_fast.errors import CircuitBreakerOpenError, HandshakeError
from cajun_fast.messaging.handshake import Feature, Hello, Refusal, Refused, Resume
from cajun_fast.messaging.liveness import Liveness, PeerState, Signs, judge
from cajun_fast.ports import Address, Invitation

if TYPE_CHECKING:
    from cajun_fast.messaging.connection import Connection
    from cajun_fast.messaging.system import MessagingSystem

log = logging.getLogger("cajun_fast.messaging")


class Peer:
    """What the messaging system knows of one other node."""

    def __init__(self, system: MessagingSystem, node: str) -> None:
        self.system = system
        self.node = node
        self.log = logging.LoggerAdapter(log, {"link": node})
        self.incarnation: int | None = None
        self.addresses: tuple[Address, ...] = ()
        self.established = 0
        self.connection: Connection | None = None
        self.breaker = CircuitBreaker(
            f"node-{node}", system.settings.failure_threshold, system.settings.reset_timeout
        )
        self.link = system.make_link(node, None)
        self._task: asyncio.Task[None] | None = None
        self._dialled: Connection | None = None
        self._wake = asyncio.Event()
        self._peer_stream = (
            0  # of the peer's lane that this link's connections carried; a new one means that it forgot
        )
        self._failed_at = 0  # ns: the last failure that the breaker was told of
        self.version = 0  # of the protocol, as agreed on the last connection
        self.features = 0
        self.down_since = system.now()
        self.leaves = False  # it has said good-bye
        self.ended = False  # removed: a handshake that is under way must not end here
        self.watched = False  # somebody wants to know how it is, whether or not there is anything to send
        self.state = PeerState.UNKNOWN
        self._state_ns = self.down_since
        self._wanted_ns: int | None = None
        self._heard_ns: int | None = None  # as of the last connection
        self._stuck_ns: int | None = None
        self._unreachable = ""  # why, as it was last logged
        self._refused = False

    # ---- the connection --------------------------------------------------------------------------------------

    def want(self) -> None:
        """Have a connection made, unless there is one or it is being made."""
        if self._wanted_ns is None:
            self._wanted_ns = self.system.now()
        if self._task is None and self.connection is None and self.addresses and not self.system.stopping:
            self._task = self.system.start_task(self._connect(), f"dial {self.node}")
            self._task.add_done_callback(self._dial_ended)

    def _dial_ended(self, task: asyncio.Task[None]) -> None:
        self._task = None
        if not task.cancelled() and task.exception() is not None:
            self.log.error("dialling node %s failed", self.node, exc_info=task.exception())
        elif self.connection is None and self.established:
            self.want()  # it was lost in the turn of the loop in which it stood

    async def _connect(self) -> None:
        settings, pause = self.system.settings, self.system.settings.first_pause
        while self.connection is None:
            ticket = self.breaker.acquire(self.system.now())
            if not ticket:
                await self._rest(self.breaker.remaining_ns(self.system.now()) / 1e9)
                continue
            try:
                await self._dial_once()
                self.breaker.record_success(ticket)
                self._unreachable = ""
            except Refused as error:
                self._note_refusal(error, ticket)
            except (OSError, HandshakeError) as error:
                self._refused = isinstance(error, ConnectionRefusedError)
                self._note_failure(ticket)
                self._say_unreachable(str(error) or type(error).__name__)
            except BaseException:
                self.breaker.record_abandoned(ticket, self.system.now())
                raise
            self._set_refusal()
            if self.connection is None:
                await self._rest(self.system.random.uniform(pause / 2, pause))
                pause = min(2 * pause, settings.longest_pause)

    def renew_connection(self) -> asyncio.Task[None] | None:
        """Dial beside the connection that stands; the new one takes its place once both sides have agreed. None: it
        cannot be dialled, or is being dialled already."""
        if self._task is not None or not self.addresses or self.system.stopping:
            return None
        self._task = self.system.start_task(self._dial_anew(), f"dial {self.node} anew")
        self._task.add_done_callback(self._dial_ended)
        return self._task

    async def _dial_anew(self) -> None:
        try:
            await self._dial_once()
        except (OSError, HandshakeError) as error:
            self.log.warning("no new connection to node %s: %s", self.node, error or type(error).__name__)

    def _note_refusal(self, error: Refused, ticket: int) -> None:
        if error.code is Refusal.SIMULTANEOUS:
            self.breaker.record_abandoned(ticket, self.system.now())
            return
        self._note_failure(ticket)
        self.log.warning("node %s refused the connection: %s", self.node, error.reason)

    def _note_failure(self, ticket: int) -> None:
        now = self.system.now()
        spacing = self.system.settings.failure_spacing * 1e9
        if self.breaker.state == State.CLOSED and self._failed_at and now - self._failed_at < spacing:
            self.breaker.record_abandoned(ticket, now)
            return
        self._failed_at = now
        self.breaker.record_failure(ticket, now)

    async def _rest(self, seconds: float) -> None:
        self._wake.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            pass

    def _say_unreachable(self, why: str) -> None:
        """Once for each reason: it is dialled again and again."""
        self.log.log(
            logging.DEBUG if why == self._unreachable else logging.INFO,
            "node %s cannot be reached: %s", self.node, why,
        )  # fmt: skip
        self._unreachable = why

    async def _dial_once(self) -> None:
        """Try each address in turn; raises the last one's error."""
        error: BaseException = HandshakeError(f"node {self.node!r} has no address")
        for address in self.addresses:
            try:
                connection = await self.system.dial(address, self)
            except OSError as failure:
                error = failure
                continue
            self._dialled = connection
            try:
                async with asyncio.timeout(self.system.settings.handshake_timeout):
                    await connection.settled
                return
            except TimeoutError as failure:
                raise HandshakeError(
                    f"no handshake within {self.system.settings.handshake_timeout} s"
                ) from failure
            finally:
                self._dialled = None
                if connection is not self.connection:
                    connection.abort()
        raise error

    def _set_refusal(self) -> None:
        if self.connection is None and not self.breaker.allows(self.system.now()):
            self.link.park(self._breaker_error)
        else:
            self.link.park(None)

    def _breaker_error(self, target: str) -> CircuitBreakerOpenError:
        left = self.breaker.remaining_ns(self.system.now()) / 1e9
        return CircuitBreakerOpenError(
            f"circuit breaker {self.breaker.name!r} is open for another {left:.1f} s: node {self.node!r} failed "
            f"{self.breaker.failure_threshold} times in a row; actor {target!r} lives there",
            self.node,
            target,
        )

    # ---- the handshake's questions ----------------------------------------------------------------------------

    def hello(self) -> Hello:
        """What this node says of itself to this peer."""
        return self.system.hello(self.node, self.link.stream, self.established)

    def judge(self, hello: Hello, *, dialled: bool) -> None:
        """Whether to talk to who says ``hello``; raises Refused. Settles which incarnation the link is for."""
        known = self.link.incarnation if self.link.incarnation is not None else self.incarnation
        if known is not None and hello.incarnation < known:
            raise Refused(
                Refusal.STALE,
                f"incarnation {hello.incarnation} of node {self.node!r} is over, {known} is known: "
                "the process must stop or join anew",
            )
        if hello.incarnation == self.link.incarnation and self._is_older(hello.stream):
            raise Refused(Refusal.SIMULTANEOUS, "it was said before the link was renewed: dial again")
        if not dialled and self._mine_stands(hello):
            raise Refused(Refusal.SIMULTANEOUS, f"node {self.system.node_id!r} is dialling already")
        if self.link.incarnation is not None and hello.incarnation > self.link.incarnation:
            self.renew(f"incarnation {hello.incarnation} took the place of {self.link.incarnation}")
        elif self._peer_stream not in (0, hello.stream):
            self.renew("it lost what it knew of this node")
        self.link.incarnation = hello.incarnation

    def _is_older(self, stream: int) -> bool:
        """Whether a HELLO was said before the one that stands, and comes late: it must not end a younger link. Streams
        of one messaging system rise from a base by chance, so those of another life compare with none.
        """
        return stream >> 16 == self._peer_stream >> 16 and stream < self._peer_stream

    def _mine_stands(self, hello: Hello) -> bool:
        if self.connection is not None:  # it may have seen ours die before we did
            return hello.established < self.established and hello.incarnation == self.link.incarnation
        return self._dialled is not None and self._dialled.said_hello and self.system.node_id < self.node

    def resume(self) -> Resume:
        """What this side knows of the peer's lane, and how it is sent beats."""
        heart = self.system.heart
        beats = heart is not None and self.features & Feature.BEAT
        return Resume(
            self.link.inbound.stream, self.link.inbound.watermark,
            heart.invite(self.node) if heart is not None and beats else None,
        )  # fmt: skip

    def take(self, connection: Connection, era: int) -> bool:
        """The handshake is done: this connection carries the link from now on, unless a better one does."""
        old = self.connection
        if old is not None and old is not connection:
            if self._rank(old) > (era, self._dialled_by_smaller(connection)):
                return False
            old.abort()
        connection.era = era
        self._peer_stream = connection.hello.stream if connection.hello is not None else 0
        self.connection = connection
        self.established = max(self.established, era + 1)
        self._failed_at = 0
        self._refused = False
        self.breaker.reset()
        self._set_refusal()
        self.link.traces = bool(self.features & Feature.TRACE)
        self.link.bulk.use_chunks(large=bool(self.features & Feature.CHUNKS))
        connection.start(self.link)
        self._wake.set()
        self._look(self.system.now())
        self.system.on_up(self)
        return True

    def _rank(self, connection: Connection) -> tuple[int, bool]:
        return connection.era, self._dialled_by_smaller(connection)

    def _dialled_by_smaller(self, connection: Connection) -> bool:
        return connection.dialled == (self.system.node_id < self.node)

    def lost(self, connection: Connection, error: Exception | None) -> None:
        """A connection has ended."""
        if self.connection is not connection:
            return
        self.connection = None
        self._heard_ns = connection.heard_ns
        self.down_since = self.system.now()
        if not self.system.stopping:
            self.log.info("the connection to node %s is gone: %s", self.node, error or "closed by the peer")
            self.system.on_down(self)
            self.want()

    # ---- incarnations ----------------------------------------------------------------------------------------

    def renew(self, reason: str) -> None:
        """End the link and begin another: what stood in the old one is settled."""
        old, self.link = self.link, self.system.make_link(self.node, None)
        if old.incarnation is not None:
            self.log.info("the link to node %s begins anew: %s", self.node, reason)
        self.leaves = False
        self.established = self._peer_stream = 0
        self._forget_beats()
        self._heard_ns = self._stuck_ns = None
        self._wanted_ns = self.system.now()
        if self.connection is not None:
            self.connection.abort()
            self.connection = None
        old.end(reason)

    def learn(self, incarnation: int, addresses: tuple[Address, ...]) -> None:
        """Membership says: this incarnation lives there."""
        if self.link.incarnation is not None and incarnation > self.link.incarnation:
            self.renew(f"incarnation {incarnation} took the place of {self.link.incarnation}")
        if self.incarnation != incarnation:
            self._wanted_ns = None
            self.breaker.reset()
            self._failed_at = 0
            self._set_refusal()
        self.incarnation = incarnation
        self.addresses = addresses
        self._wake.set()
        if self.link.unsettled:
            self.want()

    async def close(self, reason: str) -> None:
        """Gone for good: settle everything."""
        self.ended = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self.connection is not None:
            self.connection.close()
            self.connection = None
        self._forget_beats()
        self.link.end(reason)

    # ---- its life --------------------------------------------------------------------------------------------

    def beat(self, now: int, *, fair: bool) -> None:
        """Called at each heartbeat: a silent connection is dropped, an idle one shows life. ``fair``: this node was
        awake to hear what came."""
        self.link.tick(now)
        if fair:
            self._look(now)
        connection = self.connection
        if connection is None:
            if self.link.unsettled or self.watched:
                self.want()
            self._set_refusal()
            return
        if fair and self.state in (PeerState.SILENT, PeerState.CUT):
            self.system.judge_silence(self, connection)
        if now - connection.sent_ns > self.system.heartbeat * 0.5e9:
            self.link.ping()

    def accept_beats(self, host: str, invitation: Invitation) -> None:
        """The peer says how it is sent beats."""
        if self.system.heart is not None and self.features & Feature.BEAT:
            self.system.heart.accept(self.node, host, invitation)

    def _forget_beats(self) -> None:
        if self.system.heart is not None:
            self.system.heart.forget(self.node)

    def _look(self, now: int) -> None:
        state = judge(self._signs(now))
        if state is PeerState.STUCK:
            self._stuck_ns = now
        if state is not self.state:
            self.log.info("node %s: %s → %s", self.node, self.state, state)
            self.state, self._state_ns = state, now
            self.system.on_liveness(self.node, self._known_incarnation or 0, state)

    def _signs(self, now: int) -> Signs:
        heard = self._heard_ns if self.connection is None else self.connection.heard_ns
        pulse = None if self.system.heart is None else self.system.heart.last(self.node)
        return Signs(
            now, round(self.system.settings.heartbeat_timeout * 1e9), self._wanted_ns, heard,
            None if pulse is None else now - pulse.age, 0 if pulse is None else pulse.standing,
            stuck=self._stuck_ns, connected=self.connection is not None,
        )  # fmt: skip

    @property
    def _known_incarnation(self) -> int | None:
        return self.incarnation if self.link.incarnation is None else self.link.incarnation

    def liveness(self, now: int) -> Liveness:
        """What is known of its life."""
        signs = self._signs(now)

        def age(at: int | None) -> float | None:
            return None if at is None else (now - at) / 1e9

        return Liveness(
            self.node, self._known_incarnation, self.state, age(self._state_ns) or 0.0,
            connected=signs.connected,
            transport=None if self.connection is None else self.connection.kind,
            heard=age(signs.heard), beat=age(signs.beat),
            standing=None if signs.beat is None else (signs.standing + now - signs.beat) / 1e9,
            refused=self._refused,
        )  # fmt: skip

    @property
    def is_stranger(self) -> bool:
        """Known by its own word only, and not to membership."""
        return self.incarnation is None
