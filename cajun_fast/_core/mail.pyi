from typing import Any, final

from typing_extensions import disjoint_base

from cajun_fast._core.lane import Exchange
from cajun_fast._core.ports import Replies

__test__: dict[str, str]

@final
class Mail(Replies):
    @property
    def stream(self) -> str: ...
    @property
    def number(self) -> int: ...
    @property
    def low(self) -> int: ...
    @property
    def void(self) -> bool: ...
    @property
    def message(self) -> Any: ...
    @property
    def answered(self) -> tuple[bool, bytes] | None: ...
    @property
    def told(self) -> list[tuple[str, int, bytes]] | None: ...

@disjoint_base
class Volatile:
    def __init__(self, exchange: Exchange) -> None: ...
