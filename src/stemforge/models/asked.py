"""What of its estimates a network is asked for: of what is made, not of what is known or hidden.

Without a mixture an estimate does not depend on the others, so those that nobody needs are not computed. Only the
blocks in the middle see all frames and all stems.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

ALL = slice(None)
TOUCHED = 2
"""Frames on each side that have samples in common with a frame."""


class Asked(NamedTuple):
    """rows: of the stems, indices where they are not in a row; frames: first and last of them.

    shown: the stems that are not hidden in all items; within: where among them the rows are.
    """

    rows: slice | Tensor = ALL
    frames: slice = ALL
    shown: slice | Tensor = ALL
    within: slice | Tensor = ALL

    @classmethod
    def of(cls, sigma: Tensor, hidden: Tensor) -> Asked | None:
        """What is made of any item of a batch, and the frames beside it, None for nothing.

        sigma: (batch, stem, frame); hidden: (batch, stem).
        """
        seen = ~hidden
        made = ((sigma > 0) & seen[:, :, None]).any(dim=0).cpu()
        rows, frames, shown = (
            part.nonzero().flatten() for part in (made.any(dim=1), made.any(dim=0), seen.any(dim=0).cpu())
        )
        if not len(rows):
            return None
        within, count = torch.searchsorted(shown, rows), made.shape[0]
        some = (_rows(rows, count), _span(frames, made.shape[1], TOUCHED), _rows(shown, count))
        return cls(*some, _rows(within, len(shown)))

    def among(self, values: Tensor, count: int, absent: float) -> Tensor:
        """(batch, shown stem, ...) among all stems, and what those that are hidden read as."""
        if _whole(self.shown):
            return values
        out = values.new_full((len(values), count, *values.shape[2:]), absent)
        out[:, self.shown] = values
        return out

    def cut(self, values: Tensor) -> Tensor:
        """Of (batch, shown stem, channel, frame or 1, ...) or (batch, shown stem, frame or 1)."""
        dim = 3 if values.dim() > 3 else 2
        each = values if _whole(self.within) else values[:, self.within]
        return each if _whole(self.frames) or each.shape[dim] == 1 else each[(*(ALL,) * dim, self.frames)]

    def around(self, reach: int, frames: int) -> tuple[slice, int]:
        """The frames and so many more before and after, as far as there are, and how many there are before."""
        first, last, _ = self.frames.indices(frames)
        before = min(reach, first)
        return slice(first - before, min(frames, last + reach)), before


WHOLE = Asked()


def _whole(part: slice | Tensor) -> bool:
    return isinstance(part, slice) and part == ALL


def _rows(indices: Tensor, whole: int) -> slice | Tensor:
    """As a slice where there are no gaps."""
    return _span(indices, whole) if int(indices[-1] - indices[0]) + 1 == len(indices) else indices


def _span(indices: Tensor, whole: int, more: int = 0) -> slice:
    """From the first to the last, and so many more on each side; ALL where that is all of so many."""
    first, last = max(0, int(indices[0]) - more), min(whole, int(indices[-1]) + 1 + more)
    return ALL if last - first == whole else slice(first, last)


def chosen(linear: nn.Module, x: Tensor, lead: tuple[int, ...], at: tuple[slice | Tensor, ...]) -> Tensor:
    """The outputs of a layer, laid out as (*lead, the rest), of which only some are computed."""
    if all(_whole(part) for part in at):
        whole: Tensor = linear(x)
        return whole
    weights: tuple[Tensor, Tensor] = linear.weight, linear.bias  # type: ignore[assignment]
    weight, bias = (part.view(*lead, -1, *part.shape[1:])[at].flatten(0, len(lead)) for part in weights)
    return functional.linear(x, weight, bias)


def pasted(base: Tensor, sound: Tensor, asked: Asked, first: int) -> Tensor:
    """`base` (batch, stem, channel, time) with `sound` where it was asked for, from the sample `first` on."""
    if sound.shape == base.shape:
        return sound
    out = base.clone()
    out[:, asked.rows, :, first : first + sound.shape[-1]] = sound
    return out
