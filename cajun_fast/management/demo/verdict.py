"""The books of all processes against each other: was any transfer lost, doubled, reordered or told wrongly?

What is verified, for each stream (from one life of one account to another account, numbered 1, 2, 3 …):

* Its sender wrote down how far it has sent *before* each send, in a file that outlives a SIGKILL, and how
  far it has settled. All that is settled is claimed as exactly one of: **delivered** (a receipt of the
  receiver vouches for it), **failed** (the engine told that it was not delivered), **unknown** (the engine
  told that it may have been delivered, or a receipt came from a new life of the receiver, which cannot vouch
  for what the old one had in its mailbox).
* Each life of the receiver wrote down what its handler took, number by number, in a file that outlives a
  SIGKILL: one watermark, and every gap, repetition and number out of order. Amounts follow from numbers;
  their sum is kept too.
* *Lost*: claimed as delivered, and in no receiver's book. *Doubled*: handled more than once, in one life or
  in two. *Told wrongly*: claimed as failed, and yet handled; or claimed as unknown by the engine, and handled
  by a life whose node was not killed. *Out of order*: a number handled after a higher one of its stream.
  *Mangled*: the sums differ. (A handler writes the sum, then the number: a SIGKILL may fall between the two, so the
  sum of a killed life may be one transfer ahead.)
  *Invented*: handled and never sent. *Unsettled*: its sender lives and does not know how it fared.
* A killed sender takes what it had not settled with it: each of those is **open**; it may or may not have
  been handled, at most once.

The books balance if none of these sins is there. Two guarantees allow for some: at-least-once may handle
twice what a killed node had; at-most-once may lose without a word.

Laws: pure functions of what stands in the books.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import combinations

from cajun_fast.guarantees import DeliveryGuarantee
from cajun_fast.management.demo.books import LARGEST_AMOUNT, Books, InRow, Note, OutRow, sum_of_amounts
from cajun_fast.management.demo.ranges import Ranges

#: What may be wrong, and what each means.
SINS = {
    "lost": "claimed as delivered, and no handler took it",
    "doubled": "handled more than once between living nodes",
    "doubled across the crash": "handled by the killed node and again by its successor",
    "out of order": "handled after a later one of its stream",
    "told wrongly": "told as failed or unknown, and yet handled where that cannot be",
    "mangled": "the handler added up other amounts than were sent",
    "invented": "handled, and nobody had sent it",
    "unsettled": "its sender lives and does not know how it fared",
    "unrecorded": "a book was too small to hold everything",
}
ALLOWED = {
    DeliveryGuarantee.AT_MOST_ONCE: {"lost"},
    DeliveryGuarantee.AT_LEAST_ONCE: {"doubled across the crash"},
    DeliveryGuarantee.EXACTLY_ONCE: set[str](),
}


@dataclass(slots=True)
class Verdict:
    """Counts of transfers."""

    guarantee: DeliveryGuarantee
    streams: int = 0
    sent: int = 0
    handled: int = 0
    delivered: int = 0
    failed: int = 0
    unknown: int = 0
    #: Of the unknown ones: in the killed node's own book.
    unknown_handled: int = 0
    open: int = 0
    open_handled: int = 0
    sins: Counter[str] = field(default_factory=Counter)
    #: A few of the sins, in words.
    examples: list[str] = field(default_factory=list)

    @property
    def balanced(self) -> bool:
        """Whether nothing happened that the guarantee excludes, and something was handled at all."""
        return self.handled > 0 and not self.sins.keys() - ALLOWED[self.guarantee]

    def blame(self, sin: str, count: int, example: str) -> None:
        """Count a sin, unless ``count`` is 0."""
        if count:
            self.sins[sin] += count
            if len(self.examples) < 10:
                self.examples.append(f"{sin}: {example}")


@dataclass(frozen=True, slots=True)
class Handled:
    """What one life of a receiver handled of one stream."""

    row: InRow
    survives: bool
    numbers: Ranges


def judge(all_books: Sequence[Books], guarantee: DeliveryGuarantee) -> Verdict:
    """The verdict."""
    verdict = Verdict(guarantee)
    for books in all_books:
        verdict.blame("unrecorded", books.overflow, f"{books.overflow} rows or lines of node {books.node}")
    told = _told(all_books)
    handled = _handled(all_books)
    sent = {row.stream: (row, books) for books in all_books for row in books.outs}
    for stream, (row, books) in sent.items():
        verdict.streams += 1
        _judge_stream(verdict, row, books.killed or row.ended, told, handled.pop(stream, []))
    for stream, lives in handled.items():
        verdict.blame(
            "invented", sum(len(each.numbers) for each in lives), f"stream {stream:#x} has no sender"
        )
    return verdict


def _told(all_books: Iterable[Books]) -> defaultdict[tuple[str, int], Ranges]:
    spans: defaultdict[tuple[str, int], list[tuple[int, int]]] = defaultdict(list)
    for note in _notes(all_books):
        spans[note.kind, note.stream].append((note.first, note.last))
    return defaultdict(Ranges, {key: Ranges(each) for key, each in spans.items()})


def _notes(all_books: Iterable[Books]) -> Iterable[Note]:
    return (note for books in all_books for note in books.notes)


def _handled(all_books: Sequence[Books]) -> dict[int, list[Handled]]:
    spans: defaultdict[tuple[str, int, int], list[tuple[int, int]]] = defaultdict(list)
    for note in _notes(all_books):
        spans[note.kind, note.stream, note.life].append((note.first, note.last))
    found: defaultdict[int, list[Handled]] = defaultdict(list)
    for books in all_books:
        for row in books.ins:
            if row.watermark:
                gaps, late = (Ranges(spans[kind, row.stream, row.life]) for kind in ("gap", "late"))
                numbers = (Ranges([(row.start, row.watermark)]) - gaps) | late
                found[row.stream].append(Handled(row, not books.killed, numbers))
    return found


def _judge_stream(
    verdict: Verdict,
    row: OutRow,
    sender_ended: bool,
    told: defaultdict[tuple[str, int], Ranges],
    lives: list[Handled],
) -> None:
    name = f"stream {row.stream:#x}"
    sent, still_open = Ranges([(1, row.sent)]), Ranges([(row.settled + 1, row.sent)])
    failed = told["failed", row.stream] - still_open
    unknown = (told["unknown", row.stream] | told["vouched by nobody", row.stream]) - still_open - failed
    handled = Ranges([span for life in lives for span in life.numbers])
    delivered = sent - still_open - failed - unknown
    verdict.sent += len(sent)
    verdict.handled += len(handled)
    verdict.delivered += len(delivered)
    verdict.failed += len(failed)
    verdict.unknown += len(unknown)
    verdict.unknown_handled += len(unknown & handled)
    verdict.open += len(still_open)
    verdict.open_handled += len(still_open & handled)
    if not sender_ended:
        verdict.blame("unsettled", len(still_open), f"{name} {still_open}")
    lost = delivered - handled
    verdict.blame("lost", len(lost), f"{name} {lost}")
    invented = handled - sent
    verdict.blame("invented", len(invented), f"{name} {invented}")
    _judge_words(verdict, name, failed, told["unknown", row.stream] - still_open, handled, lives)
    _judge_handling(verdict, name, lives)


def _judge_words(
    verdict: Verdict, name: str, failed: Ranges, unknown: Ranges, handled: Ranges, lives: list[Handled]
) -> None:
    wrongly = failed & handled
    verdict.blame("told wrongly", len(wrongly), f"{name} {wrongly} told as failed, and handled")
    for life in lives:
        if life.survives:
            late = unknown & life.numbers
            verdict.blame(
                "told wrongly", len(late), f"{name} {late} given up as unknown, and handled after that"
            )


def _judge_handling(verdict: Verdict, name: str, lives: list[Handled]) -> None:
    for life in lives:
        verdict.blame("doubled", life.row.doubles, f"{name}, {life.row.doubles} times in one life")
        verdict.blame("out of order", life.row.late, f"{name}, {life.row.late} times")
        total = sum(sum_of_amounts(first, last) for first, last in life.numbers)
        surplus = life.row.total - total
        mangled = surplus != 0 if life.survives else not 0 <= surplus <= LARGEST_AMOUNT
        verdict.blame("mangled", int(mangled), f"{name}: {life.row.total}, not {total}")
    for one, other in combinations(lives, 2):
        both = one.numbers & other.numbers
        sin = "doubled" if one.survives and other.survives else "doubled across the crash"
        verdict.blame(sin, len(both), f"{name} {both} in two lives")
