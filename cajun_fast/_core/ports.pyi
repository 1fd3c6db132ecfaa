from typing import Protocol

from typing_extensions import disjoint_base

__test__: dict[str, str]

class _Listener(Protocol):
    def on_room(self) -> None: ...

@disjoint_base
class Replies:
    @property
    def node(self) -> str: ...

@disjoint_base
class Nobody(Replies):
    def __init__(self, node: str) -> None: ...

@disjoint_base
class Inbox:
    def call_when_room(self, listener: _Listener) -> None: ...
    def has_room(self) -> bool: ...

@disjoint_base
class Carrier:
    @property
    def peer(self) -> str: ...
    def call_when_room(self, listener: _Listener) -> None: ...
    def has_room(self) -> bool: ...
    def hold(self, lane: object) -> bool: ...
