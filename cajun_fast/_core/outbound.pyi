from collections.abc import Callable
from typing import Any

from typing_extensions import disjoint_base

from cajun_fast._core.bulk import BulkOut
from cajun_fast._core.codec import Serializer
from cajun_fast._core.inbound import Inbound
from cajun_fast._core.instruments import Histogram
from cajun_fast._core.lane import Exchange
from cajun_fast._core.names import Names
from cajun_fast._core.ports import Carrier, Replies
from cajun_fast._core.window import SendWindow
from cajun_fast.errors import CajunError

__test__: dict[str, str]

@disjoint_base
class Wire: ...

@disjoint_base
class LinkReplies(Replies): ...

@disjoint_base
class Trial: ...

@disjoint_base
class Outbound(Carrier):
    messages_out: int
    bytes_out: int
    bytes_in: int
    resent: int
    returned: int
    def __init__(
        self,
        exchange: Exchange,
        peer: str,
        serializer: Serializer,
        ports: Any,
        *,
        window: int,
        max_message: int,
        max_bulk: int,
        max_names: int,
        bulk_window: int,
    ) -> None: ...
    @property
    def exchange(self) -> Exchange: ...
    @property
    def window(self) -> SendWindow: ...
    @property
    def inbound(self) -> Inbound: ...
    @property
    def bulk(self) -> BulkOut: ...
    @property
    def names(self) -> Names: ...
    @property
    def replies(self) -> LinkReplies: ...
    @property
    def ports(self) -> Any: ...
    @property
    def ended(self) -> bool: ...
    @property
    def refusal(self) -> Callable[[str], CajunError] | None: ...
    @property
    def batch(self) -> Histogram: ...
    @property
    def round_trip(self) -> Histogram: ...
    @property
    def sent_by_guarantee(self) -> tuple[int, int, int, int]: ...
    @property
    def max_message(self) -> int: ...
    def wake_listeners(self) -> None: ...
    def wake_bulk_listeners(self) -> None: ...
    def wake_all(self) -> None: ...
    def collect(self) -> list[Any]: ...
    def write_ack_frame(self, refusals: list[Any], watermark: int) -> None: ...
    def write_control(self, type: int, body: bytes = b"", sequence: int = 0) -> None: ...
