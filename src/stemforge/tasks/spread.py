"""Tasks on workers that may die: each worker has one task at a time, so what waits stays here.

Who the workers are, and where, is the business of a `Crew`; that of Ray is in `tasks.ray_crew`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from stemforge.errors import DeviceError, StemforgeError

TRIES = 3
"""Workers that may die of one task before it counts as failed, or one after another before any was ready."""


class LostError(DeviceError):
    """A worker died."""


class Crew(Protocol):
    """Where workers come from. What is asked of one is answered later, under the key that the question gave."""

    def hire(self) -> tuple[Any, Hashable]:
        """A new worker, and the key of its answer that it is ready, which may take as long as there is no room."""

    def give(self, worker: Any, task: Any, lost: int) -> Hashable:  # noqa: ANN401
        """Give a worker a task that so many have died of; the key of its answer."""

    def wait(self, keys: list[Hashable]) -> Hashable:
        """The first of these keys that has an answer."""

    def answer(self, key: Hashable) -> Any:  # noqa: ANN401
        """The answer. Raises LostError when the worker died, StemforgeError when no task can be done at all."""

    def dismiss(self, worker: Any) -> None:  # noqa: ANN401
        """End a worker, whatever it is at."""


@dataclass
class _Call:
    """What is awaited: `task` is None until the worker is ready. `lost` workers have died of the task before."""

    worker: Any
    task: Any = None
    lost: int = 0


class Spread:
    """The tasks of one run, none of which is None."""

    def __init__(self, crew: Crew, tasks: Iterable[Any]) -> None:
        self._crew = crew
        self._waiting = deque((task, 0) for task in tasks)
        self._calls: dict[Hashable, _Call] = {}
        self._idle: list[Any] = []
        self._futile = 0

    def enough(self) -> None:
        """Begin no further task; those that were begun are finished."""
        self._waiting.clear()

    def answers(self, workers: int) -> Iterator[tuple[Any, Any]]:
        """Each task with its answer, in the order of the answers; with a LostError after `TRIES` dead workers.

        Raises StemforgeError as `Crew.answer` does, LostError when no worker ever gets ready.
        """
        try:
            for _ in range(min(workers, len(self._waiting))):
                self._hire()
            while self._waiting or any(call.task is not None for call in self._calls.values()):
                key = self._crew.wait(list(self._calls))
                call, answer = self._calls.pop(key), None
                try:
                    answer = self._crew.answer(key)
                except LostError as error:
                    answer = self._lost(call, error)
                else:
                    self._futile = 0
                    self._idle.append(call.worker)
                self._give()
                if call.task is not None and answer is not None:
                    yield call.task, answer
        finally:
            for worker in [*self._idle, *(call.worker for call in self._calls.values())]:
                self._crew.dismiss(worker)

    def _hire(self) -> None:
        worker, key = self._crew.hire()
        self._calls[key] = _Call(worker)

    def _give(self) -> None:
        """Give what waits to those that have nothing to do."""
        while self._idle and self._waiting:
            worker, (task, lost) = self._idle.pop(), self._waiting.popleft()
            self._calls[self._crew.give(worker, task, lost)] = _Call(worker, task, lost)

    def _lost(self, call: _Call, error: StemforgeError) -> StemforgeError | None:
        """Another worker instead of one that died, and its task once more; the error if that was too often."""
        self._crew.dismiss(call.worker)
        if call.task is None:
            self._futile += 1
            if self._futile >= TRIES:
                raise error
        elif call.lost + 1 < TRIES:
            self._waiting.appendleft((call.task, call.lost + 1))
        if self._waiting:
            self._hire()
        return error if call.lost + 1 >= TRIES else None
