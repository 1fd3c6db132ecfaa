"""What each process of the demo writes down: numbers in a mapped file, which a SIGKILL cannot take away.

A book is cells of 64 bits: a header, a histogram, then a row for each stream of transfers that this process
sends (``OUT``) or receives (``IN``). What comes in no order, refusals above all, goes as lines of JSON into
a file beside it.

Laws: one process writes a book; the conductor only reads. A row's kind is written last, so that no reader
sees half a row. The size is fixed at the start and does not depend on how many transfers there are.
"""

from __future__ import annotations

import json
import mmap
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

MAGIC = 0x63616A756E0001
CELL = 8
HEADER = 32
BUCKETS = 480
ROW = 8
#: Cells of the header.
AT_MAGIC, AT_LIVES, AT_ROWS, AT_CAPACITY, AT_PEERS, AT_LEADER, AT_ACCOUNTS, AT_OVERFLOW, AT_NOTES = range(9)
#: Kinds of rows.
OUT, IN = 1, 2
#: Cells of every row, then of one that sends, then of one that receives.
KIND, STREAM, LIFE = range(3)
SENT, SETTLED, ENDED = range(3, 6)
START, WATERMARK, TOTAL, DOUBLES, LATE = range(3, 8)
#: Lines of JSON that one process writes at most; a demo that needs more is broken, and the verdict says so.
NOTES_MOST = 20_000


class Note(NamedTuple):
    """A span of a stream that fared otherwise. ``kind``: failed, unknown, vouched by nobody; gap, late."""

    kind: str
    stream: int
    first: int
    last: int
    life: int = 0
    why: str = ""


class OutRow(NamedTuple):
    """A stream as its sender saw it: sent and settled up to there. ``ended``: its sender was stopped early."""

    stream: int
    life: int
    sent: int
    settled: int
    ended: bool = False


class InRow(NamedTuple):
    """A stream as one life of its receiver saw it: from ``start`` to ``watermark``, but for the gaps noted."""

    stream: int
    life: int
    start: int
    watermark: int
    total: int
    doubles: int = 0
    late: int = 0


@dataclass(frozen=True, slots=True)
class Books:
    """All that one process wrote."""

    node: str
    killed: bool
    outs: tuple[OutRow, ...]
    ins: tuple[InRow, ...]
    notes: tuple[Note, ...] = ()
    overflow: int = 0


