"""What is known of another node's life: four signs, judged together.

    link heard   beat heard   its loop turns
    yes          -            -                ALIVE    it answers
    no           yes          no               STUCK    the process lives, its event loop stands (a handler that
                                                        blocks, the GIL held): not dead; its connection is kept
    no           yes          yes              CUT      the process works, but nothing comes over the link
    no           no           -                SILENT   dead, stopped or cut off altogether: the store's lease decides
    not asked yet                              UNKNOWN  no connection was wanted so far (`MessagingSystem.watch`)

The beat comes from a thread of the peer's process that needs no GIL, beside the link (see _core/heart.pxd). Where
it does not come through, or the peer sends none, STUCK and CUT are told as SILENT.

Laws: pure judgement, no clock and no I/O. "Heard" means within the heartbeat limit; a judgement is made only while
this node was awake to hear.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass


class PeerState(enum.StrEnum):
    """How a peer looks from here."""

    UNKNOWN = "unknown"
    ALIVE = "alive"
    STUCK = "stuck"
    CUT = "cut"
    SILENT = "silent"


@dataclass(frozen=True, slots=True)
class Liveness:
    """One peer, looked at now. Ages in seconds; None: never."""

    node: str
    incarnation: int | None  # that its link, or else membership, speaks of
    state: PeerState
    since: float  # how long it has been in that state
    connected: bool  # a connection stands
    transport: str | None  # and goes by "unix" (one host), "tcp" or "tls"; None: none stands
    heard: float | None  # since bytes last came by the link
    beat: float | None  # since the last beat of its native thread
    standing: float | None  # how long its event loop has not turned, as far as its beats say
    refused: bool  # its host answers that nobody listens at its address: a killed process looks like that


@dataclass(frozen=True, slots=True)
class Signs:
    """What a judgement is made of, in nanoseconds of one clock; None: never."""

    now: int
    limit: int
    wanted: int | None = None  # since when a connection has been wanted
    heard: int | None = None
    beat: int | None = None
    standing: int = 0  # how long the loop had stood when it last beat
    stuck: int | None = None  # when it last was judged to be stuck
    connected: bool = False


def judge(signs: Signs) -> PeerState:
    """The state that the signs say."""
    if _recent(signs.heard, signs):
        return PeerState.ALIVE
    if _recent(signs.beat, signs):
        if signs.standing > signs.limit:
            return PeerState.STUCK
        if signs.connected and _recent(signs.stuck, signs):
            return PeerState.STUCK  # its loop turns again: what it has to say is on its way
        return PeerState.CUT
    if signs.heard is not None or signs.beat is not None:
        return PeerState.SILENT
    if signs.wanted is not None and signs.now - signs.wanted > signs.limit:
        return PeerState.SILENT
    return PeerState.UNKNOWN


def _recent(at: int | None, signs: Signs) -> bool:
    return at is not None and signs.now - at <= signs.limit
