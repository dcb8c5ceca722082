"""Loudness as ITU-R BS.1770-5 defines it, block by block, so that memory grows by ten numbers a second only."""

from __future__ import annotations

import math

import torch
from torch import Tensor

_HOP = 0.1
_GATE = -70.0
_BELOW = 10.0
_WARM_UP = 1.0
"""Seconds of what came before that each block is filtered with; the filters forget faster."""


class Meter:
    """Takes blocks of a song of 1 or 2 channels; `integrated` is its loudness in LUFS.

    Args:
        rate: Hz.
    """

    def __init__(self, rate: int) -> None:
        self._rate, self._hop = rate, max(1, round(_HOP * rate))
        self._filters = (_shelf(rate), _high_pass(rate))
        self._before: Tensor | None = None
        self._waiting = torch.zeros(0, dtype=torch.float64)
        self._energies: list[float] = []

    def add(self, block: Tensor) -> None:
        """The next samples (channel, time)."""
        from torchaudio.functional import lfilter

        block = block.double()
        before = block.new_zeros((block.shape[0], 0)) if self._before is None else self._before
        found = joined = torch.cat([before, block], dim=-1)
        self._before = joined[:, -round(_WARM_UP * self._rate) :]
        for numerator, denominator in self._filters:
            found = lfilter(found, denominator, numerator, clamp=False)
        power = torch.cat([self._waiting, found[:, before.shape[-1] :].square().sum(dim=0)])
        whole = power.shape[-1] // self._hop * self._hop
        self._energies += power[:whole].reshape(-1, self._hop).mean(dim=-1).tolist()
        self._waiting = power[whole:]

    def integrated(self) -> float | None:
        """LUFS; None for less than 0.4 s, or silence."""
        steps = torch.tensor(self._energies, dtype=torch.float64)
        if len(steps) < 4:
            return None
        gated = steps.unfold(0, 4, 1).mean(dim=-1)
        gated = gated[gated > _energy(_GATE)]
        if len(gated):
            gated = gated[gated > float(gated.mean()) * 10 ** (-_BELOW / 10)]
        return -0.691 + 10 * math.log10(float(gated.mean())) if len(gated) else None


def _energy(lufs: float) -> float:
    return float(10 ** ((lufs + 0.691) / 10))


def _shelf(rate: int) -> tuple[Tensor, Tensor]:
    """The head: +4 dB above 1.7 kHz. The analogue filter behind the numbers of the standard, for any rate."""
    quality, gain = 0.7071752369554196, 10 ** (3.999843853973347 / 20)
    k, bend = math.tan(math.pi * 1681.974450955533 / rate), gain**0.4996667741545416
    a = [1 + k / quality + k * k, 2 * (k * k - 1), 1 - k / quality + k * k]
    b = [gain + bend * k / quality + k * k, 2 * (k * k - gain), gain - bend * k / quality + k * k]
    return torch.tensor(b, dtype=torch.float64) / a[0], torch.tensor(a, dtype=torch.float64) / a[0]


def _high_pass(rate: int) -> tuple[Tensor, Tensor]:
    """Less below 38 Hz."""
    quality, k = 0.5003270373238773, math.tan(math.pi * 38.13547087602444 / rate)
    a = [1 + k / quality + k * k, 2 * (k * k - 1), 1 - k / quality + k * k]
    return torch.tensor([1.0, -2.0, 1.0], dtype=torch.float64), torch.tensor(a, dtype=torch.float64) / a[0]
