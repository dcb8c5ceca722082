"""What an edit may wish of its sound: to be like a reference, or like a tag, as an embedding of music hears it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from stemforge.inference.guidance import Loss, belonging, resemblances
from stemforge.types import Audio

if TYPE_CHECKING:
    from stemforge.models.embedders import Ear


TERMS = ((0.3, 2), (1.0, 2), (6.0, 1))
"""Weight, and order of the norm, of the embedding, and of the features and the bands where an ear tells them."""


def like(ear: Ear, reference: Audio, rate: int, device: torch.device | str = "cpu") -> Loss:
    """Near to a reference: in the embedding, and in the earlier layers of an ear that tells what they hear.

    The loss is of stems (batch, stem, channel, time) at `rate` Hz.
    """

    def heard(sound: Tensor, rate: int) -> tuple[Tensor, ...]:
        found = ear.hear(sound, rate)
        return found.embedding, *found.layers

    with torch.no_grad():
        wanted = heard(reference.samples[None].to(device), reference.rate)
    return resemblances(lambda stems: heard(stems.sum(dim=1), rate), wanted, TERMS[: len(wanted)])


def tagged(ear: Ear, places: Sequence[int], rate: int) -> Loss:
    """With the tags at these places of an ear that has tags; the loss is of stems as above."""

    def logits(stems: Tensor) -> Tensor:
        found = ear.hear(stems.sum(dim=1), rate).logits
        assert found is not None
        return found[:, list(places)]

    return belonging(logits, torch.ones(len(places)))
