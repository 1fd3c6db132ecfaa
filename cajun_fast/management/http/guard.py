"""Who may ask and who may steer.

Laws: a token is compared in constant time, before anything else is looked at. What a page of another origin could
make a browser do is refused: a foreign host name (a name that was pointed at this machine), and a change that
another site asks for. Where nothing may be changed, that is said before anything is read.
"""

from __future__ import annotations

import secrets
from typing import Any

from fastapi import Depends, Request
from fastapi.security import HTTPBearer
from starlette.exceptions import HTTPException


class Guard:
    """The rules of one application; ``reading`` and ``writing`` are dependencies of its routes."""

    def __init__(self, *, token: str | None, writable: bool, names: tuple[str, ...]) -> None:
        """``names``: hosts under which it may be called; empty: any (behind an application that looks itself)."""
        self._token = token.encode() if token is not None else None
        self._writable = writable
        self._names = frozenset(name.lower() for name in names)

    @property
    def wants_token(self) -> bool:
        return self._token is not None

    @property
    def writable(self) -> bool:
        return self._writable

    @property
    def reading(self) -> list[Any]:
        """For routes that change nothing."""
        return [Depends(self.may_read), *self._documented]

    @property
    def writing(self) -> list[Any]:
        """For routes that change something."""
        return [Depends(self.may_write), *self._documented]

    @property
    def _documented(self) -> list[Any]:
        """Says in the OpenAPI document that a token is wanted, where one is."""
        scheme = HTTPBearer(auto_error=False, description="the token of http.token_file or http.token_env")
        return [Depends(scheme)] if self.wants_token else []

    async def may_read(self, request: Request) -> None:
        """Raises 401, or 421 for a host name that is not this server's."""
        self.check_host(request)
        if self._token is None:
            return
        scheme, _, shown = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not secrets.compare_digest(shown.strip().encode(), self._token):
            raise HTTPException(
                401,
                "this needs the header 'Authorization: Bearer TOKEN', with the token that the node was started with",
                headers={"WWW-Authenticate": "Bearer"},
            )

    async def may_write(self, request: Request) -> None:
        """As ``may_read``; raises 403 where nothing may be changed."""
        await self.may_read(request)
        if not self._writable:
            raise HTTPException(
                403, "this interface is read-only: start the node with --http-writable (http.writable = true)"
            )
        if request.headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
            raise HTTPException(403, "another site's page may not steer this cluster")

    def check_host(self, request: Request) -> None:
        """Raises 421 for a host name that is not this server's."""
        if not self._names:
            return
        host = request.headers.get("host", "").lower()
        name = host if host.endswith("]") else host.rpartition(":")[0] or host
        if name not in self._names:
            raise HTTPException(
                421, f"this server is not called {name!r:.100}: add the name to http.names if it should be"
            )
