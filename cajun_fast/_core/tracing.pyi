from contextvars import ContextVar
from typing import Any

from typing_extensions import disjoint_base

from cajun_fast._core.lane import Exchange
from cajun_fast._core.ports import Tracer

__test__: dict[str, str]

@disjoint_base
class Tracing(Tracer):
    def __init__(
        self, variable: ContextVar[Any] | None = None, exchange: Exchange | None = None, rate: float = 0.0
    ) -> None: ...
    def is_sampled(self) -> bool | None: ...
    def look(self) -> bool: ...
