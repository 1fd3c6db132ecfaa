"""From a store's URL to the store: the embedded ones by name, others by entry points.

Laws: a store's module is imported when its URL is used, so that nobody pays for a store that he does not use.
A third party registers ``scheme = "package.module:factory"`` in the entry-point group ``cajun_fast.stores``;
the factory takes ``(url, StoreOptions)`` and returns a MetadataStore that is not yet connected. It may
replace a built-in scheme.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.metadata import EntryPoint, entry_points
from typing import Any, cast

from cajun_fast.errors import ConfigError
from cajun_fast.metadata.options import StoreOptions
from cajun_fast.metadata.store import MetadataStore
from cajun_fast.metadata.urls import redact, scheme_of

GROUP = "cajun_fast.stores"
Factory = Callable[[str, StoreOptions], MetadataStore]

_BUILT_IN = {
    "memory": "cajun_fast.metadata.memory:MemoryMetadataStore.from_url",
    "sqlite": "cajun_fast.metadata.sqlite:SqliteMetadataStore.from_url",
    "http": "cajun_fast.metadata.etcd:EtcdMetadataStore.from_url",
    "https": "cajun_fast.metadata.etcd:EtcdMetadataStore.from_url",
    "etcd": "cajun_fast.metadata.etcd:EtcdMetadataStore.from_url",
}


def open_store(url: str | Sequence[str], **options: Any) -> MetadataStore:
    """The store of a URL (or of several endpoints of one etcd), to be connected. Options: see StoreOptions.

    >>> open_store("memory://orders").url
    'memory://orders'
    """
    text = url if isinstance(url, str) else ",".join(url)
    factory = _factory(scheme_of(text), text)
    try:
        settings = StoreOptions(**options)
    except TypeError as exc:
        raise ConfigError(
            f"store {redact(text)!r}: {exc}; see cajun_fast.metadata.options.StoreOptions"
        ) from exc
    return factory(text, settings)


def _factory(scheme: str, url: str) -> Factory:
    foreign = {point.name.lower(): point for point in entry_points(group=GROUP)}
    if scheme in foreign:
        return _load(foreign[scheme], url)
    if scheme in _BUILT_IN:
        return _load(EntryPoint(scheme, _BUILT_IN[scheme], GROUP), url)
    known = ", ".join(sorted({*_BUILT_IN, *foreign}))
    raise ConfigError(
        f"store {redact(url)!r}: nothing serves the scheme {scheme!r}; there are {known}. "
        f"Correct the URL, or install the package that brings this store (entry points of group {GROUP!r})"
    )


def _load(point: EntryPoint, url: str) -> Factory:
    try:
        return cast(Factory, point.load())
    except (ImportError, AttributeError) as exc:
        raise ConfigError(
            f"store {redact(url)!r}: {point.value} cannot be loaded ({exc}): install it"
        ) from exc
