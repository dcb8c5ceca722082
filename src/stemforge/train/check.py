"""What is in a folder of songs, file by file, before anything is trained on it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
from torch import Tensor

from stemforge.audio.io import blocks, probe
from stemforge.errors import InputError
from stemforge.train import layouts
from stemforge.train.files import Float, StemFile
from stemforge.train.layouts import SongFiles, Wanted

SILENT_DB = -60.0
"""A second that is weaker (RMS, dB of full scale) counts as silent."""
LENGTHS_DIFFER = 0.5
"""Seconds by which the files of a song may differ in length."""


@dataclass(frozen=True)
class FileReport:
    """One sound file, read from end to end. seconds: its length; sounding: seconds above SILENT_DB; peak: linear.

    rate is 0 for arrays, which have none; error is empty for a file that is in order.
    """

    path: Path
    stem: str
    seconds: float = 0.0
    sounding: float = 0.0
    peak: float = 0.0
    rate: int = 0
    channels: int = 0
    error: str = ""


@dataclass(frozen=True)
class SongReport:
    """One song: its files, the stems it lacks, and what is odd but can be trained on."""

    folder: Path
    layout: str
    files: tuple[FileReport, ...]
    missing: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def errors(self) -> tuple[str, ...]:
        """What cannot be trained on."""
        return tuple(file.error for file in self.files if file.error)

    @property
    def usable(self) -> bool:
        """Whether any file is in order."""
        return any(not file.error for file in self.files)

    @property
    def seconds(self) -> float:
        """Length of the longest file."""
        return max(file.seconds for file in self.files)


def check(folder: Path, wanted: Wanted, rate: int, jobs: int = 1) -> tuple[int, Iterator[SongReport]]:
    """How many songs there are, and the report of each, in order of their paths, as it is ready.

    Args:
        folder: of songs; see `layouts`.
        wanted: the stems of the network.
        rate: of arrays, which do not say it, in Hz.
        jobs: threads that read.

    Raises:
        InputError: there are no songs.
    """
    songs = layouts.find(folder, wanted)
    return len(songs), _reports(songs, wanted, rate, jobs)


def _reports(songs: Sequence[SongFiles], wanted: Wanted, rate: int, jobs: int) -> Iterator[SongReport]:
    with ThreadPoolExecutor(jobs) as pool:
        try:
            yield from pool.map(lambda song: _song(song, wanted, rate), songs)
        finally:
            pool.shutdown(cancel_futures=True)


def _song(song: SongFiles, wanted: Wanted, rate: int) -> SongReport:
    stems = wanted.of(song)
    files = tuple(_file(path, name, rate) for name, paths in stems.items() for path in paths)
    missing = tuple(name for name in wanted.names if name not in stems)
    return SongReport(song.folder, song.layout, files, missing, tuple(_notes(files)))


def _notes(files: Sequence[FileReport]) -> Iterator[str]:
    read = [file for file in files if not file.error]
    for file in read:
        if not file.sounding:
            yield f"{file.path.name} is silent"
    if read:
        longest = max(file.seconds for file in read)
        for file in read:
            if longest - file.seconds > LENGTHS_DIFFER:
                yield f"{file.path.name} is {longest - file.seconds:.1f} s shorter than the longest"
    if oggs := sum(file.path.suffix.lower() in (".ogg", ".oga") for file in read):
        yield f"{oggs} ogg files: crops of these may be 10 ms off, wav and flac are exact"
    if len(rates := sorted({file.rate for file in read if file.rate})) > 1:
        yield f"rates differ: {', '.join(map(str, rates))} Hz"


def _file(path: Path, stem: str, rate: int) -> FileReport:
    try:
        if path.suffix.lower() == ".npy":
            file = StemFile.open(path)
            return _measured(FileReport(path, stem, channels=file.channels), _array(path), rate)
        source = probe(path, strict=True)
        found = FileReport(path, stem, rate=source.rate, channels=source.channels)
        return _measured(found, _samples(blocks(source)), source.rate)
    except InputError as error:
        return FileReport(path, stem, error=str(error))
    except OSError as error:
        return FileReport(path, stem, error=f"'{path}': cannot be read: {error.strerror}. Check the disk.")


def _samples(tensors: Iterator[Tensor]) -> Iterator[Float]:
    for block in tensors:
        yield block.numpy()


def _array(path: Path) -> Iterator[Float]:
    array = np.load(path, mmap_mode="r")
    for start in range(0, len(array), 1 << 20):
        yield np.multiply(array[start : start + (1 << 20)].T, np.float32(1 / 32768))


def _measured(report: FileReport, pieces: Iterator[Float], rate: int) -> FileReport:
    """The report with length, level and sounding seconds of pieces (channel, time)."""
    total, peak, sounding = 0, 0.0, 0
    rest = np.zeros((report.channels, 0), np.float32)
    for piece in chain(pieces, [None]):
        last = piece is None
        held = rest if piece is None else np.concatenate([rest, piece], axis=1)
        cut = held.shape[1] if last else held.shape[1] // rate * rate
        for start in range(0, cut, rate):
            second = held[:, start : min(start + rate, cut)]
            if np.mean(second**2) > 10 ** (SILENT_DB / 10):
                sounding += second.shape[1]
        total, peak = total + cut, max(peak, float(np.abs(held[:, :cut]).max(initial=0)))
        rest = held[:, cut:]
    return FileReport(
        report.path, report.stem, total / rate, sounding / rate, peak, report.rate, report.channels, report.error
    )


def totals(songs: Sequence[SongReport], names: tuple[str, ...]) -> dict[str, dict[str, float]]:
    """For each stem: songs that have it, hours of it and hours in which it sounds, several files counted once."""
    found = {name: {"songs": 0.0, "hours": 0.0, "sounding_hours": 0.0} for name in names}
    for song in songs:
        for name, row in found.items():
            files = [file for file in song.files if file.stem == name and not file.error]
            if files:
                row["songs"] += 1
                row["hours"] += max(file.seconds for file in files) / 3600
                row["sounding_hours"] += max(file.sounding for file in files) / 3600
    return found
