"""The application: routes, guard, errors, and the dashboard's files.

Laws: made from a system that need not run yet; until it does, answers are 503. Whoever mounts it closes it, by its
lifespan or by ``app.state.console.close()``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.resources import files

from fastapi import FastAPI
from fastapi.responses import RedirectResponse
from fastapi.staticfiles import StaticFiles

from cajun_fast.cluster.system import ClusterActorSystem
from cajun_fast.management.http import problems
from cajun_fast.management.http.console import Console
from cajun_fast.management.http.guard import Guard
from cajun_fast.management.http.limits import Limits
from cajun_fast.management.http.looking import looking_routes
from cajun_fast.management.http.probes import probe_routes
from cajun_fast.management.http.steering import job_routes, steering_routes
from cajun_fast.management.http.stream import stream_routes

DESCRIPTION = """Looks at a cluster, and steers it where that is allowed.

Errors are problem details (RFC 9457). Ages and durations are in seconds, rates per second, sizes in bytes."""


def management_app(
    system: ClusterActorSystem,
    *,
    writable: bool = False,
    token: str | None = None,
    names: tuple[str, ...] = (),
    dashboard: bool = True,
) -> FastAPI:
    """An ASGI application that shows the cluster of ``system``; ``writable``: and steers it.

    ``token``: callers must show it as ``Authorization: Bearer``. ``names``: the hosts under which it may be called,
    against pages that point a name of their own at this machine; empty where the application around it looks itself.
    """
    console = Console(system, Guard(token=token, writable=writable, names=names))

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        try:
            yield
        finally:
            await console.close()

    app = FastAPI(
        title="cajun-fast management",
        version=system.version,
        description=DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,  # its pages load scripts from elsewhere
        redoc_url=None,
        responses=problems.RESPONSES,
    )
    app.state.console = console
    problems.install(app)
    app.add_middleware(Limits)
    app.include_router(probe_routes(console))
    for routes in (stream_routes, job_routes, steering_routes, looking_routes):
        app.include_router(routes(console), prefix="/api/v1")
    if dashboard:
        _add_dashboard(app)
    return app


def _add_dashboard(app: FastAPI) -> None:
    folder = files("cajun_fast.management.http").joinpath("dashboard")
    app.mount("/dashboard", StaticFiles(directory=str(folder), html=True), name="dashboard")

    @app.get("/", include_in_schema=False)
    async def home() -> RedirectResponse:
        return RedirectResponse("dashboard/")
