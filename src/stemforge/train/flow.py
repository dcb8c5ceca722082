"""The published training of the flows of InstGlow (Zhu et al. 2022, https://arxiv.org/abs/2204.09079) and its code.

Each flow hears pieces of its own stem and nothing else: silence is left out, samples are dithered (`bits` of the
config), the loss is the negative log-likelihood a value.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import cast

import numpy as np
import torch
from torch import Tensor

from stemforge.errors import InputError
from stemforge.models.glow import Flows, Glow
from stemforge.train.data import Batch, Song
from stemforge.train.files import Float, Stem

SILENT_DB = -50.0
"""A piece whose loudest tenth of a second is below is not trained on."""
DRAWS = 8
"""So many pieces are looked at before a quiet one is taken."""


def flow_loss(network: Flows, stems: Tensor, dither: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
    """Negative log-likelihood a value in nats, summed over the flows, which share no weight; and that of each.

    stems: (batch, stem, 1, time) in [-1, 1]; dither: uniform in [0, 1), the shape of stems.
    """
    full = 2 ** (network.config.bits - 1)
    spectra = network.magnitudes(network.spectrum(((stems * full).round() + dither - 0.5)[:, :, 0] / full))
    values = spectra[:, 0].numel()
    found = [-cast(Glow, net).log_prob(spectra[:, k]).sum() / values for k, net in enumerate(network.nets)]
    return torch.stack(found).sum(), {n: value.detach() for n, value in zip(network.names, found, strict=True)}


@dataclass(frozen=True)
class Pieces:
    """Draws batches of pieces that sound, each stem from songs of its own. augment: 0 to 1, scales how levels move."""

    songs: list[Song]
    names: tuple[str, ...]
    rate: int
    seconds: float
    batch_size: int
    seed: int
    augment: float = 1.0

    @cached_property
    def _stems(self) -> dict[str, list[Stem]]:
        """Every file of each stem. InputError when a stem has none."""
        found = {name: [song.stems[name] for song in self.songs if name in song.stems] for name in self.names}
        if missing := [name for name, stems in found.items() if not stems]:
            raise InputError(f"songs: none has a stem {missing[0]!r}. Give others, or another stem.")
        return found

    def batch(self, step: int, part: tuple[int, int] = (0, 1)) -> Batch:
        """The batch of one training step; only the items of `part` are read."""
        mine = range(part[0], self.batch_size, part[1])
        pieces = np.zeros((len(mine), len(self.names), 1, int(self.seconds * self.rate)), np.float32)
        for k, item in zip(mine, pieces, strict=True):
            for index, (name, out) in enumerate(zip(self.names, item, strict=True)):
                self._fill(out, self._stems[name], np.random.default_rng((self.seed, step, 1 + k, index)))
        seed = int(np.random.default_rng((self.seed, step)).integers(2**31))
        sigma, hidden = torch.zeros(*pieces.shape[:2], 1), torch.zeros(pieces.shape[:2], dtype=torch.bool)
        return Batch("flow", torch.from_numpy(pieces), sigma, hidden, seed, part)

    def _fill(self, out: Float, stems: list[Stem], rng: np.random.Generator) -> None:
        for _ in range(DRAWS):
            stem = stems[rng.integers(len(stems))]
            out[:] = 0
            stem.read(int(rng.integers(max(1, stem.frames - out.shape[-1]))), out)
            if loudest_db(out, self.rate) > SILENT_DB:
                break
        gain_db = self.augment * rng.uniform(-6, 6)
        out *= np.float32(10 ** (gain_db / 20))


def loudest_db(x: Float, rate: int) -> float:
    """RMS of the loudest tenth of a second of x (channel, time), in dB of full scale."""
    size = max(1, min(rate // 10, x.shape[-1]))
    whole = x[..., : x.shape[-1] // size * size]
    power = np.square(whole).reshape(len(x), -1, size).mean(axis=(0, 2)).max()
    return float(10 * np.log10(max(float(power), 1e-12)))
