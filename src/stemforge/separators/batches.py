"""Several windows in one call of a network, as many as the memory of the device takes."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from stemforge.devices import memory_error, out_of_memory
from stemforge.errors import UsageError

Item = TypeVar("Item")

AUTO = {"cpu": 1}
"""Windows a call unless another number is asked for, by the kind of device. One fills the cores of a CPU."""
AUTO_ELSEWHERE = 4

log = logging.getLogger("stemforge")


class Batches:
    """Runs items through a function in groups; out of memory, the groups become half as large, for good.

    Args:
        size: of the groups at first; None for what suits the device.
        device: where it runs.

    Raises:
        UsageError: the size is less than one.
    """

    def __init__(self, size: int | None, device: torch.device) -> None:
        if size is not None and size < 1:
            raise UsageError(f"batch size {size}: at least one window is needed. Leave --batch-size out.")
        self.size = AUTO.get(device.type, AUTO_ELSEWHERE) if size is None else size
        self._device = device

    def run(
        self,
        items: Iterable[Item],
        shape: Callable[[Item], object],
        call: Callable[[Sequence[Item]], Iterable[Tensor]],
    ) -> Iterator[tuple[Item, Tensor]]:
        """Each item with its result, in order; only items of one shape share a call.

        Raises DeviceError when the memory is not enough for a single item.
        """
        group: list[Item] = []
        for item in items:
            if group and shape(item) != shape(group[0]):
                yield from self._group(group, call)
                group = []
            group.append(item)
            if len(group) >= self.size:
                yield from self._group(group, call)
                group = []
        yield from self._group(group, call)

    def _group(
        self, group: list[Item], call: Callable[[Sequence[Item]], Iterable[Tensor]]
    ) -> Iterator[tuple[Item, Tensor]]:
        while group:
            now = group[: self.size]
            if (found := self._called(now, call)) is not None:
                yield from zip(now, found, strict=True)
                group = group[len(now) :]

    def _called(self, group: list[Item], call: Callable[[Sequence[Item]], Iterable[Tensor]]) -> list[Tensor] | None:
        """The results, or None when the groups have to be smaller."""
        try:
            return list(call(group))
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            if len(group) == 1:
                raise memory_error(self._device) from error
        self.size = len(group) // 2
        gc.collect()  # the traceback held what was allocated
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        log.warning("device '%s': out of memory, %d windows a call from here on.", self._device, self.size)
        return None
