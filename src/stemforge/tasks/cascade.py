"""Voice first: one separator takes the voice, or other stems, out of a mixture, another takes apart what is left.

With the voice v of the first one (or the sum of what it takes), the second one hears the accompaniment a = y - v and
nothing else, and its stems add up to a: all stems of both add up to the mixture. What of the voice is left in a is
there once, and the second separator weighs it as it weighs all that it hears: into its own `vocals`, which are added to
v, or, where it has none, most of it into `other`. Other ways of sharing it out were measured and none was better:
docs/vocals.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from stemforge.errors import UsageError
from stemforge.tasks.separate import Queue, separate_blocks
from stemforge.types import Separator

VOICE = "vocals"


class Cascade:
    """A separator of two: some stems of the first, then those that the second finds in the rest.

    It works at the higher rate of the two and with as many channels as either has, so that nothing of the voice is
    lost to a second one of a narrow band. What such a one leaves over goes into its `other`; where it has none, the
    stems lack it, and `separate_blocks` finds it as the residual. Memory does not grow with the length of the song.

    Args:
        first: has the stems `taken`; its other stems are added up.
        second: any. Where it has one of the stems too, what it finds of that in the rest is added.
        taken: names of stems of the first.

    Raises:
        UsageError: the first has no such stem.
    """

    def __init__(self, first: Separator, second: Separator, taken: tuple[str, ...] = (VOICE,)) -> None:
        for name in taken:
            if name not in first.names:
                raise UsageError(f"the first separator has no stem {name}, but {', '.join(first.names)}. Give another.")
        self.first, self.second, self.taken = first, second, taken
        self.names = (*taken, *(name for name in second.names if name not in taken))
        self.rate, self.channels = max(first.rate, second.rate), max(first.channels, second.channels)

    def stream(self, blocks: Iterable[Tensor]) -> Iterator[Tensor]:
        """Mixture blocks (channel, time) in, stem blocks (stem, channel, time) out, in all of the same length."""
        waiting, second = Queue(), self.second.names
        places = [self.first.names.index(name) for name in self.taken]
        kept = [second.index(name) for name in self.names[len(self.taken) :]]

        def accompaniment() -> Iterator[Tensor]:
            for mixture, stems in separate_blocks(blocks, self.rate, self.channels, self.first):
                waiting.push(stems[places])
                yield mixture - stems[places].sum(dim=0)

        for rest, stems in separate_blocks(accompaniment(), self.rate, self.channels, self.second):
            taken = waiting.take(rest.shape[-1])
            for row, name in enumerate(self.taken):
                if name in second:
                    taken[row] += stems[second.index(name)]
            yield torch.cat([taken, stems[kept]])
