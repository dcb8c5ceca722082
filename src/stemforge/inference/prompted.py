"""Any stems by prompts, from a network that knows finished mixtures and what is said of them.

Postolache et al. 2024, "Generalized Multi-Source Inference for Text Conditioned Music Diffusion Models"
(https://arxiv.org/abs/2403.11706): a sound with a prompt may be a whole song or one instrument, so one network is the
prior of every stem. The paper's text was not to be had: what is below is derived from its abstract and from the methods
that it builds on. With s(x | z) the score of a sound x given a prompt z, N stems x_n at the noise level sigma, and
their sum Y:

    guidance    s = s(x | z_neg) + w (s(x | z) - s(x | z_neg))                     Ho and Salimans 2022
    a set       g_n = s(x_n, sigma | z_n) + s(Y, sqrt(N) sigma | z_y)              `added`
                g_n = s(x_n, sigma | z_n) + s(Y, sigma | z_y)                      `same`
                g_n = s(x_n, sigma | z_n) + s(Y, sqrt(N) sigma | z_y) - s_0(Y)     `shared`
    separation  x_k = y - sum_{n != k} x_n,   g_m = s(x_m | z_m) - s(x_k | z_k)    `given.SumsTo`

`added` aims at prod_n p(x_n | z_n) p(Y | z_y). Independent noises of level sigma add up to sqrt(N) sigma, hence the
level of Y. But the product counts what the stems say of their sum a second time, the noise in it above all: down a
deterministic sampler the sum loses its variance. `shared` divides it out, p(Y | z_y) / p_0(Y), where p_0 is the density
of the sum of N stems that know nothing of each other. Its score is the mean of s(x_n) over all stems with that sum, for
every n; s_0 is the mean over the stems at hand. The sum then moves as the mixture alone would, the differences of stems
as the stems would. For Gaussian stems of one variance that is exact at every noise level (tests/test_prompted.py).

Sketches do not add up in their codes. Of them the sum is that of `pictured`, to which `shared` is carried over: it
goes where the mixture alone would go, and the stems with it by as little as they can.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from stemforge.errors import UsageError
from stemforge.inference.pictured import adding_up, believed
from stemforge.inference.wrappers import free_guidance
from stemforge.models.denoisers import one_level
from stemforge.models.sketch import Sketch
from stemforge.types import Denoise

if TYPE_CHECKING:
    from stemforge.models.registry import Joint

TERMS = ("shared", "added", "same", "none")
"""Forms of the mixture term."""


def check(scale: float, term: str) -> None:
    """Raises UsageError for a scale of the guidance below 0, or an unknown form of the mixture term."""
    if not 0 <= scale < float("inf"):
        raise UsageError(f"--cfg {scale:g}: must be at least 0. Try --cfg 3; 1 is no guidance.")
    if term not in TERMS:
        raise UsageError(f"--mixture-term {term}: unknown. Give one of {', '.join(TERMS)}.")


def each_alone(network: Joint, prompts: Tensor | None, among: Tensor | None = None) -> Denoise:
    """Every stem as a sound of its own, in the only slot of a network that takes prompts.

    prompts: (stem, feature), zeros for the empty prompt, or None: all are empty; among: (batch, channel, time), a
    mixture that each of them is told. Stems of an item have one noise level.
    """

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        batch, count = x.shape[:2]
        rows = None if prompts is None else prompts.to(x).repeat(batch, 1)
        levels = one_level(sigma, x)[:, :, 0].repeat_interleave(count, dim=0)
        told = {} if among is None else {"mixture": among.to(x).repeat_interleave(count, dim=0)}
        return network.denoise(x.reshape(batch * count, 1, *x.shape[2:]), levels, prompt=rows, **told).reshape(x.shape)

    return denoise


def with_mixture(stems: Denoise, mixture: Denoise, term: str = "shared") -> Denoise:
    """The mixture term of a set of stems, for all of which the noise level is one; see the module's docstring.

    A score s(x, sigma) is (D - x) / sigma^2, so that the three forms become

        added   D_n + (D_Y(Y, sqrt(N) sigma) - Y) / N
        same    D_n + D_Y(Y, sigma) - Y
        shared  D_n + (D_Y(Y, sqrt(N) sigma) - sum_m D_m) / N

    stems: of (batch, stem, channel, time); mixture: of (batch, 1, channel, time); term: of TERMS.
    """
    if term == "none":
        return stems

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        clean, whole, count = stems(x, sigma), x.sum(dim=1, keepdim=True), x.shape[1]
        if term == "same":
            return clean + (mixture(whole, sigma) - whole)
        off = whole if term == "added" else clean.sum(dim=1, keepdim=True)
        return clean + (mixture(whole, sigma * count**0.5) - off) / count

    return denoise


@dataclass(frozen=True)
class Prompts:
    """What is wanted, as embeddings, and how strongly.

    stems: (stem, feature), one prompt each, zeros for the empty one; mixture: (feature,) of all together, or None: the
    stems know nothing of each other; negative: (feature,) of what is not wanted, or None: the empty prompt; scale: of
    the guidance, 1 is none; term: of TERMS, how the mixture counts.

    Raises:
        UsageError: a scale below 0, or an unknown term.
    """

    stems: Tensor
    mixture: Tensor | None = None
    negative: Tensor | None = None
    scale: float = 1.0
    term: str = "shared"

    def __post_init__(self) -> None:
        check(self.scale, self.term)

    def denoiser(self, network: Joint, among: Tensor | None = None) -> Denoise:
        """Of (batch, stem, channel, time), with guidance and the mixture term.

        among: see `each_alone`. Raises UsageError for a mixture term that is not for sketches.
        """
        stems = self._guided(network, self.stems, among)
        if self.mixture is None or len(self.stems) == 1 or self.term == "none":
            return stems
        mixture = self._guided(network, self.mixture[None])
        if not isinstance(network, Sketch):
            return with_mixture(stems, mixture, self.term)
        if self.term != "shared":
            raise UsageError(f"--mixture-term {self.term}: is for networks of sound, not for sketches. Leave it out.")
        return adding_up(stems, network, believed(mixture, network))

    def _guided(self, network: Joint, prompts: Tensor, among: Tensor | None = None) -> Denoise:
        negative = None if self.negative is None else self.negative.expand(len(prompts), -1)
        wanted, unwanted = (each_alone(network, rows, among) for rows in (prompts, negative))
        return free_guidance(wanted, unwanted, self.scale)


class Prompted:
    """A joint model of as many stems as there are prompts, out of a network with one slot.

    What samples from joint models takes it: `tasks.generate`, `tasks.impute` with the method replace,
    `separators.diffusion`. It cannot be told what is clean; given stems are shown at the noise level of the rest.

    Args:
        network: has one slot and takes prompts.
        names: of the stems, one a prompt.
        prompts: what they are.
        among: a mixture (batch, channel, time) that the network is told, of which they are parts; None: none.
    """

    conditional = False

    def __init__(self, network: Joint, names: Sequence[str], prompts: Prompts, among: Tensor | None = None) -> None:
        self.names, self.prompts = tuple(names), prompts
        self.rate, self.channels, self.segment = network.rate, network.channels, network.segment
        self.takes_bf16: bool = getattr(network, "takes_bf16", False)
        self.level_db: float | None = getattr(network, "level_db", None)
        self._network, self._denoise = network, prompts.denoiser(network, among)

    def denoise(
        self,
        x: Tensor,
        sigma: Tensor,
        *,
        mixture: Tensor | None = None,
        hidden: Tensor | None = None,
        prompt: Tensor | None = None,
    ) -> Tensor:
        """As `registry.Joint` has it, for one noise level; the prompts are those that it was made with."""
        return self._denoise(x, torch.as_tensor(sigma, device=x.device, dtype=x.dtype))

    def noise(self, like: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """As of the network."""
        return self._network.noise(like, generator)
