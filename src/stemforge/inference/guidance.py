"""Guidance gradients: at every step the state is pulled towards what is wanted of the sound.

Levy et al. 2023, "Controllable Music Production with Diffusion Models and Guidance Gradients"
(https://arxiv.org/abs/2311.00613): a reverse step, then a step of size xi down the gradient of a distance d(y, A(x)),
where A measures the state itself or, through the network, the clean sound D(x) that it leads to.

The paper's state preserves variance, z = alpha x0 + s eps with alpha = cos(pi t / 2) and s = sin(pi t / 2). Ours is
x = z / alpha = x0 + sigma eps with sigma = tan(pi t / 2), so that grad_z = grad_x / alpha, and its updates become

    DDIM   eps <- eps - xi s grad_z d,   z' = alpha' D + s' eps    eps <- eps - xi sigma grad_x d,   x' = D + sigma' eps
    DDPM   z' <- z' - xi grad_z d                                  x' <- x' - xi grad_x d / (alpha alpha')

`guided` is the same idea as a wrapper for every sampler: D <- D - xi sigma^2 grad_x d. With d the negative logarithm of
p(y | x) and xi 1 that is the mean of the clean sound given x and y: nothing is approximated.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional

from stemforge.inference.given import Free, Given, Noise
from stemforge.inference.operators import Linear
from stemforge.inference.samplers import OnStep, quiet
from stemforge.types import Denoise

Loss = Callable[[Tensor, Tensor], Tensor]
"""Distance of each item (batch,) of a sound (batch, stem, channel, time) from what is wanted; the second argument is
the noise level that it comes from."""

FREE = Free()


def time_of(sigma: Tensor) -> Tensor:
    """The paper's t in [0, 1): sigma = tan(pi t / 2)."""
    return sigma.atan() * (2 / math.pi)


def alpha_of(sigma: Tensor) -> Tensor:
    """alpha = cos(pi t / 2): the variance preserving state is alpha times ours."""
    return (1 + sigma**2).rsqrt()