class Ledger:
    """A book in its file. ``cells`` are all its numbers; rows are places in them."""

    def __init__(self, path: Path, capacity: int | None = None) -> None:
        """With a capacity: made anew, to write. Without: opened, to read."""
        if capacity is not None:
            size = (HEADER + BUCKETS + ROW * capacity) * CELL
            with open(path, "xb") as file:
                file.truncate(size)
        with open(path, "r+b") as file:
            self._map = mmap.mmap(file.fileno(), 0)
        self.cells = memoryview(self._map).cast("Q")
        self._notes_path = path.with_suffix(".notes")
        if capacity is not None:
            self.cells[AT_CAPACITY] = capacity
            self.cells[AT_MAGIC] = MAGIC

    def close(self) -> None:
        """Let go of the file."""
        self.cells.release()
        self._map.close()

    # ---- writing

    def new_life(self) -> int:
        """A number for one start of one account in this process, from 1."""
        self.cells[AT_LIVES] += 1
        return self.cells[AT_LIVES]

    def new_row(self, kind: int, stream: int, life: int, *rest: int) -> int:
        """The place of a fresh row. Without room it is one that all such rows share, and that is counted."""
        cells = self.cells
        used = cells[AT_ROWS]
        if used >= cells[AT_CAPACITY] - 1:
            cells[AT_OVERFLOW] += 1
            return HEADER + BUCKETS + ROW * used
        at = HEADER + BUCKETS + ROW * used
        for offset, value in enumerate((stream, life, *rest), start=STREAM):
            cells[at + offset] = value
        cells[at + KIND] = kind
        cells[AT_ROWS] = used + 1
        return at

    def note(self, note: Note) -> None:
        """A line beside the book; past the limit it is only counted."""
        self.cells[AT_NOTES] += 1
        if self.cells[AT_NOTES] > NOTES_MOST:
            self.cells[AT_OVERFLOW] += 1
            return
        line = json.dumps(note).encode() + b"\n"
        descriptor = os.open(self._notes_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(descriptor, line)
        finally:
            os.close(descriptor)

    def record_latency(self, microseconds: int) -> None:
        """One more in the histogram."""
        self.cells[HEADER + min(bucket_of(microseconds), BUCKETS - 1)] += 1

    # ---- reading

    def histogram(self) -> list[int]:
        """How many there are in each bucket."""
        return self.cells[HEADER : HEADER + BUCKETS].tolist()

    def rows(self) -> Iterator[list[int]]:
        """All rows, each as its cells."""
        first = HEADER + BUCKETS
        flat = self.cells[first : first + ROW * self.cells[AT_ROWS]].tolist()
        for at in range(0, len(flat), ROW):
            yield flat[at : at + ROW]

    def handled(self) -> int:
        """Transfers that handlers of this process have taken."""
        rows = (row for row in self.rows() if row[KIND] == IN and row[WATERMARK])
        return sum(row[WATERMARK] - row[START] + 1 for row in rows)

    def read(self, node: str, *, killed: bool = False) -> Books:
        """All of it."""
        rows = list(self.rows())
        outs = (
            OutRow(row[STREAM], row[LIFE], row[SENT], row[SETTLED], bool(row[ENDED]))
            for row in rows
            if row[KIND] == OUT
        )
        ins = (InRow(*row[STREAM:]) for row in rows if row[KIND] == IN)
        return Books(node, killed, tuple(outs), tuple(ins), self._notes(), self.cells[AT_OVERFLOW])

    def _notes(self) -> tuple[Note, ...]:
        if not self._notes_path.exists():
            return ()
        lines = self._notes_path.read_bytes().split(b"\n")[:-1]  # the last may be half a line, or nothing
        return tuple(Note(*json.loads(line)) for line in lines)


class Control:
    """One number that the conductor sets and all processes read."""

    WAIT, TRADE, CLOSE = range(3)

    def __init__(self, path: Path, *, create: bool = False) -> None:
        if create:
            path.write_bytes(bytes(CELL))
        with open(path, "r+b") as file:
            self._map = mmap.mmap(file.fileno(), 0)
        self._cells = memoryview(self._map).cast("Q")

    @property
    def phase(self) -> int:
        """WAIT, TRADE or CLOSE."""
        return self._cells[0]

    @phase.setter
    def phase(self, phase: int) -> None:
        self._cells[0] = phase

    def close(self) -> None:
        """Let go of the file."""
        self._cells.release()
        self._map.close()


# ---- the histogram: 16 buckets an octave, so that a value is known to a sixteenth


def bucket_of(value: int) -> int:
    """The bucket of a whole number of at least 0."""
    octave = max(value.bit_length() - 5, 0)
    return octave * 16 + (value >> octave)


def top_of(bucket: int) -> int:
    """The largest number in a bucket."""
    octave = max(bucket // 16 - 1, 0)
    return ((bucket - octave * 16 + 1) << octave) - 1


def percentile(histogram: list[int], share: float) -> int | None:
    """The number that ``share`` of all values do not exceed; None where there are none."""
    total = sum(histogram)
    if not total:
        return None
    rank, seen = max(1, -int(-share * total // 1)), 0
    for bucket, count in enumerate(histogram):
        seen += count
        if seen >= rank:
            return top_of(bucket)
    return None


# ---- amounts: known from the number, so that a mangled transfer shows


LARGEST_AMOUNT = 100


def amount_of(number: int) -> int:
    """What transfer ``number`` of any stream carries."""
    return 1 + number % LARGEST_AMOUNT


def sum_of_amounts(first: int, last: int) -> int:
    """What the transfers ``first`` to ``last`` carry together."""
    return _sum_to(last) - _sum_to(first - 1)


def _sum_to(last: int) -> int:
    if last < 0:
        return 0
    hundreds, rest = divmod(last + 1, 100)
    return hundreds * 5050 + rest * (rest + 1) // 2 - 1  # number 0 would carry 1, and does not exist
