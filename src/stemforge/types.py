"""The nouns of stemforge: Audio, Stems, Denoise, Separator.

One layout everywhere: time last, float32, full scale at 1; audio is (channel, time), stems are (stem, channel, time).
Inside networks a batch axis comes first: (batch, stem, channel, time).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias

if TYPE_CHECKING:
    from torch import Tensor

Denoise: TypeAlias = "Callable[[Tensor, Tensor], Tensor]"
"""D(x; sigma) = E[x0 | x]. x: (batch, stem, channel, time); sigma: broadcastable to x; returns the shape of x."""


@dataclass(frozen=True)
class Audio:
    """Sound: samples (channel, time) float32 in [-1, 1], rate in Hz."""

    samples: Tensor
    rate: int

    @property
    def seconds(self) -> float:
        """Duration in seconds."""
        return self.samples.shape[-1] / self.rate


@dataclass(frozen=True)
class Stems:
    """The parts of one song: samples (stem, channel, time) float32, rate in Hz, one name a stem."""

    names: tuple[str, ...]
    samples: Tensor
    rate: int

    def mixture(self) -> Audio:
        """Sum of all stems."""
        return Audio(self.samples.sum(dim=0), self.rate)

    def __getitem__(self, name: str) -> Audio:
        """One stem by name; KeyError when there is none of that name."""
        if name not in self.names:
            raise KeyError(f"no stem {name!r}; there are {', '.join(self.names)}")
        return Audio(self.samples[self.names.index(name)], self.rate)


class Separator(Protocol):
    """Takes a mixture apart, block by block, so that memory does not grow with the length of the song."""

    names: tuple[str, ...]
    rate: int
    channels: int

    def stream(self, blocks: Iterable[Tensor]) -> Iterator[Tensor]:
        """Mixture blocks (channel, time) of any length at `rate` in; stem blocks (stem, channel, time) out.

        The blocks that come out follow each other without gaps and have the total length of what went in.
        The sum over stems equals the mixture up to float32 rounding.
        """
        ...
