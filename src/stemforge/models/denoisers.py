"""From what a network predicts to `Denoise`: the only place that knows preconditionings and parametrisations.

A network is called as network(input, time), where time has one value an item, shape (batch,). What comes out is
D(x; sigma) = E[x0 | x] for x = x0 + sigma eps (variance exploding), whatever the network was trained on. The
networks of `eps`, `v` and `x0` saw the state z = alpha x0 + beta eps with alpha^2 + beta^2 = 1 (variance preserving):
z = alpha x, alpha = 1 / sqrt(1 + sigma^2), beta = sigma alpha. Their time is sigma; a schedule goes around the network.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from stemforge.types import Denoise

Predict = Callable[[Tensor, Tensor], Tensor]


def one_level(sigma: Tensor | float, x: Tensor) -> Tensor:
    """The noise level of each item as (batch, 1, ..., 1), in the precision and on the device of x.

    sigma: one value for all, or (batch, ...) with one value throughout each item.

    Raises:
        ValueError: it differs within an item, by stem or by time.
    """
    level = torch.as_tensor(sigma, dtype=x.dtype, device=x.device)
    rows = level.reshape(level.shape[0] if level.dim() else 1, -1)
    if len(rows) not in (1, len(x)) or (rows.shape[1] > 1 and bool((rows != rows[:, :1]).any())):
        raise ValueError(
            f"sigma of shape {tuple(level.shape)}: must be one noise level an item, {len(x)} of them or one for all. "
            "Use a network that takes levels by stem and time."
        )
    return rows[:, 0].expand(len(x)).reshape(-1, *[1] * (x.dim() - 1))


def edm(network: Predict, sigma_data: float, limit: float = float("inf")) -> Denoise:
    """The preconditioning of Karras et al. 2022 (https://arxiv.org/abs/2206.00364), Table 1, and a clamp at +-limit.

    sigma_data: standard deviation of clean samples; time is ln(sigma) / 4. At sigma 0 this is the clamp alone.
    """

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        level = one_level(sigma, x)
        total = level**2 + sigma_data**2
        time = level.clamp(min=1e-8).log().flatten() / 4
        output = network(x * total.rsqrt(), time)
        return (sigma_data**2 / total * x + level * sigma_data * total.rsqrt() * output).clamp(-limit, limit)

    return denoise


def eps(network: Predict) -> Denoise:
    """Of a network that predicts the noise: D = x - sigma eps."""

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        level = one_level(sigma, x)
        return x - level * network(x * (1 + level**2).rsqrt(), level.flatten())

    return denoise


def v(network: Predict) -> Denoise:
    """Of a network that predicts v = alpha eps - beta x0 (Salimans & Ho, 2202.00512): D = alpha z - beta v."""

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        level = one_level(sigma, x)
        alpha = (1 + level**2).rsqrt()
        return alpha**2 * x - level * alpha * network(alpha * x, level.flatten())

    return denoise


def x0(network: Predict) -> Denoise:
    """Of a network that predicts the clean samples themselves."""

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        level = one_level(sigma, x)
        return network(x * (1 + level**2).rsqrt(), level.flatten())

    return denoise
