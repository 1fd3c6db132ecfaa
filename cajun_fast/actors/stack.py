"""Where a coroutine stands: the lines of a handler that waits, from the outside in.

Laws: reads frames and changes nothing; what is compiled shows no lines and is passed over; bounded.
"""

from __future__ import annotations

import asyncio
import gc
from types import CoroutineType, GeneratorType
from typing import Any

#: Awaits inside of each other that are followed.
DEEPEST = 16


def lines_of(task: asyncio.Task[Any]) -> list[str]:
    """``file:line in function`` for each coroutine of the task that is not the engine's own, the handler first."""
    found = []
    awaited: Any = task.get_coro()
    for _ in range(DEEPEST):
        if awaited is None:
            break
        frame = getattr(awaited, "cr_frame", None) or getattr(awaited, "gi_frame", None)
        if frame is not None and isinstance(awaited, CoroutineType | GeneratorType):
            found.append(f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_qualname}")
        awaited = _inner(awaited)
    return found


def _inner(awaited: Any) -> Any:
    inner = getattr(awaited, "cr_await", None) or getattr(awaited, "gi_yieldfrom", None)
    if (
        type(inner).__name__ == "coroutine_wrapper"
    ):  # what the compiled pump awaits; it shows nothing of itself
        return next(iter(gc.get_referents(inner)), None)
    return inner
