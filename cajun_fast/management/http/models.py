"""What answers look like, for the OpenAPI document and for clients that are made from it.

Laws: ages and durations in seconds, rates per second, sizes in bytes; what a later version adds is allowed
everywhere.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class Answer(BaseModel):
    """Of an answer."""

    model_config = ConfigDict(extra="allow")


class Node(Answer):
    """A living member."""

    node: str
    incarnation: int
    address: str
    version: str
    is_client: bool
    is_leader: bool
    is_leaving: bool
    roles: list[str]
    actors: int = Field(description="its own count when it last renewed its record")


class NodeDetails(Node):
    """A member and what it says of itself."""

    snapshot: dict[str, Any] | None = Field(default=None, description="all of its numbers; see the docs")
    error: str | None = Field(default=None, description="why it said nothing")


class Nodes(Answer):
    """All members."""

    nodes: list[Node]


class Actor(Answer):
    """An actor of the directory, or a sharded one that runs."""

    actor_id: str
    node: str
    incarnation: int
    epoch: int = Field(description="counts its owners")
    type: str | None = Field(description="None: only its owner can start it")
    sharded: bool = Field(default=False, description="not in the directory; it moves with its shard")


class ActorPage(Answer):
    """Part of the list: the directory, then the sharded actors that run."""

    actors: list[Actor]
    after: str | None = Field(description="for the next page; null at the end")
    revision: int = Field(description="for the next page: of one moment, where the store keeps the past")
    silent: dict[str, str] = Field(
        default={}, description="nodes that did not say which sharded actors they have, and why"
    )


class ActorDetails(Actor):
    """An actor, and how it stands on its node."""

    here: dict[str, Any] | None = None
    error: str | None = Field(default=None, description="why its node said nothing")


class DeadLetter(Answer):
    """A message that reached no handler."""

    node: str
    target: str
    reason: str
    sender: str | None
    age: float
    type: str
    message: str = Field(description="as text, shortened")
    message_id: str | None = Field(
        description="for explain; null where no link has numbered it, or its number is not kept"
    )


class DeadLetters(Answer):
    """The newest, the newest first."""

    total: int = Field(description="since the nodes' starts")
    counts: dict[str, int] = Field(description="by reason")
    letters: list[DeadLetter]
    silent: dict[str, str] = Field(description="nodes that did not answer, and why")


class Fate(Answer):
    """What became of a message."""

    message_id: str
    stage: str
    node: str
    target: str | None
    text: str
    events: list[dict[str, Any]] = []


class Leader(Answer):
    """Who leads."""

    leader: str | None


class Election(Answer):
    """What came of a forced election."""

    resigned: bool
    previous: str | None
    reason: str


class Check(Answer):
    """A probe."""

    status: Literal["ok", "not ok"]
    checks: dict[str, bool] = {}
    reason: str | None = None


class Self(Answer):
    """What a page needs to know before it asks."""

    cluster: str
    node: str
    version: str
    writable: bool
    can: list[str] = Field(description="what can be steered: migrate, drain, cordon, elect")


class Overview(Answer):
    """The cluster at one moment; rates and percentiles are of the time since the one before."""

    seconds: float
    leader: str | None
    totals: dict[str, Any]
    nodes: list[dict[str, Any]]
    links: list[dict[str, Any]]
    hottest: list[dict[str, Any]]


class Job(Answer):
    """Something that takes its time."""

    id: str
    kind: str
    subject: str
    state: Literal["running", "done", "failed", "cancelled"]
    seconds: float
    result: Any = None
    error: str | None = None


class Jobs(Answer):
    """The newest first."""

    jobs: list[Job]


class Migration(BaseModel):
    """Where an actor shall live."""

    model_config = ConfigDict(extra="forbid")

    node: str = Field(min_length=1, max_length=200)
