"""How an actor is to run: its mailbox and its supervision, given at spawn or by the decorator of its type.

Laws: frozen values, checked when made; what is not given comes from the layer below (spawn, type, settings).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from cajun_fast._core.mailbox import Policy as MailboxPolicy
from cajun_fast.actors.supervision import Directive, Supervision
from cajun_fast.errors import ConfigError

__all__ = ["MailboxPolicy", "Props", "check_capacity", "make_props", "policy_of", "take_props"]

LARGEST_MAILBOX = 0x7FFFFFFF


@dataclass(frozen=True, slots=True)
class Props:
    """Each None means: as the layer below says."""

    #: Messages that may wait, 1 or more. Memory is taken as they come.
    mailbox_capacity: int | None = None
    #: What a full mailbox does; the names "block", "drop-new", "drop-oldest", "fail" will do too.
    mailbox_policy: MailboxPolicy | None = None
    #: What is done about failures; a Directive stands for a Supervision with that rule.
    supervision: Supervision | None = None

    def over(self, below: Props) -> Props:
        """These, and where they say nothing, ``below``."""
        given = {
            f.name: value for f in dataclasses.fields(self) if (value := getattr(self, f.name)) is not None
        }
        return dataclasses.replace(below, **given) if given else below


NAMES = frozenset(field.name for field in dataclasses.fields(Props))
NOTHING = Props()


def take_props(kwargs: dict[str, Any]) -> Props:
    """Take the keywords that are props out of ``kwargs``. Raises ConfigError naming a wrong one."""
    if NAMES.isdisjoint(kwargs):
        return NOTHING
    return make_props(**{name: kwargs.pop(name) for name in NAMES & kwargs.keys()})


def make_props(
    *,
    mailbox_capacity: int | None = None,
    mailbox_policy: MailboxPolicy | str | None = None,
    supervision: Supervision | Directive | None = None,
) -> Props:
    """Props from what users write. Raises ConfigError naming the value and the remedy."""
    if isinstance(supervision, Directive):
        supervision = Supervision(supervision)
    if not isinstance(supervision, Supervision | None):
        raise ConfigError(f"supervision={supervision!r} is no strategy: give a Supervision or a Directive")
    if mailbox_capacity is not None:
        check_capacity(mailbox_capacity)
    return Props(mailbox_capacity, policy_of(mailbox_policy), supervision)


def check_capacity(capacity: object) -> None:
    """Raises ConfigError unless ``capacity`` is a number of messages."""
    whole = isinstance(capacity, int) and not isinstance(capacity, bool)
    if not whole or not 1 <= capacity <= LARGEST_MAILBOX:  # type: ignore[operator]
        raise ConfigError(
            f"mailbox_capacity={capacity!r} is out of range: give 1 to {LARGEST_MAILBOX} messages"
        )


def policy_of(policy: MailboxPolicy | str | None) -> MailboxPolicy | None:
    """The policy of that name. Raises ConfigError for an unknown one."""
    if policy is None or isinstance(policy, MailboxPolicy):
        return policy
    try:
        return MailboxPolicy[policy.upper().replace("-", "_")]
    except (KeyError, AttributeError):
        known = ", ".join(repr(p.name.lower().replace("_", "-")) for p in MailboxPolicy)
        raise ConfigError(f"mailbox_policy={policy!r} is unknown: give one of {known}") from None
