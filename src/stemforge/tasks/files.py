"""From a sound file to a folder of stems, with a sidecar that says how it was made.

The sidecar `stemforge.json` is written last: a folder is done when it has one. Its `recipe` holds all that the samples
depend on, so that the same request can be skipped and another one be told apart.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stemforge import __version__
from stemforge.audio.io import Source, blocks
from stemforge.audio.writer import Encoding, StemWriter, Written, output_errors
from stemforge.errors import OutputError
from stemforge.tasks.separate import RESIDUAL, Levels, Selection, all_names, separate_blocks
from stemforge.types import Separator

SIDECAR, SCHEMA = "stemforge.json", 1

_NEGLIGIBLE_DB = -100.0


@dataclass(frozen=True)
class Outcome:
    """What was written, and how far the stems were from the mixture before the leftover was given to one, in dB."""

    written: Written
    leftover_db: float

    def as_json(self) -> dict[str, Any]:
        """For sidecars and reports: minus infinity becomes null."""
        leftover = round(self.leftover_db, 2) if math.isfinite(self.leftover_db) else None
        return {
            "outputs": {name: path.name for name, path in self.written.files.items()},
            "frames": self.written.frames,
            "gain": self.written.gain,
            "clipped": self.written.clipped,
            "peak": self.written.peak,
            "leftover_db": leftover,
        }


def separate_file(
    source: Source,
    folder: Path,
    separator: Separator,
    *,
    selection: Selection | None = None,
    encoding: Encoding | None = None,
    clip_mode: str | None = None,
    sanitize: bool = False,
    on_block: Callable[[float], None] = lambda seconds: None,
) -> Outcome:
    """Separate one file into `folder`; memory does not grow with its length, and a failure leaves nothing behind.

    Args:
        source: from `stemforge.audio.io.probe`.
        folder: gets one file for each stem; not yet the sidecar.
        separator: from `stemforge.load`.
        selection: which stems are kept.
        encoding: of the files; float32 wav by default.
        clip_mode: see `StemWriter`.
        sanitize: samples that are not finite become zero.
        on_block: is told the seconds that each step finished.

    Raises:
        InputError, UsageError, OutputError, DeviceError, StemforgeError: as reading, selecting, writing and running do.
    """
    selection, names = selection or Selection(), all_names(separator.names)
    selection.check(names)
    kept, levels = selection.names(names), Levels()
    mixture_blocks = blocks(source, sanitize=sanitize)
    writer = StemWriter(
        folder, kept, source.rate, source.channels, encoding or Encoding(), clip_mode=clip_mode, frames=source.frames
    )
    with writer:
        for mixture, stems in separate_blocks(mixture_blocks, source.rate, source.channels, separator, levels):
            writer.write(selection.apply(mixture, stems, names))
            on_block(mixture.shape[-1] / source.rate)
        asked = RESIDUAL in (selection.stems or ())
        needless = RESIDUAL in kept and not asked and levels.leftover_db <= _NEGLIGIBLE_DB
        with _unfinished(folder):
            return Outcome(writer.finish(drop=(RESIDUAL,) if needless else ()), levels.leftover_db)


@contextmanager
def _unfinished(folder: Path) -> Iterator[None]:
    """Mark a folder whose stems get their names while it has no sidecar yet: `sweep` finds the mark after a kill."""
    with output_errors(folder):
        _hidden(folder).touch()
        try:
            yield
        except BaseException:
            _hidden(folder).unlink(missing_ok=True)
            raise


def _hidden(folder: Path) -> Path:
    return folder / f".{SIDECAR}.{os.getpid()}.part"


def recipe(path: Path, checkpoint: str, sha256: str, settings: dict[str, Any]) -> dict[str, Any]:
    """All that the samples of the stems depend on: the bytes of the input, the weights, the settings."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    name = os.fsencode(path.name).decode("utf-8", "backslashreplace")
    return {
        "input": {"name": name, "bytes": path.stat().st_size, "sha256": digest},
        "checkpoint": {"name": checkpoint, "sha256": sha256},
        "settings": settings,
    }


def difference(folder: Path, wanted: dict[str, Any]) -> str | None:
    """How the finished stems of a folder differ from those of a recipe, in words; None when they are the same.

    Raises:
        OutputError: the folder has no sidecar that can be read.
    """
    try:
        sidecar = json.loads((folder / SIDECAR).read_text(encoding="utf-8"))
        found, outputs = sidecar["recipe"], sidecar["outputs"].values()
        if sidecar["schema"] != SCHEMA:
            return "it was made by another version of stemforge"
        if found["input"]["sha256"] != wanted["input"]["sha256"]:
            return "the input was another one"
        if found["checkpoint"]["sha256"] != wanted["checkpoint"]["sha256"]:
            return f"the checkpoint was {found['checkpoint']['name']} with other weights"
        for key in sorted(wanted["settings"].keys() | found["settings"].keys()):
            before, now = found["settings"].get(key), wanted["settings"].get(key)
            if before != now:
                return f"{key.replace('_', '-')} was {json.dumps(before)} and is now {json.dumps(now)}"
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise OutputError(f"'{folder / SIDECAR}': cannot be read. Give --overwrite to write the stems anew.") from None
    missing = [name for name in outputs if not (folder / name).is_file()]
    return f"{missing[0]} is not there any more" if missing else None


def remove_stale(folder: Path, keep: set[str]) -> None:
    """Remove the files that an older sidecar lists, but for those in `keep`: their stems are no longer what it says."""
    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        outputs = json.loads((folder / SIDECAR).read_text(encoding="utf-8"))["outputs"].values()
        for name in outputs:
            if name == Path(name).name and name not in keep:
                (folder / name).unlink(missing_ok=True)


def write_sidecar(folder: Path, contents: dict[str, Any]) -> None:
    """Write `stemforge.json` in one piece; keys in the order given, schema and version first."""
    hidden = _hidden(folder)
    text = json.dumps({"schema": SCHEMA, "stemforge": __version__, **contents}, indent=2, allow_nan=False)
    with output_errors(folder):
        with hidden.open("w", encoding="utf-8") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        hidden.replace(folder / SIDECAR)
