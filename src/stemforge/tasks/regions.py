"""Parts of a song that are made anew: checked, with their fades, and the spans around them that have to be heard."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from stemforge.errors import UsageError


class Region(NamedTuple):
    """Samples from `first` up to `last`, which is the first one behind it."""

    first: int
    last: int

    @property
    def length(self) -> int:
        """In samples."""
        return self.last - self.first


def checked(regions: Sequence[tuple[float, float]], rate: int, frames: int) -> list[Region]:
    """Regions (from, to) in seconds as samples of a song of so many frames, in order.

    An infinite end is the end of the song. Raises UsageError for a region that is empty, reaches out of the song or
    overlaps another one.
    """
    found: list[Region] = []
    for start, stop in sorted(regions):
        last = frames if math.isinf(stop) else round(stop * rate)
        name = f"region {start:g}:{'' if math.isinf(stop) else f'{stop:g}'}"
        if start < 0 or last > frames or round(start * rate) >= frames:
            raise UsageError(
                f"{name}: reaches out of the song, which lasts {frames / rate:.3f} s. Choose a part of it."
            )
        if last <= round(start * rate):
            raise UsageError(f"{name}: ends before it starts, or holds no sample. Write FROM:TO in seconds.")
        if found and round(start * rate) < found[-1].last:
            raise UsageError(f"{name}: overlaps the one before it. Give regions that do not, or one for both.")
        found.append(Region(round(start * rate), last))
    return found


def widened(regions: Sequence[Region], by: int, frames: int) -> list[Region]:
    """Each region longer by so many samples on both sides, as far as the song goes; those that meet become one."""
    merged: list[Region] = []
    for region in regions:
        first, last = max(0, region.first - by), min(frames, region.last + by)
        if merged and first <= merged[-1].last:
            merged[-1] = Region(merged[-1].first, max(last, merged[-1].last))
        else:
            merged.append(Region(first, last))
    return merged


def free_in(span: Region, regions: Sequence[Region]) -> Tensor:
    """Which samples of a span are in one of the regions: bool (time,)."""
    free = torch.zeros(span.length, dtype=torch.bool)
    for region in regions:
        free[max(0, region.first - span.first) : max(0, region.last - span.first)] = True
    return free


def regions_in(free: Tensor) -> list[Region]:
    """The regions of the free samples, bool (time,): the inverse of `free_in`."""
    edges = functional.pad(free.int(), (1, 1)).diff().nonzero().flatten().tolist()
    return [Region(first, last) for first, last in zip(edges[::2], edges[1::2], strict=True)]


def weights(span: Region, regions: Sequence[Region], fade: int) -> Tensor:
    """How much of the new sound is heard in a span: (time,), 1 in the regions, 0 beyond their fades.

    The fades are raised cosines of `fade` samples outside the regions, so what is old and new adds up to one.
    """
    found = torch.zeros(span.length)
    at = torch.arange(span.first, span.last, dtype=torch.float64)
    for region in regions:
        away = torch.maximum(region.first - at, at - (region.last - 1)).clamp(min=0)
        ramp = torch.cos((away / (fade + 1)).clamp(max=1) * (math.pi / 2)).square()
        ramp[away > fade] = 0.0
        found = torch.maximum(found, ramp.float())
    return found
