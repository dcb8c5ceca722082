"""Noise schedules: tensors of falling noise levels that end in 0.

Every schedule takes the number of steps K and the two ends, and returns K + 1 levels in float64: sigma_max first,
sigma_min last but one, then 0. A sampler walks over neighbouring pairs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from stemforge.errors import UsageError

Schedule = Callable[[int, float, float], Tensor]


def karras(steps: int, sigma_min: float, sigma_max: float, rho: float = 7.0) -> Tensor:
    """sigma_i = (s_max^(1/rho) + i/(K-1) (s_min^(1/rho) - s_max^(1/rho)))^rho, then 0.

    Karras et al. 2022, equation 5, https://arxiv.org/abs/2206.00364. rho 1 is a straight line.
    Raises UsageError for impossible values.
    """
    _check(steps, sigma_min, sigma_max)
    if not 0 < rho < math.inf:
        raise UsageError(f"rho {rho:g}: must be more than 0. Try --rho 7.")
    ramp = torch.linspace(0, 1, steps, dtype=torch.float64)
    high, low = sigma_max ** (1 / rho), sigma_min ** (1 / rho)
    return _ended((high + ramp * (low - high)) ** rho)


def exponential(steps: int, sigma_min: float, sigma_max: float) -> Tensor:
    """Equal ratios from sigma_max to sigma_min (Karras's schedule for rho -> infinity), then 0."""
    _check(steps, sigma_min, sigma_max)
    return _ended(torch.linspace(math.log(sigma_max), math.log(sigma_min), steps, dtype=torch.float64).exp())


def cosine(steps: int, sigma_min: float, sigma_max: float) -> Tensor:
    """Equal steps in the angle t of a variance-preserving cosine schedule, sigma = tan(pi t / 2), then 0.

    x_VP = cos(pi t / 2) x0 + sin(pi t / 2) eps is x0 + sigma eps up to scale (Salimans and Ho 2022,
    https://arxiv.org/abs/2202.00512).
    """
    _check(steps, sigma_min, sigma_max)
    angles = torch.linspace(math.atan(sigma_max), math.atan(sigma_min), steps, dtype=torch.float64)
    return _ended(angles.tan())


def _check(steps: int, sigma_min: float, sigma_max: float) -> None:
    if steps < 1:
        raise UsageError(f"steps {steps}: at least one is needed. Try --steps 20.")
    if not 0 < sigma_min <= sigma_max < math.inf:
        raise UsageError(
            f"sigma {sigma_min:g} to {sigma_max:g}: needs 0 < sigma-min <= sigma-max. Leave both out for the defaults."
        )


def _ended(sigmas: Tensor) -> Tensor:
    return torch.cat([sigmas, sigmas.new_zeros(1)])


SCHEDULES: dict[str, Schedule] = {
    "karras": karras,
    "exponential": exponential,
    "linear": partial(karras, rho=1.0),
    "cosine": cosine,
}
