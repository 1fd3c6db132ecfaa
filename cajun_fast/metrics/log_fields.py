"""Fields that every log record should have: node, incarnation, and the actor whose handler logged.

    for handler in logging.getLogger().handlers:
        handler.addFilter(LogFields(system))

Records of links have ``link`` (the peer), those about an actor ``actor``, wherever they come from; a formatter that
writes the fields of a record (``cajun-fast node --log-json`` has one) shows them all.

Laws: never drops a record, never raises; what a record says of itself stays.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from typing import Protocol

from cajun_fast._core.lane import running
from cajun_fast.errors import NotRunningError


class Member(Protocol):
    """What is needed of a system."""

    @property
    def node_id(self) -> str: ...

    @property
    def incarnation(self) -> int: ...


class LogFields(logging.Filter):
    """For a handler; made on the system's thread."""

    def __init__(self, system: Member) -> None:
        super().__init__()
        self._system = system
        self._thread = threading.get_ident()

    def filter(self, record: logging.LogRecord) -> bool:
        fields = vars(record)
        fields.setdefault("node", self._system.node_id)
        if "incarnation" not in fields:
            with contextlib.suppress(NotRunningError):  # before its start, after its stop: there is none
                record.incarnation = self._system.incarnation
        if "actor" not in fields and record.thread == self._thread:
            actor = running()
            if actor is not None:
                record.actor = actor.id
        return True
