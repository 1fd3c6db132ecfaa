"""The cluster, live: server-sent events, one ``overview`` a second and each thing that ``happened``; and one job.

Laws: as many streams as the console allows; a stream that its reader leaves is closed at once, a slow one loses the
oldest and is told (``missed``); a comment every few seconds keeps proxies from cutting a quiet one.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter
from fastapi.responses import StreamingResponse
from starlette.exceptions import HTTPException

from cajun_fast.management.http.console import MOST_WATCHERS, Console
from cajun_fast.management.jobs import Job
from cajun_fast.management.watch import Watcher

#: Seconds of quiet before a comment is sent.
QUIET = 15.0
#: Jobs that are told of with each overview.
SHOWN_JOBS = 10
STREAM_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


class EventStream(StreamingResponse):
    """An answer that does not end by itself."""

    media_type = "text/event-stream"


def stream_routes(console: Console) -> APIRouter:
    """The one of them."""
    routes = APIRouter(dependencies=console.guard.reading, tags=["look"])

    @routes.get(
        "/events",
        response_class=EventStream,
        summary="Everything as it happens",
        description="Server-sent events. `overview`: as /overview, once a second. `happened`: nodes that come and go, "
        "elections, outages, movements. `jobs`: moves and drains that were asked for here. `missed`: so many were "
        "dropped, because the reader was slow.",
    )
    async def events() -> EventStream:
        if console.watch.watchers >= MOST_WATCHERS:
            raise HTTPException(503, f"{MOST_WATCHERS} pages follow this node already", {"Retry-After": "10"})
        return EventStream(_lines(console, console.watch.watch()), headers=STREAM_HEADERS)

    return routes


async def _lines(console: Console, watcher: Watcher) -> AsyncIterator[str]:
    try:
        yield "retry: 2000\n\n"
        while True:
            try:
                async with asyncio.timeout(QUIET):
                    news = await watcher.next()
            except TimeoutError:
                yield ": still here\n\n"
                continue
            if news is None:
                return
            name, data = news
            yield _event(name, data)
            if name == "overview":
                yield _event("jobs", [console.jobs.shown(job) for job in console.jobs][:SHOWN_JOBS])
    finally:
        watcher.close()


async def job_lines(console: Console, job: Job) -> AsyncIterator[str]:
    """One job, from now to its end."""
    console.followers += 1
    try:
        while True:
            news, is_over = job.news, job.over.is_set()
            yield _event("job", console.jobs.shown(job))
            if is_over:
                return
            while not await _comes(news):
                yield ": still here\n\n"
    finally:
        console.followers -= 1


async def _comes(news: asyncio.Event) -> bool:
    try:
        async with asyncio.timeout(QUIET):
            return await news.wait()
    except TimeoutError:
        return False


def _event(name: str, data: Any) -> str:
    return f"event: {name}\ndata: {json.dumps(data, default=str)}\n\n"
