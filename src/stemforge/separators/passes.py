"""The mean of what a network finds in a song at several pitches.

The same song played some semitones higher is another song to a network, and its errors there are other ones, so that
their mean is smaller. Pitches are whole semitones, because what was trained on tuned instruments is at a loss between
two keys. A song is played as a tape at another speed, that is: resampled.

Stems of every pass add up to the mixture, and above TOP the first pass stands alone, since what hisses there is told
apart by its place in the spectrum: with s the stems of the song as it is, R the other tape and R' the way back,

    s + 1/n sum_r R'(f(R x) - R s),   where f(R x) and R s both add up to R x
"""

from __future__ import annotations

import torch
from torch import Tensor

from stemforge.models.registry import Network

SPEEDS = ((44, 37), (37, 44), (18, 17))
"""Of the second, third and fourth pass: 3 semitones up, 3 down, 1 up, within 2 cents."""
MOST = 1 + len(SPEEDS)
TOP = 8 / 44.1
"""Of the rate of the song: up to here all passes count."""
_WIDTH = 32
"""Zero crossings of the resampling filter on either side."""


def separate(
    network: Network, mixture: Tensor, passes: int, *, steps: int = 1, generator: torch.Generator | None = None
) -> Tensor:
    """The mean of `passes` passes, as `Network.separate` gives one.

    Args:
        network: gives stems that add up to what it hears.
        mixture: (batch, channel, time), any time >= 1.
        passes: 1 to MOST.
        steps: network evaluations a pass.
        generator: of the noise that more than one step draws, on the CPU.

    Returns (batch, stem, channel, time), float32.
    """
    first = network.separate(mixture, steps=steps, generator=generator).float()
    mean = first
    for speed in SPEEDS[: passes - 1]:
        faster = played(mixture, speed)
        found = network.separate(faster, steps=steps, generator=generator).float() - played(first, speed)
        back = played(found, speed[::-1], 2 * TOP * max(1, speed[0] / speed[1]))
        mean = mean + back[..., : mixture.shape[-1]] / passes
    return mean


def played(samples: Tensor, speed: tuple[int, int], top: float = 0.99) -> Tensor:
    """Samples (..., time) of a tape that is played speed[0] / speed[1] times as fast, and higher, at the same rate.

    top: where the filter ends, of the highest frequency that both have.
    """
    from torchaudio.functional import resample

    with torch.autocast(samples.device.type, enabled=False):
        found: Tensor = resample(samples, *speed, lowpass_filter_width=_WIDTH, rolloff=top)
        return found
