"""What a page shows: lanes of sound on one time line, looked at and listened to in one pass each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from stemforge.audio.loudness import Meter
from stemforge.report.colours import Colour
from stemforge.report.pictures import Spectrum, Wave
from stemforge.report.sound import mp3

COLUMNS = 1000
"""Of waveforms and spectrograms, where a sound has so many samples."""


@dataclass(frozen=True)
class Lane:
    """One sound: `blocks` gives it as (channel, time) at `rate` Hz; `group`: which sounds are heard together.

    file: a path beside the page that holds it. note: a word on it. marks: parts that were made anew, in seconds from
    the start of the sheet. key: what solos it on a keyboard.
    """

    name: str
    group: str
    blocks: Callable[[], Iterator[Tensor]]
    rate: int
    channels: int
    colour: Colour
    key: str = ""
    file: str | None = None
    note: str = ""
    marks: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True)
class Sheet:
    """One page: `first` is the time in the song at which it begins, `group` the one that is heard at first."""

    title: str
    lead: str
    lanes: Sequence[Lane]
    seconds: float
    group: str
    first: float = 0.0
    settings: Sequence[tuple[str, str]] = field(default=())


@dataclass(frozen=True)
class View:
    """What was found of a lane: its shape, levels of its spectrum (band, column) in dB, LUFS, and an mp3 of it."""

    wave: Wave
    levels: np.ndarray
    lufs: float | None
    sound: bytes | None


def looked_at(lane: Lane, seconds: float, bitrate: int | None) -> View:
    """A lane of a sheet of so many seconds; with a bit rate its sound too. Raises InputError as reading does."""
    frames = max(1, round(seconds * lane.rate))
    columns = min(COLUMNS, frames)
    wave, spectrum, meter = Wave(columns, frames), Spectrum(columns, frames, lane.rate), Meter(lane.rate)

    def passed() -> Iterator[Tensor]:
        for block in lane.blocks():
            wave.add(block)
            spectrum.add(block)
            meter.add(block)
            yield block

    sound = None
    if bitrate is None:
        for _ in passed():
            pass
    else:
        sound = mp3(passed(), lane.rate, lane.channels, bitrate)
    return View(wave, spectrum.levels(), meter.integrated(), sound)


def added(parts: Sequence[Iterable[Tensor]]) -> Iterator[Tensor]:
    """The sum of sounds that come in blocks (channel, time) of one size, as long as the shortest."""
    for blocks in zip(*parts, strict=False):
        time = min(block.shape[-1] for block in blocks)
        total = blocks[0][..., :time].clone()
        for block in blocks[1:]:
            total += block[..., :time]
        yield total


def part_of(blocks: Iterable[Tensor], first: int, last: int) -> Iterator[Tensor]:
    """Blocks (channel, time) from one sample up to another."""
    at = 0
    for block in blocks:
        part = block[..., max(0, first - at) : max(0, last - at)]
        at += block.shape[-1]
        if part.shape[-1]:
            yield part
        if at >= last:
            return
