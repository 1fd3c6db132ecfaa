"""Where durable actors keep what must survive them: the interface, and what passes through it.

Laws: a commit is one transaction: state, events, numbers, answers and outbox of an actor stand together or not at all.
It is made only by the owner of the row's epoch and on top of the version that this owner has seen; any other is
refused and has changed nothing. What ``commit`` has answered survives a crash of the process. Implementations know
bytes and numbers; what a state means is not their business.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Self

from cajun_fast.errors import PersistenceError


class Epoch(NamedTuple):
    """An ownership. ``number`` rises with each owner within one ``realm`` (one life of one metadata store)."""

    realm: str
    number: int


class Reply(NamedTuple):
    """An answer that is kept for a sender that may ask again."""

    stream: str
    number: int
    ok: bool
    value: bytes


class Told(NamedTuple):
    """A message in the outbox; ``trace`` is what its span said, None where it is not traced."""

    row: int
    target: str
    stream: str
    number: int
    guarantee: int
    message: bytes
    trace: bytes | None = None


class Event(NamedTuple):
    """An entry of the journal; ``schema`` is the version of the type that wrote it."""

    number: int
    schema: int
    value: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """What stands of an actor, now that this owner has it. ``life`` counts owners, ``birth`` is drawn when an actor
    commits nothing before: together they name this owner's outbox."""

    version: int
    life: int
    birth: str
    state: bytes | None = None
    schema: int = 0
    events: Sequence[Event] = ()
    cursors: Mapping[str, int] = field(default_factory=dict)
    replies: Sequence[Reply] = ()
    outbox: Sequence[Told] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """One transaction of one actor. ``version`` is the one before it; it becomes ``version + 1``."""

    actor_id: str
    epoch: Epoch
    version: int
    #: None: as it was. A new one takes the place of all events before it.
    state: bytes | None = None
    schema: int = 0
    #: Appended, after a new state where there is one.
    events: Sequence[tuple[int, bytes]] = ()
    #: Stream -> handled up to here.
    cursors: Mapping[str, int] = field(default_factory=dict)
    replies: Sequence[Reply] = ()
    #: Stream -> answers below this number go.
    trims: Mapping[str, int] = field(default_factory=dict)
    #: Streams that go, with their answers.
    dropped: Sequence[str] = ()
    #: Added to the outbox.
    told: Sequence[Told] = ()
    #: Rows of the outbox that go.
    finished: Sequence[int] = ()


class Persistence(ABC):
    """See the module's laws. Use between ``connect`` and ``close``; methods belong to the loop that connected."""

    #: Its URL without secrets, for logs and errors.
    url: str
    #: Calls of ``commit`` that may usefully be under way at once.
    parallel: int = 1

    @abstractmethod
    async def connect(self) -> None:
        """Open it. Raises ConfigError (wrong place), PersistenceUnavailableError; then nothing is left open."""

    @abstractmethod
    async def close(self) -> None:
        """Close it; calls under way end, later ones raise NotRunningError. A second close does nothing."""

    @abstractmethod
    async def restore(self, actor_id: str, epoch: Epoch, birth: str) -> Restored:
        """Become the owner under ``epoch`` and learn what stands. ``birth`` is for an actor that is new.

        From now on commits under another epoch are refused. Raises StaleOwnerError if a later owner of the same realm
        has been here, PersistenceUnavailableError. Doing it again under the same epoch is no error.
        """

    @abstractmethod
    async def commit(self, commits: Sequence[Commit]) -> list[PersistenceError | None]:
        """Commit them, together in as few transactions as may be; what became of each, in order: None, or the
        StaleOwnerError or PersistenceError for which it was refused. No actor stands twice in one call.

        Raises PersistenceUnavailableError: then which of them stand is not known. To give the same ones again is safe:
        one that stands already (same epoch, version one up) is answered with None and not done twice.
        """

    @abstractmethod
    async def delete(self, actor_id: str) -> bool:
        """Forget an actor; False: there was nothing. A later owner starts anew."""

    @abstractmethod
    async def peek(self, actor_id: str) -> Restored | None:
        """What stands, without owning it; None: nothing. ``life`` is that of the last owner."""

    @abstractmethod
    async def ids(self, prefix: str = "", *, limit: int = 1000, after: str = "") -> list[str]:
        """Ids of actors that have something, in order, behind ``after``."""

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def stale(actor_id: str, epoch: Epoch, stands: Epoch) -> str:
    """The text of a StaleOwnerError."""
    return (
        f"durable actor {actor_id!r} has a later owner (epoch {stands.number}, this one has {epoch.number}): "
        "nothing was written"
    )
