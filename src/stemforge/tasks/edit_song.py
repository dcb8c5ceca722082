"""An edit of a long song: only what is around its regions is read, taken apart and computed."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from stemforge.audio.windows import eased
from stemforge.inference.samplers import OnStep, quiet
from stemforge.tasks.edit import Way, edit
from stemforge.tasks.edit_files import MIX, Patch, Piece
from stemforge.tasks.gather import adapted
from stemforge.tasks.generate import EASE
from stemforge.tasks.impute import windows_of
from stemforge.tasks.regions import Region, free_in, weights, widened
from stemforge.types import Audio, Stems

if TYPE_CHECKING:
    from stemforge.models.registry import Joint

CONTEXT_S = 3.0
"""Seconds on both sides of a region that the network hears."""


@dataclass(frozen=True)
class Job:
    """What is to be done to a piece: the regions made anew, with `fade` samples around each, frames of the result.

    names: of the stems that are edited. context: seconds that are heard on both sides of a region.
    """

    piece: Piece
    regions: tuple[Region, ...]
    fade: int
    frames: int
    names: tuple[str, ...]
    context: float = CONTEXT_S

    @property
    def open(self) -> list[Region]:
        """The regions with their fades: all samples that may change."""
        return widened(self.regions, self.fade, self.frames)

    @property
    def spans(self) -> list[Region]:
        """The parts of the song that are read and computed."""
        return widened(self.open, round(self.context * self.piece.rate), self.frames)


@dataclass(frozen=True)
class Scene:
    """A span of a song, taken apart: its stems at the rate of the song."""

    span: Region
    stems: Stems


def windows_in(network: Joint, job: Job, segment: float | None = None) -> int:
    """How many windows of so many seconds an edit takes; None for those that suit the network."""
    scale = network.rate / job.piece.rate
    return sum(len(windows_of(network, max(1, round(span.length * scale)), segment)[0]) for span in job.spans)


def scene_of(job: Job, span: Region, separate: Callable[[Audio], Stems], names: Sequence[str]) -> Scene:
    """A span with its stems: those of a folder, or of a song that is taken apart there.

    names: of the stems that the network knows.
    """
    piece = job.piece
    rows = piece.read(span.first, span.last)
    if piece.names != (MIX,):
        return Scene(span, Stems(piece.names, rows, piece.rate))
    there = min(span.last, piece.frames) - span.first
    found = separate(Audio(rows[0, :, :there], piece.rate))
    kept = tuple(name for name in found.names if name in names)
    samples = torch.stack([found[name].samples for name in kept])
    return Scene(span, Stems(kept, functional.pad(samples, (0, span.length - there)), piece.rate))


def changes(
    network: Joint,
    job: Job,
    scene: Scene,
    way: Way,
    *,
    seed: int = 0,
    device: torch.device | str = "cpu",
    on_step: OnStep = quiet,
) -> list[Patch]:
    """What has to be added to the rows of the piece in the regions of one span, and in their fades.

    Raises as `edit` does.
    """
    piece, span = job.piece, scene.span
    free = free_in(span, job.open)
    stems = adapted(scene.stems, network.rate, network.channels)
    inside = _at_rate(span, job.open, network.rate / piece.rate, stems.samples.shape[-1])
    made = edit(network, stems, inside, way, names=job.names, seed=seed, device=device, on_step=on_step)
    old = torch.stack([scene.stems[name].samples for name in job.names])
    new = torch.where(free, adapted(made, piece.rate, piece.channels, span.length).samples, old)
    new = eased(new[None], (~free).expand(1, len(job.names), 1, -1), round(EASE * piece.rate))[0]
    change = weights(span, job.regions, job.fade) * (new - old)
    if piece.names == (MIX,):
        rows = change.sum(dim=0, keepdim=True)
    else:
        rows = change.new_zeros(len(piece.names), *change.shape[1:])
        rows[[piece.names.index(name) for name in job.names]] = change
    inner = [region for region in job.open if span.first <= region.first < span.last]
    return [Patch(r.first, rows[..., r.first - span.first : r.last - span.first].clone()) for r in inner]


def _at_rate(span: Region, regions: Sequence[Region], scale: float, time: int) -> Tensor:
    """The free samples of a span at the rate of the network."""
    moved = [
        Region(math.floor((r.first - span.first) * scale), math.ceil((r.last - span.first) * scale))
        for r in regions
        if r.last > span.first
    ]
    return free_in(Region(0, time), moved)
