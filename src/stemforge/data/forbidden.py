"""Songs and sounds that must never be trained on: the material of the tests. Refused by name and by sha256."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

from stemforge.errors import InputError


@dataclass(frozen=True)
class Forbidden:
    """words: in any path, letters and digits only; songs: names of MIDI files likewise; hashes: sha256 -> what."""

    words: tuple[str, ...]
    songs: frozenset[str]
    hashes: dict[str, str]


@cache
def forbidden() -> Forbidden:
    """The list that comes with the package."""
    table = json.loads(files("stemforge.data").joinpath("forbidden.json").read_text(encoding="utf-8"))
    return Forbidden(tuple(table["words"]), frozenset(table["songs"]), dict(table["sha256"]))


def plain(name: str) -> str:
    """Lower-case letters and digits of a name."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def refuse_forbidden(assets: Path) -> None:
    """Look at every file under `assets`. Errors: InputError that names the first forbidden file."""
    listed = forbidden()
    for path in sorted(path for path in assets.rglob("*") if path.is_file()):
        reason = _reason(path, path.relative_to(assets), listed)
        if reason:
            raise InputError(f"refused '{path}': {reason}, which is test material. Remove it from the assets folder.")


def _reason(path: Path, inside: Path, listed: Forbidden) -> str | None:
    name = plain(str(inside))
    word = next((word for word in listed.words if word in name), None)
    if word:
        return f"its name says '{word}'"
    if path.suffix.lower() in (".mid", ".midi") and plain(path.stem) in listed.songs:
        return "its name is that of a simutrans or OpenMSX song"
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return f"it is {listed.hashes[digest]}" if digest in listed.hashes else None
