"""Guidance gradients against closed forms on Gaussian data, finite differences, and the paper's own state."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from stemforge.inference import guidance, schedules
from stemforge.inference.given import Observed
from stemforge.inference.guidance import Guide
from stemforge.inference.operators import Added, Consistent, Kept, Linear, consistent
from stemforge.inference.samplers import SAMPLERS

SIGMA_MAX, COUNT, BLUR = 60.0, 20000, 0.1


def state(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def seeded(seed: int = 0) -> Callable[[Tensor], Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return lambda x: torch.randn(x.shape, generator=generator, dtype=x.dtype)


class Gaussian:
    """Data N(0, C) of one stem and four samples in time, the first two of which are measured with noise."""

    def __init__(self) -> None:
        root = state(4, 4, seed=3)
        self.covariance = root @ root.T / 4 + 0.05 * torch.eye(4, dtype=torch.float64)
        self.known = torch.tensor([True, True, False, False])
        self.wanted = torch.tensor([0.8, -0.5, 0.0, 0.0], dtype=torch.float64)

    def denoise(self, x: Tensor, sigma: Tensor) -> Tensor:
        """The exact E[x0 | x]."""
        gain = self.covariance @ torch.linalg.inv(self.covariance + sigma**2 * torch.eye(4))
        return x @ gain.T

    def solve(self, residual: Tensor, sigma: Tensor) -> Tensor:
        """(A Cov(x0 | x) A^T + s^2)^-1 on the measured samples, which the measurement keeps in their places."""
        c, eye = self.covariance, torch.eye(4, dtype=torch.float64)
        left = c - c @ torch.linalg.inv(c + sigma**2 * eye) @ c
        inner = torch.linalg.inv(left[:2, :2] + BLUR**2 * eye[:2, :2])
        return torch.nn.functional.pad(residual[..., :2] @ inner.T, (0, 2))

    def posterior(self) -> tuple[Tensor, Tensor]:
        """Mean and covariance of the data given the measurement."""
        c = self.covariance
        gain = c[:, :2] @ torch.linalg.inv(c[:2, :2] + BLUR**2 * torch.eye(2, dtype=torch.float64))
        return gain @ self.wanted[:2], c - gain @ c[:2]


def test_sigma_is_the_papers_time() -> None:
    """sigma = tan(pi t / 2), x = z / alpha: the clean sound and the noise have the paper's weights."""
    t = torch.linspace(0.01, 0.99, 25, dtype=torch.float64)
    sigma = (math.pi / 2 * t).tan()
    clean, eps = state(25, seed=1), state(25, seed=2)
    z = (math.pi / 2 * t).cos() * clean + (math.pi / 2 * t).sin() * eps
    assert torch.allclose(guidance.time_of(sigma), t)
    assert torch.allclose(guidance.alpha_of(sigma) * (clean + sigma * eps), z)


def published(denoise, z: Tensor, sigmas: Tensor, loss, xi: float, noise, *, ancestral: bool) -> Tensor:
    """The algorithms as they are printed, in the variance preserving state z."""
    for sigma, sigma_next in pairwise(sigmas):
        a, s, a2, s2 = sigma.atan().cos(), sigma.atan().sin(), sigma_next.atan().cos(), sigma_next.atan().sin()
        leaf = z.detach().requires_grad_()
        clean = denoise(leaf / a, sigma)
        (slope,) = torch.autograd.grad(loss(clean, sigma).sum(), leaf)
        clean = clean.detach()
        if ancestral:
            ratio = 1 - a**2 / a2**2
            z = a2 * ratio / s**2 * clean + a * s2**2 / (a2 * s**2) * z
            z = z + (s2**2 / s**2 * ratio).sqrt() * noise(z) - xi * slope
        else:
            eps = (z - a * clean) / s - xi * s * slope
            z = a2 * clean + (1 - a2**2).sqrt() * eps
    return z


@pytest.mark.parametrize("name", guidance.GUIDED)
def test_updates_are_those_of_the_paper(name: str) -> None:
    """In our state and in the paper's, the same noise leads to the same sound."""
    model, sigmas = Gaussian(), schedules.cosine(25, 0.02, SIGMA_MAX)
    loss, x = guidance.reconstruction(Kept(model.known), model.wanted), SIGMA_MAX * state(3, 1, 1, 4)
    a = guidance.alpha_of(sigmas[0])
    ours = guidance.GUIDED[name](model.denoise, x, sigmas, Guide(loss, 0.03), noise=seeded(1))
    theirs = published(model.denoise, x * a, sigmas, loss, 0.03, seeded(1), ancestral=name == "ddpm")
    assert torch.allclose(ours, theirs, atol=1e-9)


