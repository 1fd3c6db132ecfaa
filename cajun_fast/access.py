"""One rule of who may do what; read by the configuration, applied by the links.

Laws: data and its check, nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from cajun_fast.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessRule:
    """Peers whose ids match one of the shell patterns in ``peers`` may ``send`` to actors whose ids match one of
    those, have actors of the types in ``spawn`` started here, and, with ``manage``, take part in running this node:
    stop and move actors, adopt, drain, elect."""

    peers: tuple[str, ...]
    send: tuple[str, ...] = ()
    spawn: tuple[str, ...] = ()
    manage: bool = False

    @classmethod
    def of(cls, value: Any) -> AccessRule:
        """From a map of a configuration file. Raises ConfigError."""
        if isinstance(value, AccessRule):
            return value
        known = [each.name for each in fields(cls)]
        if not isinstance(value, Mapping) or "peers" not in value or not set(value) <= set(known):
            raise ConfigError(
                f"{value!r:.200} is no access rule: it has peers and some of {', '.join(known[1:])}"
            )
        if not isinstance(value.get("manage", False), bool):
            raise ConfigError(f"manage={value['manage']!r:.50} in an access rule: give true or false")
        lists = {name: _patterns(name, value[name]) for name in ("peers", "send", "spawn") if name in value}
        return cls(**lists, manage=value.get("manage", False))


def _patterns(name: str, value: Any) -> tuple[str, ...]:
    items = [value] if isinstance(value, str) else value
    empty = name == "peers" and not items
    if (
        empty
        or not isinstance(items, list | tuple)
        or not all(isinstance(item, str) and item for item in items)
    ):
        raise ConfigError(
            f"{name}={value!r:.100} in an access rule: give a list of names and patterns, e.g. ['order-*']"
        )
    return tuple(items)
