"""Take a mixture apart: at any rate, mono or stereo, of any length, with nothing lost.

The separator works at its own rate and channels. What resampling, folding channels or the network leaves over,
l = y - sum of stems, goes into the stem `other`, or into one more stem `residual` for a checkpoint without `other`:
the stems of a song add up to it.
"""

from __future__ import annotations

import difflib
import math
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from stemforge.audio.resample import resampled, to_channels
from stemforge.errors import UsageError
from stemforge.types import Audio, Separator, Stems

OTHER, RESIDUAL = "other", "residual"
OTHER_METHODS = ("add", "minus", "none")


@dataclass
class Levels:
    """Energies of the mixture and of what the stems left over before it was added to one of them."""

    mixture: float = 0.0
    leftover: float = 0.0

    @property
    def leftover_db(self) -> float:
        """Leftover against mixture in dB; minus infinity when nothing is left over."""
        if self.leftover == 0:
            return -math.inf
        return 10 * math.log10(self.leftover / self.mixture) if self.mixture else math.inf


def all_names(names: tuple[str, ...]) -> tuple[str, ...]:
    """Names of what `separate_blocks` gives for a separator of `names`: with `residual` if there is no `other`."""
    return names if OTHER in names or RESIDUAL in names else (*names, RESIDUAL)


def separate_blocks(
    blocks: Iterable[Tensor], rate: int, channels: int, separator: Separator, levels: Levels | None = None
) -> Iterator[tuple[Tensor, Tensor]]:
    """Mixture blocks (channel, time) -> pairs of a mixture block and its stems (stem, channel, time).

    Rate in Hz, channels and total length of the stems are those of the input; memory does not grow with the length.

    Args:
        blocks: the mixture, 1 or 2 channels, float32.
        rate: of the mixture, Hz.
        channels: of the mixture.
        separator: gives stems that sum to the mixture at its own rate.
        levels: is filled while the blocks pass.
    """
    waiting = Queue()

    def fed() -> Iterator[Tensor]:
        for block in blocks:
            waiting.push(block)
            yield to_channels(block, separator.channels)

    stems = resampled(separator.stream(resampled(fed(), rate, separator.rate)), separator.rate, rate)
    for block in stems:
        mixture = waiting.take(block.shape[-1])
        if mixture.shape[-1]:
            block = to_channels(block[..., : mixture.shape[-1]], channels)
            yield mixture, _completed(block, mixture, separator, levels)
    if (mixture := waiting.take(waiting.size)).shape[-1]:
        silence = mixture.new_zeros((len(separator.names), *mixture.shape))
        yield mixture, _completed(silence, mixture, separator, levels)


def separate(mixture: Audio, separator: Separator) -> Stems:
    """All stems of a mixture in memory, at its rate, channels and length.

    Args:
        mixture: 1 or 2 channels.
        separator: from `stemforge.load`, or any other.
    """
    samples = mixture.samples
    blocks = [stems for _, stems in separate_blocks([samples], mixture.rate, samples.shape[0], separator)]
    return Stems(all_names(separator.names), torch.cat(blocks, dim=-1), mixture.rate)


def _completed(stems: Tensor, mixture: Tensor, separator: Separator, levels: Levels | None) -> Tensor:
    """Stems (stem, channel, time) with what they leave over of the mixture (channel, time)."""
    leftover = mixture - stems.sum(dim=0)
    if levels is not None:
        levels.mixture += float(mixture.double().square().sum())
        levels.leftover += float(leftover.double().square().sum())
    sink = next((name for name in (RESIDUAL, OTHER) if name in separator.names), None)
    if sink is None:
        return torch.cat([stems, leftover[None]])
    stems = stems.clone()
    stems[separator.names.index(sink)] += leftover
    return stems


@dataclass(frozen=True)
class Selection:
    """Which stems are kept: `stems` by name (None: all), or `two_stems`: one and `no_<one>`, all of the rest.

    `other_method` says how the rest is made: `add` sums the other stems, `minus` takes the one from the mixture, `none`
    leaves the rest out.
    """

    stems: tuple[str, ...] | None = None
    two_stems: str | None = None
    other_method: str = "add"

    def check(self, names: tuple[str, ...]) -> None:
        """Raises UsageError for a stem that is not among `names` or options that exclude each other."""
        if self.other_method not in OTHER_METHODS:
            raise UsageError(f"other method '{self.other_method}': unknown. Give one of {', '.join(OTHER_METHODS)}.")
        if self.stems is not None and self.two_stems is not None:
            raise UsageError("--stems and --two-stems: exclude each other. Give one of them.")
        for name in (*(self.stems or ()), *([self.two_stems] if self.two_stems is not None else [])):
            if name not in names:
                near = difflib.get_close_matches(name.lower(), names, n=1, cutoff=0.5)
                guess = f" Did you mean {near[0]}?" if near else ""
                if name.lower() in ("voice", "vocal"):
                    guess = " A voice is called vocals."
                raise UsageError(f"stem '{name}': this checkpoint has {', '.join(names)}.{guess}")

    def names(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """Names of what is kept out of stems called `names`."""
        if self.two_stems is not None:
            return (self.two_stems,) if self.other_method == "none" else (self.two_stems, f"no_{self.two_stems}")
        return names if self.stems is None else tuple(name for name in names if name in self.stems)

    def apply(self, mixture: Tensor, stems: Tensor, names: tuple[str, ...]) -> Tensor:
        """What is kept of stems (stem, channel, time) called `names`, in the order of `self.names(names)`."""
        if self.two_stems is None:
            return stems[[names.index(name) for name in self.names(names)]]
        one = names.index(self.two_stems)
        if self.other_method == "none":
            return stems[[one]]
        if self.other_method == "minus":
            return torch.stack([stems[one], mixture - stems[one]])
        return torch.stack([stems[one], torch.cat([stems[:one], stems[one + 1 :]]).sum(dim=0)])


class Queue:
    """Blocks (channel, time) in, blocks of other lengths out, in order."""

    def __init__(self) -> None:
        self._blocks: deque[Tensor] = deque()
        self._empty = torch.zeros(1, 0)
        self.size = 0

    def push(self, block: Tensor) -> None:
        self._blocks.append(block)
        self.size += block.shape[-1]

    def take(self, count: int) -> Tensor:
        """The next `count` samples, or all that there are."""
        parts: list[Tensor] = []
        count = min(count, self.size)
        self.size -= count
        while count:
            block = self._blocks.popleft()
            parts.append(block[..., :count])
            if block.shape[-1] > count:
                self._blocks.appendleft(block[..., count:])
            count -= parts[-1].shape[-1]
        return torch.cat(parts, dim=-1) if parts else self._empty
