"""Sound files in: what they hold, block by block, with every fault named.

libsndfile decodes wav, flac, mp3, ogg, aiff and more. It is silent about some faults (a wav cut short opens without an
error, a frame count may be wrong), so those are looked for here. What it cannot read goes through ffmpeg.
"""

from __future__ import annotations

import logging
import os
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import soundfile
import torch
from torch import Tensor

from stemforge.audio import ffmpeg
from stemforge.audio.downmix import MOST, downmixed, from_vorbis
from stemforge.errors import InputError
from stemforge.types import Audio

EXTENSIONS = frozenset(
    ("wav", "wave", "flac", "mp3", "ogg", "oga", "opus", "aif", "aiff", "aifc", "caf", "w64", "rf64", "au", "snd")
)
"""File name endings that a walk through a folder takes for sound, lower case, without the dot."""

NPY_RATE = 44100
"""Hz of .npy stems, which do not say it."""

_BLOCK = 1 << 17
_LOUD = 10.0
_ELSEWHERE = 0xFFFFFFFF  # the size of an RF64 is in its chunk ds64
_UNKNOWN_SIZE = 0xFFFFFF00  # writers that stream leave the size of a wav at 0 or near 2^32

CHANNELS = ("input", "downmix", "mono", "mid")

log = logging.getLogger("stemforge")


@dataclass(frozen=True)
class Source:
    """A sound file that can be read, or a part of it.

    rate in Hz, 1 or 2 channels, which are mixed from `held` in the file, `frames` as its header says, `missing` seconds
    cut off; `exact` when the header knows the frames. Its bytes are in `contents`, if not at `path`; `foreign` when
    ffmpeg decodes them, of the sound `stream` of that number. It begins with frame `first` of the file. `tags` are
    title, artist and the like, as libsndfile names them. `vorbis`: its channels are in the order of Vorbis and Opus.
    """

    path: Path
    rate: int
    channels: int
    frames: int
    missing: float = 0.0
    exact: bool = True
    contents: Path | None = None
    foreign: bool = False
    first: int = 0
    part: bool = False
    stream: int = 1
    held: int = 0
    tags: Mapping[str, str] = field(default_factory=dict)
    vorbis: bool = False

    @property
    def seconds(self) -> float:
        """Duration in seconds."""
        return self.frames / self.rate

    @property
    def file(self) -> Path:
        """Where its bytes are."""
        return self.contents or self.path

    def between(self, start: float, end: float | None) -> Source:
        """From `start` to `end` in seconds; None is its own end. Raises InputError when nothing is there."""
        first = round(start * self.rate)
        last = self.frames if end is None else min(self.frames, round(end * self.rate))
        if last <= first:
            raise InputError(
                f"'{self.path}': lasts {self.seconds:.1f} s, nothing is there from {start:g} s on. "
                "Choose an earlier start."
            )
        return replace(self, first=first, frames=last - first, part=last < self.frames)


def probe(
    path: Path,
    *,
    strict: bool = False,
    contents: Path | None = None,
    channels: str = "input",
    stream: int | None = None,
) -> Source:
    """What a sound file holds, judged by its header.

    Args:
        path: the file.
        strict: a wav that was cut short is an error; otherwise it is a warning and the rest is used.
        contents: a file with the bytes, when `path` is but a name for them.
        channels: input (one or two, as they are; mid is the same here), downmix (more are mixed to two, see `downmix`)
            or mono.
        stream: which stream of sound of a film is taken, from 1 on; None for the first, with a warning of others.

    Raises:
        InputError: it is missing, empty, not sound, without samples or that stream, or has too many channels.
    """
    _check_file(path, contents or path)
    source = _headed(path, contents, stream)
    source = _mixed(source, channels)
    if source.frames == 0:
        raise InputError(f"'{path}': contains no audio. Check how it was exported.")
    if source.missing and strict:
        raise InputError(
            f"'{path}': is cut short, {source.missing:.1f} s are missing. Leave out --strict to use the rest."
        )
    if source.missing:
        log.warning("'%s': is cut short, %.1f s are missing; what is there is used.", path, source.missing)
    return source


