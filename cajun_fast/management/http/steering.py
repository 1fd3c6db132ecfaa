"""Routes that change something, and the jobs that come of them.

Laws: the guard is asked first; what takes its time is a job: the answer comes when it is over or when ``wait``
seconds have passed, whichever is first, and the job goes on by itself.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Response
from starlette.exceptions import HTTPException

from cajun_fast.management import jobs as job_room
from cajun_fast.management.http.console import MOST_WATCHERS, Console
from cajun_fast.management.http.looking import ActorId, NodeId
from cajun_fast.management.http.models import Election, Job, Jobs, Migration
from cajun_fast.management.http.stream import STREAM_HEADERS, EventStream, job_lines
from cajun_fast.management.jobs import Work

JobId = Annotated[str, Path(max_length=20)]
WithoutState = Annotated[
    bool, Query(description="also actors that cannot say their state: they begin anew, with their mailbox")
]
Wait = Annotated[float, Query(ge=0, le=60, description="seconds to wait for the end")]


def steering_routes(console: Console) -> APIRouter:
    """All of them."""
    routes = APIRouter(dependencies=console.guard.writing, tags=["steer"])
    ask = console.operations

    async def begin(response: Response, kind: str, subject: str, work: Work, wait: float) -> Any:
        job = console.jobs.start(kind, subject, work)
        try:
            async with asyncio.timeout(wait):
                await job.over.wait()
        except TimeoutError:
            response.status_code = 202
        return console.jobs.shown(job)

    @routes.post("/leader/elect", response_model=Election, summary="Have the leader step down")
    async def elect() -> Any:
        return await ask.elect()

    # Before the shorter path: an actor's id may hold slashes.
    @routes.post(
        "/actors/{actor:path}/migrate", response_model=Job, summary="Move an actor", responses=ACCEPTED
    )
    async def migrate(
        response: Response,
        actor: ActorId,
        to: Migration,
        wait: Wait = 5.0,
        without_state: WithoutState = False,
    ) -> Any:
        await ask.check_migration(actor, to.node)
        work = partial(ask.migrate, actor, to.node, without_state=without_state)
        return await begin(response, "migrate", actor, lambda tell: work(), wait)

    @routes.post(
        "/nodes/{node}/drain", response_model=Job, summary="Move all actors away", responses=ACCEPTED
    )
    async def drain(
        response: Response, node: NodeId, wait: Wait = 0.0, without_state: WithoutState = False
    ) -> Any:
        await ask.check_node(node)
        work = partial(ask.drain, node, without_state=without_state)
        return await begin(response, "drain", node, work, wait)

    @routes.post("/nodes/{node}/cordon", response_model=Job, summary="Place no new actors there")
    async def cordon(response: Response, node: NodeId, wait: Wait = 5.0) -> Any:
        await ask.check_node(node)
        return await begin(response, "cordon", node, lambda tell: ask.cordon(node), wait)

    @routes.post("/nodes/{node}/uncordon", response_model=Job, summary="Place actors there again")
    async def uncordon(response: Response, node: NodeId, wait: Wait = 5.0) -> Any:
        await ask.check_node(node)
        return await begin(response, "uncordon", node, lambda tell: ask.uncordon(node), wait)

    return routes


ACCEPTED: dict[int | str, dict[str, Any]] = {
    202: {"description": "It goes on: ask for the job", "model": Job}
}


def job_routes(console: Console) -> APIRouter:
    """Looking at jobs changes nothing."""
    routes = APIRouter(dependencies=console.guard.reading, tags=["steer"])

    def find(job: str) -> job_room.Job:
        found = console.jobs.get(job)
        if found is None:
            raise HTTPException(404, f"no job {job!r} is known here: the oldest are forgotten")
        return found

    @routes.get("/jobs", response_model=Jobs, summary="What was asked for here, and how far it is")
    async def jobs() -> Any:
        return {"jobs": [console.jobs.shown(job) for job in console.jobs]}

    @routes.get("/jobs/{job}", response_model=Job, summary="One of them")
    async def job(job: JobId) -> Any:
        return console.jobs.shown(find(job))

    @routes.get(
        "/jobs/{job}/events",
        response_class=EventStream,
        summary="One of them, as it goes on",
        description="Server-sent events: `job`, as /jobs/{job}, now and whenever something is new; the stream ends "
        "with the job. Whoever leaves the stream stops nothing.",
    )
    async def job_events(job: JobId) -> EventStream:
        found = find(job)
        if console.followers >= MOST_WATCHERS:
            raise HTTPException(503, f"{MOST_WATCHERS} readers follow jobs already", {"Retry-After": "10"})
        return EventStream(job_lines(console, found), headers=STREAM_HEADERS)

    return routes
