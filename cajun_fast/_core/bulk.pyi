from typing_extensions import disjoint_base

__test__: dict[str, str]

@disjoint_base
class Outgoing: ...

@disjoint_base
class BulkOut:
    def __init__(self, window: int = 524288) -> None: ...
    @property
    def bytes(self) -> int: ...

@disjoint_base
class Incoming: ...

@disjoint_base
class BulkIn:
    def __init__(self, max_message: int, limit: int) -> None: ...
    @property
    def limit(self) -> int: ...