def _mixed(source: Source, channels: str) -> Source:
    """The source with the channels that are wanted of it. Raises InputError when there are too many."""
    count = source.held
    if count > 2 and channels in ("input", "mid"):
        raise InputError(
            f"'{source.path}': has {count} channels, one or two can be separated. "
            "Give --channels downmix to mix it to stereo."
        )
    if count > MOST:
        raise InputError(f"'{source.path}': has {count} channels, at most {MOST} are known. Mix it down first.")
    return replace(source, channels=1 if channels == "mono" else min(count, 2))


def blocks(source: Source, *, sanitize: bool = False, again: bool = False) -> Iterator[Tensor]:
    """The samples as float32 blocks (channel, time) of at most a few seconds.

    Args:
        source: from `probe`.
        sanitize: samples that are not finite become zero; otherwise they are an error.
        again: they have been read before, so nothing is said about their level.

    Raises:
        InputError: the file is damaged at some place, or holds samples that are not finite.
    """
    done, peak = 0, 0.0
    for frames in _wanted(source, _foreign_frames(source) if source.foreign else _frames(source)):
        block = torch.from_numpy(frames.T.copy())
        if not block.isfinite().all():
            block = _finite(block, source, done, sanitize=sanitize)
        block = downmixed(from_vorbis(block) if source.vorbis else block, source.channels)
        peak = max(peak, float(block.abs().max()))
        done += block.shape[-1]
        yield block
    _check_end(source, done)
    if peak > _LOUD and not again:
        log.warning("'%s': peak is %.0f times full scale; levels are kept as they are.", source.path, peak)


def read(path: Path | str) -> Audio:
    """A whole sound file in memory, or a stem as `data render` writes it in .npy: int16 (time, 1 or 2), `NPY_RATE` Hz.

    Raises InputError as `probe` and `blocks` do.
    """
    if Path(path).suffix.lower() == ".npy":
        return _array(Path(path))
    source = probe(Path(path))
    return Audio(torch.cat(list(blocks(source)), dim=-1), source.rate)


def _array(path: Path) -> Audio:
    _check_file(path, path)
    try:
        samples = np.load(path, allow_pickle=False)
        if samples.dtype != np.int16 or samples.ndim != 2 or samples.shape[1] not in (1, 2) or not len(samples):
            raise ValueError(f"holds {samples.dtype} {samples.shape}, not int16 (time, 1 or 2)")
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"stem '{path}': cannot be read ({error}). Render it again.") from None
    return Audio(torch.from_numpy(samples.T.astype(np.float32) / 32768), NPY_RATE)


def _headed(path: Path, contents: Path | None, number: int | None) -> Source:
    """The source as its header describes it."""
    try:
        file = soundfile.SoundFile(native(contents or path))
    except soundfile.SoundFileError:
        if not ffmpeg.is_foreign(path):
            raise InputError(
                f"'{path}': not a recognised audio format, or damaged at its start. Convert it to wav or flac."
            ) from None
        return _foreign(path, contents, number)
    with file:
        exact = file.format in ("WAV", "WAVEX", "FLAC", "AIFF", "RF64", "W64", "CAF")
        width = file.channels * {"PCM_16": 2, "PCM_24": 3, "PCM_32": 4, "FLOAT": 4, "DOUBLE": 8}.get(file.subtype, 1)
        missing = _bytes_missing(contents or path) / (width * file.samplerate)
        tags = file.copy_metadata()
        held = file.channels
        if held > 2 and file.subtype == "OPUS" and _opus_family(contents or path) != 1:
            raise InputError(f"'{path}': has {held} channels, and it is not said which they are. Mix it down first.")
        return Source(path, file.samplerate, held, file.frames, missing, exact, contents, held=held, tags=tags,
                      vorbis=file.format == "OGG")  # fmt: skip


def _opus_family(path: Path) -> int:
    """How the head of an Opus file maps channels (RFC 7845, 5.1.1): 1 is surround, 255 is nothing in particular."""
    with path.open("rb") as file:
        head = file.read(1 << 12).partition(b"OpusHead")[2]
    return head[10] if len(head) > 10 else 255


