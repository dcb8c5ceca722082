"""The report of a run: one JSON object a song, on the disk before the next song begins."""

from __future__ import annotations

import json
import os
from pathlib import Path

from stemforge.audio.writer import output_errors
from stemforge.cli.inputs import Item, track_name
from stemforge.errors import InputError


class Ledger:
    """Appends lines to a file; several processes may share it. Raises OutputError when it cannot be written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with output_errors(path, "--report"):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("ab+", buffering=0)

    def add(self, line: str) -> None:
        """One line, in one piece; after the torn line of a run that was killed, on a line of its own."""
        with output_errors(self.path, "--report"):
            size = self._file.seek(0, os.SEEK_END)
            torn = size > 0 and self._file.seek(size - 1) >= 0 and self._file.read(1) != b"\n"
            self._file.write(b"\n" * torn + line.encode() + b"\n")
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """No line comes any more."""
        self._file.close()


def failed_in(report: Path) -> list[Item]:
    """The songs of a report whose last line says that they failed. Raises InputError when it cannot be read."""
    last: dict[str, tuple[str, Item]] = {}
    try:
        lines = report.read_bytes().splitlines()
    except OSError as error:
        raise InputError(f"'{report}': cannot be read: {error.strerror}. Check the name of the report.") from None
    for line in lines:
        try:
            event = json.loads(line)
            name, status = str(event["input"]), str(event["status"])
            path = Path(os.fsdecode(name.encode("utf-8", "surrogateescape")))
            track = Path(*(track_name(part) for part in str(event["track"]).split("/") if part))
        except (ValueError, KeyError, TypeError):
            continue  # a run was killed while it wrote the line
        if track.name:
            last[name] = status, Item(path, track)
    if lines and not last:
        raise InputError(f"'{report}': is no report. Give what --report wrote.")
    return [item for status, item in last.values() if status == "failed"]
