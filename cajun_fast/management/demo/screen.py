"""What the demo prints: a live table on a terminal, plain lines elsewhere, and the verdict in words.

Laws: no counting and no judging here, only saying.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from cajun_fast.guarantees import DeliveryGuarantee
from cajun_fast.management.demo.books import percentile
from cajun_fast.management.demo.verdict import ALLOWED, SINS, Verdict

#: Seconds over which rates and percentiles of the table are taken.
WINDOW = 1.0
#: Seconds between two plain lines.
LINE_INTERVAL = 1.0
COLOURS = {"serving": "green", "leader": "bold green", "killed": "bold red", "died": "bold red"}


@dataclass(frozen=True, slots=True)
class Sample:
    """What one node's book said at a moment."""

    at: float
    handled: int
    histogram: list[int]


@dataclass(frozen=True, slots=True)
class Line:
    """One node in the table. Latencies in microseconds; None: nothing was measured."""

    node: str
    state: str
    accounts: int
    links: int
    rate: float
    handled: int
    p50: int | None
    p99: int | None


class Meter:
    """Rate and percentiles of one node over the last moment."""

    def __init__(self) -> None:
        self._samples: deque[Sample] = deque()

    def add(self, sample: Sample) -> tuple[float, int | None, int | None]:
        """A further sample; transfers a second, median and 99th percentile in microseconds."""
        samples = self._samples
        samples.append(sample)
        while len(samples) > 2 and samples[1].at <= sample.at - WINDOW:
            samples.popleft()
        first = samples[0]
        passed = sample.at - first.at
        recent = [now - then for now, then in zip(sample.histogram, first.histogram, strict=True)]
        rate = (sample.handled - first.handled) / passed if passed > 0 else 0.0
        return rate, percentile(recent, 0.5), percentile(recent, 0.99)


class Screen:
    """Where the demo shows itself. ``quiet``: nowhere."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._console = Console(file=sys.stdout, highlight=False)
        self._live = (
            Live(console=self._console, refresh_per_second=8, transient=False)
            if self._console.is_terminal and not quiet
            else None
        )
        self._next_line = 0.0
        self._head = ""

    def running(self) -> AbstractContextManager[object]:
        """While the table is to be seen."""
        return self._live if self._live is not None else nullcontext()

    def say(self, text: str) -> None:
        """A line that stays."""
        if not self._quiet:
            self._console.print(text, markup=False, soft_wrap=True)

    def show(self, at: float, phase: str, lines: Sequence[Line]) -> None:
        """The table, or a line if it is time for one."""
        if self._live is not None:
            self._live.update(Group(Text(phase, style="bold"), table_of(lines)))
        elif not self._quiet and at >= self._next_line:
            self._next_line = at + LINE_INTERVAL
            self.say(f"{phase}: " + "; ".join(map(plain, lines)))


def plain(line: Line) -> str:
    """One node in a plain line."""
    return (
        f"{line.node} {line.state}, {line.rate:,.0f}/s, {line.handled:,} handled, "
        f"receipt p50 {milliseconds(line.p50)} p99 {milliseconds(line.p99)}, {line.links} links"
    )


def table_of(lines: Iterable[Line]) -> Table:
    """The live table."""
    table = Table()
    table.add_column("node")
    table.add_column("state")
    for name in ("accounts", "links", "transfers/s", "handled", "receipt p50", "p99"):
        table.add_column(name, justify="right")
    total = 0.0
    for line in lines:
        total += line.rate
        table.add_row(
            line.node,
            Text(line.state, style=COLOURS.get(line.state, "")),
            str(line.accounts),
            str(line.links),
            f"{line.rate:,.0f}",
            f"{line.handled:,}",
            milliseconds(line.p50),
            milliseconds(line.p99),
        )
    table.add_section()
    table.add_row("all", "", "", "", f"{total:,.0f}", "", "", "")
    return table


def milliseconds(microseconds: int | None) -> str:
    """For people."""
    return "–" if microseconds is None else f"{microseconds / 1000:.1f} ms"


def words_of(verdict: Verdict) -> list[str]:
    """The verdict: every number with what it means."""
    name = verdict.guarantee.name.lower().replace("_", "-")
    rows = [
        (verdict.sent, "sent", f"each by one account to another, in {verdict.streams:,} numbered streams"),
        (verdict.delivered, "delivered", "a receipt of the receiver vouches for it"),
        (verdict.failed, "failed", "told to the sender: it was not delivered"),
        (
            verdict.unknown,
            "unknown",
            "told to the sender: its receiver was killed and cannot say; in truth it had handled "
            f"{verdict.unknown_handled:,} of them",
        ),
        (
            verdict.open,
            "open",
            f"their sender was killed before it could settle them; {verdict.open_handled:,} of them arrived",
        ),
        (verdict.handled, "handled", "in the books of the receivers, the killed one's among them"),
    ]
    for sin in (*SINS, *(verdict.sins.keys() - SINS.keys())):
        count = verdict.sins[sin]
        if count or sin in ("lost", "doubled", "out of order", "told wrongly"):
            allowed = f" (allowed by {name})" if count and sin in ALLOWED[verdict.guarantee] else ""
            rows.append((count, sin, f"{SINS.get(sin, 'see below')}{allowed}"))
    width = max(len(word) for _, word, _ in rows)
    text = [f"  {count:>12,}  {word:<{width}}  {meaning}" for count, word, meaning in rows]
    text += [f"      {example}" for example in verdict.examples]
    text.append(_sentence(verdict, name))
    return text


def _sentence(verdict: Verdict, name: str) -> str:
    if not verdict.handled:
        return "The books prove nothing: no transfer was handled."
    if not verdict.balanced:
        return f"THE BOOKS DO NOT BALANCE for {name}."
    at_most = verdict.guarantee is DeliveryGuarantee.AT_MOST_ONCE
    none = "none doubled" if at_most else "none lost, none doubled"
    return f"The books balance: every transfer is accounted for; {none} between living nodes ({name})."