@pytest.mark.parametrize(
    ("name", "steps", "count"), [("heun", 90, COUNT), ("dpmpp-2m", 150, COUNT), ("ddpm", 1200, 4000)]
)
def test_the_exact_step_reaches_the_conditional_distribution(name: str, steps: int, count: int) -> None:
    """Mean and variance of every sample within 3 standard errors of those given the measurement."""
    model = Gaussian()
    loss = guidance.likelihood(Kept(model.known), model.wanted, model.solve)
    pulled = guidance.guided(model.denoise, Guide(loss, 1.0))
    sigmas = schedules.karras(steps, 0.003, 3000.0)
    x = SAMPLERS[name].run(pulled, 3000.0 * state(count, 1, 1, 4, seed=7), sigmas, noise=seeded(8))[:, 0, 0]
    mean, covariance = model.posterior()
    variance = covariance.diagonal()
    assert ((x.mean(0) - mean).abs() < 3 * (variance / count).sqrt()).all()
    assert ((x.var(0) - variance).abs() < 3 * variance * (2 / count) ** 0.5).all()


@pytest.mark.parametrize("name", guidance.GUIDED)
def test_a_fixed_step_is_biased(name: str) -> None:
    """The paper's xi with clean values written over the state pulls the right way and not far enough; the bias."""
    model = Gaussian()
    free, exact = ~model.known, Gaussian.posterior(model)[0]
    given = Consistent(Kept(model.known), model.wanted, "published")
    for xi in (3e-3, 3e-2, 0.3):
        guide = Guide(guidance.reconstruction(Kept(model.known), model.wanted), xi, free=free)
        sigmas = schedules.cosine(50, 0.02, SIGMA_MAX)
        x = guidance.GUIDED[name](model.denoise, SIGMA_MAX * state(4000, 1, 1, 4), sigmas,
                                  guide, given, noise=seeded(2))[:, 0, 0]  # fmt: skip
        bias = (x.mean(0) - exact)[free]
        print(f"{name}, xi {xi:g}: bias {bias.numpy().round(3)}, mean {exact[free].numpy().round(3)}")
        assert bias.isfinite().all() and torch.equal(x[:, :2], model.wanted[:2].expand(4000, 2))
    assert bias.abs().max() > 0.01


@pytest.mark.parametrize("operator", ["kept", "added"])
def test_data_consistency_is_exact_and_the_smallest_change(operator: str) -> None:
    """A x = y to 1e-6, a consistent state stays, and the change is orthogonal to all that A does not see."""
    mask = torch.rand(2, 3, 1, 50, generator=torch.Generator().manual_seed(1)) < 0.6
    a: Linear = Kept(mask) if operator == "kept" else Added(mask)
    x, other = state(2, 3, 2, 50), state(2, 3, 2, 50, seed=1)
    wanted = a.measure(state(2, 3, 2, 50, seed=2))
    out = consistent(x, a, wanted)
    assert (a.measure(out) - wanted).abs().max() < 1e-6
    assert (consistent(out, a, wanted) - out).abs().max() < 1e-6
    unseen = other - a.lift(a.measure(other))
    assert a.measure(unseen).abs().max() < 1e-6 and abs(float(((out - x) * unseen).sum())) < 1e-6


def test_one_stem_is_edited_while_the_mixture_holds() -> None:
    """Only free stems change, and all stems add up to the mixture."""
    x, mixture = state(1, 3, 2, 20), state(1, 1, 2, 20, seed=4)
    free = torch.tensor([False, True, True])[None, :, None, None]
    out = consistent(x, Added(free), mixture - x[:, :1])
    assert torch.equal(out[:, 0], x[:, 0]) and (out.sum(1, keepdim=True) - mixture).abs().max() < 1e-12


@pytest.mark.parametrize("shown", ["noised", "clean", "published"])
def test_consistency_at_a_noise_level(shown: str) -> None:
    """Known samples hold the clean value, the value with noise, or the paper's scaled one; at 0 all are clean."""
    known, wanted, sigma = torch.tensor([True, False]), torch.tensor([2.0, 0.0]), torch.tensor(3.0)
    given = Consistent(Kept(known), wanted, shown)
    out = given.project(torch.zeros(500, 1, 1, 2), sigma, torch.randn_like)
    expected = {"noised": 3.0, "clean": 0.0, "published": 0.0}[shown]
    assert out[..., 0].std().item() == pytest.approx(expected, rel=0.15, abs=1e-6)
    if shown != "noised":
        assert out[0, 0, 0, 0].item() == pytest.approx(2.0 if shown == "clean" else 2.0 * 10**0.5)
    assert torch.equal(given.project(out, torch.tensor(0.0), torch.randn_like)[..., 0], torch.full((500, 1, 1), 2.0))
    slope = given.steer(out, torch.ones_like(out), sigma)
    assert (slope[..., 0] == (0 if shown == "clean" else 1)).all() and (slope[..., 1] == 1).all()


