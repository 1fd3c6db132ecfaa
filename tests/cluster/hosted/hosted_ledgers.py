"""Durable actors that pay each other, for tests/soak/effects.py."""

from __future__ import annotations

from typing import Any

import cajun_fast as cf


@cf.actor("ledger")
class Ledger(cf.Actor):
    """Keeps how far each sender has come, what came otherwise than as the next one, and how often it has paid whom."""

    durable = True

    def __init__(self) -> None:
        self.last: dict[str, int] = {}
        self.wrong: list[list[Any]] = []
        self.paid: dict[str, int] = {}

    def get_state(self) -> Any:
        return [self.last, self.wrong, self.paid]

    def set_state(self, state: Any) -> None:
        last, wrong, paid = state
        self.last, self.wrong, self.paid = dict(last), list(wrong), dict(paid)

    def receive(self, message: Any, context: cf.Context) -> Any:
        match message:
            case [str(sender), int(number), str(payee)]:
                if number != self.last.get(sender, 0) + 1:
                    self.wrong.append([sender, number, self.last.get(sender, 0)])
                self.last[sender] = number
                if payee:
                    self.paid[payee] = self.paid.get(payee, 0) + 1
                    context.system.pid(payee).tell([context.self.id, self.paid[payee], ""])
                return number
        return self.get_state()
