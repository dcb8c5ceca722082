"""A long song in overlapping windows: split, run, join.

Windows of `length` samples start every `hop` samples and share `length - hop` samples with the next one. Joining blends
each new window w into what is pending by p <- p + g (w - p), g a ramp from 0 to 1. The weights of all windows at one
instant are a convex combination whatever the overlap: they add to one by construction, a window function that is the
identity gives back its input bit by bit, and stems that sum to the mixture in every window do so in the song.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from itertools import repeat
from typing import NamedTuple

import torch
from torch import Tensor

from stemforge.errors import UsageError
from stemforge.types import Denoise


class Window(NamedTuple):
    """`samples` (..., length), of which the first `valid` belong to the song and the rest is padding with zeros."""

    samples: Tensor
    valid: int


def hop_of(length: int, overlap: float) -> int:
    """Samples between the starts of windows of `length` samples that share the fraction `overlap`, 0 <= overlap < 1."""
    if length < 1:
        raise UsageError(f"segment of {length} samples: a window needs at least one. Give a longer --segment.")
    if not 0 <= overlap < 1:
        raise UsageError(f"overlap {overlap}: must be at least 0 and below 1. Try --overlap 0.25.")
    return max(1, round(length * (1 - overlap)))


def split(blocks: Iterable[Tensor], length: int, hop: int) -> Iterator[Window]:
    """Cut blocks (..., time) of any lengths into windows (..., length); only the last may be padded.

    Every window holds at least one sample that no earlier window has. No samples in, no windows out.
    """
    held: list[Tensor] = []
    size = 0
    for block in blocks:
        held.append(block)
        size += block.shape[-1]
        if size <= length:
            continue
        joined = torch.cat(held, dim=-1)
        while joined.shape[-1] > length:
            yield Window(joined[..., :length], length)
            joined = joined[..., hop:]
        held, size = [joined.clone()], joined.shape[-1]
    if size:
        yield Window(torch.nn.functional.pad(torch.cat(held, dim=-1), (0, length - size)), size)


def join(windows: Iterable[Window], length: int, hop: int) -> Iterator[Tensor]:
    """Cross-fade windows (..., length) into blocks (..., time) that follow each other without gaps."""
    fade = length - hop
    held: Window | None = None
    for window in windows:
        samples = window.samples
        if held is not None:
            yield held.samples[..., :hop]
            before, now = held.samples[..., hop:], samples[..., :fade]
            samples = torch.cat([before + ramp(fade).to(now) * (now - before), samples[..., fade:]], dim=-1)
        held = Window(samples, window.valid)
    if held is not None:
        yield held.samples[..., : held.valid]


def ramp(fade: int) -> Tensor:
    """Raised cosine from 0 to 1 over `fade` samples, both ends left out."""
    return torch.sin((torch.arange(fade, dtype=torch.float64) + 0.5) * (math.pi / 2 / max(fade, 1))).square()


def windowed(denoise: Denoise, length: int, overlap: float = 0.25) -> Denoise:
    """A `denoise` for songs of any length out of one that is good for `length` samples.

    The estimates of overlapping windows are cross-faded inside each evaluation, so that a sampler follows one path for
    the whole song and leaves no seams: the idea of MultiDiffusion (Bar-Tal et al. 2023,
    https://arxiv.org/abs/2302.08113). The last window ends with the song, since a silence behind it would lack
    the noise of the rest.

    Args:
        denoise: D(x; sigma) of x (batch, stem, channel, time); a sigma that varies in time is cut as x is.
        length: samples of a window, at least 1; the last may be shorter.
        overlap: fraction of a window that it shares with the next, 0 <= overlap < 1.

    Raises:
        UsageError: length or overlap outside of its range.
    """
    hop = hop_of(length, overlap)

    def over_song(x: Tensor, sigma: Tensor) -> Tensor:
        varies = sigma.dim() > 0 and sigma.shape[-1] == x.shape[-1] > 1
        levels = (w.samples[..., : w.valid] for w in split([sigma], length, hop)) if varies else repeat(sigma)
        windows = zip(split([x], length, hop), levels, strict=False)
        denoised = (Window(denoise(w.samples[..., : w.valid], level), w.valid) for w, level in windows)
        return torch.cat(list(join(denoised, length, hop)), dim=-1)

    return over_song


def eased(x: Tensor, known: Tensor, fade: int) -> Tensor:
    """x without steps where known parts meet new ones: the new side begins at the last known sample.

    The step is taken out over `fade` samples of the new part; known samples stay as they are.

    Args:
        x: (batch, stem, channel, time).
        known: bool, (batch, stem, 1, time).
        fade: samples.
    """
    out = x.clone()
    edges = (known[..., 1:] != known[..., :-1]).nonzero()
    for batch, stem, _, place in edges.tolist():
        first = place + 1  # the first sample behind the edge
        row = out[batch, stem]
        if known[batch, stem, 0, place]:
            count = min(fade, row.shape[-1] - first)
            row[:, first : first + count] += ramp(count).to(x).flip(0) * (row[:, [place]] - row[:, [first]])
        else:
            count = min(fade, first)
            row[:, first - count : first] += ramp(count).to(x) * (row[:, [first]] - row[:, [place]])
    return torch.where(known, x, out)
