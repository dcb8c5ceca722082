"""Songs as files of which parts are read, changed and written, so that memory does not grow with their length.

A piece is a song (one row, `mix`) or the stems of one (a row each). What an edit changed is added to the samples of its
region and fades while a piece is copied; all others go through as they are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from stemforge.audio.io import Source, blocks, probe
from stemforge.audio.resample import resampled, to_channels
from stemforge.audio.writer import Encoding, StemWriter, Written
from stemforge.errors import InputError
from stemforge.tasks.files import Place, naming
from stemforge.tasks.gather import stem_files

MIX = "mix"
_BLOCK = 1 << 18


class Piece(Protocol):
    """Rows of sound (row, channel, time) of one rate and length."""

    @property
    def names(self) -> tuple[str, ...]:
        """Of the rows: `mix` alone, or stems."""
        ...

    @property
    def rate(self) -> int:
        """Hz."""
        ...

    @property
    def channels(self) -> int:
        """1 or 2."""
        ...

    @property
    def frames(self) -> int:
        """Length in samples."""
        ...

    def read(self, first: int, last: int) -> Tensor:
        """Rows (row, channel, time) from a sample to another; silence beyond the end."""
        ...

    def stream(self) -> Iterator[Tensor]:
        """All rows in blocks."""
        ...


@dataclass(frozen=True)
class Files:
    """Files of one song, brought to one rate, width and length: the shorter ones end in silence."""

    names: tuple[str, ...]
    sources: tuple[Source, ...]
    rate: int
    channels: int
    frames: int

    def read(self, first: int, last: int) -> Tensor:
        """Rows (row, channel, time) from a sample to another; silence beyond the end."""
        end = max(first, min(last, self.frames))
        rows = torch.stack([self._part(source, first, end) for source in self.sources])
        return functional.pad(rows, (0, last - end))

    def stream(self, *, again: bool = False) -> Iterator[Tensor]:
        """All rows in blocks. again: what is odd about them has been said."""
        found = (blocks(source, again=again) for source in self.sources)
        parts = [
            _cut(self._converted(rows, source.rate), self.frames)
            for rows, source in zip(found, self.sources, strict=True)
        ]
        for rows in zip(*parts, strict=True):
            yield torch.stack(rows)

    def at(self, rate: int, channels: int) -> Files:
        """The same sound at another rate and width."""
        frames = self.frames if rate == self.rate else max(1, round(self.frames * rate / self.rate))
        return replace(self, rate=rate, channels=channels, frames=frames)

    def _part(self, source: Source, first: int, last: int) -> Tensor:
        if last <= first:
            return torch.zeros(self.channels, 0)
        if source.rate != self.rate:  # the filter needs what comes before
            found = next(_cut(self._converted(blocks(source), source.rate), last, last))
            return found[..., first:]
        count = min(last, source.frames) - first
        if count <= 0:
            return torch.zeros(self.channels, last - first)
        part = replace(source, first=first, frames=count, part=True)
        found = to_channels(torch.cat(list(blocks(part)), dim=-1), self.channels)
        return functional.pad(found, (0, last - first - found.shape[-1]))

    def _converted(self, found: Iterator[Tensor], rate: int) -> Iterator[Tensor]:
        return resampled((to_channels(block, self.channels) for block in found), rate, self.rate)


@dataclass(frozen=True)
class Joined:
    """One piece after the other; the last `overlap` samples of the first cross-fade into the second.

    The gains are cosine and sine of one angle, so that the power of sounds that have nothing in common is constant.
    Of stems, those of either piece are there.
    """

    before: Files
    after: Files
    overlap: int

    @property
    def names(self) -> tuple[str, ...]:
        """Rows of both."""
        return tuple(dict.fromkeys((*self.before.names, *self.after.names)))

    @property
    def rate(self) -> int:
        """That of the first."""
        return self.before.rate

    @property
    def channels(self) -> int:
        """That of the first."""
        return self.before.channels

    @property
    def frames(self) -> int:
        """Both lengths without the overlap."""
        return self.before.frames + self.after.frames - self.overlap

    def read(self, first: int, last: int) -> Tensor:
        """Rows (row, channel, time) from a sample to another; silence beyond the end."""
        turn = self.before.frames - self.overlap  # where the second begins
        old = self.before.read(first, max(first, min(last, self.before.frames)))
        new = self.after.read(max(0, first - turn), max(0, last - turn))
        rows = torch.zeros(len(self.names), self.channels, last - first)
        gains = self._gains(first, last)
        for piece, found, gain, at in (
            (self.before, old, gains[0], 0),
            (self.after, new, gains[1], max(0, turn - first)),
        ):
            index = [self.names.index(name) for name in piece.names]
            rows[index, :, at : at + found.shape[-1]] += found * gain[at : at + found.shape[-1]]
        return rows

    def stream(self) -> Iterator[Tensor]:
        """All rows in blocks."""
        turn, at = self.before.frames - self.overlap, 0
        tail = torch.zeros(len(self.names), self.channels, 0)
        index = [self.names.index(name) for name in self.before.names]
        for block in self.before.stream():
            rows = block.new_zeros(len(self.names), self.channels, block.shape[-1])
            rows[index] = block
            kept = max(0, min(block.shape[-1], turn - at))
            if kept:
                yield rows[..., :kept]
            tail = torch.cat([tail, rows[..., kept:]], dim=-1)
            at += block.shape[-1]
        yield from self._second(tail, turn)

    def _second(self, tail: Tensor, turn: int) -> Iterator[Tensor]:
        """The second piece with the tail of the first over its beginning."""
        at = turn
        index = [self.names.index(name) for name in self.after.names]
        for block in self.after.stream():
            rows = block.new_zeros(len(self.names), self.channels, block.shape[-1])
            over = min(block.shape[-1], tail.shape[-1])
            gains = self._gains(at, at + block.shape[-1])
            rows[index] = torch.cat([block[..., :over] * gains[1, :over], block[..., over:]], dim=-1)
            rows[..., :over] += tail[..., :over] * gains[0, :over]
            yield rows
            tail, at = tail[..., over:], at + block.shape[-1]

    def _gains(self, first: int, last: int) -> Tensor:
        """Of the first and the second piece for a part of the result, (2, time)."""
        place = torch.arange(first, last, dtype=torch.float64) - (self.before.frames - self.overlap) + 0.5
        angle = (place / max(1, self.overlap)).clamp(0, 1) * (math.pi / 2)
        gains = torch.stack([angle.cos(), angle.sin()])
        gains[0, place > self.overlap] = 0.0
        return gains.float()


class Patch(NamedTuple):
    """What is added to the rows (row, channel, time) from a sample on."""

    first: int
    change: Tensor


class Patches:
    """Patches that are made while a piece is copied: those of a part when its first sample is reached.

    Args:
        starts: the first sample of each part, in order.
        parts: the patches of each part.
    """

    def __init__(self, starts: Sequence[int], parts: Iterator[list[Patch]]) -> None:
        self._starts, self._parts = list(starts), parts
        self._held: list[Patch] = []

    def over(self, first: int, last: int) -> list[Patch]:
        """All that reach into the samples from `first` to `last`; what ends before is let go."""
        while self._starts and self._starts[0] < last:
            del self._starts[0]
            self._held += next(self._parts)
        self._held = [patch for patch in self._held if patch.first + patch.change.shape[-1] > first]
        return self._held


def open_song(path: Path) -> Files:
    """A song as a piece. Raises InputError when it cannot be read."""
    source = _counted(probe(path))
    return Files((MIX,), (source,), source.rate, source.channels, source.frames)


def open_stems(folder: Path, names: Sequence[str]) -> Files:
    """The stems of a folder that are among the names, as a piece. Raises InputError: there is none, or rates differ."""
    found = {name: path for name, path in stem_files(folder).items() if name in names}
    if not found:
        there = ", ".join(sorted(stem_files(folder))) or "no sound file at all"
        raise InputError(
            f"'{folder}': has none of {', '.join(f'{name}.wav' for name in names)}, but {there}. "
            "Give a folder of stems, or a song."
        )
    sources = {name: _counted(probe(found[name])) for name in names if name in found}
    if len({source.rate for source in sources.values()}) > 1:
        listed = ", ".join(f"{name} {source.rate} Hz" for name, source in sources.items())
        raise InputError(f"'{folder}': stems of one song have one rate, these have {listed}. Convert them to one.")
    channels, frames = (max(getattr(s, what) for s in sources.values()) for what in ("channels", "frames"))
    rate = next(iter(sources.values())).rate
    return Files(tuple(sources), tuple(sources.values()), rate, channels, frames)


def write(
    piece: Piece,
    patches: Patches,
    frames: int,
    folder: Path,
    encoding: Encoding,
    *,
    mix: bool = False,
    on_block: Callable[[int], None] = lambda samples: None,
) -> Written:
    """Copy a piece into a folder, with what the patches add, cut or followed by silence to `frames` samples.

    mix: the sum of the rows is written too. Raises as StemWriter does.
    """
    names = (*piece.names, MIX) if mix and piece.names != (MIX,) else piece.names
    at = 0
    with StemWriter(folder, names, piece.rate, piece.channels, encoding, frames=frames) as writer:
        for block in _cut(piece.stream(), frames):
            rows = patched(block, at, patches.over(at, at + block.shape[-1]))
            writer.write(torch.cat([rows, rows.sum(dim=0, keepdim=True)]) if names != piece.names else rows)
            at += rows.shape[-1]
            on_block(rows.shape[-1])
        with naming(Place(folder)):
            return writer.finish()


def patched(rows: Tensor, at: int, patches: Sequence[Patch]) -> Tensor:
    """Rows (row, channel, time) that begin at the sample `at`, with what the patches add; the rest bit by bit."""
    rows = rows.clone()
    for first, change in patches:
        start, stop = max(first, at), min(first + change.shape[-1], at + rows.shape[-1])
        if start < stop:
            rows[..., start - at : stop - at] += change[..., start - first : stop - first]
    return rows


def _counted(source: Source) -> Source:
    """With the number of samples that it really has, where its header may be wrong."""
    if source.exact:
        return source
    return replace(source, frames=sum(block.shape[-1] for block in blocks(source, again=True)))


def _cut(found: Iterator[Tensor], frames: int, size: int = _BLOCK) -> Iterator[Tensor]:
    """Blocks (..., time) as blocks of `size` samples, cut or followed by silence to `frames` in all."""
    held: list[Tensor] = []
    done = 0
    for block in found:
        held.append(block)
        while sum(part.shape[-1] for part in held) >= size and done < frames:
            joined = torch.cat(held, dim=-1)
            count = min(size, frames - done)
            yield joined[..., :count]
            held, done = [joined[..., size:]], done + count
        if done >= frames:
            return
    rest = torch.cat(held, dim=-1)
    while done < frames:
        count = min(size, frames - done)
        yield functional.pad(rest[..., :count], (0, max(0, count - rest.shape[-1])))
        rest, done = rest[..., count:], done + count
