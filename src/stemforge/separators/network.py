"""A feed-forward network over a song of any length, window by window."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, TypedDict

import torch
from torch import Tensor
from torch.nn import functional

from stemforge.audio.windows import Window, hop_of, join, split
from stemforge.devices import has_bf16
from stemforge.errors import StemforgeError, UsageError
from stemforge.models.registry import Network
from stemforge.separators.batches import Batches
from stemforge.separators.passes import MOST, separate

PRECISIONS = ("auto", "fp32", "bf16")


class Options(TypedDict, total=False):
    """What can be chosen when a checkpoint is loaded; see `NetworkSeparator`."""

    segment: float | None
    overlap: float
    steps: int
    seed: int
    precision: str
    batch_size: int | None
    passes: int | None


class _Piece(NamedTuple):
    """What the network hears: (channel, time), the number of its window, and how many samples at its end count."""

    mixture: Tensor
    number: int
    valid: int


class NetworkSeparator:
    """Windows of a mixture through a network, cross-faded: stems = join(network(split(mixture))).

    The cross-fade is linear, so stems that sum to the mixture in every window do so in the song. What is kept are the
    windows of one call, and two more.

    Args:
        network: an nn.Module on `device` with the attributes and the method of `registry.Network`.
        segment: seconds of a window; None for what the network was trained on.
        overlap: fraction of a window that it shares with the next, 0 <= overlap < 1.
        steps: network evaluations a window, at least 1.
        seed: of the noise that more than one step draws, for each window by itself.
        device: where the network is.
        precision: fp32, bf16 for the inside of the network, or auto: bf16 where the device is faster with it and
            the network was measured to be as good.
        batch_size: windows in one call of the network, halved whenever memory is not enough; None for what suits the
            device. With more than one step it is one, since each window draws its own noise.
        passes: pitches at which every window is heard (`separators.passes`), whose mean is kept; None for what the
            network asks for by its attribute of that name, or one.

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
        precision: str = "auto",
        batch_size: int | None = None,
        passes: int | None = None,
    ) -> None:
        if steps < 1:
            raise UsageError(f"steps {steps}: at least one is needed. Try --steps 1.")
        self.passes = getattr(network, "passes", 1) if passes is None else passes
        if not 1 <= self.passes <= MOST:
            raise UsageError(f"passes {self.passes}: not from 1 to {MOST}. Try --passes 2, or 1 for the quickest.")
        if precision not in PRECISIONS:
            raise UsageError(f"precision '{precision}': unknown. Give {', '.join(PRECISIONS)}.")
        self.names, self.rate, self.channels = tuple(network.names), network.rate, network.channels
        self.segment = network.segment if segment is None else segment
        self.overlap, self.steps, self.seed, self.precision = overlap, steps, seed, precision
        self.device = torch.device(device)
        if not 0 < self.segment < math.inf:
            raise UsageError(f"segment {self.segment}: must be more than 0 s. Try --segment {network.segment:g}.")
        if precision == "auto":
            fit = getattr(network, "takes_bf16", False) and has_bf16(self.device.type)
            self.precision = "bf16" if fit else "fp32"
        self._network = network
        self._length = round(self.segment * self.rate)
        self._hop = hop_of(self._length, overlap)
        self._batches = Batches(batch_size if steps == 1 else 1, self.device)

    def stream(self, blocks: Iterable[Tensor]) -> Iterator[Tensor]:
        """Mixture blocks (channel, time) in, stem blocks (stem, channel, time) out, in all of the same length.

        Raises:
            StemforgeError: the network gave samples that are not finite.
            DeviceError: the device is out of memory.
        """
        windows = split(blocks, self._length, self._hop)
        yield from join(self._windows(windows), self._length, self._hop)

    def _windows(self, windows: Iterable[Window]) -> Iterator[Window]:
        """Stems (stem, channel, length) of mixture windows (channel, length), several at a time."""
        for piece, stems in self._batches.run(
            self._pieces(windows), lambda piece: piece.mixture.shape, self._separated
        ):
            shown = functional.pad(stems[..., -piece.valid :], (0, self._length - piece.valid))
            yield Window(shown, piece.valid)

    def _pieces(self, windows: Iterable[Window]) -> Iterator[_Piece]:
        """What the network hears of mixture windows (channel, length).

        Padding is never shown: the last window reaches back into the one before, a song of one window is shorter.
        """
        before: Window | None = None
        for index, window in enumerate(windows):
            samples = window.samples[..., : window.valid]
            if before is not None:
                samples = torch.cat([before.samples[..., : self._hop], samples], dim=-1)[..., -self._length :]
            yield _Piece(samples, index, window.valid)
            before = window

    def _separated(self, pieces: Sequence[_Piece]) -> list[Tensor]:
        """Stems (stem, channel, time) of each of some pieces of equal length, on the CPU."""
        found = list(self._evaluated(pieces, self.precision))
        for k, piece in enumerate(pieces):
            if self.precision != "fp32" and not found[k].isfinite().all():
                found[k] = self._evaluated([piece], "fp32")[0]
            if not found[k].isfinite().all():
                at = piece.number * self._hop / self.rate
                raise StemforgeError(
                    f"the network gave samples that are not finite in the window at {at:.1f} s: nothing "
                    "of this song is kept. Try another --segment, or report it with the song."
                )
        return found

    @torch.no_grad()
    def _evaluated(self, pieces: Sequence[_Piece], precision: str) -> Tensor:
        """One call of the network; the noise depends on the seed and on which window it is, on nothing else."""
        generator = torch.Generator().manual_seed((self.seed * 1_000_003 + pieces[0].number) % 2**63)
        mixtures = torch.stack([piece.mixture for piece in pieces]).to(self.device)
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=precision == "bf16"):
            stems = separate(self._network, mixtures, self.passes, steps=self.steps, generator=generator)
        return stems.cpu()
