"""What a sender may ask for: the three delivery guarantees.

Laws: no import from the package; the numbers travel in frames and stand in settings, so they never change.
"""

from __future__ import annotations

import enum


class DeliveryGuarantee(enum.IntEnum):
    """How often a message may reach its handler while nobody crashes; ``docs/guarantees.md`` has the full
    table.
    """

    #: Zero or one time: never resent.
    AT_MOST_ONCE = 0
    #: One time or more: resent until acknowledged, and not deduplicated after a receiver's crash.
    AT_LEAST_ONCE = 1
    #: One handling while both processes live; what a crash leaves open is told to the sender as unknown.
    EXACTLY_ONCE = 2
