"""Actors whose messages end in every way that ``explain`` tells of."""

from __future__ import annotations

import asyncio

import cajun_fast as cf


@cf.actor("fated")
class Fated(cf.Actor):
    async def receive(self, message: str, context: cf.Context) -> str:
        if message == "wait":
            await asyncio.sleep(3600)
        if message == "fail":
            raise ValueError("as planted")
        return context.node_id
