"""Work that takes its time: one thread does one job after the other; each says how far it is, and can be stopped."""

from __future__ import annotations

import logging
import queue
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from stemforge.errors import StemforgeError, UsageError
from stemforge.ui.songs import GoneError

State: TypeAlias = Literal["waiting", "working", "done", "failed", "stopped"]

MOST_WAITING = 16
_PATIENCE = 30.0

log = logging.getLogger("stemforge")


class _StoppedError(Exception):
    """Somebody does not want the job any more."""


@dataclass
class Job:
    """Something to be done to a song. `work` is given what it calls with its share, 0 to 1; its result is a version."""

    song: str
    title: str
    work: Callable[[Callable[[float], None]], int]
    id: str = field(default_factory=lambda: secrets.token_hex(8))
    state: State = "waiting"
    share: float = 0.0
    error: str = ""
    version: int | None = None
    unwanted: bool = False

    def tell(self, share: float) -> None:
        """How far it is; raises where it is not wanted any more."""
        if self.unwanted:
            raise _StoppedError
        self.share = share

    def run(self) -> None:
        """Do it; whatever happens is told by its state."""
        try:
            self.tell(0.0)
            self.state = "working"
            self.version = self.work(self.tell)
            self.state = "done"
        except _StoppedError:
            self.state = "stopped"
        except StemforgeError as error:
            self.error, self.state = str(error), "failed"
        except Exception as error:
            log.warning("%s: unexpected %s: %s", self.title, type(error).__name__, error, exc_info=True)
            self.error, self.state = f"unexpected {type(error).__name__}: {error}", "failed"


class Jobs:
    """Context manager: jobs of all songs, in their order, in a thread of their own."""

    def __init__(self) -> None:
        self._jobs: dict[str, Job] = {}
        self._queue: queue.Queue[Job | None] = queue.Queue()
        self._thread = threading.Thread(target=self._run, name="jobs", daemon=True)

    def __enter__(self) -> Jobs:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop what is done, at its next step; what waits is not begun."""
        for job in self._jobs.values():
            job.unwanted = True
        self._queue.put(None)
        self._thread.join(_PATIENCE)

    def add(self, job: Job) -> Job:
        """Put it behind the others. Raises UsageError when too many wait."""
        if self._queue.qsize() >= MOST_WAITING:
            raise UsageError(f"{MOST_WAITING} jobs are waiting already. Wait for one of them.")
        self._jobs[job.id] = job
        self._queue.put(job)
        return job

    def job(self, id: str) -> Job:
        """The job of that id. Raises GoneError."""
        if id not in self._jobs:
            raise GoneError("this job is not known. Load the page again.")
        return self._jobs[id]

    def of(self, song: str) -> list[Job]:
        """All of a song."""
        return [job for job in self._jobs.values() if job.song == song]

    def ahead(self, job: Job) -> int:
        """How many are to be done before it."""
        waiting = [other for other in self._jobs.values() if other.state in ("waiting", "working")]
        return waiting.index(job) if job in waiting else 0

    def _run(self) -> None:
        while (job := self._queue.get()) is not None:
            job.run()
