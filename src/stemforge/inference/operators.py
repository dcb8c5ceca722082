"""Linear measurements of a state, and the state nearest to another one that measures what is wanted.

    x <- x + A^T (A A^T)^-1 (y - A x)

A keeps some stems or some of the time (`Kept`: what is known overwrites what was sampled), or adds stems up (`Added`:
mixture consistency, each free stem takes an equal share of what is missing). States are (batch, stem, channel, time).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from stemforge.inference.given import Noise

SHOWN = ("noised", "clean", "published")


class Linear(Protocol):
    """A of full row rank."""

    def measure(self, x: Tensor) -> Tensor:
        """A x."""
        ...

    def lift(self, y: Tensor) -> Tensor:
        """A^T (A A^T)^-1 y, the smallest state that measures y."""
        ...


@dataclass(frozen=True)
class Kept:
    """The known part of a state, zero elsewhere. known: bool, broadcastable to x."""

    known: Tensor

    def measure(self, x: Tensor) -> Tensor:
        """x where it is known."""
        return torch.where(self.known, x, 0.0)

    def lift(self, y: Tensor) -> Tensor:
        """The same: A A^T is the identity."""
        return torch.where(self.known, y, 0.0)


@dataclass(frozen=True)
class Added:
    """The sum of the free stems; the others stand. free: bool, (batch or 1, stem, 1, time or 1).

    Where no stem is free, the sum is 0 and nothing is changed.
    """

    free: Tensor

    def measure(self, x: Tensor) -> Tensor:
        """(batch, 1, channel, time)."""
        return torch.where(self.free, x, 0.0).sum(dim=1, keepdim=True)

    def lift(self, y: Tensor) -> Tensor:
        """y in equal shares."""
        return self.free * (y / self.free.sum(dim=1, keepdim=True).clamp(min=1))


def consistent(x: Tensor, operator: Linear, wanted: Tensor) -> Tensor:
    """x with the smallest change after which it measures what is wanted."""
    return x + operator.lift(wanted - operator.measure(x))


@dataclass(frozen=True)
class Consistent:
    """A Given: data consistency at every noise level.

    wanted: A of the clean state. shown: `noised` adds the measurement of the noise of the moment, which is what the
    state has there; `clean` does not, for networks that are told (`wrappers.conditioned`); `published` puts the clean
    values into the variance preserving state, as the paper does, which are wanted / alpha in ours.
    """

    operator: Linear
    wanted: Tensor
    shown: str = "noised"

    def project(self, x: Tensor, sigma: Tensor, noise: Noise) -> Tensor:
        """The nearest consistent state."""
        wanted = self.wanted.to(x)
        if self.shown == "published":
            wanted = wanted * (1 + sigma**2).sqrt()
        elif self.shown == "noised" and bool((sigma > 0).any()):
            wanted = wanted + sigma * self.operator.measure(noise(x))
        return consistent(x, self.operator, wanted)

    def steer(self, x: Tensor, d: Tensor, sigma: Tensor) -> Tensor:
        """Clean measurements do not move."""
        return consistent(d, self.operator, torch.zeros_like(self.operator.measure(d))) if self.shown == "clean" else d
