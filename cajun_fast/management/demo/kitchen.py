"""The actors of ``cajun-fast look``: pots that are stirred, and can be carried from one stove to another."""

from __future__ import annotations

from typing import Any

import cajun_fast as cf


@cf.actor("pot")
class Pot(cf.Actor):
    """Counts what was put into it; the count moves with it."""

    def __init__(self) -> None:
        self.stirred = 0

    def get_state(self) -> Any:
        return self.stirred

    def set_state(self, state: Any) -> None:
        self.stirred = state

    def receive(self, message: Any, context: cf.Context) -> int:
        self.stirred += 1
        return self.stirred
