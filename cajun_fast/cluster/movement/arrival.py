"""The half of a hand-off at the node that shall own the actor: a machine without I/O.

    LOADING ─complete─▶ READY ─go / ours─▶ OWNING ─go, or patience over─▶ STARTING ─started─▶ RUNNING
       │                  │  ▲                                                │
       │                  ▼  └─unchanged─ (look up)                           ▼ failed
       └────────▶     FORGOTTEN                                            FAILED

Laws: what lies here does nothing until the directory names this life of this node with the claim that was
given out for it: that record is the only leave to start. While everything is here, only the directory says
that it will never come: somebody else's record, or the same one although its owner is gone. A start that the
owner has not asked for waits a while after the commit was seen, so that the copy there can end first; it does
not wait for an owner that is gone.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


class State(enum.Enum):
    """Where an arrival stands."""

    LOADING = "loading"
    READY = "ready"
    OWNING = "owning"
    STARTING = "starting"
    RUNNING = "running"
    FORGOTTEN = "forgotten"
    FAILED = "failed"


class Event(enum.Enum):
    """What can happen to it."""

    COMPLETE = "complete"  # all bytes are here, and the instance has taken its state
    BROKEN = "broken"  # it cannot be put together here
    FORGET = "forget"  # the owner keeps it
    GO = "go"  # the owner says that it is ours, and that its own copy has ended
    OURS = "ours"  # the directory names this node and this claim
    OTHER = "other"  # the directory names somebody else now, or nobody
    UNCHANGED = "unchanged"  # the directory still names the owner of before, which lives
    ORPHANED = "orphaned"  # the directory still names the owner of before, which is gone
    SILENCE = "silence"  # nothing was heard for as long as it should have taken
    GONE = "gone"  # the owner's node is gone
    STARTED = "started"
    FAILED = "failed"  # it raised when it started


class Act(enum.Enum):
    """What is to be done."""

    LOOK_UP = "look-up"  # the record, now
    WATCH_OUT = "watch-out"  # wait for SILENCE again
    START = "start"
    FORGET = "forget"
    GIVE_BACK = "give-back"  # the id: it is ours and cannot run


FINAL = frozenset({State.RUNNING, State.FORGOTTEN, State.FAILED})
_FORGOTTEN = (State.FORGOTTEN, (Act.FORGET,))

Row = Mapping[Event, tuple[State, tuple[Act, ...]]]
#: All transitions there are; what is not here changes nothing.
TABLE: Mapping[State, Row] = MappingProxyType(
    {
        State.LOADING: {
            Event.COMPLETE: (State.READY, (Act.WATCH_OUT,)),
            Event.BROKEN: _FORGOTTEN,
            Event.FORGET: _FORGOTTEN,
            Event.SILENCE: _FORGOTTEN,
            Event.GONE: _FORGOTTEN,
            Event.OTHER: _FORGOTTEN,
        },
        State.READY: {
            Event.GO: (State.STARTING, (Act.START,)),
            Event.OURS: (State.OWNING, (Act.WATCH_OUT,)),
            Event.FORGET: _FORGOTTEN,
            Event.OTHER: _FORGOTTEN,
            Event.ORPHANED: _FORGOTTEN,
            Event.UNCHANGED: (State.READY, (Act.WATCH_OUT,)),
            Event.SILENCE: (State.READY, (Act.LOOK_UP,)),
            Event.GONE: (State.READY, (Act.LOOK_UP,)),
        },
        State.OWNING: {
            Event.GO: (State.STARTING, (Act.START,)),
            Event.SILENCE: (State.STARTING, (Act.START,)),
            Event.GONE: (State.STARTING, (Act.START,)),
            Event.OTHER: _FORGOTTEN,
        },
        State.STARTING: {
            Event.STARTED: (State.RUNNING, ()),
            Event.FAILED: (State.FAILED, (Act.GIVE_BACK,)),
        },
    }
)


@dataclass(slots=True)
class Arrival:
    """One hand-off as its new owner sees it."""

    state: State = State.LOADING

    def on(self, event: Event) -> tuple[Act, ...]:
        """Take an event; what is to be done now. What the state does not care for changes nothing."""
        found = TABLE.get(self.state, {}).get(event)
        if found is None:
            return ()
        self.state, acts = found
        return acts

    @property
    def is_over(self) -> bool:
        return self.state in FINAL
