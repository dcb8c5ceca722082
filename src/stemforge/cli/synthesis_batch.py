"""The pieces of one request to generate or to impute, each in a folder of its own.

What the same command has made is skipped, a piece that fails is told and the others are made, two processes do not
meet, and with --json there is one object a piece and a summary: as `stemforge separate` does it with songs.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from stemforge.audio.writer import output_errors, sweep
from stemforge.cli import console, pages
from stemforge.cli.common import exit_code
from stemforge.cli.options import policy
from stemforge.cli.synthesis import Session
from stemforge.errors import (
    CheckpointError,
    DeviceError,
    InputError,
    OutputError,
    SpaceError,
    StemforgeError,
    UsageError,
)
from stemforge.hub import sha256_of
from stemforge.tasks import files
from stemforge.tasks.files import Place
from stemforge.tasks.locks import Lock, LockedError, clear

ON_EXIST = ("skip", "overwrite", "error")

_WHOLE = (UsageError, CheckpointError, DeviceError)  # concern no single piece
_COMMON = (SpaceError, InputError)  # the other pieces would fail in the same way
_NO_MATTER = frozenset(
    ("source", "keep_mix", "prompts_file", "out", "checkpoint", "num_samples", "device", "on_exist", "overwrite",
     "progress", "json", "quiet", "verbose", "format", "flac", "mp3", "ogg", "mp3_bitrate", "int16", "int24", "float32",
     "report_html")
)  # fmt: skip


@dataclass
class Batch:
    """One request: the session, the files that it is made of (label -> path, empty for none), and the tally.

    `sources` is called when the run begins; `name` is what the user called them. `changes` says what the piece
    of a seed has instead of the options of the command.
    """

    session: Session
    sources: Callable[[], Mapping[str, Path]] = dict
    name: str = ""
    changes: Callable[[int], Mapping[str, Any]] = lambda seed: {}
    done: int = 0
    skipped: int = 0
    codes: list[int] = field(default_factory=list)

    def run(self, folders: Mapping[int, Path], make: Callable[[int, Path], None]) -> int:
        """Call `make(seed, folder)` for what is not there yet; the exit code.

        Raises UsageError, CheckpointError and DeviceError, which concern the whole request.
        """
        options, begun = self.session.options, time.monotonic()
        chosen = policy(options["on_exist"], overwrite=options["overwrite"], known=ON_EXIST)
        for seed, folder in folders.items():
            try:
                self.session.asked = self._asked(seed)
                self._one(seed, folder, chosen, make)
            except LockedError as error:
                self._skip(seed, folder, f"{error.owner} is at it")
            except _WHOLE:
                raise
            except StemforgeError as error:
                self._failed(seed, folder, error)
                if isinstance(error, _COMMON):
                    break
        self._summary(begun)
        return self._exit_code()

    def _one(self, seed: int, folder: Path, chosen: str | None, make: Callable[[int, Path], None]) -> None:
        place = Place(folder)
        if place.manifest.exists() and not place.unfinished() and self._is_there(place, chosen):
            clear(place.lock)
            if self.session.options.get("report_html"):
                pages.add(place)
            return self._skip(seed, folder, "already there")
        with output_errors(folder):
            lock = Lock(place.lock).acquire()
        with lock:
            if self._is_there(place, chosen):
                return self._skip(seed, folder, "already there")
            with output_errors(folder):
                sweep(folder)
            make(seed, folder)
        self.done += 1
        return None

    def _is_there(self, place: Place, chosen: str | None) -> bool:
        """True when the same stems are there. Raises OutputError when others are and may not be replaced."""
        has_sidecar = place.manifest.exists()
        ending = self.session.encoding.container
        if place.unfinished() or not (has_sidecar or any(place.folder.glob(f"*.{ending}"))) or chosen == "overwrite":
            return False
        if chosen == "error":
            raise OutputError(f"'{place.folder}': exists. Leave out --on-exist error, or choose another --out.")
        if chosen == "skip" and has_sidecar:
            return True
        wanted = {"checkpoint": {"sha256": self.session.sha256}, **self.session.asked}
        why = files.difference(place, wanted) if has_sidecar else "its files were not made by stemforge"
        if why is None:
            return True
        raise OutputError(f"'{place.folder}': exists, but {why}. Give --overwrite, or choose another --out.")

    def _asked(self, seed: int) -> dict[str, Any]:
        """What the samples depend on beside the checkpoint: the options as they were typed, and the bytes of files."""
        settings = {name: value for name, value in self.session.options.items() if name not in _NO_MATTER}
        settings |= {**self.changes(seed), "seed": seed, "format": self.session.encoding.label}
        asked: dict[str, Any] = {"settings": settings}
        return {**asked, "input": self._input} if self._input else asked

    @cached_property
    def _input(self) -> dict[str, str] | None:
        found = self.sources()
        return {"name": files.as_text(self.name), "sha256": _sum(found)} if found else None

    def _skip(self, seed: int, folder: Path, why: str) -> None:
        self.skipped += 1
        self.session.report.note(f"{folder.name}: {why}")
        if self.session.options["json"]:
            console.result_json("song", status="skipped", folder=str(folder), seed=seed, why=why)
        elif why == "already there":
            console.result(str(folder))

    def _failed(self, seed: int, folder: Path, error: StemforgeError) -> None:
        self.codes.append(error.exit_code)
        self.session.report.error(str(error))
        if self.session.options["json"]:
            told = {"code": error.exit_code, "message": str(error)}
            console.result_json("song", status="failed", folder=str(folder), seed=seed, error=told)

    def _summary(self, begun: float) -> None:
        counts = {"ok": self.done, "skipped": self.skipped, "failed": len(self.codes)}
        if self.session.options["json"]:
            elapsed = round(time.monotonic() - begun, 3)
            console.result_json("summary", **counts, exit_code=self._exit_code(), elapsed_s=elapsed)
        elif self.done + self.skipped + len(self.codes) > 1:
            self.session.report.note(f"{self.done} made, {self.skipped} already there, {len(self.codes)} failed")

    def _exit_code(self) -> int:
        """Of all that was done, there already, or failed."""
        return exit_code(self.codes, self.done + self.skipped)


def _sum(paths: Mapping[str, Path]) -> str:
    """One sha256 for several files and what they are. Raises InputError for one that cannot be read."""
    lines = []
    for label, path in sorted(paths.items()):
        try:
            lines.append(f"{label} {sha256_of(path)}\n")
        except OSError as error:
            raise InputError(
                f"'{path}': cannot be read: {error.strerror}. Check the path and its permissions."
            ) from None
    return hashlib.sha256("".join(lines).encode()).hexdigest()
