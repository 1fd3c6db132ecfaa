"""Probes for whoever supervises the process (Kubernetes, a load balancer), and the numbers for Prometheus.

    /livez    the event loop turns; a node that does not answer should be started anew
    /readyz   it holds its seat: its actors may act
    /healthz  everything that it needs, one by one

Laws: probes need no token and tell nothing but yes and no; an outage of the store makes no node unready, since
messages go on. ``/metrics`` is guarded like everything else.
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Response
from fastapi.responses import PlainTextResponse
from starlette.exceptions import HTTPException

from cajun_fast.errors import NotRunningError
from cajun_fast.management.http.console import Console
from cajun_fast.management.http.models import Check


def probe_routes(console: Console) -> APIRouter:
    """All of them."""
    routes = APIRouter(tags=["probe"])
    failed: dict[int | str, dict[str, Any]] = {503: {"model": Check, "description": "No"}}

    @routes.get("/livez", response_model=Check, summary="Does it turn?")
    async def livez() -> Any:
        return {"status": "ok"}

    @routes.get("/readyz", response_model=Check, summary="Does it serve?", responses=failed)
    async def readyz(response: Response) -> Any:
        return _answer(response, _ready(console))

    @routes.get("/healthz", response_model=Check, summary="Is all well?", responses=failed)
    async def healthz(response: Response) -> Any:
        try:
            checks = console.system.metrics.get_health_status()
        except NotRunningError:
            checks = {"running": False}
        return _answer(response, checks)

    @routes.get(
        "/metrics",
        response_class=PlainTextResponse,
        summary="For Prometheus",
        dependencies=console.guard.reading,
    )
    async def metrics() -> Response:
        try:
            from cajun_fast.metrics.prometheus import CONTENT_TYPE, render
        except ImportError as error:
            raise HTTPException(501, f"pip install 'cajun-fast[prometheus]' for this: {error}") from error
        return Response(render(console.system.metrics.snapshot()), headers={"Content-Type": CONTENT_TYPE})

    return routes


def _ready(console: Console) -> dict[str, bool]:
    try:
        return {"running": True, "membership": not console.system.is_fenced}
    except NotRunningError:
        return {"running": False}


def _answer(response: Response, checks: dict[str, bool]) -> dict[str, Any]:
    well = all(checks.values())
    response.status_code = 200 if well else 503
    return {"status": "ok" if well else "not ok", "checks": checks}
