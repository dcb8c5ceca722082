"""Stems that are heard as part of another unless they are asked for, as a voice in `other`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import torch
from torch import Tensor

from stemforge.errors import UsageError
from stemforge.types import Separator


class FoldedSeparator:
    """A separator some of whose stems are added to others; what all of them add up to stays.

    Args:
        separator: any.
        folds: name of a stem, and of the stem that takes it in.

    Raises:
        UsageError: there is no stem of one of the names, or one that takes in another is taken in itself.
    """

    def __init__(self, separator: Separator, folds: Mapping[str, str]) -> None:
        for name in (*folds, *folds.values()):
            if name not in separator.names:
                raise UsageError(f"folds: there is no stem {name}, but {', '.join(separator.names)}. Mend the table.")
        if twice := [name for name in folds.values() if name in folds]:
            raise UsageError(f"folds: {twice[0]} takes in a stem and is taken in. Name the last one only.")
        self.names = tuple(name for name in separator.names if name not in folds)
        self.rate, self.channels = separator.rate, separator.channels
        self.separator = separator
        self._places = torch.tensor([self.names.index(folds.get(name, name)) for name in separator.names])

    def stream(self, blocks: Iterable[Tensor]) -> Iterator[Tensor]:
        """Mixture blocks (channel, time) in, stem blocks (stem, channel, time) out, in all of the same length."""
        for stems in self.separator.stream(blocks):
            yield stems.new_zeros(len(self.names), *stems.shape[1:]).index_add_(0, self._places, stems)
