"""The mean of several runs over shifted windows, the shift trick of demucs (Défossez et al. 2019).

Windows begin elsewhere in each run, so what depends on their edges averages out; shifts are even, not random.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import tee

import torch
from torch import Tensor

from stemforge.errors import UsageError
from stemforge.types import Separator

LONGEST = 0.5
"""Seconds; run i of n is shifted by i/n of it."""


class ShiftedSeparator:
    """A separator that runs `shifts` times over everything, which takes as many times as long.

    Raises:
        UsageError: there is less than one shift.
    """

    def __init__(self, separator: Separator, shifts: int) -> None:
        if shifts < 1:
            raise UsageError(f"shifts {shifts}: at least one is needed. Leave --shifts out for a single run.")
        self.names, self.rate, self.channels = separator.names, separator.rate, separator.channels
        self._separator, self._shifts = separator, shifts

    def stream(self, blocks: Iterable[Tensor]) -> Iterator[Tensor]:
        """Mixture blocks (channel, time) in, stem blocks (stem, channel, time) out, in all of the same length."""
        offsets = [round(LONGEST * self.rate * i / self._shifts) for i in range(self._shifts)]
        copies = tee(blocks, self._shifts)
        runs = [self._run(copy, offset) for copy, offset in zip(copies, offsets, strict=True)]
        waiting = [torch.zeros(0) for _ in runs]
        while True:
            for i, run in enumerate(runs):
                while waiting[i].shape[-1] == 0:
                    if (block := next(run, None)) is None:
                        return
                    waiting[i] = block
            count = min(block.shape[-1] for block in waiting)
            yield torch.stack([block[..., :count] for block in waiting]).mean(dim=0)
            waiting = [block[..., count:] for block in waiting]

    def _run(self, blocks: Iterable[Tensor], offset: int) -> Iterator[Tensor]:
        """The stems after `offset` samples of silence, which are cut off again."""
        for block in self._separator.stream(_after_silence(blocks, offset)):
            cut = min(offset, block.shape[-1])
            offset -= cut
            if block.shape[-1] > cut:
                yield block[..., cut:]


def _after_silence(blocks: Iterable[Tensor], offset: int) -> Iterator[Tensor]:
    for block in blocks:
        if offset:
            yield block.new_zeros((block.shape[0], offset))
            offset = 0
        yield block
