"""What a table of this folder takes of which clone; see add_packs.py, add_voices.py and add_recordings.py."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def entries(table: str, clones: Path, names: list[str]) -> Iterator[tuple[str, dict[str, Any], Path]]:
    """Name, entry and clone of everything in a table (or of what is named) whose clone is there."""
    text = Path(__file__).with_name(table).read_text(encoding="utf-8")
    for name, entry in tomllib.loads(text).items():
        clone = next((path for path in sorted(clones.iterdir()) if path.name.endswith(entry["clone"])), None)
        if clone is not None and (not names or name in names):
            yield name, entry, clone


def files(name: str, entry: dict[str, Any], clone: Path) -> list[Path]:
    """The files of an entry: those that its pattern finds, but what is to be skipped."""
    found = [path for path in sorted(clone.glob(entry["files"])) if path.is_file()]
    chosen = [path for path in found if not re.search(entry.get("skip", "(?!)"), path.name)]
    if not chosen:
        raise SystemExit(f"no files of '{name}' in {clone}: another version of it?")
    return chosen
