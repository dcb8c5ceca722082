"""More than two channels to stereo, by the weights of Recommendation ITU-R BS.775 (annex 4): L' = L + 0.7 C + 0.7 Ls.

The order of channels is that of wav and flac: left, right, centre, low frequencies, back, sides. Vorbis and Opus have
another one (Vorbis I specification, 4.3.9; RFC 7845, 5.1.1.2), which libsndfile hands on as it is. The channel of low
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

_VORBIS = {
    3: (0, 2, 1),
    5: (0, 2, 1, 3, 4),
    6: (0, 2, 1, 5, 3, 4),
    7: (0, 2, 1, 6, 5, 3, 4),
    8: (0, 2, 1, 7, 5, 6, 3, 4),
}
"""Channels of a file -> where those of wav are in it: left, centre, right, sides or back, back, low frequencies."""


def from_vorbis(block: Tensor) -> Tensor:
    """A block (channel, time) in the order of Vorbis and Opus, in that of wav."""
    order = _VORBIS.get(block.shape[0])
    return block if order is None else block[list(order)]


def downmixed(block: Tensor, channels: int) -> Tensor:
    """A block (channel, time) of at most MOST channels with 1 or 2 of them; one that has them already is itself."""
    if weights := LAYOUTS.get(block.shape[0]):
        block = torch.tensor(weights, dtype=block.dtype).T @ block
    return to_channels(block, channels)