def _foreign(path: Path, contents: Path | None, number: int | None) -> Source:
    """The source as ffmpeg describes it."""
    stream = ffmpeg.probe(contents or path, number or 1)
    if stream.streams > 1 and number is None:
        log.warning("'%s': has %d audio streams, the first is taken; --stream chooses.", path, stream.streams)
    frames, held = round(stream.seconds * stream.rate) or stream.rate, stream.channels
    return Source(path, stream.rate, held, frames, exact=False, contents=contents, foreign=True, stream=number or 1,
                  held=held, tags=stream.tags)  # fmt: skip


def _check_file(path: Path, contents: Path) -> None:
    """Raises InputError unless the path is a file with something in it that may be read."""
    if contents.is_dir():
        raise InputError(f"'{path}': is a folder. Name a sound file.")
    try:
        size = contents.stat().st_size
        with contents.open("rb"):
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


class _Straight(soundfile.SoundFile):  # type: ignore[misc]
    """A file that is read on and on.

    soundfile seeks after every read of a file that can seek. In an mp3 of variable bit rate the decoder may then lack
    bits that came before, and a block begins with a twentieth of a second of wrong samples.
    """

    def seekable(self) -> bool:
        """Never, so that it does not."""
        return False


def _frames(source: Source) -> Iterator[np.ndarray]:
    """Blocks (time, channel) from frame `first` on where it can be found exactly, otherwise from the start."""
    done = source.first if source.exact else 0
    try:
        with _Straight(native(source.file)) as file:
            if done:
                file.seek(done)
            buffer = np.empty((_BLOCK, source.held), np.float32)
            while len(frames := file.read(out=buffer)):
                done += len(frames)
                yield frames
    except soundfile.SoundFileError:
        raise _damaged(source, done) from None


def _foreign_frames(source: Source) -> Iterator[np.ndarray]:
    """The same through ffmpeg, from the start of the file."""
    for frames in ffmpeg.decoded(source.file, _BLOCK, source.stream):
        if frames.shape[1] != source.held:
            raise InputError(f"'{source.path}': its channels changed while it was read. Convert it to wav or flac.")
        yield frames


def _wanted(source: Source, found: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    """What is wanted of the blocks of a file."""
    at = source.first if source.exact else 0
    last = source.first + source.frames if source.part else None
    for frames in found:
        part = frames[max(source.first - at, 0) : None if last is None else last - at]
        at += len(frames)
        if len(part):
            yield part
        if last is not None and at >= last:
            return


def _damaged(source: Source, at: int) -> InputError:
    whole = (source.first + source.frames) / source.rate
    return InputError(
        f"'{source.path}': damaged after {at / source.rate:.1f} s of {whole:.1f} s. Copy or export it again."
    )


def _finite(block: Tensor, source: Source, done: int, *, sanitize: bool) -> Tensor:
    """The block with zeros for samples that are not finite, or an InputError that says where the first one is."""
    if sanitize:
        return torch.nan_to_num(block, nan=0.0, posinf=0.0, neginf=0.0)
    first = int((~block.isfinite()).any(dim=0).int().argmax())
    raise InputError(
        f"'{source.path}': non-finite samples at {(source.first + done + first) / source.rate:.1f} s. "
        "Repair the file, or give --sanitize to set them to zero."
    )


def _check_end(source: Source, done: int) -> None:
    """An exact format that ends early is damaged; in mp3 and ogg the count is a guess and what was read is right."""
    if done == source.frames:
        return
    if source.exact or done == 0:
        raise _damaged(source, source.first + done)
    if abs(done - source.frames) > source.rate // 10:
        log.warning(
            "'%s': says %.1f s, holds %.1f s; what is there is used.", source.path, source.seconds, done / source.rate
        )


def _bytes_missing(path: Path) -> int:
    """How many bytes of sound the header of a RIFF or RF64 wav promises beyond the end of the file."""
    large = 0
    with path.open("rb") as file:
        if file.read(4) not in (b"RIFF", b"RF64") or len(file.read(8)) < 8:
            return 0
        while len(header := file.read(8)) == 8:
            name, size = struct.unpack("<4sI", header)
            if name == b"data":
                promised = large if size == _ELSEWHERE and large else size if size < _UNKNOWN_SIZE else 0
                return max(0, promised - (path.stat().st_size - file.tell()))
            start = file.tell()
            if name == b"ds64" and len(sizes := file.read(16)) == 16:
                large = struct.unpack("<QQ", sizes)[1]
            file.seek(start + size + size % 2)
    return 0
