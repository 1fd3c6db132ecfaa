from typing import Self

from typing_extensions import disjoint_base

__test__: dict[str, str]

@disjoint_base
class Pieces:
    @property
    def size(self) -> int: ...
    def __len__(self) -> int: ...

@disjoint_base
class OutBuf:
    def __new__(cls, capacity: int = 256, refer_from: int = ...) -> Self: ...

@disjoint_base
class Slab:
    def __new__(cls, capacity: int) -> Self: ...
