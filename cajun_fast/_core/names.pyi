from typing_extensions import disjoint_base

__test__: dict[str, str]

MOST_NAMES: int

@disjoint_base
class Names:
    def __init__(self, owner: object, limit: int) -> None: ...
    @property
    def limit(self) -> int: ...
