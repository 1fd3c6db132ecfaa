"""All settings of an actor system, with advice.

Laws: frozen; checked when made.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from cajun_fast.actors.ids import IdStrategy
from cajun_fast.actors.props import MailboxPolicy, check_capacity
from cajun_fast.actors.supervision import Supervision
from cajun_fast.errors import ConfigError
from cajun_fast.guarantees import DeliveryGuarantee


@dataclass(frozen=True, slots=True, kw_only=True)
class ActorSettings:
    """Raises ConfigError naming the field, its value and the remedy."""

    #: Messages that may wait in a mailbox, for actors that do not say otherwise.
    mailbox_capacity: int = 10_000
    #: What a full mailbox does, for actors that do not say otherwise. BLOCK loses nothing.
    mailbox_policy: MailboxPolicy = MailboxPolicy.BLOCK
    #: For actors that do not say otherwise: their state is kept when a handler raises.
    supervision: Supervision = field(default_factory=Supervision)
    #: Seconds that actors may take of one turn of the loop. Longer: a little faster; all else waits longer.
    time_slice: float = 0.001
    #: Messages of one actor before the next one's turn.
    batch: int = 64
    #: Measure the time in sync handlers, for each actor: two looks at the clock a message.
    timing: bool = False
    #: Makes ids for actors that are spawned without; None: random ones.
    ids: IdStrategy | None = None
    #: Seconds that an actor has to end its handler, and again for ``post_stop``, before it is cancelled.
    stop_timeout: float = 5.0
    #: Dead letters kept for inspection, with their messages.
    dead_letters_kept: int = 1000
    #: Dead letters logged a second, on average; the rest is counted in the next line.
    dead_letters_logged_per_second: float = 10.0
    #: Messages that may wait for one target whose way is not known or whose room is used up.
    waiting_limit: int = 10_000
    #: Encoded bytes of them: for one target, and for all together.
    waiting_bytes: int = 8 << 20
    waiting_bytes_total: int = 64 << 20
    #: A tell without room: True raises BackpressureError, False makes a dead letter of it.
    raise_when_full: bool = True
    #: Asks that may wait for their answers.
    max_asks: int = 65_536
    #: Messages that are measured in a tenth of a second, about; 0: none.
    sample_budget: int = 256
    #: Notes that the flight recorder keeps of measured messages, and again of lost ones; 0: none.
    notes: int = 4096
    #: For messages whose sender does not say otherwise.
    guarantee: DeliveryGuarantee = DeliveryGuarantee.EXACTLY_ONCE

    def __post_init__(self) -> None:
        self.validate()

    def validate(self) -> None:
        """Raises ConfigError for the first field that makes no sense."""
        check_capacity(self.mailbox_capacity)
        kinds = {
            "mailbox_policy": MailboxPolicy,
            "supervision": Supervision,
            "guarantee": DeliveryGuarantee,
        }
        for name, kind in kinds.items():
            if not isinstance(getattr(self, name), kind):
                raise ConfigError(f"{name}={getattr(self, name)!r} is wrong: give a {kind.__name__}")
        for name in ("time_slice", "stop_timeout"):
            self._at_least(name, 0.0, "seconds above 0", exclusive=True)
        for name in ("batch", "waiting_limit", "waiting_bytes", "waiting_bytes_total", "max_asks"):
            self._at_least(name, 1, "1 or more")
        for name in ("sample_budget", "notes", "dead_letters_kept", "dead_letters_logged_per_second"):
            self._at_least(name, 0, "0 or more")

    def _at_least(self, name: str, least: float, rule: str, *, exclusive: bool = False) -> None:
        value = getattr(self, name)
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not number or value < least or (exclusive and value == least):
            raise ConfigError(f"{name}={value!r} is out of range: give {rule}")
