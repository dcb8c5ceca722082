"""Voice first: one separator takes the voice out of a mixture, another takes apart what is left.

With the voice v of the first one, the second one hears the accompaniment a = y - v and nothing else, and its stems add
up to a: all stems of both add up to the mixture. What of the voice is left in a is there once, and the second separator
weighs it as it weighs all that it hears: into its own `vocals`, which are added to v, or, where it has none, most of it
into `other`. Other ways of sharing it out were measured and none was better: docs/vocals.md.
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
    """A separator of two: `vocals` of the first, then the stems that the second finds in the rest, vocals among them.

    It works at the higher rate of the two and with as many channels as either has, so that nothing of the voice is
    lost to a second one of a narrow band. What such a one leaves over goes into its `other`; where it has none, the
    stems lack it, and `separate_blocks` finds it as the residual. Memory does not grow with the length of the song.

    Args:
        first: has a stem `vocals`; its other stems are added up.
        second: any.

    Raises:
        UsageError: the first has no such stem.
    """

    def __init__(self, first: Separator, second: Separator) -> None:
        if VOICE not in first.names:
            raise UsageError(f"the first separator has no stem {VOICE}, but {', '.join(first.names)}. Give another.")
        self.first, self.second = first, second
        self.names = (VOICE, *(name for name in second.names if name != VOICE))
        self.rate, self.channels = max(first.rate, second.rate), max(first.channels, second.channels)

    def stream(self, blocks: Iterable[Tensor]) -> Iterator[Tensor]:
        """Mixture blocks (channel, time) in, stem blocks (stem, channel, time) out, in all of the same length."""
        voices = Queue()
        place, kept = self.first.names.index(VOICE), [k for k, n in enumerate(self.second.names) if n != VOICE]

        def accompaniment() -> Iterator[Tensor]:
            for mixture, stems in separate_blocks(blocks, self.rate, self.channels, self.first):
                voices.push(stems[place])
                yield mixture - stems[place]

        for rest, stems in separate_blocks(accompaniment(), self.rate, self.channels, self.second):
            voice = voices.take(rest.shape[-1])
            if VOICE in self.second.names:
                voice = voice + stems[self.second.names.index(VOICE)]
            yield torch.cat([voice[None], stems[kept]])
