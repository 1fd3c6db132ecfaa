from typing import Any

from typing_extensions import disjoint_base

from cajun_fast._core.bulk import BulkIn
from cajun_fast._core.codec import Serializer
from cajun_fast._core.lane import Exchange
from cajun_fast._core.ports import Replies
from cajun_fast._core.window import ReceiveWindow

__test__: dict[str, str]

@disjoint_base
class InName: ...

@disjoint_base
class Inbound:
    stream: int
    messages: int
    duplicates: int
    refused: int
    def __init__(
        self,
        exchange: Exchange,
        serializer: Serializer,
        replies: Replies,
        link: Any,
        ports: Any,
        *,
        max_message: int,
        max_bulk: int,
    ) -> None: ...
    @property
    def seen(self) -> ReceiveWindow: ...
    @property
    def transfers(self) -> BulkIn: ...
    @property
    def names_size(self) -> int: ...
    @property
    def watermark(self) -> int: ...

@disjoint_base
class RoomNotice:
    def __init__(self, link: Any, id: str) -> None: ...
    def on_room(self) -> None: ...
