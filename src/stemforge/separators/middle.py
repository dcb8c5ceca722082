"""Only the middle of a stereo song is taken apart, (L + R) / 2; what the sides differ by is left over."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from torch import Tensor

from stemforge.audio.resample import to_channels
from stemforge.types import Separator


class MiddleSeparator:
    """A separator that hears one channel, the mean of both; both sides of each stem are the same.

    A network of one channel then runs once instead of once for each side. The difference of the sides goes where all
    else goes that the stems leave over.
    """

    channels = 1

    def __init__(self, separator: Separator) -> None:
        self.names, self.rate = separator.names, separator.rate
        self._separator = separator

    def stream(self, blocks: Iterable[Tensor]) -> Iterator[Tensor]:
        """Blocks (1, time) in, stem blocks (stem, channel, time) out, in all of the same length."""
        return self._separator.stream(to_channels(block, self._separator.channels) for block in blocks)
