"""Architectures by name: the allow-list of what a checkpoint may ask to be built.

A checkpoint names its architecture, never an import path. Each builder takes the `config` of the checkpoint and imports
its network only when called.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


class Network(Protocol):
    """What a separator needs of a network, which is also a torch.nn.Module."""

    names: tuple[str, ...]
    rate: int
    channels: int
    segment: float

    def separate(self, mixture: Tensor, *, steps: int = 1, generator: torch.Generator | None = None) -> Tensor:
        """Mixture (batch, channel, time) -> stems (batch, stem, channel, time), float32, summing to the mixture.

        `rate` is in Hz, `segment` is the length in seconds that it was trained on; any time >= 1 is taken.
        `generator` is on the CPU, so that noise does not depend on the device.
        """
        ...


def _forge(config: dict[str, Any]) -> nn.Module:
    from stemforge.models.forge import Forge

    return Forge.from_config(config)


ARCHITECTURES: dict[str, Callable[[dict[str, Any]], nn.Module]] = {"forge": _forge}
