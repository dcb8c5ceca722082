"""Stems by prompts against what Gaussian sounds make exact: guidance, mixture term, accompaniment, separation."""

from __future__ import annotations

from math import sqrt
from pathlib import Path

import pytest
import torch
from torch import Tensor

from stemforge.errors import UsageError
from stemforge.inference.prompted import TERMS, Prompted, Prompts, each_alone
from stemforge.inference.samplers import heun
from stemforge.inference.settings import FORGE, Sampling
from stemforge.inference.wrappers import free_guidance
from stemforge.separators.diffusion import DiffusionSeparator, Likelihood
from stemforge.separators.prompted import extractor, separator
from stemforge.tasks.generate import generate
from stemforge.tasks.impute import Song, Wish, impute, impute_blocks
from stemforge.tasks.prompted import joined, names_of
from stemforge.types import Stems
from tiny import tiny_network

STEM, MIXTURE, EMPTY = 0.5, 1.2, 0.8
"""Standard deviations of a stem, of a mixture, and of any sound."""
SIGMA_MAX = 4.0


class Sounds:
    """Sounds are Gaussian; a prompt of one number is their standard deviation, no prompt is EMPTY. Counts its calls."""

    names, rate, segment, channels, conditional = ("music",), 1000, 2.0, 2, True

    def __init__(self) -> None:
        self.heard: list[list[float] | None] = []

    def noise(self, like: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return torch.randn(like.shape, generator=generator)

    def denoise(self, x: Tensor, sigma: Tensor, *, mixture=None, hidden=None, prompt: Tensor | None = None) -> Tensor:
        assert x.shape[1] == 1 and sigma.shape == (len(x), 1, 1)
        self.heard.append(None if prompt is None else prompt[:, 0].tolist())
        spread = torch.full((len(x), 1), EMPTY).to(x) if prompt is None else prompt.to(x)
        variance = spread[..., None, None] ** 2
        return x * variance / (variance + sigma[..., None] ** 2)


def stds(*values: float) -> Tensor:
    return torch.tensor(values)[:, None]


def start(stems: int, time: int = 64) -> Tensor:
    generator = torch.Generator().manual_seed(stems)
    return SIGMA_MAX * torch.randn(1, stems, 2, time, generator=generator, dtype=torch.float64)


def flowed(prompts: Prompts, x: Tensor, end: float = 0.05) -> Tensor:
    """Down the flow dx/dsigma from SIGMA_MAX to a last noise level, by 300 steps of second order."""
    sigmas = torch.logspace(torch.tensor(SIGMA_MAX).log10().item(), torch.tensor(end).log10().item(), 301).to(x)
    return heun(prompts.denoiser(Sounds()), x, sigmas)


def shrunk(variance: float, end: float, power: float = 0.5) -> float:
    """What the flow of a Gaussian does to a sample."""
    return ((variance + end**2) / (variance + SIGMA_MAX**2)) ** power


@pytest.mark.parametrize("count", [2, 3])
def test_the_mixture_term_follows_its_closed_form(count: int) -> None:
    """Differences of equal stems flow as stems do, their sum as the term says; each form has its own exponents."""
    x, end = start(count), 0.05
    mean = x.mean(dim=1, keepdim=True)
    alone, of_sum = shrunk(STEM**2, end), MIXTURE**2 / count
    wanted = {
        "none": alone,
        "added": alone * shrunk(of_sum, end),
        "same": alone * shrunk(MIXTURE**2, end, count / 2),
        "shared": shrunk(of_sum, end),
    }
    for term in TERMS:
        found = flowed(Prompts(stds(*[STEM] * count), torch.tensor([MIXTURE]), term=term), x)
        error = (found - alone * (x - mean) - wanted[term] * mean).abs().max()
        assert error < 2e-3, (term, error, found.abs().max())


def test_a_shared_mixture_gives_the_exact_joint_distribution() -> None:
    """Stems correlate so that their sum is a mixture; with `added` hardly anything is left of the sum."""
    count, time = 3, 20000
    generator = torch.Generator().manual_seed(0)
    prior = torch.full((count, count), (MIXTURE**2 / count - STEM**2) / count) + STEM**2 * torch.eye(count)
    root = torch.linalg.cholesky(prior + SIGMA_MAX**2 * torch.eye(count)).double()
    x = (root @ torch.randn(count, time, generator=generator, dtype=torch.float64))[None, :, None]
    end = 0.05
    found = flowed(Prompts(stds(*[STEM] * count), torch.tensor([MIXTURE])), x, end)[0, :, 0]
    exact = (prior + end**2 * torch.eye(count)).double()
    assert torch.allclose(found @ found.T / time, exact, atol=4 * float(exact.max()) / sqrt(time))
    lost = flowed(Prompts(stds(*[STEM] * count), torch.tensor([MIXTURE]), term="added"), x, end)[0, :, 0]
    assert lost.sum(dim=0).std() < 0.25 * MIXTURE < 0.98 * MIXTURE < found.sum(dim=0).std()


@pytest.mark.parametrize(("scale", "calls"), [(1.0, [[STEM]]), (0.0, [None]), (2.5, [None, [STEM]])])
def test_guidance_calls_what_it_needs_and_no_more(scale: float, calls: list) -> None:
    """At scale 1 the empty prompt is never heard, at 0 the other one is not; else the estimates are extrapolated."""
    network, x, sigma = Sounds(), start(1), torch.tensor(0.7, dtype=torch.float64)
    found = Prompts(stds(STEM), scale=scale).denoiser(network)(x, sigma)
    assert [heard if heard is None else pytest.approx(heard) for heard in network.heard] == calls
    with_prompt, without = (v / (v + 0.7**2) for v in (STEM**2, EMPTY**2))
    assert torch.allclose(found, x * (without + scale * (with_prompt - without)))


def test_guidance_of_scale_1_and_0_is_the_plain_call_bit_for_bit() -> None:
    """Of a real network: scale 1 is the call with the prompt, 0 that with the negative one, or without any."""
    torch.manual_seed(0)
    network = tiny_network(names=["music"])
    torch.nn.init.normal_(network.read_prompt.weight)
    prompt, negative, sigma = torch.randn(1, 6), torch.randn(6), torch.tensor(0.5)
    x = torch.randn(1, 1, 2, 300)
    with torch.no_grad():
        plain = {p: network.denoise(x, sigma.reshape(1, 1, 1), prompt=v)
                 for p, v in (("yes", prompt), ("no", negative[None]), ("empty", None))}  # fmt: skip
        for name, prompts in (
            ("yes", Prompts(prompt, negative=negative)),
            ("no", Prompts(prompt, negative=negative, scale=0.0)),
            ("empty", Prompts(prompt, scale=0.0)),
        ):
            assert torch.equal(Prompted(network, ["music"], prompts).denoise(x, sigma), plain[name]), name
        zeros = each_alone(network, torch.zeros(1, 6))(x, sigma)
    assert torch.equal(zeros, plain["empty"]) and not torch.equal(plain["yes"], plain["empty"])


def test_stems_are_heard_alone_whatever_is_beside_them() -> None:
    """Each stem of each item with its own prompt, in one call of the network."""
    network, x = Sounds(), torch.cat([start(3), start(3) + 1])
    found = each_alone(network, stds(0.1, 0.2, 0.3))(x, torch.tensor([0.5, 0.25]).reshape(2, 1, 1, 1))
    assert len(network.heard) == 1 and network.heard[0] == pytest.approx([0.1, 0.2, 0.3] * 2)
    for item, level in enumerate((0.5, 0.25)):
        for stem, std in enumerate((0.1, 0.2, 0.3)):
            assert torch.allclose(found[item, stem], x[item, stem] * std**2 / (std**2 + level**2))


def test_a_set_of_stems_has_the_level_of_its_mixture() -> None:
    """Generated through the task, several windows long, with guidance and noise of its own."""
    network = Prompted(Sounds(), ["a", "b"], Prompts(stds(STEM, STEM), torch.tensor([MIXTURE])))
    made = generate(network, 5.3, Sampling(steps=24, sigma_min=0.02, sigma_max=10.0))
    assert made.names == ("a", "b") and made.samples.shape == (2, 2, 5300)
    assert made.samples.sum(dim=0).std() == pytest.approx(MIXTURE, rel=0.05)
    assert (made.samples[0] - made.samples[1]).std() == pytest.approx(sqrt(2) * STEM, rel=0.05)


def test_what_each_term_leaves_of_the_sum_with_the_default_sampler() -> None:
    """The figures of docs/text.md: three stems, the standard deviation of what they add up to."""
    page = (Path(__file__).parents[1] / "docs" / "text.md").read_text(encoding="utf-8")
    for term in TERMS:
        wish = Prompts(stds(*[STEM] * 3), torch.tensor([MIXTURE]), term=term)
        made = generate(Prompted(Sounds(), ["a", "b", "c"], wish), 4.0, FORGE["generate"], segment=4.0)
        found = float(made.samples.sum(dim=0).std())
        assert f"`{term}` {found:.1f}" in page, found


def test_an_accompaniment_goes_with_what_is_given() -> None:
    """A new stem correlates with the given one as the mixture says, as exactly as replacement is."""
    y = STEM * torch.randn(1, 2, 8000, generator=torch.Generator().manual_seed(1))
    sampling = Sampling("euler", steps=60, sigma_min=0.01, sigma_max=10.0, churn=20.0, resamples=2)
    wish = Wish(method="replace", segment=4.0)
    for mixture in (1.0, 0.4):
        network = Prompted(Sounds(), ["song", "new"], Prompts(stds(STEM, STEM), torch.tensor([mixture])))
        made = torch.cat(list(impute_blocks(network, Song([y], ("song",), 8000, 1.0), sampling, wish)), dim=-1)
        exact = (mixture**2 / 2 - STEM**2) / (mixture**2 / 2 + STEM**2)
        assert float((made * y).mean()) / STEM**2 == pytest.approx(exact, abs=0.15), mixture
    with pytest.raises(UsageError, match="cannot be told"):
        impute(network, Stems(("song",), y, 1000), sampling)


def test_separation_by_prompts_is_the_exact_posterior_mean_plus_noise() -> None:
    """Two stems of one level share the mixture equally on average, and their difference is that of the prior."""
    y = torch.randn(2, 4000, generator=torch.Generator().manual_seed(3)) * STEM * sqrt(2)
    network = Prompted(Sounds(), ["a", "b"], Prompts(stds(STEM, STEM)))
    sampling = Sampling("euler", steps=100, sigma_min=1e-3, sigma_max=10.0)
    dirac = DiffusionSeparator(network, method="dirac", sampling=sampling, pinned="all")
    stems = torch.cat(list(dirac.stream([y])), dim=-1)
    assert dirac.names == ("a", "b") and torch.allclose(stems.sum(dim=0), y, atol=1e-5)
    assert (stems[0] - stems[1]).std() == pytest.approx(sqrt(2) * STEM, rel=0.1)
    assert abs(float(((stems[0] - stems[1]) * y).mean())) < 0.02


@pytest.mark.parametrize(("values", "says"), [({"scale": -1.0}, "--cfg -1"), ({"term": "twice"}, "--mixture-term")])
def test_impossible_wishes_are_refused(values: dict, says: str) -> None:
    """Guidance below 0 and unknown terms are usage errors."""
    with pytest.raises(UsageError, match=says):
        Prompts(stds(STEM), **values)
    assert free_guidance(*[each_alone(Sounds(), None)] * 2, 1.0) is not None


def test_the_extractor_of_two_prompts_is_the_separator() -> None:
    """With one other stem, the rest is that stem: both rows of the first run are those of the separator."""
    y = [torch.randn(2, n, generator=torch.Generator().manual_seed(n)) for n in (1500, 700)]
    prompts, changes = Prompts(stds(0.5, 1.0), scale=1.5), Likelihood(steps=6, churn=4.0)
    both = torch.cat(list(separator(Sounds(), ("a", "b"), prompts, changes, seed=3).stream(y)), dim=-1)
    steps: list[tuple[int, int]] = []
    one = extractor(Sounds(), ("a", "b"), prompts, prompts.stems.flip(0), changes, seed=3)
    one.on_step = lambda *at: steps.append(at)
    apart = torch.cat(list(one.stream(y)), dim=-1)
    assert one.names == ("a", "b") and apart.shape == both.shape == (2, 2, 2200)
    assert torch.equal(apart[0], both[0]) and torch.allclose(both.sum(dim=0), torch.cat(y, dim=-1), atol=1e-5)
    assert len(steps) == 12 and steps[-1] == (6, 12)


def test_prompts_become_names_of_files() -> None:
    """Safe in every file system, each once, and none that has a meaning of its own."""
    assert names_of(["upright bass", "Piano!", "the rest", "piano"]) == ("upright-bass", "piano", "the-rest", "piano-2")
    assert names_of(["mix", "song", "../../etc", "NUL", "???", "!", "mix-2", "Mix"]) == (
        "mix-2", "song-2", "etc", "stem-nul", "stem", "stem-2", "mix-2-2", "mix-3",
    )  # fmt: skip
    assert names_of(["Gitarre für Elise", "ギター"]) == ("gitarre-für-elise", "ギター")
    long = names_of(["ギ" * 200, "x" * 500])
    assert all(len(name.encode()) <= 80 for name in long) and long[1] == "x" * 80
    assert joined(["a"]) == "a" and joined(["a", "b"]) == "a and b" and joined(["a", "b", "c"]) == "a, b and c"
