"""Stems on disk: random access to any crop of a sound file at the rate and channels of a network.

A crop of a file at another rate is the crop of the whole file resampled: it is cut on the grid that both rates share,
with a margin longer than the filter. Memory is that of the crop.
"""

from __future__ import annotations

import math
import os
import threading
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from stemforge.audio.io import native
from stemforge.errors import InputError

Float = NDArray[np.float32]

SUFFIXES = frozenset((".npy", ".wav", ".flac", ".ogg", ".mp3", ".aif", ".aiff"))
"""File name endings of stems, lower case."""

_MARGIN = 1024
"""Samples of the lower rate on each side of a crop: the VHQ filter of soxr is shorter."""
_PREROLL = 20 * 1152
"""Samples that an mp3 is decoded for before a crop: its frames borrow bits from up to ten frames before."""


@dataclass(frozen=True)
class StemFile:
    """One sound file. rate: of the file in Hz; channels: 1 or 2; frames: its length at that rate.

    A .npy file holds int16 (time, 1 or 2) samples and no rate: `rate` 0 stands for that of the network.
    """

    path: Path
    frames: int
    offset: int = 0
    rate: int = 0
    channels: int = 2

    @classmethod
    def open(cls, path: Path) -> StemFile:
        """InputError when the file is not sound at all, or has more than two channels."""
        try:
            if path.suffix.lower() == ".npy":
                return cls._array(path)
            info = soundfile.info(native(path))
            if info.channels > 2:
                raise ValueError(f"has {info.channels} channels, one or two can be read")
            return cls(path, info.frames, 0, info.samplerate, info.channels)
        except (OSError, ValueError, EOFError, soundfile.SoundFileError) as error:
            raise InputError(f"stem '{path}': cannot be read ({error}). Remove it or render it again.") from error

    @classmethod
    def _array(cls, path: Path) -> StemFile:
        array = np.lib.format.open_memmap(path, mode="r")
        if array.dtype != np.int16 or array.ndim != 2 or array.shape[1] not in (1, 2) or not array.flags.c_contiguous:
            raise ValueError(f"holds {array.dtype} {array.shape}, not int16 (time, 1 or 2)")
        return cls(path, len(array), int(array.offset), 0, array.shape[1])

    def frames_at(self, rate: int) -> int:
        """Length in samples of `rate` Hz."""
        return self.frames if self.rate in (0, rate) else round(self.frames * rate / self.rate)

    def read(self, start: int, out: Float, rate: int = 0) -> None:
        """Fill out (channel, count) from sample `start` at `rate` Hz on; what lies behind the end is left as it is.

        rate 0 is that of the file. Mono is copied to both channels, stereo averaged where `out` has one.

        Raises:
            OSError, ValueError, soundfile.SoundFileError: the file is gone, damaged or not finite at that place.
        """
        if rate in (0, self.rate) or self.rate == 0:
            found = self._raw(start, out.shape[-1])
        else:
            found = self._resampled(start, min(out.shape[-1], self.frames_at(rate) - start), rate)
        count = len(found)
        if found.shape[1] > len(out):
            np.mean(found, axis=1, out=out[0, :count])
        else:
            out[:, :count] = found.T

    def _raw(self, start: int, count: int) -> Float:
        """Samples (time, channel) of the file itself; fewer than `count` at its end, none behind it."""
        count = max(0, min(count, self.frames - start))
        if self.path.suffix.lower() == ".npy":
            with self.path.open("rb", buffering=0) as file:
                if hasattr(os, "posix_fadvise"):  # or the system reads megabytes ahead of every crop
                    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
                file.seek(self.offset + 2 * self.channels * start)
                cut = np.fromfile(file, np.int16, self.channels * count).reshape(-1, self.channels)
            return np.multiply(cut, np.float32(1 / 32768))
        before = min(start, _PREROLL if self.path.suffix.lower() == ".mp3" else 0)
        with soundfile.SoundFile(native(self.path)) as file:
            file.seek(min(start - before, self.frames))
            found: Float = file.read(before + count, dtype="float32", always_2d=True)[before:]
        if not np.isfinite(found).all():
            raise ValueError(f"samples that are not finite from {start / self.rate:.1f} s on")
        return found

    def _resampled(self, start: int, count: int, rate: int) -> Float:
        """`count` samples (time, channel) of the file at `rate` Hz from `start` on."""
        import soxr

        if count <= 0:
            return np.zeros((0, self.channels), np.float32)
        shared = math.gcd(rate, self.rate)
        ups, downs = rate // shared, self.rate // shared
        margin = math.ceil(_MARGIN * max(1.0, self.rate / rate))
        group = max(0, start // ups - -(-margin // downs))
        skip = start - group * ups
        piece = self._raw(group * downs, math.ceil((skip + count) * self.rate / rate) + margin)
        played: Float = soxr.resample(piece, self.rate, rate, quality="VHQ")
        return played[skip : skip + count]


@dataclass
class Quarantine:
    """What could not be read while training, by file; safe to use from several threads.

    A crop that cannot be read is silence, in the mixture as in the stem, each time it comes. So a batch depends on the
    seed, the step and the files alone, never on what was read before. total: how many files there are.
    """

    total: int = 0
    reasons: dict[Path, str] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def add(self, path: Path, reason: str) -> None:
        """One more failure."""
        with self._lock:
            self.reasons.setdefault(path, reason)

    def taken(self, known: int) -> list[tuple[Path, str]]:
        """What came after the first `known` files."""
        with self._lock:
            return list(self.reasons.items())[known:]

    def check(self) -> None:
        """Raises InputError when more than a tenth of all files, and more than four, are lost."""
        if len(self.reasons) > max(4, self.total // 10):
            path, reason = next(iter(self.reasons.items()))
            raise InputError(
                f"{len(self.reasons)} of {self.total} stem files cannot be read, first '{path}' ({reason}). "
                "Look after the disk and run `stemforge data check`; the same command goes on."
            )


@dataclass(frozen=True)
class Stem:
    """One stem of one song at `rate` Hz: the sum of its files. frames: length of the longest at that rate."""

    files: tuple[StemFile, ...]
    frames: int
    rate: int = 0
    quarantine: Quarantine | None = None

    def read(self, start: int, out: Float) -> None:
        """Fill out (channel, count) from sample `start` on; what lies behind the end is left as it is.

        A file that cannot be read there goes to the quarantine and counts as silence; without a quarantine the error
        is raised.
        """
        for k, file in enumerate(self.files):
            part = out if k == 0 else np.zeros_like(out)
            try:
                file.read(start, part, self.rate)
            except (OSError, ValueError, soundfile.SoundFileError) as error:
                if self.quarantine is None:
                    raise
                part[:] = 0
                self.quarantine.add(file.path, str(error))
            if k:
                out += part

    def watched(self, quarantine: Quarantine) -> Stem:
        """The same stem, whose failures go to the quarantine."""
        return replace(self, quarantine=quarantine)


def stem_of(files: tuple[StemFile, ...], rate: int) -> Stem:
    """A stem as a network of `rate` Hz hears it; rate 0 is that of its files."""
    return Stem(files, max(file.frames_at(rate or file.rate) for file in files), rate)
