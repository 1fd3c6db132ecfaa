import asyncio
from collections.abc import Callable
from typing import Any

from typing_extensions import disjoint_base

from cajun_fast._core.instruments import Histogram
from cajun_fast._core.ports import Carrier, Replies
from cajun_fast.errors import CajunError

__test__: dict[str, str]

@disjoint_base
class PendingAsk:
    carrier: Carrier | None
    @property
    def target(self) -> str: ...
    @property
    def deadline(self) -> int: ...
    @property
    def timeout(self) -> float: ...

@disjoint_base
class Asks(Replies):
    explainer: Callable[[int, str, asyncio.Future[Any], float, Carrier | None], bool] | None
    def __init__(
        self,
        node: str,
        loop: asyncio.AbstractEventLoop,
        clock: Callable[[], int],
        first_tag: int,
        limit: int = 65_536,
    ) -> None: ...
    def __len__(self) -> int: ...
    @property
    def limit(self) -> int: ...
    @property
    def answered(self) -> int: ...
    @property
    def failed(self) -> int: ...
    @property
    def timed_out(self) -> int: ...
    @property
    def round_trip(self) -> Histogram: ...
    def waits(self, tag: int) -> bool: ...
    def fail(self, tag: int, error: BaseException) -> None: ...
    def fail_carried(self, carrier: Carrier, make_error: Callable[[str], CajunError]) -> int: ...
    def close(self) -> None: ...

def as_told(error: BaseException, target: str, node: str) -> CajunError: ...
