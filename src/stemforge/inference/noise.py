"""Noise for samplers: in the colour of the network, from a seed, drawn on the CPU so that devices agree."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from stemforge.inference.given import Noise

if TYPE_CHECKING:
    from stemforge.models.registry import Joint


def noise_of(network: Joint, seed: int, *, shared: bool = False) -> Noise:
    """A source of noise of level 1. shared: all items of a batch get the same, as the two sides of a stereo song."""
    generator = torch.Generator().manual_seed(seed % 2**63)

    def noise(like: Tensor) -> Tensor:
        drawn = network.noise(torch.empty((1, *like.shape[1:]) if shared else like.shape), generator)
        return drawn.to(like).expand_as(like)

    return noise


def state_type(device: torch.device) -> torch.dtype:
    """float64 where the device has it."""
    return torch.float32 if device.type == "mps" else torch.float64
