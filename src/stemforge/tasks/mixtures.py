"""Whole songs out of folders: mixtures to compare, and given stems beside those that were made for them.

A folder of songs holds one folder a song with one audio file a stem; where there is no stem, `mixture` or `mix` is the
song. A folder of mixtures holds the songs as files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stemforge.audio.io import EXTENSIONS, read
from stemforge.errors import InputError, UsageError
from stemforge.tasks.evaluate import MIXTURES, find_stem, list_songs, list_stems
from stemforge.tasks.score import sum_of_files
from stemforge.types import Audio

_STEMS = frozenset(("bass", "drums", "guitar", "piano", "other", "vocals", "residual"))


@dataclass(frozen=True)
class Sum:
    """A song, or a part of it, as the files that are added up. Read when asked for, since songs are large."""

    name: str
    files: tuple[Path, ...]

    def audio(self) -> Audio:
        """The sum. Raises InputError when a file cannot be read, or the files differ in rate or length."""
        return read(self.files[0]) if len(self.files) == 1 else sum_of_files(self.files)


@dataclass(frozen=True)
class Completion:
    """A song of which some stems were given: those, what was made to go with them, and what the song really has."""

    name: str
    given: tuple[Path, ...]
    made: tuple[Path, ...]
    real: tuple[Path, ...]

    @property
    def completed(self) -> Sum:
        """What was given and what was made, added up."""
        return Sum(self.name, self.given + self.made)

    @property
    def original(self) -> Sum:
        """The song itself: what was given and what it really has."""
        return Sum(self.name, self.given + self.real)


def mixtures(folder: Path, stems: Sequence[str] | None = None) -> list[Sum]:
    """The songs of a folder of songs, or of a folder of mixtures, by name.

    stems: those that are added up; default: all. A song that has none of them is left out.

    Raises:
        InputError: there is no song, or the folder is itself that of one song.
        UsageError: stems of a folder of mixtures are asked for, or some that no song has.
    """
    files = _sounds(folder) if folder.is_dir() else []
    if not files:
        return _songs(folder, stems)
    if len(files) > 1 and {path.stem for path in files} <= _STEMS | set(MIXTURES):
        raise InputError(f"read '{folder}': it is the folder of one song. Give the folder that holds the songs.")
    if stems:
        raise UsageError(f"--stems: '{folder}' holds mixtures, not stems. Leave it out, or give folders of songs.")
    return [Sum(path.stem, (path,)) for path in files]


def completions(ref: Path, est: Path, given: Sequence[str], stems: Sequence[str] | None = None) -> list[Completion]:
    """Each song of `ref` with its given stems, the others from the folder of the same name in `est`, and the real ones.

    stems: those that count; default: every stem of `ref`. A stem that a song of `ref` lacks may be missing in `est`.

    Raises:
        InputError: songs or stems are missing.
        UsageError: `given` has a stem that does not count, or all of them.
    """
    songs = list_songs(ref)
    known = list_stems(songs)
    chosen = tuple(stems or known)
    if unknown := [stem for stem in (*chosen, *given) if stem not in known]:
        raise UsageError(f"evaluate '{ref}': no stem {', '.join(unknown)}. It has {', '.join(known)}.")
    wanted = [stem for stem in chosen if stem not in given]
    if not given or not wanted or not set(given) <= set(chosen):
        raise UsageError(f"--given {','.join(given)}: must be some of {', '.join(chosen)}, and not all of them.")
    if not est.is_dir():
        raise InputError(f"read '{est}': it is not a folder. Give the folder that holds the completed songs.")
    return [_completion(song, est / song.name, given, wanted) for song in songs]


def _completion(song: Path, made: Path, given: Sequence[str], wanted: Sequence[str]) -> Completion:
    if not made.is_dir():
        raise InputError(f"evaluate '{made}': no such folder. Complete every song of the reference.")
    real, found = {stem: find_stem(song, stem) for stem in (*given, *wanted)}, {}
    for stem in wanted:
        found[stem] = find_stem(made, stem)
        if real[stem] and not found[stem]:
            raise InputError(f"evaluate '{made}': no file for '{stem}'. Complete the song, or choose other --stems.")
    parts = ([real[stem] for stem in given], list(found.values()), [real[stem] for stem in wanted])
    sums = [tuple(path for path in paths if path) for paths in parts]
    for paths, what, where in zip(sums, (given, wanted, wanted), (song, made, song), strict=True):
        if not paths:
            raise InputError(f"evaluate '{where}': none of {', '.join(what)} is there. Choose other stems.")
    return Completion(song.name, *sums)


def _songs(folder: Path, stems: Sequence[str] | None) -> list[Sum]:
    songs = list_songs(folder)
    found = []
    for song in songs:
        sounds = _sounds(song)
        parts = [path for path in sounds if path.stem not in MIXTURES]
        if stems:
            parts = [path for path in parts if path.stem in stems]
        elif not parts:
            parts = sounds[:1]
        if parts:
            found.append(Sum(song.name, tuple(parts)))
    if not found and stems:
        raise UsageError(f"evaluate '{folder}': no song has {', '.join(stems)}. Choose other --stems.")
    if not found:
        raise InputError(f"read '{folder}': no audio file in its songs. Put one file a stem into each.")
    return found


def _sounds(folder: Path) -> list[Path]:
    """The audio files in a folder, by name, one of each stem."""
    paths = sorted(path for path in folder.iterdir() if path.suffix[1:].lower() in EXTENSIONS and path.is_file())
    return list({path.stem: path for path in reversed(paths) if not path.name.startswith(".")}.values())[::-1]
