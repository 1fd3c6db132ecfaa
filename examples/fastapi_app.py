"""A web application with actors behind it: each cart is an actor, requests to it are handled one at a time.

    uvicorn --app-dir examples fastapi_app:app     # then open http://127.0.0.1:8000/cajun/dashboard/
    python examples/fastapi_app.py                 # tries it, without a server

Needs the extra: pip install 'cajun-fast[http]'. Several such processes on one store share the carts.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
from fastapi import FastAPI
from pydantic import BaseModel

import cajun_fast as cf
from cajun_fast.management.http import management_app


@cf.actor("cart", sharded=True)
class Cart(cf.Actor):
    """What somebody is about to buy."""

    def __init__(self) -> None:
        self.items: dict[str, int] = {}

    def receive(self, message: Any, context: cf.Context) -> dict[str, int]:
        match message:
            case {"op": "add", "item": str(item), "count": int(count)}:
                self.items[item] = self.items.get(item, 0) + count
            case {"op": "empty"}:
                self.items.clear()
        return self.items


class Addition(BaseModel):
    item: str
    count: int = 1


config = cf.ClusterConfig.Builder("web", "memory://web").with_messaging_port(0).build()
system = cf.ClusterFactory.create_cluster_system(config)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with system:
        yield
    await management.state.console.close()


app = FastAPI(title="A shop", lifespan=lifespan)
management = management_app(system)  # read-only; behind your own authentication in earnest
app.mount("/cajun", management)


def cart(name: str) -> cf.Pid:
    """That cart's actor, which its first message starts."""
    return system.sharded("cart").pid(name)


@app.post("/carts/{name}/items")
async def add(name: str, addition: Addition) -> dict[str, int]:
    message = {"op": "add", "item": addition.item, "count": addition.count}
    items: dict[str, int] = await cart(name).ask(message, timeout=10.0)
    return items


@app.get("/carts/{name}")
async def show(name: str) -> dict[str, int]:
    items: dict[str, int] = await cart(name).ask({"op": "show"}, timeout=10.0)
    return items


async def try_it() -> None:
    """Twenty requests at the same time; the cart handles them one by one."""
    transport = httpx.ASGITransport(app=app)
    async with lifespan(app), httpx.AsyncClient(transport=transport, base_url="http://shop") as shop:
        asked = (shop.post("/carts/ada/items", json={"item": "okra", "count": 2}) for _ in range(20))
        await asyncio.gather(*asked)
        print("ada's cart:", (await shop.get("/carts/ada")).json())
        seen = (await shop.get("/cajun/api/v1/overview")).json()
        print("management says:", seen["totals"]["actors"], "actor on node", seen["nodes"][0]["node"])


if __name__ == "__main__":
    cf.run(try_it())
