"""Stems out: block by block into hidden files, then all at once under their names.

Samples go to float32 files beside the target while their peak is followed. Formats with less range are made from these
in a second pass with one gain for all stems, so that they still sum. A stem gets its name only when every stem is
complete, on the disk and verified.
"""

from __future__ import annotations

import glob
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np
import soundfile
import torch
from torch import Tensor

from stemforge.audio.io import native
from stemforge.errors import OutputError, SpaceError, UsageError
from stemforge.types import Stems

CONTAINERS = ("wav", "flac", "mp3", "ogg", "opus")
CLIP_MODES = ("rescale", "clamp", "none")
BITRATES = (64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
"""kbit/s of an mp3. Below 64 the encoder changes the sample rate, and with it the length."""

TAGS = ("title", "artist", "album", "date", "genre", "tracknumber", "copyright", "license")
OPUS_RATES = (8000, 12000, 16000, 24000, 48000)

_DEPTHS = {"int16": 16, "int24": 24}
_BLOCK = 1 << 16
_WAV_LIMIT = (1 << 32) - (1 << 16)
_LITTLE_SPACE = 1 << 21
_PLAIN = re.compile(r"[^/\\:\x00-\x1f.][^/\\:\x00-\x1f]*")
_PART = re.compile(r"\..+\.\d+\.part")


@dataclass(frozen=True)
class Encoding:
    """How samples are kept: a container of CONTAINERS, bits of an integer (None: float or lossy), kbit/s of an mp3."""

    container: str = "wav"
    bits: int | None = None
    bitrate: int | None = None

    @property
    def full_scale(self) -> float:
        """Largest sample that is kept as it is."""
        return 1 - 2.0 ** (1 - self.bits) if self.bits else 1.0

    @property
    def is_float(self) -> bool:
        """True when samples of any size are kept."""
        return self.container == "wav" and self.bits is None

    @property
    def label(self) -> str:
        """As in `wav float32`, `flac int24`, `mp3 320`."""
        if self.bits or self.container == "wav":
            return f"{self.container} {f'int{self.bits}' if self.bits else 'float32'}"
        return f"{self.container} {self.bitrate}" if self.bitrate else self.container


def encoding(container: str = "wav", depth: str | None = None, bitrate: int = 320) -> Encoding:
    """The encoding of that container; `depth` is int16, int24, float32 or None for the best that the container has.

    Raises:
        UsageError: there is no such container, depth or bit rate, or they do not go together.
    """
    if container not in CONTAINERS:
        raise UsageError(f"format '{container}': unknown. Give one of {', '.join(CONTAINERS)}.")
    if depth not in (None, "float32", *_DEPTHS):
        raise UsageError(f"depth '{depth}': unknown. Give int16, int24 or float32.")
    if container in ("mp3", "ogg", "opus"):
        if depth:
            raise UsageError(f"--{depth} with {container}: it has no sample depth. Leave --{depth} out.")
        if container == "mp3" and bitrate not in BITRATES:
            raise UsageError(f"mp3 bit rate {bitrate}: not one of {', '.join(map(str, BITRATES))} kbit/s.")
        return Encoding(container, bitrate=bitrate if container == "mp3" else None)
    if container == "flac" and depth == "float32":
        raise UsageError("--float32 with flac: flac holds integers only. Use --int24, or wav.")
    return Encoding(container, _DEPTHS.get(depth or ("int24" if container == "flac" else "float32")))


@dataclass(frozen=True)
class Written:
    """What became of the stems: file of each name, the one gain they share, their common peak before it, frames."""

    files: dict[str, Path]
    gain: float
    peak: float
    clipped: bool
    frames: int


class StemWriter:
    """Context manager that takes stem blocks and leaves complete files, or nothing at all.

    Args:
        folder: where `<name>.<container>` come to be; made when it is not there, and removed again after a failure.
        names: of the stems, each a file name without its ending.
        rate: Hz.
        channels: of every stem.
        encoding: of the files.
        clip_mode: what happens to samples beyond full scale: `rescale` turns all stems down by one gain, `clamp` cuts,
            `none` keeps them where the encoding can; None is `none` for float and `rescale` otherwise.
        frames: how many are expected; chooses RF64 for files beyond 4 GB.
        files: path of each stem, when it is another one than above.
        prefix: of hidden files, so that several songs can have one folder.
        jobs: how many stems are encoded at the same time.
        tags: of the song, of which TAGS are kept; the stem is put behind the title.
        adjustable: whether `finish` may be given a gain; floats take a second pass then.

    Raises:
        UsageError: the encoding cannot hold this rate, or the clip mode is unknown.
        OutputError: something cannot be written, or another process writes here.
        SpaceError: the disk is full.
    """

    def __init__(
        self,
        folder: Path,
        names: tuple[str, ...],
        rate: int,
        channels: int,
        encoding: Encoding,
        *,
        clip_mode: str | None = None,
        frames: int = 0,
        files: Mapping[str, Path] | None = None,
        prefix: str = "",
        jobs: int = 1,
        tags: Mapping[str, str] | None = None,
        adjustable: bool = False,
    ) -> None:
        if clip_mode is not None and clip_mode not in CLIP_MODES:
            raise UsageError(f"clip mode '{clip_mode}': unknown. Give one of {', '.join(CLIP_MODES)}.")
        if encoding.container == "mp3" and rate > 48000:
            raise UsageError(f"mp3 at {rate} Hz: mp3 ends at 48000 Hz. Write wav or flac.")
        if encoding.container == "opus" and rate not in OPUS_RATES:
            raise UsageError(f"opus at {rate} Hz: opus has {', '.join(map(str, OPUS_RATES))} Hz only. Write ogg.")
        for name in names:
            if not _PLAIN.fullmatch(name):
                raise OutputError(f"stem '{name}': cannot be the name of a file. Use another checkpoint.")
        self.folder, self.names, self.rate, self.channels = folder, names, rate, channels
        self.encoding, self.clip_mode = encoding, clip_mode or ("none" if encoding.is_float else "rescale")
        self._direct = encoding.is_float and self.clip_mode == "none" and not adjustable
        self._large = 4 * frames * channels >= _WAV_LIMIT
        self._files: dict[str, soundfile.SoundFile] = {}
        self._peak, self._frames, self._complete, self._cancelled = 0.0, 0, False, False
        self._made: list[Path] = []
        self._targets = files or {name: folder / f"{name}.{encoding.container}" for name in names}
        self._prefix, self._jobs = prefix, jobs
        self._tags = {name: _tag(tags[name], encoding) for name in TAGS if tags and name in tags}

    def __enter__(self) -> StemWriter:
        try:
            with output_errors(self.folder):
                self._make(self.folder)
                for name in self.names:
                    kind = "WAV" if self._direct and not self._large else "RF64"
                    self._files[name] = self._create(self._hidden(name), kind, "FLOAT", name if self._direct else None)
        except BaseException:
            self._discard()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Take everything back, unless `finish` came to its end."""
        if not self._complete:
            self._discard()

    def cancel(self) -> None:
        """Make a `finish` in another thread give up soon; it raises CancelledError."""
        self._cancelled = True

    def write(self, stems: Tensor) -> None:
        """Append a block (stem, channel, time), float32 and finite, in the order of `names`."""
        if not stems.isfinite().all():
            raise ValueError("samples that are not finite are never written")
        if stems.shape[-1] == 0:
            return
        self._peak = max(self._peak, float(stems.abs().max()))
        self._frames += stems.shape[-1]
        with output_errors(self.folder):
            for name, stem in zip(self.names, stems, strict=True):
                self._files[name].write(np.ascontiguousarray(stem.T.numpy()))

    def finish(self, drop: tuple[str, ...] = (), gain: float = 1.0) -> Written:
        """Encode, verify and name the files of all stems but those to `drop`, with one gain for all."""
        names = [name for name in self.names if name not in drop]
        limit = self.encoding.full_scale
        clipped = self._peak * gain > limit
        gain = limit / self._peak if clipped and self.clip_mode == "rescale" else gain
        with output_errors(self.folder):
            for file in self._files.values():
                file.close()
            with ThreadPoolExecutor(self._jobs) as pool:
                try:
                    ready = dict(zip(names, pool.map(lambda name: self._ready(name, gain), names), strict=True))
                except BaseException:
                    self.cancel()
                    raise
            files = {name: self._targets[name] for name in names}
            for name, path in ready.items():
                self._make(files[name].parent)
                path.replace(files[name])
            self._complete = True
            self._remove_hidden()
        return Written(files, gain, self._peak, clipped, self._frames)

    def _ready(self, name: str, gain: float) -> Path:
        """The hidden file of one stem as it will be named: encoded, on the disk and with all frames."""
        path = self._hidden(name)
        if not self._direct:
            path = self._encoded(name, gain)
        if self._direct and not self._large:
            _still_clock(path)
        with path.open("rb+") as file:
            os.fsync(file.fileno())
        with soundfile.SoundFile(native(path)) as file:
            if file.frames != self._frames:
                raise OutputError(f"'{path}': {file.frames} of {self._frames} frames arrived. Check the disk.")
        return path

    def _encoded(self, name: str, gain: float) -> Path:
        """A second hidden file with the samples of the first times `gain`, in the encoding asked for."""
        code, path = self.encoding, self._hidden(name + ".2")
        subtype = {"mp3": "MPEG_LAYER_III", "ogg": "VORBIS", "opus": "OPUS"}.get(code.container)
        subtype = subtype or (f"PCM_{code.bits}" if code.bits else "FLOAT")
        container = "OGG" if code.container == "opus" else code.container.upper()
        if container == "WAV" and self._frames * self.channels * (code.bits or 32) // 8 >= _WAV_LIMIT:
            container = "RF64"
        source = soundfile.SoundFile(native(self._hidden(name)))
        with source, self._create(path, container, subtype, name) as target:
            while len(block := source.read(_BLOCK, dtype="float32", always_2d=True)):
                if self._cancelled:
                    raise CancelledError
                target.write(_quantised(block * np.float32(gain), code, clamp=self.clip_mode != "none"))
        if container == "WAV" and not code.bits:
            _still_clock(path)
        self._hidden(name).unlink()
        return path

    def _create(self, path: Path, container: str, subtype: str, stem: str | None) -> soundfile.SoundFile:
        """A new sound file open for writing, with tags if it is what a stem will be."""
        options: dict[str, object] = {}
        if container == "MP3" and self.encoding.bitrate:
            top, bottom = (320, 32) if self.rate >= 32000 else (160, 8) if self.rate >= 16000 else (64, 8)
            level = (top - min(self.encoding.bitrate, top)) / (top - bottom)
            options = {"bitrate_mode": "CONSTANT", "compression_level": level}
        file = soundfile.SoundFile(
            native(path), "w", self.rate, self.channels, format=container, subtype=subtype, **options
        )
        for name, text in self._tags.items() if stem is not None else ():
            if text:
                setattr(file, name, f"{text} ({stem})" if name == "title" else text)
        return file

    def _hidden(self, name: str) -> Path:
        return self.folder / f".{self._prefix}{name}.{os.getpid()}.part"

    def _make(self, folder: Path) -> None:
        """Make a folder, and keep in mind what was made, deepest first."""
        made = [parent for parent in (folder, *folder.parents) if not parent.exists()]
        self._made = made + self._made
        folder.mkdir(parents=True, exist_ok=True)

    def _remove_hidden(self) -> None:
        for name in self.names:
            for path in (self._hidden(name), self._hidden(name + ".2")):
                path.unlink(missing_ok=True)

    def _discard(self) -> None:
        """Take back everything that was made, as far as it can be."""
        for file in self._files.values():
            with suppress(soundfile.SoundFileError, OSError):
                file.close()
        with suppress(OSError):
            self._remove_hidden()
            for folder in self._made:
                with suppress(FileNotFoundError):
                    folder.rmdir()


def write(stems: Stems, folder: Path | str, encoding: Encoding | None = None, clip_mode: str | None = None) -> Written:
    """Write stems in memory as `<folder>/<name>.wav`, or in another encoding; raises as StemWriter does."""
    names, samples = stems.names, stems.samples
    with StemWriter(
        Path(folder),
        names,
        stems.rate,
        samples.shape[1],
        encoding or Encoding(),
        clip_mode=clip_mode,
        frames=samples.shape[-1],
    ) as writer:
        for block in torch.split(samples, _BLOCK, dim=-1):
            writer.write(block)
        return writer.finish()


def sweep(folder: Path, prefix: str = "") -> list[str]:
    """Remove what a killed process left half-written in a folder; the names of these hidden files.

    Only for the one that holds the lock of this folder, or of the song with this prefix.
    """
    found = [path for path in folder.glob(f".{glob.escape(prefix)}*.part") if _PART.fullmatch(path.name)]
    for path in found:
        path.unlink(missing_ok=True)
    return [path.name for path in found]


def _tag(text: str, code: Encoding) -> str:
    """A tag as it can be written: short, one line; only ASCII in an mp3, whose encoder takes bytes for Latin-1."""
    text = "".join(letter for letter in text if letter.isprintable())[:200]
    return "" if code.container == "mp3" and not text.isascii() else text


def _quantised(block: np.ndarray, code: Encoding, *, clamp: bool) -> np.ndarray:
    """Samples as the file will hold them: integers rounded to nearest and saturated, floats as they are."""
    if code.bits is None:
        return np.clip(block, -1.0, 1.0) if clamp else block
    top = 1 << (code.bits - 1)
    whole = np.clip(np.rint(block.astype(np.float64) * top), -top, top - 1).astype(np.int32)
    return whole.astype(np.int16) if code.bits == 16 else whole << (32 - code.bits)


def _still_clock(path: Path) -> None:
    """Zero the time of day that libsndfile puts into the PEAK chunk of a float wav, so that equal sounds are equal."""
    with path.open("rb+") as file:
        at = file.read(1 << 14).find(b"PEAK")
        if at >= 0:
            file.seek(at + 12)
            file.write(bytes(4))


@contextmanager
def output_errors(folder: Path, option: str = "--out") -> Iterator[None]:
    """Failures to write become one line that names the folder, the reason, and the option that leads elsewhere."""
    try:
        yield
    except (OSError, soundfile.SoundFileError, AssertionError) as error:
        if _is_full(folder, error):
            raise SpaceError(
                f"'{folder}': no space left on the disk. Free some, then run the same command again; "
                "finished songs are kept."
            ) from error
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error) or "a write failed"
        raise OutputError(f"'{folder}': cannot be written: {reason}. Choose another {option}.") from error


def _is_full(folder: Path, error: BaseException) -> bool:
    """libsndfile hides the reason of a failed write, so the space that is left is looked at too."""
    if isinstance(error, OSError) and error.errno is not None:
        return os.strerror(error.errno) in (os.strerror(28), os.strerror(122))
    there = next((parent for parent in (folder, *folder.parents) if parent.exists()), Path())
    return "space" in str(error).lower() or shutil.disk_usage(there).free < _LITTLE_SPACE
