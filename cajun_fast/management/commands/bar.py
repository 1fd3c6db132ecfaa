"""How far a drain is: a bar on a terminal, a line for each tenth elsewhere.

Laws: what is said goes to standard output, the bar to standard error, so that a pipe gets sentences only.
"""

from __future__ import annotations

import asyncio
import sys
from types import TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from cajun_fast.cluster.movement.results import DrainProgress, DrainResult


class Bar:
    """Of one drain after the other; ``with Bar() as bar``."""

    def __init__(self) -> None:
        self._tenth = -1
        self._node = ""
        self._progress: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Bar:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

            self._progress = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("moved, {task.fields[moving]} on their way, {task.fields[stayed]} stay"),
                TimeElapsedColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress is not None:
            self._progress.stop()

    def show(self, step: DrainProgress, *, quiet: bool = False) -> None:
        """How far it is now; ``quiet``: on a terminal only."""
        if step.phase == "cordon":
            return  # how many there are is not known yet
        total = step.moved + step.left
        if self._progress is not None:
            if self._node != step.node or self._task is None:
                self._node = step.node
                self._task = self._progress.add_task(step.node, total=total, moving=0, stayed=0)
            self._progress.update(
                self._task, total=total, completed=step.moved, moving=step.moving, stayed=step.stayed
            )
            return
        tenth = 10 * step.moved // total if total else 10
        if not quiet and step.phase == "move" and (step.node, tenth) != (self._node, self._tenth):
            self._node, self._tenth = step.node, tenth
            self.say(f"{step.node}: {step.moved} of {total} moved")

    def say(self, line: str) -> None:
        """One line, at once."""
        print(line, flush=True)


async def shown_drain(node: str, drain: Any) -> DrainResult:
    """Follow it with a bar; what a drain that is broken off leaves behind is said."""
    step: DrainProgress | None = None
    try:
        with Bar() as bar:
            async for step in drain:
                bar.show(step)
    except asyncio.CancelledError:
        moved = 0 if step is None else step.moved
        print(
            f"{node}: broken off, {moved} actors have moved; it stays cordoned: drain it again, or uncordon it",
            file=sys.stderr,
        )
        raise
    return drain.result  # type: ignore[no-any-return]
