"""Sound files in: what they hold, block by block, with every fault named.

libsndfile decodes wav, flac, mp3, ogg, aiff and more. It is silent about some faults (a wav cut short opens without an
error, a frame count may be wrong), so those are looked for here.
"""

from __future__ import annotations

import logging
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import torch
from torch import Tensor

from stemforge.errors import InputError
from stemforge.types import Audio

EXTENSIONS = frozenset(
    ("wav", "wave", "flac", "mp3", "ogg", "oga", "opus", "aif", "aiff", "aifc", "caf", "w64", "rf64", "au", "snd")
)
"""File name endings that a walk through a folder takes for sound, lower case, without the dot."""

_FOREIGN = frozenset(("m4a", "aac", "wma", "mp4", "m4b", "mov", "mkv", "webm", "ape", "wv"))
_BLOCK = 1 << 17
_LOUD = 10.0
_UNKNOWN_SIZE = 0xFFFFFF00  # writers that stream leave the size of a wav at 0 or near 2^32

log = logging.getLogger("stemforge")


@dataclass(frozen=True)
class Source:
    """A sound file that can be read: rate in Hz, 1 or 2 channels, `frames` as its header says, seconds cut off."""

    path: Path
    rate: int
    channels: int
    frames: int
    missing: float = 0.0
    exact: bool = True

    @property
    def seconds(self) -> float:
        """Duration in seconds."""
        return self.frames / self.rate


def probe(path: Path, *, strict: bool = False) -> Source:
    """What a sound file holds, judged by its header.

    Args:
        path: the file.
        strict: a wav that was cut short is an error; otherwise it is a warning and the rest is used.

    Raises:
        InputError: it is missing, empty, not sound, without samples, or has more than two channels.
    """
    _check_file(path)
    with _opened(path) as file:
        if file.channels > 2:
            raise InputError(f"'{path}': has {file.channels} channels, one or two can be separated. Mix it down first.")
        if file.frames == 0:
            raise InputError(f"'{path}': contains no audio. Check how it was exported.")
        exact = file.format in ("WAV", "WAVEX", "FLAC", "AIFF", "RF64", "W64", "CAF")
        width = file.channels * {"PCM_16": 2, "PCM_24": 3, "PCM_32": 4, "FLOAT": 4, "DOUBLE": 8}.get(file.subtype, 1)
        missing = _bytes_missing(path) / (width * file.samplerate)
        source = Source(path, file.samplerate, file.channels, file.frames, missing, exact)
    if missing and strict:
        raise InputError(f"'{path}': is cut short, {missing:.1f} s are missing. Leave out --strict to use the rest.")
    if missing:
        log.warning("'%s': is cut short, %.1f s are missing; what is there is used.", path, missing)
    return source


def blocks(source: Source, *, sanitize: bool = False) -> Iterator[Tensor]:
    """The samples as float32 blocks (channel, time) of at most a few seconds.

    Args:
        source: from `probe`.
        sanitize: samples that are not finite become zero; otherwise they are an error.

    Raises:
        InputError: the file is damaged at some place, or holds samples that are not finite.
    """
    done, peak = 0, 0.0
    with _opened(source.path) as file:
        buffer = np.empty((_BLOCK, source.channels), np.float32)
        while len(frames := _read(file, buffer, source, done)):
            block = torch.from_numpy(frames.T.copy())
            if not block.isfinite().all():
                block = _finite(block, source, done, sanitize=sanitize)
            peak = max(peak, float(block.abs().max()))
            done += block.shape[-1]
            yield block
    _check_end(source, done)
    if peak > _LOUD:
        log.warning("'%s': peak is %.0f times full scale; levels are kept as they are.", source.path, peak)


def read(path: Path | str) -> Audio:
    """A whole sound file in memory. Raises InputError as `probe` and `blocks` do."""
    source = probe(Path(path))
    return Audio(torch.cat(list(blocks(source)), dim=-1), source.rate)


def _check_file(path: Path) -> None:
    """Raises InputError unless the path is a file with something in it that may be read."""
    if path.is_dir():
        raise InputError(f"'{path}': is a folder. Name a sound file.")
    try:
        size = path.stat().st_size
        with path.open("rb"):
            pass
    except FileNotFoundError:
        raise InputError(f"'{path}': no such file. {_hint(path)}.") from None
    except OSError as error:
        raise InputError(f"'{path}': cannot be read: {error.strerror}. Check the path and its permissions.") from None
    if size == 0:
        raise InputError(f"'{path}': empty file. Copy or download it again.")


def _hint(path: Path) -> str:
    """What is often the matter with the path of a missing file."""
    if any(letter in str(path) for letter in "*?"):
        return "No file matches the pattern; check it"
    return "Check the spelling; a name with spaces needs quotes around it"


def native(path: Path) -> bytes | str:
    """The path as libsndfile takes it: bytes where the system has bytes for names, since they may be no valid text."""
    return os.fsencode(path) if os.name == "posix" else str(path)


def _opened(path: Path) -> soundfile.SoundFile:
    """The file open for reading."""
    try:
        return soundfile.SoundFile(native(path))
    except soundfile.SoundFileError:
        if path.suffix[1:].lower() in _FOREIGN:
            what = f"{path.suffix.lower()} files cannot be read"
        else:
            what = "not a recognised audio format, or damaged at its start"
    raise InputError(f"'{path}': {what}. Convert it to wav or flac.") from None


def _read(file: soundfile.SoundFile, buffer: np.ndarray, source: Source, done: int) -> np.ndarray:
    """The next frames (time, channel); fewer than the buffer holds at the end."""
    try:
        return file.read(out=buffer)  # type: ignore[no-any-return]
    except soundfile.SoundFileError:
        at = done / source.rate
        raise InputError(
            f"'{source.path}': damaged after {at:.1f} s of {source.seconds:.1f} s. Copy or export it again."
        ) from None


def _finite(block: Tensor, source: Source, done: int, *, sanitize: bool) -> Tensor:
    """The block with zeros for samples that are not finite, or an InputError that says where the first one is."""
    if sanitize:
        return torch.nan_to_num(block, nan=0.0, posinf=0.0, neginf=0.0)
    first = int((~block.isfinite()).any(dim=0).int().argmax())
    raise InputError(
        f"'{source.path}': non-finite samples at {(done + first) / source.rate:.1f} s. "
        "Repair the file, or give --sanitize to set them to zero."
    )


def _check_end(source: Source, done: int) -> None:
    """An exact format that ends early is damaged; in mp3 and ogg the count is a guess and what was read is right."""
    if done == source.frames:
        return
    if source.exact or done == 0:
        raise InputError(
            f"'{source.path}': damaged after {done / source.rate:.1f} s of {source.seconds:.1f} s. "
            "Copy or export it again."
        )
    if abs(done - source.frames) > source.rate // 10:
        log.warning(
            "'%s': says %.1f s, holds %.1f s; what is there is used.", source.path, source.seconds, done / source.rate
        )


def _bytes_missing(path: Path) -> int:
    """How many bytes of sound the header of a RIFF wav promises beyond the end of the file."""
    with path.open("rb") as file:
        if file.read(4) != b"RIFF" or len(file.read(8)) < 8:
            return 0
        while len(header := file.read(8)) == 8:
            name, size = struct.unpack("<4sI", header)
            if name == b"data":
                present = path.stat().st_size - file.tell()
                return max(0, size - present) if 0 < size < _UNKNOWN_SIZE else 0
            file.seek(size + size % 2, os.SEEK_CUR)
    return 0