@dataclass(frozen=True)
class Guide:
    """A distance, and how far to go down its slope.

    loss: of the clean sound, or with through=False of the state itself. step: the paper's xi. normalised: the slope is
    first scaled so that xi is the change of the noise in units of the noise itself, whatever the loss. free: bool,
    broadcastable to x; elsewhere nothing is pulled.
    """

    loss: Loss
    step: float
    normalised: bool = False
    through: bool = True
    free: Tensor | None = None

    def pull(self, denoise: Denoise, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """D(x; sigma), and xi grad_x d, both of the shape of x."""
        clean, slope = gradient(denoise, x, sigma, self.loss, through=self.through)
        noise = (x - clean) / sigma
        if self.free is not None:
            slope, noise = (torch.where(self.free, part, 0.0) for part in (slope, noise))
        if self.normalised:
            slope = slope * (_rms(noise) / _rms(slope).clamp(min=1e-12) / sigma)
        return clean, self.step * slope


def gradient(denoise: Denoise, x: Tensor, sigma: Tensor, loss: Loss, *, through: bool = True) -> tuple[Tensor, Tensor]:
    """D(x; sigma) and grad_x of the loss of it (through the network), or of x itself; items do not see each other."""
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        if through:
            clean = denoise(leaf, sigma)
            distance = loss(clean, sigma)
        else:
            distance = loss(leaf, sigma)
        (slope,) = torch.autograd.grad(distance.sum(), leaf)
    if not through:
        clean = denoise(x, sigma)
    return clean.detach(), slope


def guided(denoise: Denoise, guide: Guide) -> Denoise:
    """A denoiser that is pulled: D - sigma^2 xi grad_x d, for any sampler."""

    def pulled(x: Tensor, sigma: Tensor) -> Tensor:
        clean, pull = guide.pull(denoise, x, sigma)
        return clean - sigma**2 * pull

    return pulled


def ddim(
    denoise: Denoise,
    x: Tensor,
    sigmas: Tensor,
    guide: Guide,
    given: Given = FREE,
    *,
    noise: Noise = torch.randn_like,
    on_step: OnStep = quiet,
) -> Tensor:
    """The paper's guided DDIM, in our state; `given` is its data consistency."""
    for done, (sigma, sigma_next) in enumerate(pairwise(sigmas), 1):
        x = given.project(x, sigma, noise)
        clean, pull = guide.pull(denoise, x, sigma)
        d = given.steer(x, (x - clean) / sigma, sigma)
        x = (x - sigma * d) + sigma_next * (d - sigma * pull)
        on_step(done, len(sigmas) - 1)
    return given.project(x, sigmas[-1], noise)


def ddpm(
    denoise: Denoise,
    x: Tensor,
    sigmas: Tensor,
    guide: Guide,
    given: Given = FREE,
    *,
    noise: Noise = torch.randn_like,
    on_step: OnStep = quiet,
) -> Tensor:
    """The paper's guided DDPM, in our state, with the posterior variance as that of the noise it draws."""
    for done, (sigma, sigma_next) in enumerate(pairwise(sigmas), 1):
        x = given.project(x, sigma, noise)
        clean, pull = guide.pull(denoise, x, sigma)
        d = given.steer(x, (x - clean) / sigma, sigma)
        up = sigma_next * (1 - sigma_next**2 / sigma**2).sqrt()
        x = (x - sigma * d) + (sigma_next**2 - up**2).sqrt() * d
        if up > 0:
            x = x + noise(x) * up
        x = x - pull / (alpha_of(sigma) * alpha_of(sigma_next))
        on_step(done, len(sigmas) - 1)
    return given.project(x, sigmas[-1], noise)


GUIDED = {"ddim": ddim, "ddpm": ddpm}
"""Samplers that the paper has its own guided updates for; all others take `guided`."""


def reconstruction(operator: Linear, wanted: Tensor) -> Loss:
    """L1: the sum of |y - A x|. wanted: A of the clean state."""

    def loss(sound: Tensor, sigma: Tensor) -> Tensor:
        return (wanted.to(sound) - operator.measure(sound)).abs().flatten(1).sum(dim=1)

    return loss


def likelihood(operator: Linear, wanted: Tensor, solve: Callable[[Tensor, Tensor], Tensor]) -> Loss:
    """1/2 (y - A x)^T M (y - A x), the negative logarithm of p(y | x) up to a constant.

    solve: (residual, sigma) -> M residual with M = (A Cov(x0 | x) A^T + s^2)^-1, s the deviation of the noise in y;
    symmetric. Its step is A^T M (y - A x) through the network.
    """

    def loss(sound: Tensor, sigma: Tensor) -> Tensor:
        residual = wanted.to(sound) - operator.measure(sound)
        return 0.5 * (residual * solve(residual, sigma)).flatten(1).sum(dim=1)

    return loss


def resemblance(embed: Callable[[Tensor], Tensor], wanted: Tensor) -> Loss:
    """L2: |y - A(x)|. embed: sound -> (batch, feature); wanted: (batch or 1, feature)."""

    def loss(sound: Tensor, sigma: Tensor) -> Tensor:
        found = embed(sound)
        return (found - wanted.to(found)).square().sum(dim=1).clamp(min=1e-20).sqrt()

    return loss


def resemblances(
    embed: Callable[[Tensor], Sequence[Tensor]], wanted: Sequence[Tensor], terms: Sequence[tuple[float, int]]
) -> Loss:
    """Of several embeddings at once: the sum of w |y - A(x)|_p / |y|_p, p 1 or 2, a term (w, p) each.

    embed: sound -> each (batch, feature). wanted: each (1, feature).
    """

    def loss(sound: Tensor, sigma: Tensor) -> Tensor:
        found = torch.zeros(len(sound), device=sound.device)
        for a, y, (weight, order) in zip(embed(sound), wanted, terms, strict=True):
            away = (a - y.to(a)).abs().pow(order).sum(dim=1).clamp(min=1e-20).pow(1 / order)
            found = found + weight * away / y.norm(p=order).clamp(min=1e-6).to(a)
        return found

    return loss


def belonging(classify: Callable[[Tensor], Tensor], wanted: Tensor) -> Loss:
    """Binary cross-entropy, the mean over classes. classify: sound -> logits (batch, class); wanted: in [0, 1]."""

    def loss(sound: Tensor, sigma: Tensor) -> Tensor:
        logits = classify(sound)
        wishes = wanted.to(logits).expand_as(logits)
        return functional.binary_cross_entropy_with_logits(logits, wishes, reduction="none").mean(dim=1)

    return loss


def total(*parts: tuple[float, Loss]) -> Loss:
    """The sum of losses, each with its weight."""

    def loss(sound: Tensor, sigma: Tensor) -> Tensor:
        return torch.stack([weight * part(sound, sigma) for weight, part in parts]).sum(dim=0)

    return loss


def _rms(x: Tensor) -> Tensor:
    """Of each item, (batch, 1, 1, 1)."""
    return x.square().flatten(1).mean(dim=1).sqrt().reshape(-1, *[1] * (x.dim() - 1))
