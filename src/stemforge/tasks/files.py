"""From a sound file to a folder of stems, with a sidecar that says how it was made.

The sidecar `stemforge.json` is written last: a folder is done when it has one. Its `recipe` holds all that the samples
depend on, so that the same request can be skipped and another one be told apart.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from stemforge import __version__
from stemforge.audio.io import Source, blocks
from stemforge.audio.loudness import Meter
from stemforge.audio.writer import Encoding, StemWriter, Written, output_errors
from stemforge.errors import OutputError
from stemforge.tasks.separate import RESIDUAL, Levels, Selection, all_names, separate_blocks
from stemforge.types import Separator

if TYPE_CHECKING:
    from torch import Tensor

SIDECAR, SCHEMA = "stemforge.json", 1

_NEGLIGIBLE_DB = -100.0

log = logging.getLogger("stemforge")


@dataclass(frozen=True)
class Place:
    """Where a song goes: the folder of its sidecar and of hidden files, the sidecar's name, the path of each stem.

    `file_of` gives the path for (stem, ending); None: `<folder>/<stem>.<ending>`. A sidecar of another name than
    stemforge.json says that other songs have the same folder.
    """

    folder: Path
    sidecar: str = SIDECAR
    file_of: Callable[[str, str], Path] | None = None

    @property
    def prefix(self) -> str:
        """Of hidden files: nothing, or letters that no other song of the folder has."""
        if self.sidecar == SIDECAR:
            return ""
        return hashlib.sha256(os.fsencode(self.sidecar)).hexdigest()[:12] + "."

    @property
    def manifest(self) -> Path:
        """The sidecar; a song is done when it is there and not `mark`."""
        return self.folder / self.sidecar

    @property
    def lock(self) -> Path:
        """Held by the process that works on the song."""
        return self.folder / f".{self.prefix}stemforge.lock"

    @property
    def mark(self) -> Path:
        """There while stems get their names; what the next sidecar is written to first."""
        return self.folder / f".{self.prefix}{SIDECAR}.{os.getpid()}.part"

    @property
    def page(self) -> Path:
        """What --report-html writes."""
        return self.folder / f"{self.sidecar.removesuffix(SIDECAR)}report.html"

    def unfinished(self) -> bool:
        """True when a process was stopped, or is, between the first name and the sidecar."""
        return any(self.folder.glob(f".{self.prefix}{SIDECAR}.*.part"))

    def path(self, stem: str, ending: str) -> Path:
        """The file of a stem."""
        return self.file_of(stem, ending) if self.file_of else self.folder / f"{stem}.{ending}"


@dataclass(frozen=True)
class Outcome:
    """What was written, and how far the stems were from the mixture before the leftover was given to one, in dB.

    `lufs` is the loudness of the mixture where it was asked for and can be measured.
    """

    written: Written
    leftover_db: float
    folder: Path
    lufs: float | None = None

    def as_json(self) -> dict[str, Any]:
        """For sidecars and reports: minus infinity becomes null."""
        leftover = round(self.leftover_db, 2) if math.isfinite(self.leftover_db) else None
        return {
            "outputs": {name: _relative(path, self.folder) for name, path in self.written.files.items()},
            "frames": self.written.frames,
            "gain": self.written.gain,
            "clipped": self.written.clipped,
            "peak": self.written.peak,
            "leftover_db": leftover,
            **({} if self.lufs is None else {"lufs": round(self.lufs, 2)}),
        }


class How(TypedDict, total=False):
    """What can be chosen when a file is separated; see `compute_file`."""

    selection: Selection | None
    encoding: Encoding | None
    clip_mode: str | None
    sanitize: bool
    loudness: float | None
    jobs: int
    on_block: Callable[[float], None]


def separate_file(source: Source, folder: Path | Place, separator: Separator, **how: Unpack[How]) -> Outcome:
    """Separate one file into `folder`; memory does not grow with its length, and a failure leaves nothing behind.

    Arguments and errors as of `compute_file`.
    """
    return compute_file(source, folder, separator, **how).finish()


def compute_file(
    source: Source,
    folder: Path | Place,
    separator: Separator,
    mixture_blocks: Iterable[Tensor] | None = None,
    *,
    selection: Selection | None = None,
    encoding: Encoding | None = None,
    clip_mode: str | None = None,
    sanitize: bool = False,
    loudness: float | None = None,
    jobs: int = 1,
    on_block: Callable[[float], None] = lambda seconds: None,
) -> Unwritten:
    """The part of `separate_file` that needs the network; what comes after it may be done beside the next song.

    Args:
        source: from `stemforge.audio.io.probe`.
        folder: gets one file for each stem, not yet the sidecar; a `Place` puts them elsewhere.
        separator: from `stemforge.load`.
        mixture_blocks: those of the source, when they are read elsewhere.
        selection: which stems are kept.
        encoding: of the files; float32 wav by default.
        clip_mode: see `StemWriter`.
        sanitize: samples that are not finite become zero.
        loudness: LUFS that the sum of all stems shall have, by one gain for all of them.
        jobs: how many stems are encoded at the same time.
        on_block: is told the seconds that each step finished.

    Raises:
        InputError, UsageError, OutputError, DeviceError, StemforgeError: as reading, selecting, writing and running do.
    """
    place = folder if isinstance(folder, Place) else Place(folder)
    encoding, selection, names = encoding or Encoding(), selection or Selection(), all_names(separator.names)
    selection.check(names)
    kept, levels = selection.names(names), Levels()
    mixture_blocks = blocks(source, sanitize=sanitize) if mixture_blocks is None else mixture_blocks
    writer = StemWriter(
        place.folder, kept, source.rate, source.channels, encoding, clip_mode=clip_mode, frames=source.frames,
        files={name: place.path(name, encoding.container) for name in kept}, prefix=place.prefix, jobs=jobs,
        tags=source.tags, adjustable=loudness is not None,
    )  # fmt: skip
    meter = None if loudness is None else Meter(source.rate)
    with ExitStack() as stack:
        stack.enter_context(writer)
        for mixture, stems in separate_blocks(mixture_blocks, source.rate, source.channels, separator, levels):
            writer.write(selection.apply(mixture, stems, names))
            if meter is not None:
                meter.add(mixture)
            on_block(mixture.shape[-1] / source.rate)
        asked = RESIDUAL in (selection.stems or separator.names)
        needless = RESIDUAL in kept and not asked and levels.leftover_db <= _NEGLIGIBLE_DB
        lufs = None if meter is None else meter.integrated()
        if loudness is not None and lufs is None:
            log.warning("'%s': is silent or shorter than 0.4 s, its loudness is left as it is.", source.path)
        gain = 1.0 if loudness is None or lufs is None else 10 ** ((loudness - lufs) / 20)
        stack.pop_all()  # from here on `finish` closes the writer
    return Unwritten(place, writer, (RESIDUAL,) if needless else (), gain, levels.leftover_db, lufs)


@dataclass(frozen=True)
class Unwritten:
    """A song whose samples are complete in hidden files; `finish` makes stems of them, or takes everything back."""

    place: Place
    writer: StemWriter
    drop: tuple[str, ...]
    gain: float
    leftover_db: float
    lufs: float | None

    def finish(self) -> Outcome:
        """The stems under their names, not yet the sidecar. Raises OutputError, SpaceError."""
        with closing(self.writer), naming(self.place):
            written = self.writer.finish(drop=self.drop, gain=self.gain)
        return Outcome(written, self.leftover_db, self.place.folder, self.lufs)


@contextmanager
def naming(place: Place) -> Iterator[None]:
    """Mark a place whose stems get their names while it has no sidecar yet, so that the next run knows after a kill."""
    with output_errors(place.folder):
        place.mark.touch()
        try:
            yield
        except BaseException:
            place.mark.unlink(missing_ok=True)
            raise


def _relative(path: Path, folder: Path) -> str:
    """As a sidecar names a stem: from its own folder, with `/`."""
    return path.relative_to(folder).as_posix()


def recipe(
    path: Path,
    checkpoint: str,
    sha256: str,
    settings: dict[str, Any],
    name: str | None = None,
    vocals: dict[str, str] | None = None,
) -> dict[str, Any]:
    """All that the samples of the stems depend on: the bytes of the input, the weights, the settings.

    `name` stands for the input where `path` is a copy of it. `vocals`: name and sha256 of the checkpoint that took them
    out before, if one did.
    """
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {
        "input": {"name": as_text(name or path.name), "bytes": path.stat().st_size, "sha256": digest},
        "checkpoint": {"name": checkpoint, "sha256": sha256},
        **({} if vocals is None else {"vocals": vocals}),
        "settings": settings,
    }


def as_text(name: str) -> str:
    """A name as a sidecar can hold it: bytes that are no text as escapes."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def difference(folder: Path | Place, wanted: dict[str, Any]) -> str | None:
    """How the finished stems of a folder differ from those of a recipe, in words; None when they are the same.

    Raises:
        OutputError: the sidecar cannot be read.
    """
    place = folder if isinstance(folder, Place) else Place(folder)
    try:
        sidecar = json.loads(place.manifest.read_text(encoding="utf-8"))
        found, outputs = sidecar["recipe"], sidecar["outputs"].values()
        if sidecar["schema"] != SCHEMA:
            return "it was made by another version of stemforge"
        if wanted.get("input") and found["input"]["sha256"] != wanted["input"]["sha256"]:
            return "the input was another one"
        if found["checkpoint"]["sha256"] != wanted["checkpoint"]["sha256"]:
            return f"the checkpoint was {found['checkpoint']['name']} with other weights"
        if found.get("vocals") != wanted.get("vocals"):
            return "its vocals came from elsewhere"
        for key in sorted(wanted["settings"].keys() | found["settings"].keys()):
            before, now = found["settings"].get(key), wanted["settings"].get(key)
            if before != now:
                return f"{key.replace('_', '-')} was {json.dumps(before)} and is now {json.dumps(now)}"
        missing = [name for name in outputs if not (place.folder / name).is_file()]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise OutputError(f"'{place.manifest}': cannot be read. Give --overwrite to write the stems anew.") from None
    return f"{missing[0]} is not there any more" if missing else None


def remove_stale(folder: Path | Place, keep: set[str]) -> None:
    """Remove the files that an older sidecar lists, but for those in `keep`: their stems are no longer what it says.

    A name that leads out of the folder is left alone.
    """
    place = folder if isinstance(folder, Place) else Place(folder)
    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        found = json.loads(place.manifest.read_text(encoding="utf-8"))
        page = [found["report"]] if "report" in found else []
        for name in (*found["outputs"].values(), *page):
            path = PurePosixPath(name)
            if name not in keep and not path.is_absolute() and ".." not in path.parts and "\\" not in name:
                (place.folder / name).unlink(missing_ok=True)


def write_sidecar(folder: Path | Place, contents: dict[str, Any]) -> None:
    """Write the sidecar in one piece; keys in the order given, schema and version first."""
    place = folder if isinstance(folder, Place) else Place(folder)
    text = json.dumps({"schema": SCHEMA, "stemforge": __version__, **contents}, indent=2, allow_nan=False)
    with output_errors(place.folder):
        with place.mark.open("w", encoding="utf-8") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        place.mark.replace(place.manifest)
