"""Blocks of sound in pieces of other lengths."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

_SILENCE = 1 << 18


class Feed:
    """Blocks (..., time) in, pieces of any length out, in order; a block is asked for when it is needed."""

    def __init__(self, blocks: Iterable[Tensor]) -> None:
        self._blocks = iter(blocks)
        self._held: deque[Tensor] = deque()
        self._size = 0

    def take(self, count: int) -> Tensor:
        """The next `count` samples, (..., count). Raises ValueError when there are fewer."""
        while self._size < count or not self._held:
            if (block := next(self._blocks, None)) is None:
                raise ValueError(f"{count} samples were asked for, {self._size} are left")
            self._held.append(block)
            self._size += block.shape[-1]
        joined = torch.cat(tuple(self._held), dim=-1) if len(self._held) > 1 else self._held[0]
        self._size -= count
        self._held = deque([joined[..., count:].clone()])
        return joined[..., :count]


def lasting(blocks: Iterable[Tensor], frames: int, lead: tuple[int, ...]) -> Iterator[Tensor]:
    """Blocks (*lead, time), cut or followed by silence to `frames` samples in all."""
    left = frames
    for block in blocks:
        if left == 0:
            return
        yield block[..., :left]
        left -= min(left, block.shape[-1])
    while left:
        count = min(left, _SILENCE)
        yield torch.zeros(*lead, count)
        left -= count
