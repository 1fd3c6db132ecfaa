"""Log records say where they come from."""

from __future__ import annotations

import json
import logging
from typing import Any

import cajun_fast as cf
from cajun_fast.management.logs import JsonFormatter
from cajun_fast.metrics.log_fields import LogFields
from tests.metrics.conftest import Member, until


class Kept(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[dict[str, Any]] = []
        self.setFormatter(JsonFormatter())

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(json.loads(self.format(record)))


class Speaker(cf.Actor):
    def receive(self, message: Any, context: cf.Context) -> None:
        logging.getLogger("mine").warning("hello")


async def test_a_line_of_a_handler_names_node_life_and_actor(member: Member) -> None:
    a, b = await member("a"), await member("b")
    kept = Kept()
    kept.addFilter(LogFields(a))
    logging.getLogger("mine").addHandler(kept)
    logging.getLogger("cajun_fast.messaging").addHandler(kept)
    try:
        there = await a.register(Speaker, "speaker")
        await there.ask(1)
        logging.getLogger("mine").warning("outside")
        said, outside = kept.lines[-2:]
        assert (said["node"], said["incarnation"], said["actor"]) == ("a", 1, "speaker")
        assert "actor" not in outside
        await b.pid("speaker").ask(1)
        logging.getLogger("mine").warning("theirs", extra={"node": "z", "actor": "y"})
        assert (kept.lines[-1]["node"], kept.lines[-1]["actor"]) == ("z", "y")
        b._node.messaging.peer("a").connection.abort()  # type: ignore[union-attr]
        logging.getLogger("cajun_fast.messaging").setLevel(logging.INFO)
        await until(lambda: any(line.get("link") == "b" for line in kept.lines))
    finally:
        logging.getLogger("mine").removeHandler(kept)
        logging.getLogger("cajun_fast.messaging").removeHandler(kept)
        logging.getLogger("cajun_fast.messaging").setLevel(logging.NOTSET)
