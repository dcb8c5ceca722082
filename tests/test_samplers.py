"""Samplers against what Gaussian data make exact: order of convergence, end moments, likelihoods in closed form."""

from __future__ import annotations

from functools import partial
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from stemforge.audio.windows import windowed
from stemforge.errors import UsageError
from stemforge.inference import samplers, schedules
from stemforge.inference.given import Both, Free, NearlySumsTo, Observed, SumsTo
from stemforge.inference.samplers import SAMPLERS
from stemforge.inference.wrappers import conditioned

STD = 0.7
SIGMA_MAX = 5.0


def gaussian(x: Tensor, sigma: Tensor) -> Tensor:
    """The exact denoiser of data N(0, STD^2)."""
    return x * STD**2 / (STD**2 + sigma**2)


def state(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def seeded(seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    return lambda x: torch.randn(x.shape, generator=generator, dtype=x.dtype)


def to(sigma_end: float, steps: int) -> Tensor:
    """A geometric schedule that stops at sigma_end instead of 0."""
    return torch.logspace(torch.tensor(SIGMA_MAX).log10().item(), torch.tensor(sigma_end).log10().item(), steps + 1,
                          dtype=torch.float64)  # fmt: skip


@pytest.mark.parametrize("name", schedules.SCHEDULES)
def test_schedules_fall_from_the_first_level_to_the_last_and_to_zero(name: str) -> None:
    """K + 1 falling levels with the ends that were asked for."""
    sigmas = schedules.SCHEDULES[name](9, 0.01, 20.0)
    assert sigmas.shape == (10,) and sigmas.dtype == torch.float64
    assert sigmas[0] == pytest.approx(20.0) and sigmas[-2] == pytest.approx(0.01) and sigmas[-1] == 0
    assert all(a > b for a, b in pairwise(sigmas))


def test_karras_levels_are_those_of_the_official_code() -> None:
    """Check values of the published settings: 150 steps, rho 7."""
    assert schedules.karras(150, 1e-4, 1.0)[[1, 75]].tolist() == pytest.approx([0.966126, 0.0401307], rel=1e-5)
    assert schedules.karras(150, 1e-4, 20.0)[[1, 75]].tolist() == pytest.approx([19.2375, 0.467068], rel=1e-5)


@pytest.mark.parametrize("values", [(0, 0.1, 1.0), (5, 0.0, 1.0), (5, 2.0, 1.0), (5, 0.1, float("inf"))])
def test_impossible_schedules_are_refused(values: tuple[int, float, float]) -> None:
    """No steps, levels out of order or out of range are usage errors."""
    with pytest.raises(UsageError):
        schedules.karras(*values)


@pytest.mark.parametrize("name", [n for n, m in SAMPLERS.items() if m.order])
def test_deterministic_samplers_converge_at_their_order(name: str) -> None:
    """The error at a final level above 0 falls as steps^-order."""
    x, end = state(1, 1, 1, 8) * SIGMA_MAX, 0.2
    exact = x * ((STD**2 + end**2) / (STD**2 + SIGMA_MAX**2)) ** 0.5
    errors = [float((SAMPLERS[name].run(gaussian, x, to(end, steps)) - exact).norm()) for steps in (40, 80, 160)]
    slopes = [torch.log2(torch.tensor(a / b)).item() for a, b in pairwise(errors)]
    assert slopes[-1] == pytest.approx(SAMPLERS[name].order, abs=0.15)


@pytest.mark.parametrize("name", SAMPLERS)
def test_samplers_reach_the_data_distribution(name: str) -> None:
    """From noise to N(0, STD^2): mean and variance within 3 standard errors and the discretisation."""
    count = 40000
    sigmas = schedules.karras(60 if SAMPLERS[name].order else 300, 0.01, SIGMA_MAX)
    x = (STD**2 + SIGMA_MAX**2) ** 0.5 * state(1, 1, 1, count)
    out = SAMPLERS[name].run(gaussian, x, sigmas, noise=seeded(1))
    assert abs(out.mean()) < 3 * STD / count**0.5
    bias = 0.004 if SAMPLERS[name].order == 2 else 0.03
    assert out.std().item() == pytest.approx(STD, abs=3 * STD / (2 * count) ** 0.5 + bias)


def test_ancestral_sampling_has_its_closed_form_variance() -> None:
    """DDPM with an exact denoiser: each step's variance is the posterior mean's plus the noise that is put back."""
    sigmas, count = schedules.karras(12, 0.05, SIGMA_MAX), 60000
    variance = torch.tensor(STD**2 + SIGMA_MAX**2, dtype=torch.float64)
    for t, s in pairwise(sigmas):
        shrink = STD**2 / (STD**2 + t**2)
        up = s**2 * (1 - s**2 / t**2)
        variance = (shrink + (s**2 - up).sqrt() / t * (1 - shrink)) ** 2 * variance + up
    out = samplers.ddpm(gaussian, (STD**2 + SIGMA_MAX**2) ** 0.5 * state(1, 1, 1, count), sigmas, noise=seeded(2))
    assert out.var().item() == pytest.approx(float(variance), rel=3 * (2 / count) ** 0.5)


def sde_variance(sigmas: Tensor) -> float:
    """Of SDE-DPM-Solver++(2M) with the exact denoiser: a linear map of the last two states, and noise, a step."""
    spread = torch.zeros(2, 2, dtype=torch.float64)  # covariance of the state and the one before it
    spread[0, 0] = STD**2 + SIGMA_MAX**2
    h_before, k_before = None, 0.0
    for t, s in pairwise(sigmas):
        k, kept, up, more = STD**2 / (STD**2 + t**2), (s / t) ** 2, s**2 * (1 - (s / t) ** 2), 0.0
        if s > 0 and h_before is not None:
            more = (t / s).log() / (2 * h_before)
        step = torch.tensor([[kept + (1 - kept) * (1 + more) * k, -(1 - kept) * more * k_before], [1.0, 0.0]])
        spread = step.double() @ spread @ step.double().T
        spread[0, 0] += up
        h_before, k_before = (t / s).log(), k
    return float(spread[0, 0])


def test_the_second_order_sde_has_its_closed_form_variance_and_a_smaller_bias_than_ddpm() -> None:
    """As computed from its linear steps; twelve of them are nearer to the data than twelve of DDPM."""
    sigmas, count = schedules.karras(12, 0.05, SIGMA_MAX), 60000
    x = (STD**2 + SIGMA_MAX**2) ** 0.5 * state(1, 1, 1, count)
    out, ancestral = (
        SAMPLERS[name].run(gaussian, x, sigmas, noise=seeded(2)).var().item() for name in ("dpmpp-2m-sde", "ddpm")
    )
    assert out == pytest.approx(sde_variance(sigmas), rel=3 * (2 / count) ** 0.5)
    assert abs(out - STD**2) < 0.5 * abs(ancestral - STD**2)


def test_churn_has_its_closed_form_variance() -> None:
    """Euler with churn and two resamples: variances of linear maps add up as computed."""
    sigmas, count, churn = schedules.karras(10, 0.05, SIGMA_MAX), 60000, 3.0
    gamma = min(churn / 10, 2**0.5 - 1)
    variance = torch.tensor(STD**2 + SIGMA_MAX**2, dtype=torch.float64)
    for s, s_next in pairwise(sigmas):
        for again in (True, False):
            hat = s * (1 + gamma)
            variance = variance + hat**2 - s**2
            slope = (1 - STD**2 / (STD**2 + hat**2)) / hat
            variance = (1 + slope * (s_next - hat)) ** 2 * variance + again * (s**2 - s_next**2)
    x = (STD**2 + SIGMA_MAX**2) ** 0.5 * state(1, 1, 1, count)
    out = samplers.euler(gaussian, x, sigmas, churn=churn, resamples=2, noise=seeded(3))
    assert out.var().item() == pytest.approx(float(variance), rel=3 * (2 / count) ** 0.5)


def test_dirac_likelihood_has_its_closed_form() -> None:
    """Two stems N(0, STD^2), x0 pinned: the difference u = x1 - x0 shrinks by STD^2 / (STD^2 + sigma^2)."""
    mixture = state(1, 1, 1, 16, seed=5)
    x = state(1, 2, 1, 16, seed=6) * SIGMA_MAX
    given = SumsTo(mixture)
    first = given.project(x, torch.tensor(SIGMA_MAX), torch.randn_like)
    exact = (first[:, 1] - first[:, 0]) * STD**2 / (STD**2 + SIGMA_MAX**2)
    out = samplers.heun(gaussian, x, schedules.karras(400, 1e-3, SIGMA_MAX), given)
    assert torch.allclose(out[:, 1] - out[:, 0], exact, atol=1e-3)
    assert torch.allclose(out.sum(1, keepdim=True), mixture, atol=1e-12)


def test_shared_dirac_likelihood_is_the_posterior_and_the_pinned_one_collapses() -> None:
    """Three stems N(0, STD^2) that add up to y: mean y / 3 and variance 2/3 STD^2 when all share."""
    count = 40000
    mixture = torch.full((1, 1, 1, count), 1.7, dtype=torch.float64)
    x = (STD**2 + SIGMA_MAX**2) ** 0.5 * state(1, 3, 1, count, seed=8)
    sigmas = schedules.karras(200, 1e-3, SIGMA_MAX)
    shared = samplers.heun(gaussian, x, sigmas, SumsTo(mixture, None))
    variance = 2 / 3 * STD**2
    assert (shared.mean(-1) - 1.7 / 3).abs().max() < 3 * (variance / count) ** 0.5
    assert (shared.var(-1) - variance).abs().max() < 3 * variance * (2 / count) ** 0.5
    assert torch.allclose(shared.sum(1, keepdim=True), mixture, atol=1e-12)
    pinned = samplers.heun(gaussian, x, sigmas, SumsTo(mixture, 0))
    assert (pinned[:, 1] + pinned[:, 2] - 2 * pinned[:, 0]).var() < 0.5 * 6 * STD**2


def test_gaussian_likelihood_has_its_closed_form() -> None:
    """The sum v of two stems follows dv = (v sigma / (STD^2 + sigma^2) - 2 f / (g^2 sigma) (y - v)) dsigma."""
    mixture, x = state(1, 1, 1, 4, seed=7), state(1, 2, 1, 4, seed=8) * SIGMA_MAX
    given, end, steps = NearlySumsTo(mixture, gamma=1.5, factor=0.5), 0.3, 40000
    v, y = x.sum(1, keepdim=True), mixture
    for s, t in pairwise(to(end, steps)):
        middle = (s * t).sqrt()
        v = v + (v * middle / (STD**2 + middle**2) - 1.0 / (1.5**2 * middle) * (y - v)) * (t - s)
    out = samplers.heun(gaussian, x, to(end, 300), given)
    assert torch.allclose(out.sum(1, keepdim=True), v, atol=2e-3)


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("likelihood", ["dirac", "gaussian"])
@pytest.mark.parametrize("pinned", [2, None])
def test_stems_add_up_to_the_mixture_exactly(name: str, likelihood: str, pinned: int | None) -> None:
    """After the last projection the sum is the mixture, with every sampler and likelihood, pinned where one likes."""
    mixture, x = state(2, 1, 2, 50), state(2, 4, 2, 50, seed=1)
    given = SumsTo(mixture, pinned) if likelihood == "dirac" else NearlySumsTo(mixture, pinned=pinned)
    out = SAMPLERS[name].run(gaussian, x, schedules.karras(12, 1e-3, 1.0), given, noise=seeded())
    assert (out.sum(1, keepdim=True) - mixture).abs().max() < 1e-6


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("noised", [True, False])
def test_known_stems_come_out_bit_exact(name: str, noised: bool) -> None:
    """Observed parts equal what was given, over stems and time, noised on the way or not."""
    stems, x = state(1, 3, 1, 40), state(1, 3, 1, 40, seed=1)
    known = torch.zeros(1, 3, 1, 40, dtype=torch.bool)
    known[:, 0] = True
    known[:, 1, :, 10:20] = True
    given = Observed(stems, known, noised)
    denoise = gaussian if noised else conditioned(gaussian, known)
    out = SAMPLERS[name].run(denoise, x, schedules.karras(8, 1e-2, 1.0), given, noise=seeded())
    assert torch.equal(out[known], stems[known]) and out.isfinite().all()


def test_a_hint_and_a_mixture_hold_together() -> None:
    """Separation with a known stem: it stays, and all stems add up."""
    stems, x = state(1, 3, 1, 40), state(1, 3, 1, 40, seed=1)
    known = torch.tensor([False, True, False])[None, :, None, None]
    given = Both(Observed(stems, known), SumsTo(stems.sum(1, keepdim=True), pinned=0))
    out = samplers.euler(gaussian, x, schedules.karras(8, 1e-2, 1.0), given, noise=seeded())
    assert torch.equal(out[:, 1], stems[:, 1])
    assert torch.allclose(out.sum(1), stems.sum(1), atol=1e-12)


def test_arguments_are_not_changed() -> None:
    """Samplers leave the state, the schedule and what is given as they were."""
    mixture, x, sigmas = state(1, 1, 1, 30), state(1, 2, 1, 30), schedules.karras(5, 0.01, 1.0)
    kept = [t.clone() for t in (mixture, x, sigmas)]
    for method in SAMPLERS.values():
        method.run(gaussian, x, sigmas, SumsTo(mixture), noise=seeded())
    assert all(torch.equal(a, b) for a, b in zip(kept, (mixture, x, sigmas), strict=True))


def test_windows_change_nothing_for_a_pointwise_denoiser() -> None:
    """Windowed and whole runs agree for a denoiser that looks at single samples, whatever length and overlap."""
    x, sigmas = state(1, 2, 1, 1000), schedules.karras(6, 0.01, 1.0)
    whole = samplers.heun(gaussian, x, sigmas)
    for length, overlap in ((300, 0.25), (128, 0.5), (999, 0.1), (2000, 0.25)):
        assert torch.allclose(samplers.heun(windowed(gaussian, length, overlap), x, sigmas), whole, atol=1e-12)


def test_windows_cut_noise_levels_that_differ_over_time() -> None:
    """Levels of every sample follow the window."""
    known = (torch.arange(900) < 500)[None, None, None]
    stems = state(1, 1, 1, 900)
    denoise = conditioned(windowed(gaussian, 200, 0.3), known)
    out = denoise(stems, torch.tensor(2.0, dtype=torch.float64))
    assert torch.allclose(out[..., :500], stems[..., :500])
    assert torch.allclose(out[..., 500:], gaussian(stems[..., 500:], torch.tensor(2.0)))


def test_ddim_without_noise_is_euler() -> None:
    """Eta 0 is the deterministic sampler."""
    x, sigmas = state(1, 1, 1, 20), schedules.karras(9, 0.01, 3.0)
    assert torch.allclose(samplers.ddim(gaussian, x, sigmas), samplers.euler(gaussian, x, sigmas), atol=1e-12)


def test_each_step_is_reported() -> None:
    """on_step gets every step once, in order."""
    for method in SAMPLERS.values():
        seen: list[tuple[int, int]] = []
        run = partial(method.run, on_step=lambda done, steps: seen.append((done, steps)))  # noqa: B023
        run(gaussian, state(1, 1, 1, 4), schedules.karras(3, 0.1, 1.0), Free())
        assert seen == [(1, 3), (2, 3), (3, 3)]
