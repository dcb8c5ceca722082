"""Which stems a passage has at all.

Where a stem does not sound, a separator still gives it a little of everything that is like it. A network that says how
likely each stem sounds in each frame (trained with cross entropy) knows better once it may look at a whole passage:
a stem that is unlikely everywhere is not there, and what it was given belongs to the others.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

DOWN = 10 ** (-30 / 20)
"""Gain of a stem that is not there: not zero, so that a wrong guess can still be turned up."""
MARGIN = 0.2
"""From so much below to so much above the threshold, as a part of it, the gain of a stem rises to 1."""


def presence_gain(activity: Tensor, least: float, frames: int) -> Tensor:
    """Gain of each stem of a passage: 1 where it sounds somewhere, DOWN where it sounds nowhere.

    Args:
        activity: (batch, stem, frame) logits of the chance that the stem sounds in that frame.
        least: chance, mean of neighbouring frames, that is to be reached somewhere, 0 < least < 1.
        frames: neighbours that are looked at together, at least 1; all of a shorter passage.

    Returns (batch, stem), in between by a straight line of its logarithm.
    """
    together = min(frames, activity.shape[-1])
    chance = functional.avg_pool1d(activity.sigmoid(), together, stride=1).amax(dim=-1)
    missing = ((1 + MARGIN - chance / least) / (2 * MARGIN)).clamp(0, 1)
    return DOWN**missing
