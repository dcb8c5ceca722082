"""An accompaniment for what is there: some stems are given, the others are generated to go with them.

Two ways: `condition`, where the network is told which stems are clean (trained for it), and `replace`, where the given
stems are shown at the noise level of the rest (MSDM, https://arxiv.org/abs/2302.02257, section 3.2), for any network.

A long song is filled window by window; the beginning of each is the end of the one before. Only the window that is
computed is held, so memory does not grow with the length.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from stemforge.audio.feed import Feed
from stemforge.audio.windows import eased
from stemforge.devices import memory_errors
from stemforge.errors import UsageError
from stemforge.inference.given import Noise, Observed
from stemforge.inference.noise import noise_of, state_type
from stemforge.inference.samplers import OnStep, quiet
from stemforge.inference.settings import Sampling
from stemforge.inference.wrappers import conditioned, denoiser, free_guidance, untold
from stemforge.tasks.generate import EASE, check_finite, instruments, window_of
from stemforge.tasks.levels import gain_of
from stemforge.types import Denoise, Stems

if TYPE_CHECKING:
    from stemforge.models.registry import Joint

METHODS = ("condition", "replace")
CONTEXT = 0.25
"""Share of a window that the window before it has filled."""


@dataclass(frozen=True)
class Wish:
    """What is to be made beside the stems that are given.

    fill: names to generate; None, where there are no regions, for all not given but vocals. Stems neither given nor
    filled are not heard. regions: for stems that are given, the parts (from, to) in seconds that are generated anew.
    method: condition or replace. segment: seconds of a window; None for what suits the network. seed: of the noise.
    guidance: how strongly the stems that are given, and what stands around regions, count, with condition: 1 as
    learned, more makes what is generated go with them more and takes twice the calls (`wrappers.free_guidance`).
    """

    fill: tuple[str, ...] | None = None
    regions: Mapping[str, Sequence[tuple[float, float]]] = field(default_factory=dict)
    method: str = "condition"
    segment: float | None = None
    seed: int = 0
    guidance: float = 1.0

    def names(self, network: Joint, given: tuple[str, ...]) -> tuple[str, ...]:
        """Of the stems that are generated, wholly or in parts. Raises UsageError: unknown, or nothing to do."""
        return _wanted(network, given, self.fill, self.regions, self.method)

    def known(self, given: tuple[str, ...], names: tuple[str, ...], span: tuple[int, int], rate: int) -> Tensor:
        """Which samples of a span (first, last) are given: bool (1, stem, 1, time), for stems called `names`."""
        first, last = span
        known = torch.zeros(1, len(names), 1, last - first, dtype=torch.bool)
        for name in given:
            row = known[0, names.index(name), 0]
            row[:] = True
            for start, stop in self.regions.get(name, []):
                end = last if math.isinf(stop) else round(stop * rate)
                row[max(0, round(start * rate) - first) : max(0, end - first)] = False
        return known


def windows_in(network: Joint, seconds: float, segment: float | None = None) -> int:
    """How many windows a song of that length takes."""
    return len(windows_of(network, max(1, round(seconds * network.rate)), segment)[0])


def windows_of(network: Joint, time: int, segment: float | None = None) -> tuple[list[int], int]:
    """First samples of the windows of a song, the last of which ends with it, and their length."""
    length = min(window_of(network, segment), time)
    hop = max(1, round(length * (1 - CONTEXT)))
    return [min(start, time - length) for start in range(0, max(1, time - length + hop), hop)], length


def impute(
    network: Joint,
    given: Stems,
    sampling: Sampling,
    *,
    fill: tuple[str, ...] | None = None,
    regions: Mapping[str, Sequence[tuple[float, float]]] | None = None,
    method: str = "condition",
    segment: float | None = None,
    seed: int = 0,
    device: torch.device | str = "cpu",
    on_step: OnStep = quiet,
) -> Stems:
    """The blocks of `impute_blocks` as one, in memory; the given stems are at the rate and width of the network."""
    wish = Wish(fill, regions or {}, method, segment, seed)
    song = Song([given.samples], given.names, given.samples.shape[-1], gain_of(given))
    blocks = impute_blocks(network, song, sampling, wish, device=device, on_step=on_step)
    return Stems(wish.names(network, given.names), torch.cat(list(blocks), dim=-1), given.rate)


@dataclass(frozen=True)
class Song:
    """Given stems: blocks (stem, channel, time) of `frames` samples in all, at the rate and width of the network.

    gain: brings them to the level that the network knows, see `tasks.levels`. begun: blocks (stem, channel,
    time) of what the stems that are filled begin with instead of noise alone, at the level of the given ones.
    """

    blocks: Iterable[Tensor]
    names: tuple[str, ...]
    frames: int
    gain: float
    begun: Iterable[Tensor] | None = None


@torch.no_grad()
def impute_blocks(
    network: Joint,
    song: Song,
    sampling: Sampling,
    wish: Wish,
    *,
    device: torch.device | str = "cpu",
    on_step: OnStep = quiet,
) -> Iterator[Tensor]:
    """The stems that are wished, blocks (stem, channel, time) that last as long as the song, float32 on the CPU.

    Args:
        network: joint denoiser on `device`.
        song: what is given.
        sampling: sampler, steps, noise levels; of each window. Where the song has a beginning for what is filled:
            from the level of the noise that is put on it, see `Sampling.begun`.
        wish: what is made.
        device: where the network is.
        on_step: called with (steps done, steps in all), over all windows.

    Raises:
        UsageError: an unknown stem or method, or nothing to do.
        DeviceError: the device is out of memory.
        StemforgeError: the network gave samples that are not finite.
    """
    names, rate, wanted = network.names, network.rate, wish.names(network, song.names)
    heard = torch.tensor([name in (*wanted, *song.names) for name in names])
    hidden = ~heard if network.conditional else torch.zeros_like(heard)
    given, made = [names.index(name) for name in song.names], [names.index(name) for name in wanted]
    starts, length = windows_of(network, song.frames, wish.segment)
    feed, tape, at = Feed(song.blocks), _Tape.empty(len(names), network.channels, device), 0
    begun = None if song.begun is None else Feed(song.begun)
    for index, start in enumerate(starts):
        if start > at:
            yield tape.result(made, start - at, song.gain, wish.seed)
            tape, at = tape.after(start - at), start
        behind = at + tape.full.shape[-1]
        rows = torch.zeros(1, len(names), network.channels, at + length - behind)
        rows[0, given] = feed.take(at + length - behind)
        known = wish.known(song.names, names, (behind, at + length), rate)
        if begun is not None:
            rows[0, made] = torch.where(known[0, made], rows[0, made], begun.take(at + length - behind))
        tape = tape.longer(rows.to(device), known.to(device), song.gain)

        def step(done: int, steps: int, index: int = index) -> None:
            on_step(index * steps + done, len(starts) * steps)

        if not bool(tape.done.all()):
            with memory_errors(device):
                noise = noise_of(network, wish.seed * 1_000_003 + index)
                _fill(network, hidden, tape, sampling, wish, noise, step, begun is not None)
    yield tape.result(made, length, song.gain, wish.seed)


@dataclass
class _Tape:
    """A part of a song: what is given of it (batch, stem, channel, time) and where; what is made of it and where.

    What is given has its own level, what is made that of the network.
    """

    full: Tensor
    known: Tensor
    out: Tensor
    done: Tensor

    @classmethod
    def empty(cls, stems: int, channels: int, device: torch.device | str) -> _Tape:
        rows = torch.zeros(1, stems, channels, 0, device=device)
        known = torch.zeros(1, stems, 1, 0, dtype=torch.bool, device=device)
        return cls(rows, known, rows, known)

    def longer(self, full: Tensor, known: Tensor, gain: float) -> _Tape:
        """With more of the song behind it."""
        more = (full, known, full * gain, known)
        return _Tape(*(torch.cat(pair, dim=-1) for pair in zip(self._parts(), more, strict=True)))

    def after(self, count: int) -> _Tape:
        """Without its first samples."""
        return _Tape(*(part[..., count:].clone() for part in self._parts()))

    def result(self, stems: list[int], count: int, gain: float, seed: int) -> Tensor:
        """The first samples of some stems, what is given as it was. Raises StemforgeError: they are not finite."""
        full, known, out = (part[..., :count] for part in (self.full, self.known, self.out))
        samples = torch.where(known, full, out / gain)[0, stems].float().cpu()
        check_finite(samples, seed)
        return samples

    def _parts(self) -> tuple[Tensor, ...]:
        return self.full, self.known, self.out, self.done


def _fill(
    network: Joint,
    hidden: Tensor,
    tape: _Tape,
    sampling: Sampling,
    wish: Wish,
    noise: Noise,
    on_step: OnStep,
    begun: bool,
) -> None:
    """One window: what is done on the tape is given, the rest is generated, from what the tape has there if begun."""
    clear, stems = tape.done.clone(), tape.out.to(state_type(tape.out.device))
    given = Observed(stems, clear, noised=wish.method == "replace")
    bound = _bound(network, hidden, tape, wish, noise)
    x = noise(stems) * sampling.sigma_max
    window = sampling.run(bound, x + stems if begun else x, given, noise, on_step)
    tape.out = eased(window, clear, round(EASE * network.rate)).to(tape.out)
    tape.done = torch.ones_like(tape.done)


def _bound(network: Joint, hidden: Tensor, tape: _Tape, wish: Wish, noise: Noise) -> Denoise:
    """The denoiser of a window, told what is done of the tape, of stems that are not `hidden` (stem,) bool."""
    denoise = denoiser(network, hidden=hidden if bool(hidden.any()) else None)
    if wish.method == "replace":
        return denoise
    told = conditioned(denoise, tape.done)
    if wish.guidance == 1 or not bool(tape.known.any()):
        return told
    given = tape.done.all(dim=-1, keepdim=True)
    parts = tape.known & ~given
    denoise = denoiser(network, hidden=hidden | given[0, :, 0, 0].cpu())
    alone = untold(denoise, parts, noise) if bool(parts.any()) else denoise
    return free_guidance(told, conditioned(alone, tape.done & ~parts), wish.guidance)


def _wanted(
    network: Joint,
    given: tuple[str, ...],
    fill: tuple[str, ...] | None,
    regions: Mapping[str, Sequence[tuple[float, float]]],
    method: str,
) -> tuple[str, ...]:
    """Names of the stems that are going to be generated, wholly or in parts."""
    if method not in METHODS:
        raise UsageError(f"method '{method}': unknown. Give one of {', '.join(METHODS)}.")
    if method == "condition" and not network.conditional:
        raise UsageError("method condition: this network cannot be told what is known. Give --method replace.")
    for name in (*given, *(fill or ()), *regions):
        if name not in network.names:
            raise UsageError(f"stem '{name}': this checkpoint has {', '.join(network.names)}.")
    if both := sorted(set(given) & set(fill or ())):
        raise UsageError(f"stem '{both[0]}': is kept and filled. Name it in one of --keep and --fill.")
    left = instruments(tuple(name for name in network.names if name not in given))
    missing = left if fill is None and not regions else fill or ()
    wanted = tuple(name for name in network.names if name in missing or name in regions)
    if not wanted:
        raise UsageError("nothing to fill: every stem is kept. Keep fewer, or give --fill or --region.")
    return wanted
