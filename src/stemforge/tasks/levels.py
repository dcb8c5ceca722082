"""The level that stems have in songs, and what brings others to it: one gain for all stems."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from stemforge.types import Stems

LEVEL_DB = {"bass": -24.0, "drums": -23.0, "guitar": -27.0, "piano": -26.0, "other": -27.0,
            "vocals": -24.0}  # fmt: skip
"""RMS of stems in training songs: the level that the network knows."""
SHORT = 300.0
"""Seconds of given stems up to which their level is measured at once, in float32; longer ones are in parts."""
LOUDEST = 0.95
"""Peak up to which what was made is turned up."""
MOST = 4.0
"""What is brought to a level is made at most that much louder or quieter (amplitude)."""


def gain_of(given: Stems) -> float:
    """What brings the given stems to the level that they have in training songs."""
    return _gain(given.names, float(given.samples.sum(dim=0).square().mean()))


def gain_over(blocks: Iterable[Tensor], names: tuple[str, ...], rate: int) -> float:
    """The same for stems in blocks (stem, channel, time) of that rate."""
    parts: list[Tensor] = []
    energy, count, frames = 0.0, 0, 0
    for block in blocks:
        parts.append(block.sum(dim=0))
        count, frames = count + parts[-1].numel(), frames + block.shape[-1]
        if frames > SHORT * rate:
            energy += sum(float(part.double().square().sum()) for part in parts)
            parts = []
    return _gain(names, energy / count if not parts else float(torch.cat(parts, dim=-1).square().mean()))


def _gain(names: tuple[str, ...], level: float) -> float:
    power = sum(10 ** (LEVEL_DB.get(name, -26.0) / 10) for name in names)
    return math.sqrt(power / level) if level > 1e-10 else 1.0


def levelled(blocks: Iterable[Tensor], names: tuple[str, ...]) -> Iterator[Tensor]:
    """Blocks (stem, channel, time) that were generated, at the level of training songs: one gain, from the first one.

    What a network makes is up to 12 dB quieter than what it learned from; the gain is at most MOST either way, and less
    where a stem of the first block, or their sum, would go beyond LOUDEST.
    """
    gain = None
    for block in blocks:
        if gain is None:
            peak = float(torch.cat([block, block.sum(dim=0, keepdim=True)]).abs().amax())
            gain = min(bounded(gain_of(Stems(names, block, 1))), bounded(LOUDEST / max(peak, 1e-9)))
        yield gain * block


def bounded(gain: float, most: float = MOST) -> float:
    """At most that much either way."""
    return min(max(gain, 1 / most), most)
