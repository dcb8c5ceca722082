"""Separation by sampling: stems drawn from the prior under a likelihood of the mixture, as in MSDM.

Mariani et al. 2024, https://arxiv.org/abs/2302.02257: the Dirac and the Gaussian likelihood with one joint network, and
the independent variant (ISDM), where every stem has a prior of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypedDict

import torch
from torch import Tensor

from stemforge.audio.windows import Window, hop_of, join, split, windowed
from stemforge.devices import memory_errors
from stemforge.errors import UsageError
from stemforge.inference.given import Both, Given, NearlySumsTo, Observed, SumsTo
from stemforge.inference.noise import noise_of, state_type
from stemforge.inference.samplers import OnStep, quiet, stretch
from stemforge.inference.settings import Sampling, default
from stemforge.inference.wrappers import denoiser, marginals

if TYPE_CHECKING:
    from stemforge.models.registry import Joint

METHODS = ("dirac", "gaussian", "independent")
ALL = "all"
"""In place of a pinned stem: all stems share what is left of the mixture."""


class Likelihood(TypedDict, total=False):
    """What can be changed of a method's settings; None, or nothing, keeps what the checkpoint has.

    sampler, steps, churn, resamples, sigma_min, sigma_max, rho: see `Sampling`; the rest: see `DiffusionSeparator`.
    """

    sampler: str | None
    steps: int | None
    churn: float | None
    resamples: int | None
    sigma_min: float | None
    sigma_max: float | None
    rho: float | None
    pinned: str | None
    gamma: float | None
    factor: float | None


LONGEST = 30.0
"""Seconds that are sampled at once; a longer song is taken in pieces whose overlap is held by what was done before."""
HELD = 0.1


class DiffusionSeparator:
    """Stems by posterior sampling; memory does not grow with the length of the song.

    Args:
        network: joint denoiser on `device`; its windows are `network.segment` seconds long.
        method: dirac, gaussian, or independent (Dirac with one prior a stem).
        sampling: sampler, steps, noise levels.
        pinned: name of the stem that is written as mixture minus the others, or ALL, see `given.SumsTo`.
        gamma, factor: of the Gaussian likelihood, see `given.NearlySumsTo`.
        segment: seconds of a window of the network; None for what it was trained on.
        overlap: fraction of a window that it shares with the next.
        seed: of the noise, together with the place in the song.
        device: where the network is.
        on_step: called with (steps done, steps in all) of each piece.

    A network of one channel takes stereo songs with both sides as one batch that shares its noise.

    Raises:
        UsageError: unknown method or stem, a value outside of its range, or too few steps for the Gaussian likelihood.
    """

    def __init__(
        self,
        network: Joint,
        *,
        method: str,
        sampling: Sampling,
        pinned: str | None = None,
        gamma: float = 0.75,
        factor: float = 0.5,
        segment: float | None = None,
        overlap: float = 0.25,
        seed: int = 0,
        device: torch.device | str = "cpu",
        on_step: OnStep = quiet,
    ) -> None:
        if method not in METHODS:
            raise UsageError(f"method '{method}': unknown. Give one of {', '.join(METHODS)}.")
        if pinned not in (None, ALL, *network.names):
            raise UsageError(f"pinned stem '{pinned}': this checkpoint has {', '.join(network.names)}; or give {ALL}.")
        if gamma <= 0:
            raise UsageError(f"gamma {gamma:g}: must be more than 0. Try --gamma 0.75.")
        if method == "gaussian" and overshoot(sampling, len(network.names), gamma, factor) > 2:
            raise UsageError(
                f"method gaussian: {sampling.steps} steps with churn {sampling.churn:g} step over the mixture and away "
                "from it. Give more --steps, --churn 0, or a larger --gamma."
            )
        self.names, self.rate, self.channels = tuple(network.names), network.rate, max(network.channels, 2)
        self.method, self.sampling, self.seed, self.on_step = method, sampling, seed, on_step
        self.device = torch.device(device)
        self._network, self._gamma, self._factor = network, gamma, factor
        self._pinned = None if pinned == ALL else self.names.index(pinned) if pinned else 0
        window = round((network.segment if segment is None else segment) * self.rate)
        alone = method == "independent" and not getattr(network, "independent", False)
        prior = marginals(network) if alone else denoiser(network)
        self._denoise = windowed(prior, window, overlap)
        self._length = max(window, round(LONGEST * self.rate))
        self._hop = hop_of(self._length, HELD)

    def stream(self, blocks: Iterable[Tensor]) -> Iterator[Tensor]:
        """Mixture blocks (channel, time) in, stem blocks (stem, channel, time) out, in all of the same length."""
        yield from join(self._pieces(blocks), self._length, self._hop)

    def _pieces(self, blocks: Iterable[Tensor]) -> Iterator[Window]:
        """Stems of one piece after another, each beginning with what the one before ended with."""
        held: Tensor | None = None
        for index, piece in enumerate(split(blocks, self._length, self._hop)):
            valid = piece.samples[..., : piece.valid]
            stems = self._sampled(valid, held, index)
            held = stems[..., self._hop :]
            yield Window(torch.nn.functional.pad(stems, (0, self._length - piece.valid)), piece.valid)

    def _sampled(self, mixture: Tensor, held: Tensor | None, index: int) -> Tensor:
        """Stems (stem, channel, time) of a mixture (channel, time); `held`: those of its beginning."""
        if self._network.channels == 1 and mixture.shape[0] == 2 and torch.equal(mixture[0], mixture[1]):
            one = self._sampled(mixture[:1], None if held is None else held[:, :1], index)
            return one.repeat_interleave(2, dim=1)
        gain = self._gain(mixture)
        y = self._rows(mixture.to(self.device, state_type(self.device)) * gain)[:, None]  # (batch, 1, channel, time)
        shape = (y.shape[0], len(self.names), *y.shape[2:])
        noise = noise_of(self._network, self.seed * 1_000_003 + index, shared=self._network.channels == 1)
        given = self._given(y)
        if held is not None and held.shape[-1]:
            given = self._holding(given, held.to(y) * gain, shape, y)
        start = noise(y.new_empty(shape)) * self.sampling.sigma_max
        with memory_errors(self.device):
            x = self.sampling.run(self._denoise, start, given, noise, self.on_step)
        stems = x.movedim(1, 0).flatten(1, 2) if self._network.channels == 1 else x[0]
        return (stems / gain).float().cpu()

    def _rows(self, sound: Tensor) -> Tensor:
        """(…, channel, time) -> (batch, …, channel of the network, time): sides as a batch for a mono network."""
        return sound.movedim(-2, 0)[..., None, :] if self._network.channels == 1 else sound[None]

    def _gain(self, mixture: Tensor) -> float:
        """What brings the mixture to the level that the network was trained on, if it was trained on one."""
        level_db: float | None = getattr(self._network, "level_db", None)
        if level_db is None:
            return 1.0
        return float(10 ** (level_db / 20) / mixture.square().mean().sqrt().clamp(min=1e-4))

    def _given(self, y: Tensor) -> Given:
        if self.method == "gaussian":
            return NearlySumsTo(y, self._gamma, self._factor, self._pinned)
        return SumsTo(y, self._pinned)

    def _holding(self, given: Given, held: Tensor, shape: tuple[int, ...], y: Tensor) -> Given:
        """With the beginning of the piece fixed to the stems `held` (stem, channel, time)."""
        rows = self._rows(held)
        stems = torch.nn.functional.pad(rows, (0, shape[-1] - rows.shape[-1]))
        known = torch.arange(shape[-1], device=y.device) < rows.shape[-1]
        return Both(Observed(stems, known), given)


def overshoot(sampling: Sampling, stems: int, gamma: float, factor: float) -> float:
    """Largest share of what stems lack of the mixture that a Gaussian likelihood adds in a step: above 2 they diverge.

    A step from sigma to sigma' adds factor (sigma - sigma') / (gamma^2 sigma) of it to each stem. The last one, to 0,
    does not count: what is left there is as small as the last noise, and shared out afterwards.
    """
    sigmas = sampling.sigmas()[:-1]
    churned = sigmas[:-1] * (1 + stretch(sampling.churn, sampling.steps))
    falls = 1 - sigmas[1:] / churned
    return float(stems * factor / gamma**2 * falls.max()) if len(falls) else 0.0


def sampling_separator(
    network: Joint,
    method: str,
    changes: Likelihood,
    *,
    segment: float | None = None,
    overlap: float = 0.25,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> DiffusionSeparator:
    """The separator of a method with its default settings for this network, and what is changed of them.

    Where nobody pins a stem: the published form (the first one) for networks of others, ALL for our own.

    Raises UsageError as `DiffusionSeparator` and `Sampling` do.
    """
    if method not in METHODS:
        raise UsageError(f"method '{method}': unknown. Give one of conditional, {', '.join(METHODS)}.")
    if method == "independent" and not network.conditional and not getattr(network, "independent", False):
        raise UsageError("method independent: this checkpoint knows its stems only together. Give dirac or gaussian.")
    own: dict[str, Any] = {name: value for name, value in changes.items() if value is not None}
    rest = {name: own.pop(name) for name in ("pinned", "gamma", "factor") if name in own}
    if network.conditional:
        rest = {"pinned": ALL, **rest}
    sampling = default(method, network.conditional).changed(**own)
    return DiffusionSeparator(
        network, method=method, sampling=sampling, segment=segment, overlap=overlap, seed=seed, device=device, **rest
    )
