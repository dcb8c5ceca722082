"""Samplers: pure functions from noise to stems, along a schedule of noise levels, under what is given.

The state is x(sigma) = x0 + sigma eps (variance exploding), the slope dx/dsigma = (x - D(x; sigma)) / sigma. Every
sampler takes (denoise, x, sigmas, given) and, by name, the noise to draw and a callback after each step; sigmas falls
to 0.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from stemforge.inference.given import Free, Given, Noise
from stemforge.types import Denoise

OnStep = Callable[[int, int], None]
"""Called with (steps done, steps in all)."""


class Sampler(Protocol):
    """denoise, x at sigmas[0], sigmas (steps + 1,) falling to 0 -> x at 0."""

    def __call__(
        self,
        denoise: Denoise,
        x: Tensor,
        sigmas: Tensor,
        given: Given = ...,
        *,
        noise: Noise = ...,
        on_step: OnStep = ...,
    ) -> Tensor: ...


FREE = Free()


def quiet(done: int, steps: int) -> None:
    """Report nothing."""


def slope(denoise: Denoise, x: Tensor, sigma: Tensor, given: Given) -> Tensor:
    """dx/dsigma of the prior, bent towards what is given."""
    return given.steer(x, (x - denoise(x, sigma)) / sigma, sigma)


def stretch(churn: float, steps: int) -> float:
    """By which share each noise level is raised before its step: gamma of Karras et al. 2022, Algorithm 2."""
    return min(churn / steps, 2**0.5 - 1)


def euler(
    denoise: Denoise,
    x: Tensor,
    sigmas: Tensor,
    given: Given = FREE,
    *,
    churn: float = 0.0,
    resamples: int = 1,
    noise: Noise = torch.randn_like,
    on_step: OnStep = quiet,
) -> Tensor:
    """Karras et al. 2022 (https://arxiv.org/abs/2206.00364), Algorithm 2 at first order; MSDM's sampler.

    resamples: how often a step is taken; noise is put back in between (MSDM's correction steps).
    """
    gamma = stretch(churn, len(sigmas) - 1)
    for done, (sigma, sigma_next) in enumerate(pairwise(sigmas), 1):
        for again in reversed(range(resamples)):
            sigma_hat = sigma * (1 + gamma)
            if gamma > 0:
                x = x + noise(x) * (sigma_hat**2 - sigma**2).sqrt()  # a little more noise
            x = given.project(x, sigma_hat, noise)
            x = x + slope(denoise, x, sigma_hat, given) * (sigma_next - sigma_hat)  # one step down
            if again:
                x = x + noise(x) * (sigma**2 - sigma_next**2).sqrt()  # back up, try again
        on_step(done, len(sigmas) - 1)
    return given.project(x, sigmas[-1], noise)


def heun(
    denoise: Denoise,
    x: Tensor,
    sigmas: Tensor,
    given: Given = FREE,
    *,
    noise: Noise = torch.randn_like,
    on_step: OnStep = quiet,
) -> Tensor:
    """Karras et al. 2022, Algorithm 1: second order, two evaluations a step, one for the last."""
    for done, (sigma, sigma_next) in enumerate(pairwise(sigmas), 1):
        x = given.project(x, sigma, noise)
        d = slope(denoise, x, sigma, given)
        ahead = x + d * (sigma_next - sigma)  # Euler
        if sigma_next > 0:
            ahead = given.project(ahead, sigma_next, noise)
            d_next = slope(denoise, ahead, sigma_next, given)
            ahead = x + (d + d_next) / 2 * (sigma_next - sigma)  # trapezoid
        x = ahead
        on_step(done, len(sigmas) - 1)
    return given.project(x, sigmas[-1], noise)


def dpmpp_2m(
    denoise: Denoise,
    x: Tensor,
    sigmas: Tensor,
    given: Given = FREE,
    *,
    eta: float = 0.0,
    noise: Noise = torch.randn_like,
    on_step: OnStep = quiet,
) -> Tensor:
    """DPM-Solver++(2M), Lu et al. 2022 (https://arxiv.org/abs/2211.01095), Algorithm 2: second order, one evaluation.

    In lambda = -log sigma the flow is dx/dlambda = D - x: exact for constant D, corrected by the last change of D.
    eta 1 is their SDE-DPM-Solver++(2M), dx = 2 (D - x) dlambda + sqrt(2) sigma dw: DDPM so corrected.
    """
    before: Tensor | None = None
    h_before = torch.ones_like(sigmas[0])
    for done, (sigma, sigma_next) in enumerate(pairwise(sigmas), 1):
        x = given.project(x, sigma, noise)
        d = slope(denoise, x, sigma, given)
        clean = x - sigma * d  # D under what is given
        if sigma_next == 0:
            x = clean
        else:
            h = (sigma / sigma_next).log()
            r = h_before / h
            ahead = clean if before is None else (1 + 1 / (2 * r)) * clean - before / (2 * r)
            kept = (sigma_next / sigma) ** (1 + eta)
            x = kept * x + (1 - kept) * ahead
            if eta > 0:
                x = x + noise(x) * sigma_next * (1 - (sigma_next / sigma) ** (2 * eta)).sqrt()
            before, h_before = clean, h
        on_step(done, len(sigmas) - 1)
    return given.project(x, sigmas[-1], noise)


def adpm2(
    denoise: Denoise,
    x: Tensor,
    sigmas: Tensor,
    given: Given = FREE,
    *,
    rho: float = 1.0,
    noise: Noise = torch.randn_like,
    on_step: OnStep = quiet,
) -> Tensor:
    """Ancestral DPM-2 as audio-diffusion-pytorch has it: a midpoint step below sigma_next, then noise back up to it."""
    for done, (sigma, sigma_next) in enumerate(pairwise(sigmas), 1):
        x = given.project(x, sigma, noise)
        up = (sigma_next**2 * (sigma**2 - sigma_next**2) / sigma**2).sqrt()
        down = (sigma_next**2 - up**2).sqrt()
        middle = ((sigma ** (1 / rho) + down ** (1 / rho)) / 2) ** rho
        d = slope(denoise, x, sigma, given)
        half = given.project(x + d * (middle - sigma), middle, noise)
        d_half = slope(denoise, half, middle, given)
        x = x + d_half * (down - sigma)
        if up > 0:
            x = x + noise(x) * up
        on_step(done, len(sigmas) - 1)
    return given.project(x, sigmas[-1], noise)


def ddim(
    denoise: Denoise,
    x: Tensor,
    sigmas: Tensor,
    given: Given = FREE,
    *,
    eta: float = 0.0,
    noise: Noise = torch.randn_like,
    on_step: OnStep = quiet,
) -> Tensor:
    """DDIM, Song et al. 2021 (https://arxiv.org/abs/2010.02502), equation 12 in variance-exploding form.

    x_s = D + sqrt(s^2 - u^2) (x_t - D) / t + u eps,   u = eta s sqrt(1 - s^2 / t^2); eta 0 is Euler, eta 1 is DDPM.
    """
    for done, (sigma, sigma_next) in enumerate(pairwise(sigmas), 1):
        x = given.project(x, sigma, noise)
        d = slope(denoise, x, sigma, given)
        up = eta * sigma_next * (1 - sigma_next**2 / sigma**2).sqrt()
        x = (x - sigma * d) + (sigma_next**2 - up**2).sqrt() * d
        if up > 0:
            x = x + noise(x) * up
        on_step(done, len(sigmas) - 1)
    return given.project(x, sigmas[-1], noise)


def ddpm(
    denoise: Denoise,
    x: Tensor,
    sigmas: Tensor,
    given: Given = FREE,
    *,
    noise: Noise = torch.randn_like,
    on_step: OnStep = quiet,
) -> Tensor:
    """Ancestral sampling, Ho et al. 2020 (https://arxiv.org/abs/2006.11239), Algorithm 2, posterior variance."""
    return ddim(denoise, x, sigmas, given, eta=1.0, noise=noise, on_step=on_step)


class Method(NamedTuple):
    """A sampler, its order of convergence (0: it draws noise), and its evaluations a step."""

    run: Sampler
    order: int
    evaluations: int


SAMPLERS: dict[str, Method] = {
    "euler": Method(euler, 1, 1),
    "heun": Method(heun, 2, 2),
    "dpmpp-2m": Method(dpmpp_2m, 2, 1),
    "dpmpp-2m-sde": Method(partial(dpmpp_2m, eta=1.0), 0, 1),
    "adpm2": Method(adpm2, 0, 2),
    "ddim": Method(ddim, 1, 1),
    "ddpm": Method(ddpm, 0, 1),
}
