"""Where durable actors keep their state: the interface, its implementations, and the commits of one node."""

from cajun_fast.persistence.base import Commit, Epoch, Event, Persistence, Reply, Restored, Told
from cajun_fast.persistence.durability import Durability
from cajun_fast.persistence.memory import MemoryPersistence
from cajun_fast.persistence.registry import open_persistence

__all__ = [
    "Commit",
    "Durability",
    "Epoch",
    "Event",
    "MemoryPersistence",
    "Persistence",
    "Reply",
    "Restored",
    "Told",
    "open_persistence",
]
