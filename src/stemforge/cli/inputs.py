"""What the arguments of a command mean: files, and folders with all sound files below them."""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from stemforge import storage
from stemforge.errors import InputError, OutputError, StemforgeError
from stemforge.storage import Url

SIDECAR = "stemforge.json"


@dataclass(frozen=True)
class Item:
    """One song: its file, and the relative folder that its stems get."""

    path: Path
    track: Path


@dataclass
class Gathered:
    """Songs in the order of the arguments, arguments that are none, and how many files a walk passed over."""

    items: list[Item] = field(default_factory=list)
    failed: list[tuple[Path, StemforgeError]] = field(default_factory=list)
    ignored: int = 0


def gather(
    inputs: Iterable[Path],
    out: Path,
    extensions: frozenset[str],
    *,
    recursive: bool = True,
    known: Iterable[Item] = (),
) -> Gathered:
    """Songs that the arguments name, each once, and those that are `known`.

    Folders keep their tree; hidden files in them, `out` and finished stems are passed over.
    """
    found = Gathered()
    for path in inputs:
        if isinstance(path, Url):
            _add_far(found, path, out, extensions, recursive=recursive)
            continue
        if not path.is_dir():
            name = "stdin" if str(path) == "-" else track_name(path.stem)
            found.items.append(Item(path, Path(name)))
            continue
        songs = []
        for file in _walk(path, out.resolve(), recursive=recursive):
            if file.suffix[1:].lower() in extensions:
                below = file.relative_to(path).parent.parts
                songs.append(Item(file, Path(*map(track_name, below), track_name(file.stem))))
            else:
                found.ignored += 1
        _add(found, path, songs, extensions)
    found.items = _distinct([*found.items, *known])
    return found


def _add(found: Gathered, folder: Path, songs: list[Item], extensions: frozenset[str]) -> None:
    """The songs of a folder; one without songs is told."""
    if not songs:
        endings = ", ".join(sorted(extensions))
        error = InputError(f"'{folder}': no audio files in it (endings: {endings}). Name the files, or give --ext.")
        found.failed.append((folder, error))
    found.items += songs


def _add_far(found: Gathered, url: Url, out: Path, extensions: frozenset[str], *, recursive: bool) -> None:
    """What an address names: a song, or all songs below it but hidden ones, finished stems and what is in `out`."""
    try:
        files = storage.below(url)
    except StemforgeError as error:
        found.failed.append((url, error))
        return
    if files is None:
        found.items.append(Item(url, Path(track_name(url.stem))))
        return
    songs, stems = [], {file.parent for file in files if file.name == SIDECAR}
    for file in files:
        below = file.relative_to(url).parts
        if file.parent in stems or out in file.parents or any(part.startswith(".") for part in below):
            continue
        if file.suffix[1:].lower() not in extensions:
            found.ignored += 1
        elif recursive or len(below) == 1:
            songs.append(Item(file, Path(*map(track_name, below[:-1]), track_name(file.stem))))
    _add(found, url, songs, extensions)


def _walk(top: Path, out: Path, *, recursive: bool) -> Iterator[Path]:
    """Files below a folder in order of their names; every real folder is entered once, so links cannot loop."""
    seen: set[str] = set()
    stems: set[Path] = set()
    for root, folders, names in os.walk(top, followlinks=True):
        real = os.path.realpath(root)
        if real in seen or SIDECAR in names or (Path(real) == out and root != str(top)):
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith(".")) if recursive else []
        stems.update(path for name in names if name.endswith(f".{SIDECAR}") for path in _outputs(Path(root, name)))
        files = (Path(root, name) for name in sorted(names) if not name.startswith("."))
        yield from (file for file in files if file not in stems and not file.name.endswith(f".{SIDECAR}"))


def _outputs(sidecar: Path) -> list[Path]:
    """The stems that a sidecar lists."""
    try:
        return [sidecar.parent / name for name in json.loads(sidecar.read_bytes())["outputs"].values()]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []


def _distinct(items: list[Item]) -> list[Item]:
    """The items without repetitions; the first of them counts."""
    first: dict[Path, Item] = {}
    for item in items:
        first.setdefault(item.path.absolute(), item)
    return list(first.values())


def track_name(name: str) -> str:
    """The name with `_` for what some system does not allow in a folder: <>:"/|?*, control characters, a last dot."""
    name = re.sub(r'[<>:"/\\|?*\x00-\x1f\x7f]', "_", name)
    return re.sub(r"[ .]+$", lambda match: "_" * len(match[0]), name)


def check_writable(out: Path) -> None:
    """Raises OutputError unless files can be made in `out`, or in the folder where it is going to be made."""
    there = next(parent for parent in (out, *out.absolute().parents) if parent.exists() or parent.is_symlink())
    if not there.is_dir():
        raise OutputError(f"'{out}': '{there}' is a file, not a folder. Choose another --out.")
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise OutputError(f"'{out}': cannot be written: {error.strerror}. Choose another --out.") from None
