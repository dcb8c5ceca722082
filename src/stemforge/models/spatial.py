"""Where the stems are in the stereo picture: the multichannel Wiener filter.

A network that is trained for least squares gives each stem its share of the mixture, w_j = v_j / sum_k v_k with v_j the
variance of the stem in a point of time and frequency. In stereo a stem also has a place, the covariance R_j(f) of its
channels, and the least-squares estimate of all stems together is (Duong et al. 2010, https://arxiv.org/abs/0912.0171)

    W_j(t, f) x(t, f),   W_j = v_j R_j (sum_k v_k R_k)^-1

which takes two sounds of the same pitch apart when they come from different sides. Shares come from a first estimate
d_j of the network, and so do the places: the mean of its outer products, the points where it is sure of a stem counting
most. What is added to d_j is the difference that the places make, so nothing changes where there is no stereo:

    s_j = d_j + (W_j - w_j I) x,   sum_j s_j = sum_j d_j
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

SILENT = 1e-7
"""Amplitude under which a stem has no share and no place of its own."""
BINS = 128
"""Frequencies that are filtered at a time, which bounds the memory."""


def wiener(first: Tensor, mixture: Tensor, spread: float) -> Tensor:
    """The first estimate of all stems, corrected by their places; what it adds up to stays.

    Args:
        first: (batch, stem, 2, frame, frequency) complex, the first estimate.
        mixture: (batch, 2, frame, frequency) complex.
        spread: part of every stem that comes from everywhere, 0 < spread <= 1; at 1 there are no places.

    Returns the shape of `first`.
    """
    stems = torch.empty_like(first)
    for start in range(0, first.shape[-1], BINS):
        band = slice(start, start + BINS)
        stems[..., band] = first[..., band] + _correction(first[..., band], mixture[..., band], spread)
    return stems


def _correction(first: Tensor, mixture: Tensor, spread: float) -> Tensor:
    """(W - w) x for some of the frequencies: each is by itself."""
    amplitude = first.abs().square().mean(dim=2).sqrt() + SILENT
    share = amplitude / amplitude.sum(dim=1, keepdim=True)  # (batch, stem, frame, frequency)
    place = places(first, share, spread)
    total = Place(*((share * part[:, :, None]).sum(dim=1) for part in place))
    return share[:, :, None] * (place.times(total.solve(mixture)[:, None]) - mixture[:, None])


class Place(NamedTuple):
    """A covariance matrix of two channels, (left, cross; conj(cross), right): left, right real, cross complex."""

    left: Tensor
    right: Tensor
    cross: Tensor

    def solve(self, x: Tensor) -> Tensor:
        """The inverse times x: parts (batch, frame, frequency), x (batch, 2, frame, frequency)."""
        determinant = self.left * self.right - self.cross.abs().square()
        first = self.right * x[:, 0] - self.cross * x[:, 1]
        second = self.left * x[:, 1] - self.cross.conj() * x[:, 0]
        return torch.stack([first, second], dim=1) / determinant[:, None]

    def times(self, x: Tensor) -> Tensor:
        """The matrix times x: parts (batch, stem, frequency), x (batch, 1 or stem, 2, frame, frequency)."""
        left, right, cross = (part[:, :, None] for part in self)
        first = left * x[:, :, 0] + cross * x[:, :, 1]
        return torch.stack([first, cross.conj() * x[:, :, 0] + right * x[:, :, 1]], dim=2)


def places(first: Tensor, share: Tensor, spread: float) -> Place:
    """Covariance of each stem over the frames, of trace 1, a part `spread` of it without direction.

    first: (batch, stem, 2, frame, frequency) complex; share: (batch, stem, frame, frequency), the weight of each point.
    """
    left, right = first[:, :, 0], first[:, :, 1]
    one, two = ((share * x.abs().square()).sum(dim=2) + SILENT**2 for x in (left, right))
    cross = (share * left * right.conj()).sum(dim=2)
    scale = (1 - spread) / (one + two)
    return Place(one * scale + spread / 2, two * scale + spread / 2, cross * scale)
