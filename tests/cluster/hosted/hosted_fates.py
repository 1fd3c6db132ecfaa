"""Actors whose messages end in every way that ``explain`` tells of."""

from __future__ import annotations

import asyncio

import cajun_fast as cf

#: Answers that somebody else may give, who never does.
OWED: list[cf.Reply] = []


@cf.actor("fated")
class Fated(cf.Actor):
    async def receive(self, message: str, context: cf.Context) -> str:
        if message == "wait":
            await asyncio.sleep(3600)
        if message == "leave":
            OWED.append(context.reply_later())
            context.stop()
        if message == "fail":
            raise ValueError("as planted")
        return context.node_id
