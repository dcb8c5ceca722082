"""Sketches that are heard together: powers of sounds that know nothing of each other add up, and that binds them.

Stems in codes (`models.sketch`) have no sum, but their pictures have: f(x) = log sum_n exp(x_n), in decibels. Its slope
in x_n is the share s_n of a stem in the power. Where the picture y of the sum is known, or another network says what
it should be, the estimates D_n of a denoiser are moved as little as makes them add up to it,

    D <- D + J^T (J J^T)^-1 (y - f(D)),   J = (s_1, ..., s_N) at every place of the picture

which is the data consistency of Levy et al. 2023 (https://arxiv.org/abs/2311.00613) and the null space of Wang et al.
2022 (https://arxiv.org/abs/2212.00490) for a sum that is not linear, so it is done ROUNDS times. Where one stem is far
above the others it is that one which is moved; stems as loud as each other are moved alike.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

import torch
from torch import Tensor

from stemforge.models.bands import summed
from stemforge.types import Denoise

if TYPE_CHECKING:
    from stemforge.models.sketch import Sketch

ROUNDS = 6
"""Steps of Newton; what is left then is below a hundredth of a decibel, whatever the pictures are."""
Wanted: TypeAlias = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(x, its estimate, sigma) -> picture of the sum (batch, band, frame)."""


def fitted(pictures: Tensor, target: Tensor) -> Tensor:
    """Pictures (batch, stem, band, frame), moved as little as makes them add up to the target (batch, band, frame)."""
    for _ in range(ROUNDS):
        total, shares = summed(pictures)
        gap = (target - total)[:, None]
        pictures = pictures + shares * gap / shares.square().sum(dim=1, keepdim=True)
    return pictures


def adding_up(denoise: Denoise, network: Sketch, wanted: Wanted) -> Denoise:
    """A denoiser of stems in codes (batch, stem, component, code) whose estimates add up to what is wanted."""

    def fitting(x: Tensor, sigma: Tensor) -> Tensor:
        clean = denoise(x, sigma)
        with torch.autocast(x.device.type, enabled=False):
            target, pictures = wanted(x, clean, sigma), network.picture(clean.float())
            moved = network.codes(fitted(pictures, target)) - network.codes(pictures)
        return clean + moved.to(clean)

    return fitting


def known(picture: Tensor) -> Wanted:
    """The picture (batch, band, frame) of a mixture."""
    return lambda x, clean, sigma: picture


def believed(mixture: Denoise, network: Sketch) -> Wanted:
    """What a denoiser of mixtures (batch, 1, component, code) makes of the sum of the estimates.

    It is shown that sum with the noise of the stems, the mean of which has level 1 again when N of them are added and
    divided by sqrt(N).
    """

    def found(x: Tensor, clean: Tensor, sigma: Tensor) -> Tensor:
        total, _ = summed(network.picture(clean.float()))
        noise = (x - clean).sum(dim=1, keepdim=True) * x.shape[1] ** -0.5
        said = mixture(network.codes(total)[:, None] + noise.float(), sigma)
        return network.picture(said.float())[:, 0]

    return found
