"""What happens to an actor whose handler raised.

Laws: pure rules and a ledger of restarts; time is an argument; nothing here starts or stops anything.
"""

from __future__ import annotations

import enum
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from cajun_fast.errors import ConfigError


class Directive(enum.IntEnum):
    """What is done about a failure."""

    #: Keep the state, go on with the next message.
    RESUME = 0
    #: A fresh instance takes over the mailbox; children and timers end.
    RESTART = 1
    #: The actor ends; what waits becomes dead letters.
    STOP = 2
    #: The parent is treated as if it had failed; without a parent the actor is stopped.
    ESCALATE = 3


Decider = Callable[[BaseException], Directive]
Rules = Directive | Mapping[type[BaseException], Directive] | Decider


@dataclass(frozen=True, slots=True)
class Supervision:
    """The strategy of one actor. Raises ConfigError when made of values that make no sense."""

    #: One directive for all failures, a directive for each type of exception (the nearest base class counts),
    #: or a function from the exception to a directive.
    rules: Rules = Directive.RESUME
    #: For a type of exception that a mapping does not name.
    otherwise: Directive = Directive.RESTART
    #: So many restarts within so many seconds; one more is answered by ``then``.
    max_restarts: int = 10
    within: float = 60.0
    #: STOP or ESCALATE.
    then: Directive = Directive.STOP
    #: Seconds before a restart, doubled with each one within the window, up to ``max_delay``.
    delay: float = 0.0
    max_delay: float = 30.0
    #: True: a restart of this actor restarts all children of its parent.
    all_for_one: bool = False

    def __post_init__(self) -> None:
        def check(fine: bool, name: str, remedy: str) -> None:
            if not fine:
                raise ConfigError(f"supervision.{name}={getattr(self, name)!r} makes no sense: {remedy}")

        check(
            isinstance(self.rules, (Directive, Mapping)) or callable(self.rules),
            "rules",
            "give a Directive, a dict of exception types, or a function",
        )
        if isinstance(self.rules, Mapping):
            rules: Mapping[Any, Any] = self.rules
            for kind, directive in rules.items():
                known = inspect.isclass(kind) and issubclass(kind, BaseException)
                check(
                    known and isinstance(directive, Directive), "rules", "map exception types to Directives"
                )
        check(isinstance(self.otherwise, Directive), "otherwise", "give a Directive")
        check(self.then in (Directive.STOP, Directive.ESCALATE), "then", "give Directive.STOP or ESCALATE")
        check(self.max_restarts >= 0, "max_restarts", "give 0 or more")
        check(self.within > 0, "within", "give seconds above 0")
        check(0 <= self.delay <= self.max_delay, "delay", "give 0 ≤ delay ≤ max_delay, in seconds")

    def directive(self, error: BaseException) -> Directive:
        """What to do about ``error``; a decider that fails itself, or answers nonsense, means STOP."""
        rules = self.rules
        if isinstance(rules, Directive):
            return rules
        if isinstance(rules, Mapping):
            return next((rules[kind] for kind in type(error).__mro__ if kind in rules), self.otherwise)
        try:
            return Directive(rules(error))
        except Exception as failure:
            error.add_note(f"the decider of the supervision failed too: {failure!r}")
            return Directive.STOP


class RestartLedger:
    """The restarts of one actor within the window of its strategy."""

    __slots__ = ("_times", "delay")

    def __init__(self) -> None:
        self._times: list[int] = []
        #: Seconds to wait before the restart that was spent last.
        self.delay = 0.0

    def spend(self, strategy: Supervision, now_ns: int) -> bool:
        """One more restart; False where the budget is used up, and then nothing is spent."""
        horizon = now_ns - round(strategy.within * 1e9)
        self._times = [at for at in self._times if at > horizon]
        count = len(self._times)
        if count >= strategy.max_restarts:
            return False
        self._times.append(now_ns)
        self.delay = min(strategy.delay * 2.0 ** min(count, 64), strategy.max_delay)
        return True
