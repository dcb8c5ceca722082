"""From a network to a Denoise, and from a Denoise to another: conditions and marginals; windows are in `audio.windows`.

Samplers see D(x; sigma) and nothing else, so each wrapper serves all of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from stemforge.devices import lowered
from stemforge.inference.given import Noise
from stemforge.types import Denoise

if TYPE_CHECKING:
    from stemforge.models.registry import Joint


def denoiser(network: Joint, *, hidden: Tensor | None = None) -> Denoise:
    """The joint denoiser of a network; the state keeps its precision, the network sees float32.

    A network that is as good with it multiplies in bfloat16 where the device is faster so.

    hidden: (stem,) bool, stems that are marginalised out: nothing of them is shown, what comes out is not used.
    """

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        rows = None if hidden is None else hidden.to(x.device).expand(x.shape[0], -1)
        levels = (
            sigma.float().reshape(1, 1, 1) if sigma.dim() == 0 else sigma.float().expand(*x.shape[:2], 1, -1)[:, :, 0]
        )
        with lowered(x.device, getattr(network, "takes_bf16", False)):
            return network.denoise(x.float(), levels, hidden=rows).to(x)

    return denoise


def marginals(network: Joint) -> Denoise:
    """Each stem by its own prior, as if the others did not exist: MSDM's independent variant, ISDM.

    A network that knows joint and marginal distributions is asked once a stem, with all others hidden.
    """

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        count = x.shape[1]
        alone = torch.eye(count, dtype=torch.bool)
        each = [denoiser(network, hidden=~alone[i])(x, sigma)[:, [i]] for i in range(count)]
        return torch.cat(each, dim=1)

    return denoise


def conditioned(denoise: Denoise, known: Tensor) -> Denoise:
    """A denoiser that is told what is clean: noise level 0 where `known` (batch, stem, 1, time or 1).

    The state must hold the clean values there, as `given.Observed(noised=False)` puts them.
    """

    def told(x: Tensor, sigma: Tensor) -> Tensor:
        return denoise(x, torch.where(known, torch.zeros_like(sigma), sigma))

    return told


def untold(denoise: Denoise, parts: Tensor, noise: Noise) -> Denoise:
    """A denoiser that does not see what is clean in `parts` (batch, stem, 1, time or 1): the state has noise there too.

    The state must hold the clean values there, as for `conditioned`.
    """

    def blind(x: Tensor, sigma: Tensor) -> Tensor:
        return denoise(torch.where(parts, x + sigma * noise(x), x), sigma)

    return blind


def free_guidance(wanted: Denoise, unwanted: Denoise, scale: float) -> Denoise:
    """Classifier-free guidance (Ho and Salimans 2022, https://arxiv.org/abs/2207.12598): D_u + scale (D_w - D_u).

    unwanted: knows less of what is wanted, or what is not to be. At scale 1 it is not called, at 0 the other is not.
    """
    if scale == 1:
        return wanted
    if scale == 0:
        return unwanted

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        without = unwanted(x, sigma)
        return without + scale * (wanted(x, sigma) - without)

    return denoise
