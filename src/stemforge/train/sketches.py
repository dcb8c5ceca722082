"""How `sketch` is trained: codes of the crops that `forge` learns to make stems from, and the loss of EDM."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from stemforge.models.sketch import Sketch
from stemforge.train.captioned import CaptionedCrops
from stemforge.train.data import Batch, Crops, Song
from stemforge.train.levels import SOUNDS

LEARNED = 60
"""Batches whose principal components the codes are, a quarter of each."""


@dataclass(frozen=True)
class Sketches:
    """Draws batches. crops: of sound, with captions or without; network: makes codes of the mean of their channels."""

    crops: Crops | CaptionedCrops
    network: Sketch

    @property
    def songs(self) -> list[Song]:
        """The songs that it draws from."""
        return self.crops.songs

    def batch(self, step: int, part: tuple[int, int] = (0, 1)) -> Batch:
        """As of the crops, with stems (batch, stem, component, code) and sigma (batch, stem, 1 or code).

        Where the task is given a mixture there are two stems: what is made, and the mixture.
        """
        batch = self.crops.batch(step, part)
        heard = batch.stems if batch.mixture is None else torch.stack([batch.stems[:, 0], batch.mixture], dim=1)
        codes, sigma = self.network.encode(heard.mean(dim=2)), batch.sigma
        if sigma.shape[-1] > 1:
            size = self.network.size
            sigma = sigma[..., size // 2 :: size][..., : codes.shape[-1]]
        return replace(batch, stems=codes, sigma=sigma)

    def learn(self) -> None:
        """Let the network take its codes from the stems that sound in the first batches."""
        self.network.learn(torch.cat([self._pictures(step) for step in range(LEARNED)]))

    def _pictures(self, step: int) -> Tensor:
        """(item, band, frame) of a quarter of a batch."""
        sounds = self.crops.batch(step, (0, 4)).stems.mean(dim=2).flatten(0, 1)
        return self.network.pictures.read(sounds[sounds.square().mean(dim=1) > SOUNDS])


def sketch_loss(
    network: Sketch, codes: Tensor, sigma: Tensor, hidden: Tensor, noise: Tensor, **told: Tensor | None
) -> tuple[Tensor, Mapping[str, Tensor]]:
    """Mean of (D - x)^2 / c_out^2 (Karras et al. 2022, eq. 8), components by their deviation, where something is made.

    codes, noise: (batch, stem, component, code); sigma: (batch, stem, 1 or code), 0 where known; hidden: (batch, stem)
    bool, neither shown nor scored; told: the prompt and the mixture of `Sketch.denoise`.
    """
    level = sigma.expand(*codes.shape[:2], codes.shape[-1])
    noisy, data = level[:, :, None], network.spread[:, None]
    gap = network.denoise(codes + noisy * noise, level, hidden=hidden, **told) - codes
    scored = (level > 0) & ~hidden[:, :, None]
    weight = data / data.mean() * (1 / noisy.square().clamp(min=1e-6) + 1 / data.square())
    loss = ((gap.square() * weight).mean(dim=2) * scored).sum() / scored.sum().clamp(min=1)
    return loss, {"diffusion": loss.detach()}
