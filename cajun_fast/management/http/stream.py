"""The cluster, live: server-sent events, one ``overview`` a second and each thing that ``happened``.

Laws: as many streams as the console allows; a stream that its reader leaves is closed at once, a slow one loses the
oldest and is told (``missed``); a comment every few seconds keeps proxies from cutting a quiet one.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

from fastapi import APIRouter
from fastapi.responses import StreamingResponse
from starlette.exceptions import HTTPException

from cajun_fast.management.http.console import MOST_WATCHERS, Console
from cajun_fast.management.watch import Watcher

#: Seconds of quiet before a comment is sent.
QUIET = 15.0


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
        "elections, outages, movements. `missed`: so many were dropped because the reader was slow.",
    )
    async def events() -> EventStream:
        if console.watch.watchers >= MOST_WATCHERS:
            raise HTTPException(503, f"{MOST_WATCHERS} pages follow this node already", {"Retry-After": "10"})
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return EventStream(_lines(console.watch.watch()), headers=headers)

    return routes


async def _lines(watcher: Watcher) -> AsyncIterator[str]:
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
            yield f"event: {name}\ndata: {json.dumps(data, default=str)}\n\n"
    finally:
        watcher.close()
