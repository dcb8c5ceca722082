"""New music: all stems together, or some of them, as long as one likes.

A piece longer than one window is continued: each window after the first is given the end of the one before it and
generates what follows. Nothing else of what was made is held, so memory does not grow with the length.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, TypedDict, Unpack

import torch
from torch import Tensor

from stemforge.audio.feed import Feed
from stemforge.audio.windows import eased
from stemforge.devices import memory_errors
from stemforge.errors import StemforgeError, UsageError
from stemforge.inference.given import Free, Given, Observed
from stemforge.inference.noise import noise_of, state_type
from stemforge.inference.samplers import OnStep, quiet
from stemforge.inference.settings import Sampling
from stemforge.inference.wrappers import conditioned, denoiser
from stemforge.tasks.cascade import VOICE
from stemforge.types import Denoise, Stems

if TYPE_CHECKING:
    from stemforge.models.registry import Joint

WINDOW = 12.0
"""Seconds that a network of our own generates at once; the official ones have windows of their own."""
EASE = 0.005
"""Seconds in which a step between what is given and what is new is taken out."""
CONTEXT = 0.5
"""Share of a window that is given when a piece is continued."""


def instruments(names: tuple[str, ...]) -> tuple[str, ...]:
    """What is made when nothing else is said: all but vocals, or those where there is nothing else.

    An instrument can be made up, words cannot.
    """
    return tuple(name for name in names if name != VOICE) or names


def window_of(network: Joint, segment: float | None = None) -> int:
    """Samples of a window of `segment` seconds; None for what suits the network. Raises UsageError for none at all."""
    if segment is None:
        segment = WINDOW if network.conditional else network.segment
    if not 0 < segment < math.inf:
        raise UsageError(f"segment {segment:g}: must be more than 0 s. Leave --segment out for what suits.")
    return max(1, round(segment * network.rate))


def windows_in(network: Joint, seconds: float, segment: float | None = None) -> int:
    """How many windows a piece takes."""
    length, total = window_of(network, segment), frames_of(network, seconds)
    return 1 + max(0, -(-(total - length) // (length - int(CONTEXT * length))))


def frames_of(network: Joint, seconds: float) -> int:
    """How many samples a piece has."""
    return max(1, round(seconds * network.rate))


def generate(network: Joint, seconds: float, sampling: Sampling, **how: Unpack[How]) -> Stems:
    """The blocks of `generate_blocks` as one, in memory; arguments and errors as there."""
    samples = torch.cat(list(generate_blocks(network, seconds, sampling, **how)), dim=-1)
    return Stems(how.get("stems") or instruments(network.names), samples, network.rate)


class How(TypedDict, total=False):
    """What can be chosen when a piece is made; see `generate_blocks`."""

    seed: int
    stems: tuple[str, ...] | None
    segment: float | None
    device: torch.device | str
    on_step: OnStep
    begun: Iterable[Tensor] | None


@torch.no_grad()
def generate_blocks(
    network: Joint,
    seconds: float,
    sampling: Sampling,
    *,
    seed: int = 0,
    stems: tuple[str, ...] | None = None,
    segment: float | None = None,
    device: torch.device | str = "cpu",
    on_step: OnStep = quiet,
    begun: Iterable[Tensor] | None = None,
) -> Iterator[Tensor]:
    """Stems (stem, channel, time) of a new piece at the rate of the network, block by block, float32 on the CPU.

    Args:
        network: joint denoiser on `device`.
        seconds: length of the piece, more than 0.
        sampling: sampler, steps, noise levels; of each window.
        seed: of the noise.
        stems: which are wanted, None for `instruments`; a network that knows marginals never hears the others, any
            other network generates them too and they are left out.
        segment: seconds of a window; None for what suits the network.
        device: where the network is.
        on_step: called with (steps done, steps in all), over all windows.
        begun: blocks (stem, channel, time) of what the wanted stems begin with instead of noise alone, as long as the
            piece, at the level of training songs; `sampling` is from the level of the noise that is put on it.

    Raises:
        UsageError: an unknown stem, or no length.
        DeviceError: the device is out of memory.
        StemforgeError: the network gave samples that are not finite.
    """
    wanted = instruments(network.names) if stems is None else stems
    for name in wanted:
        if name not in network.names:
            raise UsageError(f"stem '{name}': this checkpoint has {', '.join(network.names)}.")
    if not wanted or seconds <= 0:
        raise UsageError(f"{seconds:g} s of {len(wanted)} stems: nothing to generate. Try --duration 12.")
    hidden = torch.tensor([name not in wanted for name in network.names])
    denoise = denoiser(network, hidden=hidden if network.conditional and bool(hidden.any()) else None)
    left, count = frames_of(network, seconds), windows_in(network, seconds, segment)
    length = min(window_of(network, segment), left)
    like = torch.empty(1, len(network.names), network.channels, length, dtype=state_type(torch.device(device)))
    like = like.to(device)
    kept, context = [network.names.index(name) for name in wanted], like[..., :0]
    feed = None if begun is None else Feed(begun)
    for index in range(count):

        def step(done: int, steps: int, index: int = index) -> None:
            on_step(index * steps + done, count * steps)

        first = torch.zeros_like(like)
        if feed is not None:
            start, more = context.shape[-1], min(length - context.shape[-1], left)
            first[0, kept, :, start : start + more] = feed.take(more).to(first)
        with memory_errors(device):
            window = _window(network, denoise, first, context, sampling, seed * 1_000_003 + index, step)
        new = window[0, kept, :, context.shape[-1] :][..., :left].float().cpu()
        check_finite(new, seed)
        yield new
        left -= new.shape[-1]
        context = window[..., length - int(CONTEXT * length) :].clone()


def check_finite(samples: Tensor, seed: int) -> None:
    """Raises StemforgeError unless all samples are finite."""
    if not samples.isfinite().all():
        raise StemforgeError(f"seed {seed}: the network gave samples that are not finite. Try other settings or seeds.")


def _window(
    network: Joint, denoise: Denoise, first: Tensor, context: Tensor, sampling: Sampling, seed: int, on_step: OnStep
) -> Tensor:
    """One window, whose noise is put on `first`, behind the given context (both (batch, stem, channel, time))."""
    noise = noise_of(network, seed)
    given: Given = Free()
    known = (torch.arange(first.shape[-1], device=first.device) < context.shape[-1]).expand(*first.shape[:2], 1, -1)
    if context.shape[-1]:
        stems = torch.nn.functional.pad(context, (0, first.shape[-1] - context.shape[-1]))
        given = Observed(stems, known, noised=not network.conditional)
        if network.conditional:
            denoise = conditioned(denoise, known)
    window = sampling.run(denoise, first + noise(first) * sampling.sigma_max, given, noise, on_step)
    return eased(window, known, round(EASE * network.rate))