def losses() -> dict[str, guidance.Loss]:
    """Each loss, on sounds (batch, 2, 1, 6)."""
    weight = state(12, 5, seed=9)

    def embed(x: Tensor) -> Tensor:
        return (x.flatten(1) @ weight).tanh()

    mask, mixture = torch.tensor([True] * 4 + [False] * 2), torch.ones(1, 2, 1, 1, dtype=torch.bool)
    l1 = guidance.reconstruction(Kept(mask), state(1, 2, 1, 6, seed=1))
    l2 = guidance.resemblance(embed, state(1, 5, seed=2))
    wanted = state(1, 5, seed=2), state(1, 12, seed=6)
    both = guidance.resemblances(lambda x: (embed(x), x.flatten(1)), wanted, ((1.0, 2), (3.0, 1)))
    bce = guidance.belonging(embed, torch.tensor([1.0, 0.0, 0.3, 1.0, 0.5]))
    sums = guidance.reconstruction(Added(mixture), state(1, 1, 1, 6, seed=3))
    exact = guidance.likelihood(Kept(mask), state(1, 2, 1, 6, seed=4), lambda r, sigma: r / (1 + sigma**2))
    return {
        "l1": l1,
        "l2": l2,
        "several": both,
        "bce": bce,
        "sum": sums,
        "exact": exact,
        "total": guidance.total((0.5, l1), (2.0, bce)),
    }


@pytest.mark.parametrize("name", losses())
@pytest.mark.parametrize("through", [True, False])
def test_gradients_are_those_of_finite_differences(name: str, through: bool) -> None:
    """Of each loss, of the state or through a denoiser that is not linear; items of a batch do not mix."""
    loss, x, sigma = losses()[name], state(2, 2, 1, 6, seed=5), torch.tensor(0.7, dtype=torch.float64)

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        return (x.roll(1, dims=-1) + x).tanh() / (1 + sigma)

    _, slope = guidance.gradient(denoise, x, sigma, loss, through=through)
    for at in range(x.numel()):
        small = torch.zeros(x.numel(), dtype=torch.float64)
        small[at] = 1e-6
        ends = [
            loss(denoise(y, sigma) if through else y, sigma).sum() for y in (x + small.view_as(x), x - small.view_as(x))
        ]
        assert slope.flatten()[at].item() == pytest.approx(float(ends[0] - ends[1]) / 2e-6, rel=1e-4, abs=1e-6)


def test_a_normalised_step_is_a_share_of_the_noise() -> None:
    """Whatever the scale of the loss, the noise changes by xi times itself, and only where it is free."""
    model, x, sigma = Gaussian(), state(5, 1, 1, 4), torch.tensor(1.5, dtype=torch.float64)
    loss = guidance.reconstruction(Kept(model.known), model.wanted)
    for scale, free in ((1.0, None), (1e6, None), (1.0, ~model.known)):
        guide = Guide(guidance.total((scale, loss)), 0.2, normalised=True, free=free)
        clean, pull = guide.pull(model.denoise, x, sigma)
        part = slice(None) if free is None else slice(2, None)
        change, noise = (y[..., part].square().mean((1, 2, 3)).sqrt() for y in (sigma * pull, (x - clean) / sigma))
        assert torch.allclose(change, 0.2 * noise)
    _, pull = Guide(loss, 1.0, free=~model.known).pull(model.denoise, x, sigma)
    assert (pull[..., :2] == 0).all() and (pull[..., 2:] != 0).all()


def test_guidance_and_replacement_go_together() -> None:
    """Noise of the moment on the known samples: a small step keeps them, and the rest follows them."""
    model, count = Gaussian(), 4000
    given = Observed(model.wanted, model.known)
    guide = Guide(guidance.reconstruction(Kept(model.known), model.wanted), 0.02, free=~model.known)
    x = guidance.ddpm(model.denoise, SIGMA_MAX * state(count, 1, 1, 4), schedules.karras(100, 0.01, SIGMA_MAX), guide,
                      given, noise=seeded(3))[:, 0, 0]  # fmt: skip
    prior = model.covariance.diagonal()[2:].sqrt()
    exact = model.posterior()[0][2:]
    assert torch.equal(x[:, :2], model.wanted[:2].expand(count, 2))
    assert ((x.mean(0)[2:] - exact).abs() < 0.5 * prior).all()
