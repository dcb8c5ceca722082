"""New music: all stems together, or some of them, as long as one likes.

A piece longer than one window is continued: each window after the first is given the end of the one before it and
generates what follows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from stemforge.audio.windows import eased
from stemforge.errors import StemforgeError, UsageError
from stemforge.inference.given import Free, Given, Observed
from stemforge.inference.noise import noise_of, state_type
from stemforge.inference.samplers import OnStep, quiet
from stemforge.inference.settings import Sampling
from stemforge.inference.wrappers import conditioned, denoiser
from stemforge.types import Denoise, Stems

if TYPE_CHECKING:
    from stemforge.models.registry import Joint

WINDOW = 12.0
"""Seconds that a network of our own generates at once; the official ones have windows of their own."""
EASE = 0.005
"""Seconds in which a step between what is given and what is new is taken out."""
CONTEXT = 0.5
"""Share of a window that is given when a piece is continued."""


def window_of(network: Joint) -> int:
    """Samples of a window."""
    return round((WINDOW if network.conditional else network.segment) * network.rate)


def windows_in(network: Joint, seconds: float) -> int:
    """How many windows a piece takes."""
    length, total = window_of(network), max(1, round(seconds * network.rate))
    return 1 + max(0, -(-(total - length) // (length - int(CONTEXT * length))))


@torch.no_grad()
def generate(
    network: Joint,
    seconds: float,
    sampling: Sampling,
    *,
    seed: int = 0,
    stems: tuple[str, ...] | None = None,
    device: torch.device | str = "cpu",
    on_step: OnStep = quiet,
) -> Stems:
    """Stems (stem, channel, time) of a new piece at the rate of the network.

    Args:
        network: joint denoiser on `device`.
        seconds: length of the piece, more than 0.
        sampling: sampler, steps, noise levels; of each window.
        seed: of the noise.
        stems: which are wanted, None for all; a network that knows marginals never hears the others, any other network
            generates them too and they are left out.
        device: where the network is.
        on_step: called with (steps done, steps in all), over all windows.

    Raises:
        UsageError: an unknown stem, or no length.
        StemforgeError: the network gave samples that are not finite.
    """
    wanted = network.names if stems is None else stems
    for name in wanted:
        if name not in network.names:
            raise UsageError(f"stem '{name}': this checkpoint has {', '.join(network.names)}.")
    if not wanted or seconds <= 0:
        raise UsageError(f"{seconds:g} s of {len(wanted)} stems: nothing to generate. Try --duration 12.")
    hidden = torch.tensor([name not in wanted for name in network.names])
    denoise = denoiser(network, hidden=hidden if network.conditional and bool(hidden.any()) else None)
    total, count = max(1, round(seconds * network.rate)), windows_in(network, seconds)
    length = min(window_of(network), total)
    like = torch.empty(1, len(network.names), network.channels, length, dtype=state_type(torch.device(device)))
    like = like.to(device)
    piece = like[..., :0]
    for index in range(count):
        context = piece[..., piece.shape[-1] - int(CONTEXT * length) :] if index else piece

        def step(done: int, steps: int, index: int = index) -> None:
            on_step(index * steps + done, count * steps)

        window = _window(network, denoise, like, context, sampling, seed * 1_000_003 + index, step)
        piece = torch.cat([piece, window[..., context.shape[-1] :]], dim=-1)
    kept = [network.names.index(name) for name in wanted]
    samples = piece[0, kept, :, :total].float().cpu()
    if not samples.isfinite().all():
        raise StemforgeError(f"seed {seed}: the network gave samples that are not finite. Try other settings or seeds.")
    return Stems(tuple(wanted), samples, network.rate)


def _window(
    network: Joint, denoise: Denoise, like: Tensor, context: Tensor, sampling: Sampling, seed: int, on_step: OnStep
) -> Tensor:
    """One window, beginning with the given context (batch, stem, channel, time)."""
    noise = noise_of(network, seed)
    given: Given = Free()
    known = (torch.arange(like.shape[-1], device=like.device) < context.shape[-1]).expand(*like.shape[:2], 1, -1)
    if context.shape[-1]:
        stems = torch.nn.functional.pad(context, (0, like.shape[-1] - context.shape[-1]))
        given = Observed(stems, known, noised=not network.conditional)
        if network.conditional:
            denoise = conditioned(denoise, known)
    window = sampling.run(denoise, noise(like) * sampling.sigma_max, given, noise, on_step)
    return eased(window, known, round(EASE * network.rate))
