"""An edit of a long song: only what is around its regions is read, taken apart and computed.

A region that is longer than `LONGEST_S` is made in parts, each of which begins by hearing what the one before has made,
so that memory does not grow with the length of an edit either.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from stemforge.audio.windows import eased, ramp
from stemforge.inference.samplers import OnStep, quiet
from stemforge.tasks.edit import Way, edit
from stemforge.tasks.edit_files import MIX, Patch, Piece
from stemforge.tasks.exemplar import recalled
from stemforge.tasks.gather import adapted
from stemforge.tasks.generate import EASE
from stemforge.tasks.impute import windows_of
from stemforge.tasks.regions import Region, free_in, weights, widened
from stemforge.types import Audio, Stems

if TYPE_CHECKING:
    from stemforge.models.registry import Joint

CONTEXT_S = 3.0
"""Seconds on both sides of a region that the network hears."""
MEMORY_S = 12.0
"""Seconds on both sides of a region in which something like it is looked for."""
LONGEST_S = 30.0
"""Seconds that are made anew at once."""
BLEND_S = 0.05
"""Seconds before the seam of two parts in which what a song was taken apart into passes from the one to the other."""


class Part(NamedTuple):
    """A span of a song that is read and computed at once, and the parts of it that are made anew.

    follows: the first of them goes on where the part before ends.
    """

    span: Region
    open: tuple[Region, ...]
    follows: bool = False


@dataclass(frozen=True)
class Job:
    """What is to be done to a piece: the regions made anew, with `fade` samples around each, frames of the result.

    names: of the stems that are edited. context: seconds that are heard on both sides of a region. memory: seconds on
    both sides out of which a region is filled before noise is put on it; 0 leaves there what is there.
    """

    piece: Piece
    regions: tuple[Region, ...]
    fade: int
    frames: int
    names: tuple[str, ...]
    context: float = CONTEXT_S
    memory: float = 0.0

    @property
    def reach(self) -> int:
        """Samples on both sides of a region that are read."""
        return round(max(self.context, self.memory) * self.piece.rate)

    @property
    def open(self) -> list[Region]:
        """The regions with their fades: all samples that may change."""
        return widened(self.regions, self.fade, self.frames)

    @property
    def spans(self) -> list[Region]:
        """What of the song is read and computed."""
        return widened(self.open, self.reach, self.frames)

    @property
    def parts(self) -> list[Part]:
        """The spans, those that are long in parts."""
        longest = round(LONGEST_S * self.piece.rate)
        found: list[Part] = []
        for span in self.spans:
            inside = tuple(region for region in self.open if span.first <= region.first < span.last)
            short = span.length <= longest + 2 * self.reach
            found += [Part(span, inside)] if short else _cut(span, inside, self.reach, longest)
        return found


def _cut(span: Region, regions: Sequence[Region], reach: int, longest: int) -> Iterator[Part]:
    """Parts of equal length of each region, which hear what is before them, and behind them up to the next one."""
    pieces = [
        Region(region.first + region.length * k // count, region.first + region.length * (k + 1) // count)
        for region in regions
        for count in (math.ceil(region.length / longest),)
        for k in range(count)
    ]
    seams = {region.first for region in regions}
    for piece, behind in zip(pieces, [*(p.first for p in pieces[1:]), span.last], strict=True):
        heard = Region(max(span.first, piece.first - reach), min(piece.last + reach, behind))
        yield Part(heard, (piece,), piece.first not in seams)


@dataclass(frozen=True)
class Scene:
    """A part of a song, taken apart: its stems at the rate of the song."""

    part: Part
    stems: Stems


@dataclass(frozen=True)
class Tail:
    """The end of what was made: its first sample, the edited stems (stem, channel, time) as they were and are."""

    first: int
    old: Tensor
    new: Tensor

    def over(self, rows: Tensor, made: Tensor, first: int) -> Tensor:
        """Rows (stem, channel, time) that begin at the sample `first`, with `made` of this tail where both are."""
        start, stop = max(first, self.first), min(first + rows.shape[-1], self.first + made.shape[-1])
        rows = rows.clone()
        if start < stop:
            rows[..., start - first : stop - first] = made[..., start - self.first : stop - self.first]
        return rows


def windows_in(network: Joint, job: Job, segment: float | None = None) -> int:
    """How many windows of so many seconds an edit takes; None for those that suit the network."""
    return sum(len(windows_of(network, length, segment)[0]) for length in _lengths(network, job))


def steps_in(network: Joint, job: Job, way: Way) -> int:
    """How many steps an edit takes, if what it begins with is found."""
    steps, drawer = way.schedule.steps * windows_in(network, job, way.segment), way.drawer
    if drawer is None:
        return steps
    return steps + sum(drawer.steps(length, beside=True) for length in _lengths(network, job))


def _lengths(network: Joint, job: Job) -> list[int]:
    """How many samples the network hears of each part."""
    scale = network.rate / job.piece.rate
    return [max(1, round(_heard(job, part).length * scale)) for part in job.parts]


def scene_of(job: Job, part: Part, separate: Callable[[Audio], Stems], names: Sequence[str]) -> Scene:
    """A part with its stems: those of a folder, or of a song that is taken apart there.

    names: of the stems that the network knows.
    """
    piece, span = job.piece, part.span
    rows = piece.read(span.first, span.last)
    if piece.names != (MIX,):
        return Scene(part, Stems(piece.names, rows, piece.rate))
    there = min(span.last, piece.frames) - span.first
    if there <= 0:
        return Scene(part, Stems(tuple(names), rows.repeat(len(names), 1, 1), piece.rate))
    found = separate(Audio(rows[0, :, :there], piece.rate))
    kept = tuple(name for name in found.names if name in names)
    samples = torch.stack([found[name].samples for name in kept])
    return Scene(part, Stems(kept, functional.pad(samples, (0, span.length - there)), piece.rate))


def changes(
    network: Joint,
    job: Job,
    scene: Scene,
    way: Way,
    *,
    before: Tail | None = None,
    seed: int = 0,
    device: torch.device | str = "cpu",
    on_step: OnStep = quiet,
) -> tuple[list[Patch], Tail]:
    """What has to be added to the rows of the piece in the regions of one part and in their fades; and how it ends.

    before: how the part before ended, of which this one hears what was made. Raises as `edit` does.
    """
    piece, part, span = job.piece, scene.part, scene.part.span
    free = free_in(span, part.open)
    old = torch.stack([scene.stems[name].samples for name in job.names])
    known = old if before is None else before.over(old, before.new, span.first)
    made = _made(network, job, part, _with(scene.stems, job.names, known), way, seed, device, on_step)
    new = torch.where(free, made, known)
    new = eased(new[None], (~free).expand(1, len(job.names), 1, -1), round(EASE * piece.rate))[0]
    faded = weights(span, job.regions, job.fade)
    change = _rows(job, faded * (new - old))
    patches = [Patch(r.first, change[..., r.first - span.first : r.last - span.first].clone()) for r in part.open]
    if part.follows and before is not None:
        seam = part.open[0].first
        blend = _rows(job, faded * (before.over(old, before.old, span.first) - old))
        start = begins(job, part)
        rising = blend[..., start - span.first : seam - span.first] * ramp(seam - start).to(blend)
        patches.insert(0, Patch(start, rising))
    ends = part.open[-1].last
    first = max(span.first, ends - job.reach)
    cut = slice(first - span.first, ends - span.first)
    return patches, Tail(first, old[..., cut].clone(), new[..., cut].clone())


def _heard(job: Job, part: Part) -> Region:
    """What of a part the network hears: all of its regions, and `context` on both sides."""
    around = round(job.context * job.piece.rate)
    first, last = part.open[0].first - around, part.open[-1].last + around
    return Region(max(part.span.first, first), min(part.span.last, last))


def _made(
    network: Joint,
    job: Job,
    part: Part,
    stems: Stems,
    way: Way,
    seed: int,
    device: torch.device | str,
    on_step: OnStep,
) -> Tensor:
    """The edited stems of a part (stem, channel, time) at the rate of the piece, made anew where it is open."""
    piece, span, scale = job.piece, part.span, network.rate / job.piece.rate
    stems = adapted(stems, network.rate, network.channels)
    free = _at_rate(span, part.open, scale, stems.samples.shape[-1])
    if job.memory and way.strength < 1:
        found = recalled(stems, free, job.names)
        stems, way = (stems, replace(way, strength=1.0)) if found is None else (found, way)
    near = _at_rate(span, [_heard(job, part)], scale, len(free))
    window = replace(stems, samples=stems.samples[..., near])
    made = edit(network, window, free[near], way, names=job.names, seed=seed, device=device, on_step=on_step)
    rows = torch.stack([stems[name].samples for name in job.names])
    rows[..., near] = made.samples
    return adapted(replace(made, samples=rows), piece.rate, piece.channels, span.length).samples


def begins(job: Job, part: Part) -> int:
    """The first sample that a part changes."""
    return max(part.span.first, part.open[0].first - round(BLEND_S * job.piece.rate) * part.follows)


def _with(stems: Stems, names: Sequence[str], rows: Tensor) -> Stems:
    """Stems with some of them replaced by rows (stem, channel, time)."""
    samples = stems.samples.clone()
    samples[[stems.names.index(name) for name in names]] = rows
    return Stems(stems.names, samples, stems.rate)


def _rows(job: Job, change: Tensor) -> Tensor:
    """A change of the edited stems as one of the rows of the piece."""
    if job.piece.names == (MIX,):
        return change.sum(dim=0, keepdim=True)
    rows = change.new_zeros(len(job.piece.names), *change.shape[1:])
    rows[[job.piece.names.index(name) for name in job.names]] = change
    return rows


def _at_rate(span: Region, regions: Sequence[Region], scale: float, time: int) -> Tensor:
    """The free samples of a span at the rate of the network."""
    moved = [
        Region(math.floor((r.first - span.first) * scale), math.ceil((r.last - span.first) * scale))
        for r in regions
        if r.last > span.first
    ]
    return free_in(Region(0, time), moved)
