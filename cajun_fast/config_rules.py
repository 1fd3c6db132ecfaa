"""Rules for single settings: each takes a value and returns it in its proper form, or raises ConfigError.

Laws: pure functions; a message names the setting, the value that was wrong, and what would be right.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import math
import re
import ssl
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from cajun_fast.access import AccessRule
from cajun_fast.errors import ConfigError
from cajun_fast.guarantees import DeliveryGuarantee


class NodeAddress(NamedTuple):
    """Where a node's links arrive."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


Rule = Callable[[str, Any], Any]

_NAME = re.compile(r"[^\s/\x00-\x1f\x7f]+")


def setting(default: Any, rule: Rule, advice: str) -> Any:
    """A dataclass field with its rule and its advice; ``docs/configuration.md`` is held against both."""
    return dataclasses.field(default=default, metadata={"rule": rule, "advice": advice})


def wrong(name: str, value: object, remedy: str) -> ConfigError:
    return ConfigError(f"setting {name}={value!r:.200} is wrong: {remedy}")


def whole(least: int, most: int | None = None) -> Rule:
    """An integer within limits; text of digits is taken too (it comes from the environment)."""
    limits = f"from {least} to {most}" if most is not None else f"of at least {least}"

    def check(name: str, value: Any) -> int:
        number = _parsed(int, value)
        if not isinstance(number, int) or isinstance(number, bool):
            raise wrong(name, value, f"give a whole number {limits}")
        if number < least or (most is not None and number > most):
            raise wrong(name, value, f"give a whole number {limits}")
        return int(number)

    return check


def number(least: float, most: float = math.inf, unit: str = "") -> Rule:
    """A finite number of ``unit`` within limits."""
    limits = f"{least:g} {unit} or more" if most == math.inf else f"{least:g} to {most:g} {unit}"

    def check(name: str, value: Any) -> float:
        parsed = _parsed(float, value)
        if not isinstance(parsed, int | float) or isinstance(parsed, bool) or not math.isfinite(parsed):
            raise wrong(name, value, f"give a number, {limits.strip()}")
        if not least <= parsed <= most:
            raise wrong(name, value, f"give {limits.strip()}")
        return float(parsed)

    return check


def flag(name: str, value: Any) -> bool:
    if isinstance(value, bool):
        return value
    words = {
        "1": True,
        "true": True,
        "yes": True,
        "on": True,
        "0": False,
        "false": False,
        "no": False,
        "off": False,
    }
    if isinstance(value, str) and value.lower() in words:
        return words[value.lower()]
    raise wrong(name, value, "give true or false")


def text(name: str, value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise wrong(name, value, "give a text that is not empty")
    return value


def identifier(name: str, value: Any) -> str:
    """A node's or cluster's name: it stands in keys, in addresses of system actors and in logs."""
    if not isinstance(value, str) or not _NAME.fullmatch(value) or len(value) > 200 or "@" in value:
        raise wrong(name, value, "give 1 to 200 characters without spaces, '/', '@' and control characters")
    return value


def one_of(*words: str) -> Rule:
    def check(name: str, value: Any) -> str:
        if value not in words:
            raise wrong(name, value, f"give one of {', '.join(words)}")
        return str(value)

    return check


def optional(rule: Rule) -> Rule:
    """None, or what ``rule`` takes."""

    def check(name: str, value: Any) -> Any:
        return None if value is None else rule(name, value)

    return check


def many(rule: Rule) -> Rule:
    """A tuple of what ``rule`` takes; text is split at commas."""

    def check(name: str, value: Any) -> tuple[Any, ...]:
        if isinstance(value, str):
            value = [part.strip() for part in value.split(",") if part.strip()]
        if not isinstance(value, Iterable):
            raise wrong(name, value, "give a list")
        return tuple(rule(name, item) for item in value)

    return check


def _parsed(kind: Callable[[str], Any], value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return kind(value.strip())
    except ValueError:
        return None


def guarantee(name: str, value: Any) -> DeliveryGuarantee:
    try:
        return DeliveryGuarantee[value.upper()] if isinstance(value, str) else DeliveryGuarantee(value)
    except (KeyError, ValueError):
        known = ", ".join(member.name for member in DeliveryGuarantee)
        raise wrong(name, value, f"give one of {known}") from None


def endpoints(name: str, value: Any) -> tuple[str, ...]:
    endpoints: tuple[str, ...] = many(text)(name, value)
    if not endpoints:
        raise wrong(name, value, "name the metadata store, e.g. 'sqlite:///cluster.db' or 'http://host:2379'")
    for each in endpoints[:1]:
        if "://" not in each:
            raise wrong(name, each, "write it as a URL, e.g. 'sqlite:///cluster.db' or 'http://host:2379'")
    return endpoints


def known_nodes(name: str, value: Any) -> Mapping[str, NodeAddress]:
    if isinstance(value, str):
        pairs = [part.partition("=") for part in value.split(",") if part.strip()]
        value = {node.strip(): address.strip() for node, _, address in pairs}
    if not isinstance(value, Mapping):
        raise wrong(name, value, "give node ids with their addresses, e.g. {'node2': 'host2:8080'}")
    return MappingProxyType(
        {identifier(name, node): node_address(name, address) for node, address in value.items()}
    )


def node_address(name: str, value: Any) -> NodeAddress:
    if isinstance(value, str):
        host, _, port = value.rpartition(":")
        value = (host.strip("[]"), port)
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise wrong(name, value, "give an address as 'host:port'")
    return NodeAddress(text(name, value[0]), whole(1, 65535)(name, value[1]))


def access_rules(name: str, value: Any) -> tuple[AccessRule, ...]:
    if isinstance(value, str | Mapping) or not isinstance(value, Iterable):
        raise wrong(
            name, value, "give a list of rules: in a file, [[security.allow]] with peers, send, spawn, manage"
        )
    return tuple(AccessRule.of(item) for item in value)


def variable(name: str, value: Any) -> str:
    """The name of an environment variable. What does not look like one is not shown: it may be the secret."""
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,63}", value):
        raise wrong(name, "(not shown)", "give the name of a variable, e.g. CLUSTER_KEYS, not what it holds")
    return value


def ssl_context(name: str, value: Any) -> ssl.SSLContext | None:
    if value is None or isinstance(value, ssl.SSLContext):
        return value
    raise wrong(name, value, "give an ssl.SSLContext; in a file, name tls_cert, tls_key and tls_ca instead")


def is_loopback(host: str) -> bool:
    """Whether only this machine can connect there. A name other than localhost may mean anything."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"
