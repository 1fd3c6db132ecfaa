"""Settings from a TOML file, from ``CAJUN_*`` variables and from keyword arguments.

Laws: the only place that reads a configuration file; unknown names are errors with a suggestion, never
ignored.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator, Mapping
from typing import Any

from cajun_fast.config import ClusterConfig, build, did_you_mean, rule_of, settings
from cajun_fast.config_groups import GROUPS
from cajun_fast.errors import ConfigError

PREFIX = "CAJUN_"
#: Variables of other tools of this project, and secrets, which settings only name: not settings.
FOREIGN = ("CAJUN_SECRET_", "CAJUN_TEST_", "CAJUN_BENCH_", "CAJUN_BUILD_", "CAJUN_DEMO_")
#: Other words for the same setting.
ALIASES = {"store": "endpoints", "id": "system_id", "nodes": "known_nodes"}


def load(
    kind: type[ClusterConfig],
    file: str | os.PathLike[str] | None,
    environ: Mapping[str, str],
    overrides: Mapping[str, Any],
) -> ClusterConfig:
    """See ``ClusterConfig.load``."""
    values: dict[str, Any] = {}
    if file is not None:
        values |= _checked(_from_file(file))
    values |= _checked(_from_environ(environ))
    values |= _checked({_dotted(name, f"argument {name!r}"): value for name, value in overrides.items()})
    if "system_id" not in values:
        raise ConfigError(
            'no system_id: name this node, by --id a, system_id = "a" in the file or CAJUN_SYSTEM_ID=a'
        )
    if "endpoints" not in values:
        raise ConfigError(
            "no store: name the metadata store, by --store sqlite:///cluster.db, the same in the file, or "
            "CAJUN_STORE=…"
        )
    return build(kind, values)


def _checked(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: rule_of(name)(name, value) for name, value in values.items()}


def _from_file(file: str | os.PathLike[str]) -> dict[str, Any]:
    path = os.fspath(file)
    try:
        with open(path, "rb") as stream:
            tree = tomllib.load(stream)
    except OSError as exc:
        raise ConfigError(f"cannot read the configuration file {path!r}: {exc.strerror}") from exc
    except tomllib.TOMLDecodeError as exc:
        raise ConfigError(f"the configuration file {path!r} is not valid TOML: {exc}") from exc
    return {_known(name, f"{path}: setting {name!r}"): value for name, value in _flatten(tree)}


def _flatten(tree: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if name in GROUPS and isinstance(value, Mapping):
            yield from ((f"{name}.{inner}", item) for inner, item in value.items())
        else:
            yield name, value


def _from_environ(environ: Mapping[str, str]) -> dict[str, str]:
    ours = {name: value for name, value in environ.items() if name.startswith(PREFIX)}
    return {
        _dotted(name.removeprefix(PREFIX).lower(), f"variable {name}"): value
        for name, value in ours.items()
        if not name.startswith(FOREIGN)
    }


def _dotted(name: str, what: str) -> str:
    """``messaging_port`` as ``messaging.port``."""
    group, _, rest = name.partition("_")
    return _known(f"{group}.{rest}" if group in GROUPS and rest else name, what)


def _known(name: str, what: str) -> str:
    name = ALIASES.get(name, name)
    known = settings()
    if name not in known:
        raise ConfigError(f"{what} is not known{did_you_mean(name, [*known, *ALIASES])}")
    return name
