"""An accompaniment for what is there: some stems are given, the others are generated to go with them.

Two ways: `condition`, where the network is told which stems are clean (trained for it), and `replace`, where the given
stems are shown at the noise level of the rest (MSDM, https://arxiv.org/abs/2302.02257, section 3.2), for any network.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from stemforge.audio.windows import eased
from stemforge.errors import StemforgeError, UsageError
from stemforge.inference.given import Observed
from stemforge.inference.noise import noise_of, state_type
from stemforge.inference.samplers import OnStep, quiet
from stemforge.inference.settings import Sampling
from stemforge.inference.wrappers import conditioned, denoiser
from stemforge.tasks.generate import EASE, window_of
from stemforge.types import Stems

if TYPE_CHECKING:
    from stemforge.models.registry import Joint

METHODS = ("condition", "replace")
LEVEL_DB = {"bass": -24.0, "drums": -23.0, "guitar": -27.0, "piano": -26.0, "other": -27.0}
"""RMS of stems in training songs, to bring given stems to the level that the network knows."""
CONTEXT = 0.25
"""Share of a window that the window before it has filled."""


def windows_in(network: Joint, seconds: float) -> int:
    """How many windows a song of that length takes."""
    return len(_starts(network, max(1, round(seconds * network.rate))))


def _starts(network: Joint, time: int) -> list[int]:
    """First samples of the windows of a song; the last window ends with it."""
    length = _length(network, time)
    hop = max(1, round(length * (1 - CONTEXT)))
    return [min(start, time - length) for start in range(0, max(1, time - length + hop), hop)]


def _length(network: Joint, time: int) -> int:
    return min(window_of(network), time)


@torch.no_grad()
def impute(
    network: Joint,
    given: Stems,
    sampling: Sampling,
    *,
    fill: tuple[str, ...] | None = None,
    regions: dict[str, list[tuple[float, float]]] | None = None,
    method: str = "condition",
    seed: int = 0,
    device: torch.device | str = "cpu",
    on_step: OnStep = quiet,
) -> Stems:
    """The stems that were not given, (stem, channel, time) at the rate of the network, as long as the given ones.

    Args:
        network: joint denoiser on `device`.
        given: at the rate and with the channels of the network.
        sampling: sampler, steps, noise levels; of each window.
        fill: names to generate; None for all that are not given. Stems neither given nor filled are not heard.
        regions: for stems that are given, the parts (from, to) in seconds that are generated anew.
        method: condition or replace.
        seed: of the noise.
        device: where the network is.
        on_step: called with (steps done, steps in all), over all windows.

    Long songs are filled window by window; the beginning of each is the end of the one before.

    Raises:
        UsageError: an unknown stem or method, or nothing to do.
        StemforgeError: the network gave samples that are not finite.
    """
    regions = regions or {}
    wanted = _wanted(network, given, fill, regions, method)
    names, rate, time = network.names, network.rate, given.samples.shape[-1]
    full = torch.zeros(1, len(names), network.channels, time, device=device)
    known = torch.zeros(1, len(names), 1, time, dtype=torch.bool, device=device)
    for name in given.names:
        full[0, names.index(name)] = given[name].samples.to(full)
        known[0, names.index(name)] = True
        for start, stop in regions.get(name, []):
            last = time if math.isinf(stop) else round(stop * rate)
            known[0, names.index(name), :, round(start * rate) : last] = False
    gain = gain_of(given)
    heard = torch.tensor([name in (*wanted, *given.names) for name in names])
    filled = _filled(network, full * gain, known, heard, sampling, method, seed, on_step) / gain
    kept = [names.index(name) for name in wanted]
    samples = torch.where(known, full, filled)[0, kept].float().cpu()
    if not samples.isfinite().all():
        raise StemforgeError(f"seed {seed}: the network gave samples that are not finite. Try other settings or seeds.")
    return Stems(tuple(wanted), samples, rate)


def _wanted(
    network: Joint,
    given: Stems,
    fill: tuple[str, ...] | None,
    regions: dict[str, list[tuple[float, float]]],
    method: str,
) -> tuple[str, ...]:
    """Names of the stems that are going to be generated, wholly or in parts."""
    if method not in METHODS:
        raise UsageError(f"method '{method}': unknown. Give one of {', '.join(METHODS)}.")
    if method == "condition" and not network.conditional:
        raise UsageError("method condition: this network cannot be told what is known. Give --method replace.")
    for name in (*given.names, *(fill or ()), *regions):
        if name not in network.names:
            raise UsageError(f"stem '{name}': this checkpoint has {', '.join(network.names)}.")
    if both := sorted(set(given.names) & set(fill or ())):
        raise UsageError(f"stem '{both[0]}': is kept and filled. Name it in one of --keep and --fill.")
    missing = tuple(n for n in network.names if n not in given.names) if fill is None and not regions else fill or ()
    wanted = tuple(name for name in network.names if name in missing or name in regions)
    if not wanted:
        raise UsageError("nothing to fill: every stem is kept. Keep fewer, or give --fill or --region.")
    return wanted


def gain_of(given: Stems) -> float:
    """What brings the given stems to the level that they have in training songs."""
    power = sum(10 ** (LEVEL_DB.get(name, -26.0) / 10) for name in given.names)
    level = float(given.samples.sum(dim=0).square().mean())
    return math.sqrt(power / level) if level > 1e-10 else 1.0


def _filled(
    network: Joint,
    full: Tensor,
    known: Tensor,
    heard: Tensor,
    sampling: Sampling,
    method: str,
    seed: int,
    on_step: OnStep,
) -> Tensor:
    """All stems (batch, stem, channel, time): what is known as it is, the rest generated window by window."""
    starts, length = _starts(network, full.shape[-1]), _length(network, full.shape[-1])
    denoise = denoiser(network, hidden=~heard if network.conditional and not bool(heard.all()) else None)
    done = known.clone()
    out = full.clone()
    for index, start in enumerate(starts):
        cut = slice(start, start + length)
        clear, stems = done[..., cut].clone(), out[..., cut].to(state_type(out.device))
        if bool(clear.all()):
            continue
        noise = noise_of(network, seed * 1_000_003 + index)
        given = Observed(stems, clear, noised=method == "replace")
        bound = denoise if method == "replace" else conditioned(denoise, clear)

        def step(at: int, steps: int, index: int = index) -> None:
            on_step(index * steps + at, len(starts) * steps)

        window = sampling.run(bound, noise(stems) * sampling.sigma_max, given, noise, step)
        out[..., cut] = eased(window, clear, round(EASE * network.rate)).to(out)
        done[..., cut] = True
    return out
