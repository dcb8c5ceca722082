"""Blocks of sound that are read in a thread of their own while what came before is worked on."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import suppress
from itertools import count
from queue import Empty, Full, Queue

from torch import Tensor

DEPTH = 8
"""Blocks that wait at most: with those of `io.blocks` some 8 MB for a stereo song."""

_POLL = 0.1
_numbers = count()


class Ahead:
    """An iterator over the same blocks, of which at most DEPTH are ready before they are asked for.

    What the source raises is raised where its block would have been. `thread` is the name of the thread, which is in
    the records of what it logs.
    """

    def __init__(self, blocks: Iterator[Tensor]) -> None:
        self.thread = f"reader {next(_numbers)}"
        self._queue: Queue[Tensor | BaseException | None] = Queue(DEPTH)
        self._over = threading.Event()
        self._worker = threading.Thread(target=self._read, args=(blocks,), name=self.thread, daemon=True)
        self._worker.start()

    def __iter__(self) -> Iterator[Tensor]:
        while (found := self._queue.get()) is not None:
            if isinstance(found, BaseException):
                raise found
            yield found

    def close(self) -> None:
        """Read no more, and let go of the source."""
        self._over.set()
        with suppress(Empty):
            while True:
                self._queue.get_nowait()
        self._worker.join()

    def _read(self, blocks: Iterator[Tensor]) -> None:
        try:
            for block in blocks:
                if not self._put(block):
                    return
            self._put(None)
        except BaseException as error:
            self._put(error)

    def _put(self, found: Tensor | BaseException | None) -> bool:
        """False when nobody wants it any more."""
        while not self._over.is_set():
            with suppress(Full):
                self._queue.put(found, timeout=_POLL)
                return True
        return False
