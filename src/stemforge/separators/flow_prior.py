"""Separation with flows as priors: the latents of all stems are fitted until their spectra explain the mixture.

InstGlow (Zhu et al. 2022, https://arxiv.org/abs/2204.09079) and its released code: a flow a stem, trained on that stem
alone, so that a new stem is one more flow.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NotRequired, TypeAlias, TypedDict, cast

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.utils import parametrize

from stemforge.audio.windows import Window, hop_of, join, split
from stemforge.devices import lowered
from stemforge.errors import UsageError
from stemforge.inference.samplers import OnStep, quiet
from stemforge.models.glow import Flows, Glow

FLOOR = 1e-8
SPACES = ("z", "x")
RESIDUAL = "residual"

Guess: TypeAlias = Callable[[Tensor], Tensor]
"""Stems (stem, channel, time) of a window (channel, time) of the mixture, in the order of the flows."""


@dataclass(frozen=True)
class Fit:
    """How the latents are fitted; the defaults are ours (docs/flows.md), those of the released benchmark 0.005 and 0.

    iterations, rate: of Adam. spread: standard deviation of the latents at the start. weight: of the prior beside the
    reconstruction, taken in `space`: z is half of the mean square of the latents, x the negative log-likelihood of the
    spectra a value. gate: each spectrum is weakened in frames where it is below the mixture, from iteration 4 on.
    share: the mixture is divided in the ratio of the spectra, so that stems add up to it; without, the spectra
    themselves are heard, and what they leave over is a stem of its own.

    Raises:
        UsageError: a value outside of its range.
    """

    iterations: int = 300
    rate: float = 0.002
    spread: float = 0.0
    weight: float = 0.03
    space: str = "z"
    gate: bool = False
    share: bool = True

    def __post_init__(self) -> None:
        if self.iterations < 0 or not self.rate > 0 or self.spread < 0 or self.weight < 0:
            raise UsageError("iterations, rate, spread and weight of a fit: must not be negative, rate more than 0.")
        if self.space not in SPACES:
            raise UsageError(f"prior space '{self.space}': unknown. Give {' or '.join(SPACES)}.")


class Prior(TypedDict):
    """What can be chosen of the method beside a checkpoint.

    flows: checkpoints of further stems by name, taking the place of those that the first checkpoint has; fit: see
    `Fit`; warm: the checkpoint whose stems are the guess; rest: the one that takes apart what `flows` leave.
    """

    flows: dict[str, str]
    fit: Fit
    warm: str | None
    rest: NotRequired[str]


def fitted(
    flows: Sequence[Glow], y: Tensor, fit: Fit, z: Tensor, on_loss: Callable[[float], object] = lambda loss: None
) -> Tensor:
    """Spectra (stem, batch, frame, row) whose sum explains the magnitudes y (batch, frame, row).

    Args:
        flows: one a stem, in evaluation mode.
        y: magnitudes, an even number of frames, zeros in the last row.
        fit: iterations, rate, weight, space and gate.
        z: latents to begin with, (stem, batch, frame, row).
        on_loss: called with the objective of each iteration.
    """
    z = z.clone().requires_grad_()
    adam = torch.optim.Adam([z], lr=fit.rate)
    for iteration in range(fit.iterations):
        adam.zero_grad()
        with torch.enable_grad():
            x, log_det = _spectra(flows, z, y, gate=fit.gate and iteration > 3)
            loss = divergence(y, x.sum(0))
            if fit.weight:
                loss = loss + fit.weight * _prior(z, log_det, fit.space)
        loss.backward()  # type: ignore[no-untyped-call]
        adam.step()
        on_loss(loss.item())
    with torch.no_grad():
        return _spectra(flows, z, y, gate=fit.gate)[0]


def _spectra(flows: Sequence[Glow], z: Tensor, y: Tensor, *, gate: bool) -> tuple[Tensor, Tensor]:
    """X_j = G_j^-1(z_j), and the log-determinants (stem, batch)."""
    pairs = [flow.inverse(latents) for flow, latents in zip(flows, z, strict=True)]
    x, log_det = torch.stack([pair[0] for pair in pairs]), torch.stack([pair[1] for pair in pairs])
    if gate:
        own, whole = x.sum(-1, keepdim=True), y.sum(-1, keepdim=True)
        x = x * own / torch.maximum(own, whole).clamp(min=FLOOR)
    return x, log_det


def divergence(y: Tensor, total: Tensor) -> Tensor:
    """Generalised Kullback-Leibler divergence of |total| from y, a value, without the row of zeros."""
    estimate = total.abs() + FLOOR
    return (torch.xlogy(y, y) - y * estimate.log() - y + estimate)[..., :-1].mean()


def _prior(z: Tensor, log_det: Tensor, space: str) -> Tensor:
    """Negative log-likelihood a value, summed over stems; of the latents alone, or of the spectra they stand for."""
    energy = 0.5 * z.square().mean((1, 2, 3)).sum()
    if space == "z":
        return energy
    values = z[0, 0].numel()
    # -log p(x) = -log N(z) + log |det dx/dz|
    return energy + len(z) * 0.5 * math.log(2 * math.pi) + (log_det / values).mean(1).sum()


def shares(x: Tensor, low: int, high: int) -> Tensor:
    """Which part of the mixture each stem gets: (stem, ..., frame, row) -> the same with `high` rows, adding up to 1.

    x: magnitudes, `low` rows of which are modelled. Rows above take the shares of the upper half of the modelled ones,
    weighed by magnitude, frame by frame. Where no stem has anything, all have the same.
    """
    held = x[..., :low].clamp(min=0) + FLOOR
    upper = held[..., low // 2 :].sum(-1, keepdim=True)
    parts = torch.cat([held, upper.expand(*upper.shape[:-1], high - low)], dim=-1)
    return parts / parts.sum(0)


class FlowSeparator:
    """Stems by fitting latents, window by window; memory does not grow with the length of the song.

    Args:
        flows: networks with spectra of one kind; their names follow each other and must differ.
        fit: how latents are fitted.
        guess: stems of a window to begin with; None begins with latents of `fit.spread`.
        segment: seconds of a window; None for what the flows were trained on.
        overlap: fraction of a window that it shares with the next.
        seed: of the latents at the start, together with the place in the song.
        precision: fp32; bf16 or auto: the products of the couplings are of bfloat16, where the device has it.
        device: where the flows are.
        on_step: called with (iterations done, iterations in all) of each window.

    The sides of a stereo song are fitted as a batch.

    Raises:
        UsageError: two flows have one name, their spectra differ, or a value is outside of its range.
    """

    channels = 2

    def __init__(
        self,
        flows: Sequence[Flows],
        fit: Fit | None = None,
        *,
        guess: Guess | None = None,
        segment: float | None = None,
        overlap: float = 0.25,
        seed: int = 0,
        precision: str = "auto",
        device: torch.device | str = "cpu",
        on_step: OnStep = quiet,
    ) -> None:
        first = flows[0].config
        stems = [name for each in flows for name in each.names]
        if twice := [name for name in stems if stems.count(name) > 1]:
            raise UsageError(f"flow '{twice[0]}': named twice. Give each stem one flow.")
        kinds = {(f.config.rate, f.config.n_fft, f.config.hop, f.config.rows) for f in flows}
        if len(kinds) > 1:
            raise UsageError(f"flows of {', '.join(stems)}: their spectra differ. Train them with one [network].")
        self.fit = fit or Fit()
        self.names = (*stems, *(() if self.fit.share else (RESIDUAL,)))
        self.rate, self.seed, self.on_step = first.rate, seed, on_step
        self.device = torch.device(device)
        self._nets = [cast(Glow, net.requires_grad_(False)) for each in flows for net in each.nets]
        self._bf16 = precision != "fp32"
        self._spectra, self._guess = flows[0], guess
        self.segment = first.seconds if segment is None else segment
        self._length = round(self.segment * self.rate)
        self._hop = hop_of(self._length, overlap)

    def stream(self, blocks: Iterable[Tensor]) -> Iterator[Tensor]:
        """Mixture blocks (channel, time) in, stem blocks (stem, channel, time) out, in all of the same length."""
        yield from join(self._windows(split(blocks, self._length, self._hop)), self._length, self._hop)

    def _windows(self, windows: Iterable[Window]) -> Iterator[Window]:
        for index, window in enumerate(windows):
            stems = self._separated(window.samples[..., : window.valid], index)
            yield Window(functional.pad(stems, (0, self._length - window.valid)), window.valid)

    def _separated(self, mixture: Tensor, index: int) -> Tensor:
        """Stems (stem, channel, time) of a window (channel, time)."""
        if mixture.shape[0] == 2 and torch.equal(mixture[0], mixture[1]):
            return self._separated(mixture[:1], index).repeat_interleave(2, dim=1)
        level = mixture.square().mean().sqrt()
        if level == 0:
            return mixture.new_zeros(len(self.names), *mixture.shape)
        gain = float(10 ** (self._spectra.config.level_db / 20) / level.clamp(min=1e-4))
        spectrum = self._spectra.spectrum(mixture.to(self.device, torch.float32))
        with parametrize.cached(), lowered(self.device, self._bf16):
            x = self._fitted(self._spectra.magnitudes(spectrum * gain), mixture, gain, index)
        stems = self._heard(x[..., : spectrum.shape[-2], :] / gain, spectrum, mixture.shape[-1])
        return stems.to(mixture)

    def _fitted(self, y: Tensor, mixture: Tensor, gain: float, index: int) -> Tensor:
        shape = (len(self._nets), *y.shape)
        if self._guess is not None:
            guessed = self._spectra.spectrum(self._guess(mixture).to(y) * gain)
            with torch.no_grad():
                known = self._spectra.magnitudes(guessed)
                z = torch.stack([net(each)[0] for net, each in zip(self._nets, known, strict=True)])
        else:
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + index)
            z = torch.randn(shape, generator=generator).to(y) * self.fit.spread
        done = iter(range(1, self.fit.iterations + 1))
        return fitted(self._nets, y, self.fit, z, lambda loss: self.on_step(next(done), self.fit.iterations))

    def _heard(self, x: Tensor, spectrum: Tensor, time: int) -> Tensor:
        """Magnitudes (stem, channel, frame, row) with the phase of the mixture -> (stem, channel, time)."""
        low, high = self._spectra.config.rows - 1, spectrum.shape[-1]
        parts = shares(x, low, high)
        if self.fit.share:
            return self._spectra.sound(parts * spectrum, time)
        own = torch.polar(x[..., :low].clamp(min=0), spectrum[..., :low].angle().expand_as(x[..., :low]))
        stems = torch.cat([own, parts[..., low:] * spectrum[..., low:]], dim=-1)
        return self._spectra.sound(torch.cat([stems, (spectrum - stems.sum(0))[None]]), time)
