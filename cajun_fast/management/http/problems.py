"""Errors as problem details (RFC 9457): one table from this package's errors to HTTP.

Laws: an answer says what was wrong and what can be done, never a traceback; what is not known here is 500, logged
with its traceback, and told without.
"""

from __future__ import annotations

import http
import logging
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from cajun_fast.errors import (
    ActorAlreadyExistsError,
    ActorNotFoundError,
    AskTimeoutError,
    CajunError,
    ConfigError,
    MetadataStoreUnavailableError,
    NodeUnavailableError,
    NotRunningError,
    RemoteActorError,
    UnknownActorTypeError,
)

log = logging.getLogger("cajun_fast.management")

MEDIA_TYPE = "application/problem+json"

#: The first that fits.
STATUS: tuple[tuple[type[Exception], int], ...] = (
    (ActorNotFoundError, 404),
    (ActorAlreadyExistsError, 409),
    (UnknownActorTypeError, 409),
    (MetadataStoreUnavailableError, 503),
    (NodeUnavailableError, 404),
    (NotRunningError, 503),
    (AskTimeoutError, 504),
    (RemoteActorError, 502),
    (ConfigError, 400),
    (CajunError, 409),
)


class Problem(BaseModel):
    """What went wrong (RFC 9457)."""

    type: str = Field(
        default="about:blank", description="always about:blank: `title` and `error` say the kind"
    )
    title: str
    status: int
    detail: str = Field(description="what was wrong, and what can be done")
    error: str | None = Field(default=None, description="the name of cajun_fast's error, where it was one")


def problem(
    status: int, detail: str, error: str | None = None, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """An answer that says so."""
    title = http.HTTPStatus(status).phrase
    body = Problem(title=title, status=status, detail=detail, error=error).model_dump(exclude_none=True)
    return JSONResponse(body, status, dict(headers or {}), media_type=MEDIA_TYPE)


_CONTENT = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
#: For the OpenAPI document: what any operation may answer instead.
RESPONSES: dict[int | str, dict[str, Any]] = {
    "4XX": {"description": "The question was wrong", "content": _CONTENT},
    "5XX": {"description": "The cluster could not answer", "content": _CONTENT},
}


def install(app: FastAPI) -> None:
    """Have an application answer so, and say so in its OpenAPI document."""
    describe = app.openapi

    def openapi() -> dict[str, Any]:
        document = describe()
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        schemas.setdefault("Problem", Problem.model_json_schema())
        return document

    app.openapi = openapi  # type: ignore[method-assign]
    app.add_exception_handler(CajunError, _on_cajun_error)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(RequestValidationError, _on_wrong_input)
    app.add_exception_handler(TimeoutError, _on_cajun_error)
    app.add_exception_handler(Exception, _on_anything)


async def _on_cajun_error(request: Request, error: Exception) -> JSONResponse:
    status = next((status for kind, status in STATUS if isinstance(error, kind)), 504)
    headers = {"Retry-After": "1"} if status == 503 else None
    return problem(status, str(error) or type(error).__name__, type(error).__name__, headers)


async def _on_http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return problem(error.status_code, str(error.detail), headers=error.headers)


async def _on_wrong_input(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    wrong = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()[:10])
    return problem(422, wrong)


async def _on_anything(request: Request, error: Exception) -> JSONResponse:
    log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return problem(500, f"{type(error).__name__}: the log of this node has the rest")
