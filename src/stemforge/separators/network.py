"""A feed-forward network over a song of any length, window by window."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import TypedDict

import torch
from torch import Tensor

from stemforge.audio.windows import Window, hop_of, join, split
from stemforge.errors import DeviceError, StemforgeError, UsageError
from stemforge.models.registry import Network

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}


class Options(TypedDict, total=False):
    """What can be chosen when a checkpoint is loaded; see `NetworkSeparator`."""

    segment: float | None
    overlap: float
    steps: int
    seed: int
    precision: str


class NetworkSeparator:
    """Windows of a mixture through a network, cross-faded: stems = join(network(split(mixture))).

    The cross-fade is linear, so stems that sum to the mixture in every window do so in the song. Two windows are kept.

    Args:
        network: an nn.Module on `device` with the attributes and the method of `registry.Network`.
        segment: seconds of a window; None for what the network was trained on.
        overlap: fraction of a window that it shares with the next, 0 <= overlap < 1.
        steps: network evaluations a window, at least 1.
        seed: of the noise that more than one step draws, for each window by itself.
        device: where the network is.
        precision: fp32, or bf16 for the inside of the network.

    Raises:
        UsageError: a value outside of its range.
    """

    def __init__(
        self,
        network: Network,
        *,
        segment: float | None = None,
        overlap: float = 0.25,
        steps: int = 1,
        seed: int = 0,
        device: torch.device | str = "cpu",
        precision: str = "fp32",
    ) -> None:
        if steps < 1:
            raise UsageError(f"steps {steps}: at least one is needed. Try --steps 1.")
        if precision not in PRECISIONS:
            raise UsageError(f"precision '{precision}': unknown. Give {' or '.join(PRECISIONS)}.")
        self.names, self.rate, self.channels = tuple(network.names), network.rate, network.channels
        self.segment = network.segment if segment is None else segment
        self.overlap, self.steps, self.seed, self.precision = overlap, steps, seed, precision
        self.device = torch.device(device)
        if not 0 < self.segment < math.inf:
            raise UsageError(f"segment {self.segment}: must be more than 0 s. Try --segment {network.segment:g}.")
        self._network = network
        self._length = round(self.segment * self.rate)
        self._hop = hop_of(self._length, overlap)

    def stream(self, blocks: Iterable[Tensor]) -> Iterator[Tensor]:
        """Mixture blocks (channel, time) in, stem blocks (stem, channel, time) out, in all of the same length.

        Raises:
            StemforgeError: the network gave samples that are not finite.
            DeviceError: the device is out of memory.
        """
        windows = enumerate(split(blocks, self._length, self._hop))
        yield from join((self._separated(window, index) for index, window in windows), self._length, self._hop)

    def _separated(self, window: Window, index: int) -> Window:
        """Stems (stem, channel, length) of one mixture window (channel, length), on the CPU."""
        stems = self._evaluated(window.samples, index, self.precision)
        if self.precision != "fp32" and not stems.isfinite().all():
            stems = self._evaluated(window.samples, index, "fp32")
        if not stems.isfinite().all():
            at = index * self._hop / self.rate
            raise StemforgeError(
                f"the network gave samples that are not finite in the window at {at:.1f} s: nothing "
                "of this song is kept. Try another --segment, or report it with the song."
            )
        return Window(stems, window.valid)

    @torch.no_grad()
    def _evaluated(self, mixture: Tensor, index: int, precision: str) -> Tensor:
        """One call of the network; the noise depends on the seed and on which window it is, on nothing else."""
        generator = torch.Generator().manual_seed((self.seed * 1_000_003 + index) % 2**63)
        kind = self.device.type
        try:
            with torch.autocast(kind, dtype=PRECISIONS[precision], enabled=precision != "fp32"):
                stems = self._network.separate(mixture[None].to(self.device), steps=self.steps, generator=generator)
        except torch.OutOfMemoryError as error:
            raise DeviceError(
                f"device '{self.device}': out of memory at a window of {self.segment:g} s. "
                "Try a shorter --segment, or -d cpu."
            ) from error
        return stems[0].float().cpu()
