"""Routes that change nothing.

Laws: every list has a limit; a question is one call of ``Operations``.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query

from cajun_fast.management.http.console import Console
from cajun_fast.management.http.models import (
    ActorDetails,
    ActorPage,
    DeadLetters,
    Fate,
    Leader,
    NodeDetails,
    Nodes,
    Overview,
    Self,
)

#: node/incarnation/stream/sequence
MESSAGE_ID = r"^[^/\s@]+/[0-9]{1,18}/[0-9]{1,18}/[0-9]{1,18}$"
Limit = Annotated[int, Query(ge=1, le=1000, description="how many at most")]
Name = Annotated[str, Query(min_length=1, max_length=500)]
NodeId = Annotated[str, Path(min_length=1, max_length=200)]
ActorId = Annotated[str, Path(min_length=1, max_length=500)]
Optional = Annotated[str | None, Query(max_length=500)]


def looking_routes(console: Console) -> APIRouter:
    """All of them."""
    routes = APIRouter(dependencies=console.guard.reading, tags=["look"])
    ask = console.operations

    @routes.get("/self", response_model=Self, summary="What this interface is, and what it may do")
    async def self_() -> Any:
        system = console.system
        return {
            "cluster": system.config.cluster_name,
            "node": system.node_id,
            "version": system.version,
            "writable": console.guard.writable,
            "can": ask.can(),
        }

    @routes.get("/overview", response_model=Overview, summary="The whole cluster, with rates")
    async def overview() -> Any:
        return await console.watch.look()

    @routes.get("/nodes", response_model=Nodes, summary="All members")
    async def nodes() -> Any:
        return {"nodes": await ask.nodes()}

    @routes.get("/nodes/{node}", response_model=NodeDetails, summary="One member, with all of its numbers")
    async def node(node: NodeId) -> Any:
        return await ask.node(node)

    @routes.get("/actors", response_model=ActorPage, summary="All actors, page by page")
    async def actors(
        prefix: Annotated[str, Query(max_length=500, description="ids that begin so")] = "",
        node: Annotated[str | None, Query(max_length=200, description="that live there")] = None,
        type: Annotated[str | None, Query(max_length=200, description="of that registered type")] = None,
        limit: Limit = 100,
        after: Annotated[str | None, Query(max_length=500, description="of the answer before")] = None,
        revision: Annotated[int | None, Query(ge=1, le=2**63 - 1, description="of the answer before")] = None,
    ) -> Any:
        return await ask.actors(
            prefix=prefix, node=node, type_name=type, limit=limit, after=after, revision=revision
        )

    @routes.get("/actors/{actor:path}", response_model=ActorDetails, summary="One actor, and how it stands")
    async def actor(actor: ActorId) -> Any:
        return await ask.actor(actor)

    @routes.get("/explain", response_model=Fate, summary="What became of a message")
    async def explain(id: Annotated[str, Query(pattern=MESSAGE_ID, max_length=300)]) -> Any:
        return await ask.explain(id)

    @routes.get("/leader", response_model=Leader, summary="Who leads")
    async def leader() -> Any:
        return {"leader": await ask.leader()}

    @routes.get("/dead-letters", response_model=DeadLetters, summary="Messages that reached no handler")
    async def dead_letters(
        node: Optional = None, target: Optional = None, reason: Optional = None, limit: Limit = 100
    ) -> Any:
        return await ask.dead_letters(node=node, target=target, reason=reason, limit=limit)

    return routes
