import asyncio
from collections.abc import Coroutine
from contextvars import Context
from typing import Any, TypeVar, final

from typing_extensions import disjoint_base

from cajun_fast._core.instruments import Tally
from cajun_fast._core.lane import Exchange, Pid
from cajun_fast._core.ports import Inbox

__test__: dict[str, str]

_T = TypeVar("_T")

@disjoint_base
class Resident(Inbox):
    children: dict[str, Any] | None
    @property
    def pid(self) -> Pid: ...
    @property
    def busy_ns(self) -> int: ...
    @property
    def dispatcher(self) -> Dispatcher: ...

@final
class Dispatcher:
    timing: bool
    def __init__(
        self,
        exchange: Exchange,
        keeper: Any,
        *,
        time_slice: float = 0.001,
        batch: int = 64,
        timing: bool = False,
    ) -> None: ...
    @property
    def exchange(self) -> Exchange: ...
    @property
    def base(self) -> Context: ...
    @property
    def keeper(self) -> Any: ...
    @property
    def tallies(self) -> dict[str, Tally]: ...
    @property
    def slice_ns(self) -> int: ...
    @property
    def batch(self) -> int: ...
    @property
    def queued(self) -> int: ...
    @property
    def longest_ns(self) -> int: ...
    def take_longest(self) -> tuple[str | None, int]: ...
    def task(self, coroutine: Coroutine[Any, Any, _T], pid: Pid, name: str) -> asyncio.Task[_T]: ...
    def close(self) -> None: ...
