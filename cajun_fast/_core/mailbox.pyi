import enum
from typing import Self, TypeAlias, final

_Entry: TypeAlias = tuple[object, object, object, int]

class Policy(enum.IntEnum):
    BLOCK = 0
    DROP_NEW = 1
    DROP_OLDEST = 2
    FAIL = 3

class Verdict(enum.IntEnum):
    ACCEPTED = 0
    FULL = 1
    DROPPED_OLDEST = 2

@final
class Mailbox:
    def __new__(cls, capacity: int, policy: Policy = ...) -> Self: ...
    def __len__(self) -> int: ...
    def __sizeof__(self) -> int: ...
    @property
    def capacity(self) -> int: ...
    @property
    def allocated(self) -> int: ...
    @property
    def policy(self) -> Policy: ...
    def push(
        self, message: object, sender: object = None, extra: object = None, tag: int = 0
    ) -> tuple[Verdict, _Entry | None]: ...
    def pop(self) -> _Entry | None: ...
    def clear(self) -> int: ...
