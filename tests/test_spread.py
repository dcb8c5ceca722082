"""Tasks on workers that die: none is lost, none is done twice, none waits anywhere but here."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import pytest

from stemforge.errors import CheckpointError
from stemforge.tasks.spread import TRIES, LostError, Spread


@dataclass
class Crew:
    """Workers that answer in the order of the questions. `deadly[task]` of them die of a task, `stillborn` at once."""

    deadly: dict[str, int] = field(default_factory=dict)
    stillborn: int = 0
    refused: bool = False
    most: int = 0
    hired: int = 0
    dismissed: set[int] = field(default_factory=set)
    done: list[str] = field(default_factory=list)
    asked: dict[int, tuple[int, str | None]] = field(default_factory=dict)
    keys: Any = field(default_factory=count)

    def hire(self) -> tuple[int, Hashable]:
        self.hired += 1
        return self.hired, self._ask(self.hired, None)

    def give(self, worker: int, task: str, lost: int) -> Hashable:
        assert worker not in self.dismissed and worker not in {w for w, _ in self.asked.values()}
        return self._ask(worker, task)

    def _ask(self, worker: int, task: str | None) -> int:
        key = next(self.keys)
        self.asked[key] = worker, task
        self.most = max(self.most, len(self.asked))
        return key

    def wait(self, keys: list[int]) -> int:
        assert set(keys) == set(self.asked)
        return min(keys)

    def answer(self, key: int) -> str | None:
        _, task = self.asked.pop(key)
        if task is None:
            self.stillborn -= 1
            if self.stillborn >= 0:
                raise LostError("a worker died")
            if self.refused:
                raise CheckpointError("is damaged")
            return None
        self.deadly[task] = self.deadly.get(task, 0) - 1
        if self.deadly[task] >= 0:
            raise LostError("a worker died")
        self.done.append(task)
        return task.upper()

    def dismiss(self, worker: int) -> None:
        self.dismissed.add(worker)


TASKS = list("abcdefgh")


@pytest.mark.parametrize("workers", [1, 3, 20])
def test_each_task_once(workers: int) -> None:
    """Every task is answered once, no worker has two of them, and no more workers come than there are tasks."""
    crew = Crew()
    assert sorted(Spread(crew, TASKS).answers(workers)) == [(task, task.upper()) for task in TASKS]
    assert sorted(crew.done) == TASKS
    assert crew.hired == crew.most == min(workers, len(TASKS))
    assert crew.dismissed == set(range(1, crew.hired + 1))


@pytest.mark.parametrize("workers", [1, 2])
def test_dead_workers(workers: int) -> None:
    """What a worker died of is given to a new one; after `TRIES` of them it has failed and the others are done."""
    crew = Crew(deadly={"b": 1, "c": TRIES - 1, "h": 1, "e": 99}, stillborn=1)
    found = dict(Spread(crew, TASKS).answers(workers))
    assert isinstance(found.pop("e"), LostError)
    assert found == {task: task.upper() for task in TASKS if task != "e"}
    assert sorted(crew.done) == sorted(found)
    assert crew.dismissed == set(range(1, crew.hired + 1))


def test_no_worker_lives() -> None:
    """Where none gets ready it ends with the reason, as it does when a worker says that no task can be done."""
    crew = Crew(stillborn=99)
    with pytest.raises(LostError, match="a worker died"):
        list(Spread(crew, TASKS).answers(2))
    assert crew.dismissed == set(range(1, crew.hired + 1)) and crew.hired <= 2 + TRIES
    with pytest.raises(CheckpointError):
        list(Spread(Crew(refused=True), TASKS).answers(2))


def test_enough() -> None:
    """What has begun is finished, and nothing else begins."""
    crew = Crew()
    spread = Spread(crew, TASKS)
    found = []
    for task, _ in spread.answers(2):
        found.append(task)
        spread.enough()
    assert found == crew.done == ["a", "b", "c"]
    assert crew.dismissed == {1, 2}
