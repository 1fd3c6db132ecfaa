"""From the URL of setting ``persistence`` to the implementation: those that come along by name, others by entry points.

Laws: a module is imported when its URL is used. A third party registers ``scheme = "package.module:factory"`` in the
entry-point group ``cajun_fast.persistence``; the factory takes the URL and returns a Persistence that is not yet
connected. It may replace a built-in scheme.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from typing import cast

from cajun_fast.errors import ConfigError
from cajun_fast.metadata.urls import redact, scheme_of
from cajun_fast.persistence.base import Persistence

GROUP = "cajun_fast.persistence"
Factory = Callable[[str], Persistence]

_BUILT_IN = {
    "memory": "cajun_fast.persistence.registry:open_memory",
    "sqlite": "cajun_fast.persistence.sqlite:SqlitePersistence.from_url",
    "postgresql": "cajun_fast.persistence.postgres:PostgresPersistence.from_url",
    "postgres": "cajun_fast.persistence.postgres:PostgresPersistence.from_url",
}


def open_persistence(url: str) -> Persistence:
    """The persistence of a URL, to be connected. Raises ConfigError for one that nothing serves.

    >>> open_persistence("memory://orders").url
    'memory://orders'
    """
    scheme = scheme_of(url)
    foreign = {point.name.lower(): point for point in entry_points(group=GROUP)}
    if scheme in foreign:
        point = foreign[scheme]
    elif scheme in _BUILT_IN:
        point = EntryPoint(scheme, _BUILT_IN[scheme], GROUP)
    else:
        known = ", ".join(sorted({*_BUILT_IN, *foreign}))
        raise ConfigError(
            f"persistence {redact(url)!r}: nothing serves the scheme {scheme!r}; there are {known}. Correct the URL, "
            f"or install the package that brings it (entry points of group {GROUP!r})"
        )
    try:
        factory = cast(Factory, point.load())
    except (ImportError, AttributeError) as exc:
        raise ConfigError(
            f"persistence {redact(url)!r}: {point.value} cannot be loaded ({exc}): install it"
        ) from exc
    return factory(url)


def open_memory(url: str) -> Persistence:
    from cajun_fast.persistence.memory import MemoryPersistence

    return MemoryPersistence(url.partition("://")[2])
