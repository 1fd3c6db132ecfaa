from collections.abc import Callable
from typing import Any, Protocol, final

from typing_extensions import Buffer, disjoint_base

from cajun_fast._core.lane import Exchange

__test__: dict[str, str]

class _Both(Protocol):
    def encode(self, message: Any) -> bytes: ...
    def decode(self, data: bytes) -> Any: ...

@disjoint_base
class Serializer:
    def encode(self, message: Any) -> bytes: ...
    def decode(self, data: Buffer) -> Any: ...

@final
class Codec(Serializer):
    exchange: Exchange | None
    def __init__(
        self,
        exchange: Exchange | None = None,
        *,
        plain: Callable[[Any], tuple[int, bytes] | None] | None = None,
        typed: Callable[[bytes], Any] | None = None,
        max_depth: int = 64,
    ) -> None: ...
    @property
    def max_depth(self) -> int: ...
    def hooks(
        self, plain: Callable[[Any], tuple[int, bytes] | None], typed: Callable[[bytes], Any]
    ) -> None: ...

@disjoint_base
class Foreign(Serializer):
    def __init__(self, serializer: _Both) -> None: ...
