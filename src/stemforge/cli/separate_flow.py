"""What goes on beside the network: the next song is read, the last one is written.

One song is read, one is computed and one is written at a time, whatever the number of jobs, so memory stays bounded.
With one job everything happens one after another, without a thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from torch import Tensor

from stemforge.audio.ahead import Ahead
from stemforge.audio.io import Source, blocks

Facts = dict[str, Any]


@dataclass(frozen=True)
class Writing:
    """A song that is computed: `work` writes it and gives the facts, `cancel` makes it give up, `then` is told."""

    work: Callable[[], Facts]
    cancel: Callable[[], None]
    then: Callable[[Callable[[], Facts]], None]


class Flow:
    """Context manager; leaving it by an error makes the song that is being written give up."""

    def __init__(self, jobs: int, *, sanitize: bool = False) -> None:
        self._beside, self._sanitize = jobs > 1, sanitize
        self._readers: dict[Path, Ahead] = {}
        self.owners: dict[str, Path] = {}
        self._pool = ThreadPoolExecutor(1)
        self._last: tuple[Writing, Future[Facts]] | None = None

    def __enter__(self) -> Flow:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for reader in self._readers.values():
            reader.close()
        if self._last is not None and error is not None:
            self._last[0].cancel()
        self._pool.shutdown()

    def blocks(self, source: Source, following: Source | None) -> Iterable[Tensor]:
        """The blocks of a song; reading the following one begins."""
        if not self._beside:
            return blocks(source, sanitize=self._sanitize)
        for path in self._readers.keys() - {source.path}:
            self._readers.pop(path).close()
        now = self._readers.get(source.path) or self._begin(source)
        if following is not None:
            self._begin(following)
        return now

    def finished(self, source: Source) -> None:
        """No more of a song is wanted."""
        if reader := self._readers.pop(source.path, None):
            reader.close()

    def write(self, writing: Writing) -> None:
        """Write a song, beside what follows if there is more than one job; the song before it is done then."""
        if not self._beside:
            return writing.then(writing.work)
        self.settle(wait=True)
        self._last = writing, self._pool.submit(writing.work)
        return None

    def settle(self, *, wait: bool = False) -> None:
        """Tell about the song that was being written, if it is done, or when it is."""
        if self._last is not None and (wait or self._last[1].done()):
            future = self._last[1]
            if wait:
                future.exception()
            (writing, _), self._last = self._last, None
            writing.then(future.result)

    def _begin(self, source: Source) -> Ahead:
        reader = Ahead(blocks(source, sanitize=self._sanitize))
        self._readers[source.path] = reader
        self.owners[reader.thread] = source.path
        return reader
