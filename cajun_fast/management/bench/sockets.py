"""Listening and dialling for the contestants that bring no network of their own. ``transport``: "unix" or
"tcp"."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Callable
from typing import Any, TypeVar

P = TypeVar("P", bound=asyncio.BaseProtocol)


async def listen(make: Callable[[], asyncio.BaseProtocol], transport: str) -> Any:
    """Serve; returns the address: a path, or host and port."""
    loop = asyncio.get_running_loop()
    if transport == "unix":
        path = new_path()
        await loop.create_unix_server(make, path)
        return path
    server = await loop.create_server(make, "127.0.0.1", 0)
    return list(server.sockets[0].getsockname()[:2])


async def dial(make: Callable[[], P], address: Any) -> P:
    """Connect to an address that ``listen`` gave."""
    loop = asyncio.get_running_loop()
    if isinstance(address, str):
        return (await loop.create_unix_connection(make, address))[1]
    return (await loop.create_connection(make, *address))[1]


def new_path() -> str:
    """Where a Unix socket may be made; the folder goes with the process that started the contestants."""
    return tempfile.mktemp(prefix="s", dir=os.environ["CAJUN_BENCH_FOLDER"])
