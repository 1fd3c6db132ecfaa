"""Sets of sequence numbers as spans: three million of them in a row cost as much as one.

Laws: pure data; spans are closed, ascending, disjoint and never adjacent, so that equal sets are equal lists.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator

Span = tuple[int, int]


class Ranges:
    """A set of whole numbers that come mostly in runs."""

    __slots__ = ("_spans",)

    def __init__(self, spans: Iterable[Span] = ()) -> None:
        self._spans = _merged(spans)

    def __iter__(self) -> Iterator[Span]:
        """Its spans, first and last, ascending."""
        return iter(self._spans)

    def __len__(self) -> int:
        return sum(last - first + 1 for first, last in self._spans)

    def __bool__(self) -> bool:
        return bool(self._spans)

    def __contains__(self, number: int) -> bool:
        at = bisect_left(self._spans, (number + 1,)) - 1
        return at >= 0 and self._spans[at][1] >= number

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ranges) and self._spans == other._spans

    __hash__ = None  # type: ignore[assignment]  # it changes by add

    def __repr__(self) -> str:
        shown = ", ".join(f"{a}" if a == b else f"{a}…{b}" for a, b in self._spans[:8])
        return f"Ranges({shown}{', …' if len(self._spans) > 8 else ''})"

    def add(self, first: int, last: int) -> None:
        """Take in ``first`` to ``last``; nothing if ``last`` comes before ``first``."""
        if last < first:
            return
        spans = self._spans
        if not spans or spans[-1][1] + 1 < first:
            spans.append((first, last))
        else:
            self._spans = _merged([*spans, (first, last)])

    def __or__(self, other: Ranges) -> Ranges:
        return Ranges([*self._spans, *other._spans])

    def __and__(self, other: Ranges) -> Ranges:
        both = Ranges()
        mine, theirs = self._spans, other._spans
        i = j = 0
        while i < len(mine) and j < len(theirs):
            first, last = max(mine[i][0], theirs[j][0]), min(mine[i][1], theirs[j][1])
            if first <= last:
                both._spans.append((first, last))
            if mine[i][1] < theirs[j][1]:
                i += 1
            else:
                j += 1
        return both

    def __sub__(self, other: Ranges) -> Ranges:
        rest = Ranges()
        for first, last in self._spans:
            for gone_first, gone_last in (other & Ranges([(first, last)]))._spans:
                if first < gone_first:
                    rest._spans.append((first, gone_first - 1))
                first = gone_last + 1
            if first <= last:
                rest._spans.append((first, last))
        return rest


def _merged(spans: Iterable[Span]) -> list[Span]:
    merged: list[Span] = []
    for first, last in sorted(span for span in spans if span[0] <= span[1]):
        if merged and merged[-1][1] + 1 >= first:
            merged[-1] = (merged[-1][0], max(merged[-1][1], last))
        else:
            merged.append((first, last))
    return merged
