"""Where stems that are drawn in mono stand in the stereo picture, as songs have it.

Bass, drums and vocals stand in the middle, other stems to the left and right by turns. Gains keep the power of a stem.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from stemforge.tasks.cascade import VOICE

MIDDLE = ("bass", "drums", VOICE)
ASIDE = (0.15, 0.45)
"""From 0 in the middle to 1 at the side: 2 to 6 dB between the channels, as half of the guitars and pianos of songs."""
LEANS = 1.0
"""Decibels between the channels from which on given stems count as on one side."""


class Places:
    """Gains of channels for stems; what is given, and where, is heard first.

    names: of the given stems, none for a new piece.
    """

    def __init__(self, channels: int, names: Sequence[str] = ()) -> None:
        self.channels, self.names = channels, tuple(names)
        self.power = torch.zeros(len(self.names), channels, dtype=torch.float64)

    def heard(self, block: Tensor) -> Tensor:
        """A block (stem, channel, time) of the given stems, as it is; mono ones stand in the middle."""
        self.power += block.double().square().sum(dim=-1).expand_as(self.power)
        return block

    def gains(self, made: Sequence[str], seed: int) -> Tensor:
        """Of stems, (stem, channel, 1), the same for a seed in any order; what is given too stays where it is."""
        gains = torch.ones(len(made), self.channels, 1)
        if self.channels != 2:
            return gains
        generator = torch.Generator().manual_seed(seed % 2**63)
        side = self._free_side(generator)
        for name in sorted(made):
            row = gains[made.index(name)]
            power = self.power[self.names.index(name)] if name in self.names else self.power.new_zeros(2)
            if power.sum() > 0:
                row[:, 0] = (2 * power / power.sum()).sqrt()
            elif name not in MIDDLE:
                pan = ASIDE[0] + (ASIDE[1] - ASIDE[0]) * float(torch.rand((), generator=generator))
                angle = (1 + side * pan) * math.pi / 4
                row[:, 0] = 2**0.5 * torch.tensor([math.cos(angle), math.sin(angle)])
                side = -side
        return gains

    def _free_side(self, generator: torch.Generator) -> int:
        """-1 left, 1 right: where the given stems are not, or anywhere."""
        left, right = self.power.sum(dim=0).clamp(min=1e-12).log10().mul(10).tolist()
        either = 1 if float(torch.rand((), generator=generator)) < 0.5 else -1
        return either if abs(left - right) < LEANS else 1 if left > right else -1
