"""What takes its time: moves and drains that somebody asked for and that go on while nobody waits.

Laws: each has its task here and ends with this room; as many run at a time as fit, the last that ended are
remembered, and what was neither seen to its end nor refused is not forgotten while it runs. Of one subject only
one of a kind runs.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from cajun_fast.clock import Clock
from cajun_fast.errors import CajunError, NotRunningError

log = logging.getLogger("cajun_fast.management")

Tell = Callable[[Any], None]
Work = Callable[[Tell], Coroutine[Any, Any, Any]]

#: At the same time.
RUNNING = 16
#: That are over and can still be asked for.
KEPT = 100


@dataclass(slots=True)
class Job:
    """``state``: running, done, failed, cancelled."""

    id: str
    kind: str
    subject: str
    started_ns: int
    state: str = "running"
    ended_ns: int | None = None
    result: Any = None
    error: str | None = None
    progress: Any = None
    over: asyncio.Event = field(default_factory=asyncio.Event)
    #: Set once anything is new, and another one takes its place: whoever follows sees the newest, and misses no end.
    news: asyncio.Event = field(default_factory=asyncio.Event)

    def tell(self, progress: Any) -> None:
        """How far it is."""
        self.progress = progress
        self.wake()

    def wake(self) -> None:
        """Have whoever follows look again."""
        self.news.set()
        self.news = asyncio.Event()

    def shown(self, now_ns: int) -> dict[str, Any]:
        """As JSON can hold it."""
        return {
            "id": self.id,
            "kind": self.kind,
            "subject": self.subject,
            "state": self.state,
            "seconds": ((self.ended_ns or now_ns) - self.started_ns) / 1e9,
            "ended_ago": (now_ns - self.ended_ns) / 1e9 if self.ended_ns is not None else None,
            "progress": self.progress,
            "result": self.result,
            "error": self.error,
        }


class TooManyJobsError(CajunError):
    """There is no room for one more, or this very thing is being done already."""


class Jobs:
    """See the module's laws."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()
        self._number = 0
        self._closed = False

    def start(self, kind: str, subject: str, work: Work) -> Job:
        """Begin ``work(tell)``, which may ``tell`` how far it is. Raises TooManyJobsError, NotRunningError."""
        self._check(kind, subject)
        self._number += 1
        job = Job(str(self._number), kind, subject, self._clock.now_ns())
        self._jobs[job.id] = job
        self._forget()

        task = asyncio.get_running_loop().create_task(
            self._run(job, work(job.tell)), name=f"{kind} {subject}"
        )
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return job

    def _check(self, kind: str, subject: str) -> None:
        if self._closed:
            raise NotRunningError("this node stops: ask another one")
        running = [job for job in self._jobs.values() if job.state == "running"]
        for job in running:
            if (job.kind, job.subject) == (kind, subject):
                raise TooManyJobsError(f"{kind} of {subject!r} is under way already: it is job {job.id}")
        if len(running) >= RUNNING:
            raise TooManyJobsError(f"{RUNNING} jobs are under way already: wait for one to end")

    def _forget(self) -> None:
        over = [job.id for job in self._jobs.values() if job.state != "running"]
        for job_id in over[: max(0, len(over) - KEPT)]:
            del self._jobs[job_id]

    async def _run(self, job: Job, work: Coroutine[Any, Any, Any]) -> None:
        try:
            job.result = await work
            job.state = "done"
        except asyncio.CancelledError:
            job.state, job.error = "cancelled", "the node that did it has stopped"
            raise
        except CajunError as error:
            job.state, job.error = "failed", f"{type(error).__name__}: {error}"
        except Exception as error:
            job.state, job.error = "failed", f"{type(error).__name__}: {error}"
            log.exception("%s of %r failed", job.kind, job.subject)
        finally:
            job.ended_ns = self._clock.now_ns()
            job.over.set()
            job.wake()

    def get(self, job_id: str) -> Job | None:
        """The job of that id, also for a while after its end."""
        return self._jobs.get(job_id)

    def __iter__(self) -> Any:
        """The newest first."""
        return iter(tuple(reversed(self._jobs.values())))

    def shown(self, job: Job) -> dict[str, Any]:
        """As JSON can hold it, now."""
        return job.shown(self._clock.now_ns())

    async def close(self) -> None:
        """Cancel what runs and wait for it."""
        self._closed = True
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
