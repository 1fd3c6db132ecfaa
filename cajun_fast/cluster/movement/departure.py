"""The half of a hand-off at the node that owns the actor: a machine without I/O.

    ASKING ─granted─▶ HOLDING ─quiet─▶ PACKING ─packed─▶ SENDING ─taken─▶ COMMITTING ◀─granted─ REASKING
       │                 │                │                 │              │ │ └─────────stale─────▶┘
       └───────┬─────────┴────────────────┴─────────────────┘              │ └─committed─▶ CLOSING ─closed─▶ STARTING
               ▼ failed, cancelled                                  outrun ▼                          started ▼
             STAYED                                                       LOST                              MOVED

Laws: until COMMITTING this node owns the actor and may change its mind; in COMMITTING only the store's answer
counts, however long it takes: whoever acts on a guess makes two owners. Every way to STAYED lets the actor go
on here and has the other node forget; every way to LOST ends the copy here; after the commit nothing leads
back. Events that a state does not know are errors of the caller, except a cancellation, which comes too late
once the commit is under way.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


class State(enum.Enum):
    """Where a departure stands."""

    ASKING = "asking"
    HOLDING = "holding"
    PACKING = "packing"
    SENDING = "sending"
    COMMITTING = "committing"
    REASKING = "reasking"
    CLOSING = "closing"
    STARTING = "starting"
    MOVED = "moved"
    STAYED = "stayed"
    LOST = "lost"


class Event(enum.Enum):
    """What can happen to it."""

    GRANTED = "granted"  # the target has room and knows the type; in REASKING: it still holds everything
    QUIET = "quiet"  # no handler runs, and what the actor has sent was accepted
    PACKED = "packed"  # frozen, and all of it written down
    TAKEN = "taken"  # the target holds everything, inactive
    COMMITTED = "committed"  # the directory names the target
    STALE = "stale"  # the target's seat has changed since it answered; nothing was written
    OUTRUN = "outrun"  # the directory names somebody else, or nobody
    CLOSED = "closed"  # the copy here is gone
    STARTED = "started"  # the target has started it, or will by itself
    FAILED = "failed"  # whatever was under way did not work
    CANCELLED = "cancelled"  # the operator, or this node, wants it to stay


class Act(enum.Enum):
    """What is to be done."""

    ASK = "ask"  # whether the target takes it
    HOLD = "hold"  # begin no messages, wait for the running one and for what was sent
    PACK = "pack"  # freeze, and write down
    SEND = "send"
    COMMIT = "commit"
    ASK_AGAIN = "ask-again"  # whether the target still holds it
    CLOSE = "close"
    START = "start"  # tell the target
    GO_ON = "go-on"  # here, as if nothing had been
    FORGET = "forget"  # tell the target
    DROP = "drop"  # the copy here, without a write


FINAL = frozenset({State.MOVED, State.STAYED, State.LOST})
_BACK = (Act.GO_ON, Act.FORGET)
_GIVE_UP = {Event.FAILED: (State.STAYED, _BACK), Event.CANCELLED: (State.STAYED, _BACK)}
_LOST = {Event.OUTRUN: (State.LOST, (Act.DROP, Act.FORGET))}

Row = Mapping[Event, tuple[State, tuple[Act, ...]]]
#: All transitions there are.
TABLE: Mapping[State, Row] = MappingProxyType(
    {
        State.ASKING: {
            Event.GRANTED: (State.HOLDING, (Act.HOLD,)),
            Event.FAILED: (State.STAYED, (Act.FORGET,)),
            Event.CANCELLED: (State.STAYED, (Act.FORGET,)),
            **_LOST,
        },
        State.HOLDING: {Event.QUIET: (State.PACKING, (Act.PACK,)), **_GIVE_UP, **_LOST},
        State.PACKING: {Event.PACKED: (State.SENDING, (Act.SEND,)), **_GIVE_UP, **_LOST},
        State.SENDING: {Event.TAKEN: (State.COMMITTING, (Act.COMMIT,)), **_GIVE_UP, **_LOST},
        State.COMMITTING: {
            Event.COMMITTED: (State.CLOSING, (Act.CLOSE,)),
            Event.STALE: (State.REASKING, (Act.ASK_AGAIN,)),
            Event.FAILED: (State.STAYED, _BACK),
            Event.CANCELLED: (State.COMMITTING, ()),
            **_LOST,
        },
        State.REASKING: {Event.GRANTED: (State.COMMITTING, (Act.COMMIT,)), **_GIVE_UP, **_LOST},
        State.CLOSING: {
            Event.CLOSED: (State.STARTING, (Act.START,)),
            Event.FAILED: (State.STARTING, (Act.START,)),
            Event.CANCELLED: (State.CLOSING, ()),
            Event.OUTRUN: (State.CLOSING, ()),
        },
        State.STARTING: {
            Event.STARTED: (State.MOVED, ()),
            Event.FAILED: (State.MOVED, ()),
            Event.CANCELLED: (State.STARTING, ()),
            Event.OUTRUN: (State.STARTING, ()),
        },
    }
)


@dataclass(slots=True)
class Departure:
    """One hand-off as its owner sees it. ``reason`` says why it stayed, or was lost."""

    state: State = State.ASKING
    reason: str = ""

    def begin(self) -> tuple[Act, ...]:
        """What comes first."""
        return (Act.ASK,)

    def on(self, event: Event, reason: str = "") -> tuple[Act, ...]:
        """Take an event; what is to be done now, in order. Raises ValueError for one that cannot come in this state."""
        if self.state in FINAL:
            if event in (Event.CANCELLED, Event.OUTRUN):
                return ()
            raise ValueError(f"{event} after the end ({self.state})")
        try:
            self.state, acts = TABLE[self.state][event]
        except KeyError:
            raise ValueError(f"{event} cannot come while {self.state}") from None
        if reason:
            self.reason = reason  # the last one: what it ended for
        return acts

    @property
    def is_over(self) -> bool:
        return self.state in FINAL

    @property
    def is_decided(self) -> bool:
        """Whether only the store's answer, or nothing any more, can change where it lives."""
        return self.state in FINAL or self.state in (State.COMMITTING, State.CLOSING, State.STARTING)
