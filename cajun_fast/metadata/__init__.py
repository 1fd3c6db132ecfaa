"""Metadata stores: durable, ordered, shared truth of a cluster. ``open_store(url)`` is the way in."""

from cajun_fast.metadata.keys import KeySpace
from cajun_fast.metadata.options import StoreOptions
from cajun_fast.metadata.registry import open_store
from cajun_fast.metadata.store import (
    Compare,
    Delete,
    Entry,
    Event,
    EventKind,
    Lease,
    Lock,
    MetadataStore,
    Outcome,
    Page,
    Put,
    Watch,
)

__all__ = [
    "Compare",
    "Delete",
    "Entry",
    "Event",
    "EventKind",
    "KeySpace",
    "Lease",
    "Lock",
    "MetadataStore",
    "Outcome",
    "Page",
    "Put",
    "StoreOptions",
    "Watch",
    "open_store",
]
