"""`separate --method text`: the separator of stems that are named by prompts."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, cast

import torch

from stemforge import checkpoints
from stemforge.cli.prompted import Wish, encoded
from stemforge.devices import LOADING, choose, memory_errors
from stemforge.separators.diffusion import DiffusionSeparator, Likelihood
from stemforge.separators.pictured import PicturedSeparator
from stemforge.separators.prompted import Extractor, How, extractor, separator
from stemforge.tasks.prompted import joined, names_of

if TYPE_CHECKING:
    from stemforge.cli.separate_request import Request
    from stemforge.models.registry import Joint


def separator_of(
    request: Request, wish: Wish, checkpoint: checkpoints.Checkpoint
) -> DiffusionSeparator | PicturedSeparator | Extractor:
    """All stems at once, or with --extract each against the others, of which two are the same as all at once.

    Raises UsageError, CheckpointError and DeviceError for what concerns no single song.
    """
    extracts = request.extract and len(wish.stems) > 2
    others = [joined(wish.stems[:n] + wish.stems[n + 1 :]) for n in range(len(wish.stems))] if extracts else []
    known = encoded(checkpoint, tuple(dict.fromkeys((*wish.texts, *others))))
    device = choose(request.device)
    with memory_errors(device, LOADING):
        network = cast("Joint", checkpoints.network_of(replace(checkpoint, stems=None)).to(device))
    changes: Likelihood = {**request.likelihood, "steps": request.steps}
    how: How = {"segment": request.segment, "overlap": request.overlap, "seed": request.seed, "device": device}
    names, prompts = names_of(wish.stems), wish.prompts(known)
    if not extracts:
        return separator(network, names, prompts, changes, **how)
    return extractor(network, names, prompts, torch.stack([known[text] for text in others]), changes, **how)
