"""More than two channels to stereo, by the weights of Recommendation ITU-R BS.775 (annex 4): L' = L + 0.7 C + 0.7 Ls.

The order of channels is that of wav and flac: left, right, centre, low frequencies, back, sides. The channel of low
frequencies is left out, as the recommendation has it. Nothing is turned down, so that stems add up to these sums.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from stemforge.audio.resample import to_channels

_HALF = math.sqrt(0.5)
_LEFT, _RIGHT, _CENTRE, _LOW = (1.0, 0.0), (0.0, 1.0), (_HALF, _HALF), (0.0, 0.0)
_BEHIND = ((_HALF, 0.0), (0.0, _HALF))

LAYOUTS: dict[int, tuple[tuple[float, float], ...]] = {
    3: (_LEFT, _RIGHT, _CENTRE),
    4: (_LEFT, _RIGHT, *_BEHIND),
    5: (_LEFT, _RIGHT, _CENTRE, *_BEHIND),
    6: (_LEFT, _RIGHT, _CENTRE, _LOW, *_BEHIND),
    7: (_LEFT, _RIGHT, _CENTRE, _LOW, (0.5, 0.5), *_BEHIND),
    8: (_LEFT, _RIGHT, _CENTRE, _LOW, *_BEHIND, *_BEHIND),
}
"""Channels of a file -> how much of each goes to the left and to the right."""

MOST = max(LAYOUTS)


def downmixed(block: Tensor, channels: int) -> Tensor:
    """A block (channel, time) of at most MOST channels with 1 or 2 of them; one that has them already is itself."""
    if weights := LAYOUTS.get(block.shape[0]):
        block = torch.tensor(weights, dtype=block.dtype).T @ block
    return to_channels(block, channels)
