"""The published training of MSDM and ISDM (Mariani et al. 2023, https://arxiv.org/abs/2302.02257) and its code.

Noise levels are log-normal, ln sigma ~ N(-3, 1), one an item; the loss is that of EDM (Karras et al. 2022,
https://arxiv.org/abs/2206.00364, eq. 8) on the clamped estimate. Windows tile the songs laid end to end, each moved by
up to half its length; there is no other augmentation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stemforge.models.msdm import Isdm, Msdm
from stemforge.train.data import Batch, Song
from stemforge.train.files import Float

LOG_SIGMA, SPREAD = -3.0, 1.0
"""Mean and standard deviation of ln sigma."""


def diffusion_loss(
    network: Msdm | Isdm, stems: Tensor, sigma: Tensor, noise: Tensor
) -> tuple[Tensor, Mapping[str, Tensor]]:
    """Mean over items of (sigma^2 + sd^2) / (sigma sd)^2 times the mean squared error of D(stems + sigma noise).

    stems, noise: (batch, stem, 1, time); sigma: (batch,). The networks of ISDM, which have no weight in common, are
    each given their own loss: theirs are added, not averaged.
    """
    level, data = sigma[:, None, None, None], network.config.sigma_data
    estimate = network.denoise(stems + level * noise, level)
    weight = (sigma**2 + data**2) / (sigma * data) ** 2
    error = (estimate - stems).square().mean(dim=(2, 3)) * weight[:, None]
    mean = error.mean()
    loss = error.sum(dim=1).mean() if network.independent else mean
    return loss, {"diffusion": mean.detach()}


@dataclass(frozen=True)
class Windows:
    """Draws batches as the authors of MSDM did. samples: of a window; songs shorter than that are left out."""

    songs: list[Song]
    names: tuple[str, ...]
    samples: int
    batch_size: int
    seed: int

    @cached_property
    def _ends(self) -> NDArray[np.int64]:
        """Where each song ends when all are laid end to end."""
        return np.cumsum([song.frames if song.frames >= self.samples else 0 for song in self.songs])

    def batch(self, step: int, part: tuple[int, int] = (0, 1)) -> Batch:
        """The batch of one step, or a part of it: each pass over all windows takes them in an order of its own."""
        mine = range(part[0], self.batch_size, part[1])
        stems = np.zeros((len(mine), len(self.names), 1, self.samples), np.float32)
        windows = max(1, int(self._ends[-1]) // self.samples)
        for k, item in zip(mine, stems, strict=True):
            turn, place = divmod(step * self.batch_size + k, windows)
            order = np.random.default_rng((self.seed, turn, 0, 1)).permutation(windows)
            self._fill(item, int(order[place]), np.random.default_rng((self.seed, step, 1 + k)))
        rng = np.random.default_rng((self.seed, step))
        sigma = np.exp(rng.normal(LOG_SIGMA, SPREAD, (self.batch_size, 1, 1))).astype(np.float32)
        levels = torch.from_numpy(np.repeat(sigma, len(self.names), axis=1))[part[0] :: part[1]]
        hidden = torch.zeros(stems.shape[:2], dtype=torch.bool)
        return Batch("diffuse", torch.from_numpy(stems), levels, hidden, int(rng.integers(2**31)), part)

    def _fill(self, item: Float, window: int, rng: np.random.Generator) -> None:
        """Window number `window`, moved by up to half its length and pushed back into the song of its middle."""
        half = self.samples // 2
        begin = window * self.samples + int(rng.integers(-half, half))
        k = min(int(np.searchsorted(self._ends, begin + half, side="right")), len(self.songs) - 1)
        song = self.songs[k]
        first = int(self._ends[k]) - song.frames
        if begin > first + song.frames - self.samples:
            begin -= half
        elif begin < first:
            begin += half
        start = min(max(begin - first, 0), max(0, song.frames - self.samples))
        for name, out in zip(self.names, item, strict=True):
            if name in song.stems:
                song.stems[name].read(start, out)
