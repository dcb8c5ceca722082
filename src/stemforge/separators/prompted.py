"""Separation by prompts: the Dirac likelihood of MSDM with one network that takes prompts as the prior of every stem.

With a network of sketches it is their pictures that add up (`separators.pictured`).

`separator` samples all stems at once. `extractor` takes each stem out by itself, against one prompt for all the others
together, two stems at a time; with two prompts in all it is the first run of the separator. See `inference.prompted`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import tee
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

import torch
from torch import Tensor

from stemforge.errors import UsageError
from stemforge.inference.prompted import Prompted, Prompts
from stemforge.inference.samplers import OnStep, quiet
from stemforge.inference.settings import default
from stemforge.models.sketch import Sketch
from stemforge.separators.diffusion import ALL, DiffusionSeparator, Likelihood
from stemforge.separators.pictured import PicturedSeparator

if TYPE_CHECKING:
    from stemforge.models.registry import Joint

REST = "rest of it"


class How(TypedDict, total=False):
    """As `DiffusionSeparator` has them."""

    segment: float | None
    overlap: float
    seed: int
    device: torch.device | str


def separator(
    network: Joint | Sketch, names: Sequence[str], prompts: Prompts, changes: Likelihood, **how: Unpack[How]
) -> DiffusionSeparator | PicturedSeparator:
    """All stems at once; they add up to the mixture.

    Args:
        network: has one slot and takes prompts.
        names: of the stems.
        prompts: one a stem; a mixture term has no say, since the mixture is known.
        changes: of the default settings.
        **how: see `DiffusionSeparator` and `PicturedSeparator`.

    Raises UsageError as `DiffusionSeparator` and `Sampling` do.
    """
    own: dict[str, Any] = {name: value for name, value in changes.items() if value is not None}
    prompts = replace(prompts, mixture=None)
    if isinstance(network, Sketch):
        if fixed := [name for name in ("pinned", "gamma", "factor") if name in own]:
            raise UsageError(f"--{fixed[0]}: is for networks of sound, this one draws sketches. Leave it out.")
        sampling = default("generate", network.conditional).changed(**own)
        return PicturedSeparator(network, names, prompts, sampling, **how)
    rest = {"pinned": ALL, **{name: own.pop(name) for name in ("pinned", "gamma", "factor") if name in own}}
    sampling = default("dirac", network.conditional).changed(**own)
    joint = Prompted(network, names, prompts)
    return DiffusionSeparator(joint, method="dirac", sampling=sampling, **rest, **how)


def extractor(
    network: Joint | Sketch,
    names: Sequence[str],
    prompts: Prompts,
    rests: Tensor,
    changes: Likelihood,
    **how: Unpack[How],
) -> Extractor:
    """Each stem against the rest. rests: (stem, feature), what is in the song beside each stem; the others as above."""
    pairs = [replace(prompts, stems=torch.stack(pair)) for pair in zip(prompts.stems, rests, strict=True)]
    return Extractor(
        [separator(network, (name, REST), pair, changes, **how) for name, pair in zip(names, pairs, strict=True)]
    )


class Extractor:
    """The first stem of each of several separators. What they leave over of the mixture is left to the caller."""

    def __init__(self, separators: Sequence[DiffusionSeparator | PicturedSeparator]) -> None:
        self.names = tuple(each.names[0] for each in separators)
        first = separators[0]
        self.rate, self.channels, self.device = first.rate, first.channels, first.device
        self.on_step: OnStep = quiet
        self._separators = tuple(separators)
        for each in separators:
            each.on_step = self._step

    def stream(self, blocks: Iterable[Tensor]) -> Iterator[Tensor]:
        """Mixture blocks (channel, time) in, stem blocks (stem, channel, time) out, in all of the same length."""
        heard = tee(blocks, len(self._separators))
        streams = [each.stream(part) for each, part in zip(self._separators, heard, strict=True)]
        for found in zip(*streams, strict=True):
            yield torch.stack([stems[0] for stems in found])

    def _step(self, done: int, steps: int) -> None:
        self.on_step(done, steps * len(self._separators))
