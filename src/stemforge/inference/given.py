"""What is known about the stems while they are sampled: nothing, some of them, their sum, or all of that.

Generate, impute, separate and edit are one loop with a different Given. `project` puts a state on what is given,
`steer` bends the slope dx/dsigma towards it. States are (batch, stem, channel, time).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

Noise = Callable[[Tensor], Tensor]
"""Standard noise of the shape of its argument, in the colour of the model."""


class Given(Protocol):
    """Two faces of a likelihood."""

    def project(self, x: Tensor, sigma: Tensor, noise: Noise) -> Tensor:
        """x moved on to what is given, at the noise level sigma (0: clean)."""
        ...

    def steer(self, x: Tensor, d: Tensor, sigma: Tensor) -> Tensor:
        """The slope d = dx/dsigma of the prior, bent towards what is given."""
        ...


@dataclass(frozen=True)
class Free:
    """Nothing is given: generate."""

    def project(self, x: Tensor, sigma: Tensor, noise: Noise) -> Tensor:
        """x as it is."""
        return x

    def steer(self, x: Tensor, d: Tensor, sigma: Tensor) -> Tensor:
        """d as it is."""
        return d


@dataclass(frozen=True)
class Observed:
    """Some stems, or some of the time, are given: impute, inpaint.

    stems: like x; known: bool, broadcastable to x. noised: known parts are shown at the noise level of the rest, as in
    MSDM (Mariani et al. 2024, https://arxiv.org/abs/2302.02257, section 3.2); without it they stay clean, for a network
    that is told which parts are (`conditioned`).
    """

    stems: Tensor
    known: Tensor
    noised: bool = True

    def project(self, x: Tensor, sigma: Tensor, noise: Noise) -> Tensor:
        """x with the known parts replaced."""
        shown = self.stems.to(x)
        if self.noised and bool((sigma > 0).any()):
            shown = shown + sigma * noise(x)
        return torch.where(self.known, shown, x)

    def steer(self, x: Tensor, d: Tensor, sigma: Tensor) -> Tensor:
        """Clean parts do not move."""
        return d if self.noised else d.masked_fill(self.known, 0.0)


@dataclass(frozen=True)
class SumsTo:
    """The mixture is given and the stems add up to it: MSDM's Dirac likelihood (its equation 15).

    x_k = y - sum_{n != k} x_n,   grad_m log p(x | y) ~ s_m(x) - s_k(x)

    The stem k then holds the noise of all others, more than the denoiser is told, and every difference to it moves
    twice. With `pinned` None no stem is singled out: the state and its slope are projected orthogonally on the stems
    that add up, x + (y - sum x) / N and d - mean d. For Gaussian stems of one variance that is the exact posterior,
    where the pinned form ends in a variance near 0 (tests/test_samplers.py).

    mixture: (batch, 1, channel, time); pinned: the stem k that is written as mixture minus the others, or None.
    """

    mixture: Tensor
    pinned: int | None = 0

    def project(self, x: Tensor, sigma: Tensor, noise: Noise) -> Tensor:
        """The pinned stem, or all in equal parts, take what is left of the mixture."""
        left = self.mixture.to(x) - x.sum(dim=1, keepdim=True)
        if self.pinned is None:
            return x + left / x.shape[1]
        x = x.clone()
        x[:, [self.pinned]] += left
        return x

    def steer(self, x: Tensor, d: Tensor, sigma: Tensor) -> Tensor:
        """d_m - d_k, or d_m - mean d."""
        return d - (d.mean(dim=1, keepdim=True) if self.pinned is None else d[:, [self.pinned]])


@dataclass(frozen=True)
class NearlySumsTo:
    """The mixture is given up to noise: MSDM's Gaussian likelihood N(y; sum_n x_n, gamma(sigma)^2) (its equation 11).

    d_m - factor sigma / gamma(sigma)^2 (y - sum_n x_n),   gamma(sigma) = gamma sigma

    factor 1/2 is what the released code does, 1 the gradient as written. In the end the pinned stem, or all of them,
    take what is left, so that the stems add up.
    """

    mixture: Tensor
    gamma: float = 0.75
    factor: float = 0.5
    pinned: int | None = 0

    def project(self, x: Tensor, sigma: Tensor, noise: Noise) -> Tensor:
        """x as it is until the noise is gone."""
        if bool((sigma > 0).any()):
            return x
        return SumsTo(self.mixture, self.pinned).project(x, sigma, noise)

    def steer(self, x: Tensor, d: Tensor, sigma: Tensor) -> Tensor:
        """Towards the mixture, the same for every stem."""
        gap = self.mixture.to(x) - x.sum(dim=1, keepdim=True)
        return d - self.factor / (self.gamma**2 * sigma) * gap


@dataclass(frozen=True)
class Both:
    """Two Givens at once, the second one has the last word: separation with a hint is Both(Observed, SumsTo)."""

    first: Given
    second: Given

    def project(self, x: Tensor, sigma: Tensor, noise: Noise) -> Tensor:
        """First, then second."""
        return self.second.project(self.first.project(x, sigma, noise), sigma, noise)

    def steer(self, x: Tensor, d: Tensor, sigma: Tensor) -> Tensor:
        """First, then second."""
        return self.second.steer(x, self.first.steer(x, d, sigma), sigma)
