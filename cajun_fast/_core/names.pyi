from typing_extensions import disjoint_base

__test__: dict[str, str]

MOST_NAMES: int
MOST_NAME_BYTES: int
LONGEST_ID: int

@disjoint_base
class Names:
    def __init__(self, owner: object, limit: int, size_limit: int = 33554432) -> None: ...
    @property
    def limit(self) -> int: ...
    @property
    def size(self) -> int: ...
    @property
    def size_limit(self) -> int: ...
