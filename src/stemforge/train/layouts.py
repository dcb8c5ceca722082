"""Which files of a folder are which stems: the layouts of data sets that people have.

plain    a folder a song with one file a stem: ours, MUSDB18-HQ (https://sigsep.github.io/datasets/musdb.html), and
         the four classes of MSDM (https://github.com/gladia-research-group/multi-source-diffusion-models)
folders  a folder a song with a folder a stem, whose files are added up: MoisesDB (https://music.ai/research/#datasets)
slakh    TrackNNNNN/stems/*.flac with a metadata.yaml that names the instruments (http://www.slakh.com)
files    for a network of one stem, where nothing is named after it: every sound file is a song of that stem alone

A song has stems under the names of its data set. `Wanted` says which of them make up which stem of a network.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from stemforge.errors import InputError
from stemforge.train.files import SUFFIXES

MIXTURES = frozenset(("mixture", "mix", "master", "full", "instrumental", "accompaniment"))
"""Files of these names are sums of stems, never stems."""

_ALIASES = {
    "vocals": ("vocal", "voice", "lead_vocals", "singing"),
    "drums": ("drum", "percussion"),
    "bass": ("bass_guitar",),
    "guitar": ("guitars",),
    "piano": ("pianos",),
}
_VOICES = frozenset(("vocals", *_ALIASES["vocals"]))
_KNOWN = frozenset((*_ALIASES, *(name for names in _ALIASES.values() for name in names)))
_FOLDERS = _KNOWN | {"other", "other_keys", "other_plucked", "bowed_strings", "strings", "wind", "keys", "synth"}
# of General MIDI
_PROGRAMS = {"piano": range(8), "guitar": range(24, 32), "bass": range(32, 40), "drums": range(128, 129)}
_SPLITS = ("train", "valid", "validation", "test")

log = logging.getLogger("stemforge")


@dataclass(frozen=True)
class SongFiles:
    """One song: files of each stem, by the name that the data set gives it. complete: every instrument has a file."""

    folder: Path
    layout: str
    stems: Mapping[str, tuple[Path, ...]]
    complete: bool = False


@dataclass(frozen=True)
class Wanted:
    """The stems of a network, and which names of the data set make up each.

    Without an entry in `parts` a stem is made of its own name and of common other words for it. `other` also takes the
    voice, and everything else where the data set lists all instruments of a song (Slakh2100, MoisesDB).
    """

    names: tuple[str, ...]
    parts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def of(self, song: SongFiles) -> dict[str, tuple[Path, ...]]:
        """Files of each stem of the network that the song has."""
        found: dict[str, tuple[Path, ...]] = {}
        for label, files in song.stems.items():
            name = self._name(label, complete=song.complete)
            if name is not None:
                found[name] = found.get(name, ()) + files
        return {name: found[name] for name in self.names if name in found}

    def _name(self, label: str, *, complete: bool) -> str | None:
        for name, parts in self.parts.items():
            if label in parts:
                return name
        free = [name for name in self.names if name not in self.parts]
        if label in free:
            return label
        alias = next((name for name in free if label in _ALIASES.get(name, ())), None)
        if alias is None and "other" in free and (complete or label in _VOICES):
            return "other"
        return alias


def find(folder: Path, wanted: Wanted) -> list[SongFiles]:
    """Every song at any depth under `folder`, or `folder` itself, that has a wanted stem, sorted by path.

    Raises:
        InputError: there is no such folder, none is a song, or it holds the splits of a data set side by side.
    """
    if not folder.is_dir():
        raise InputError(f"songs '{folder}': no such folder. Give one with a folder a song.")
    splits = [name for name in _SPLITS if (folder / name).is_dir()]
    if len(splits) > 1:
        raise InputError(
            f"songs '{folder}': holds {' and '.join(splits)} side by side. Give one of them, as '{folder / splits[0]}'."
        )
    songs = list(_walk(folder, wanted, set(), top=True))
    if not songs and len(wanted.names) == 1:
        songs = [SongFiles(path.parent, "files", {wanted.names[0]: (path,)}) for path in _alone(folder, set())]
    if not songs:
        raise InputError(
            f"songs '{folder}': no folder with {', '.join(wanted.names)} in it. Name stems as the network does, "
            "see docs/training.md, or run `stemforge data render` first."
        )
    return songs


def _walk(place: Path, wanted: Wanted, seen: set[Path], *, top: bool = False) -> Iterator[SongFiles]:
    """The song that a folder is, else those below it; each real folder once, and hidden ones never."""
    if (real := place.resolve()) in seen:
        return
    seen.add(real)
    entries = _listed(place)
    files, folders = [p for p in entries if p.is_file()], [p for p in entries if p.is_dir()]
    for song in (_slakh(place, files), _plain(place, files), None if top else _folders(place, folders)):
        if song is not None and wanted.of(song):
            yield song
            return
    for below in folders:
        yield from _walk(below, wanted, seen)


def _listed(place: Path) -> list[Path]:
    try:
        return sorted(path for path in place.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise InputError(f"songs '{place}': cannot be read: {error.strerror}. Check its permissions.") from None


def _alone(place: Path, seen: set[Path]) -> Iterator[Path]:
    """Every sound file at any depth but mixtures; each real folder once, and hidden ones never."""
    if (real := place.resolve()) in seen:
        return
    seen.add(real)
    entries = _listed(place)
    yield from (path for path in _sounds([p for p in entries if p.is_file()]) if _label(path.stem) not in MIXTURES)
    for below in entries:
        if below.is_dir():
            yield from _alone(below, seen)


def _sounds(paths: list[Path]) -> list[Path]:
    return [path for path in paths if path.suffix.lower() in SUFFIXES]


def _plain(place: Path, files: list[Path]) -> SongFiles | None:
    stems: dict[str, tuple[Path, ...]] = {}
    for file in _sounds(files):
        if (label := _label(file.stem)) not in MIXTURES:
            stems.setdefault(label, (file,))
    return SongFiles(place, "plain", stems) if stems else None


def _folders(place: Path, folders: list[Path]) -> SongFiles | None:
    stems: dict[str, tuple[Path, ...]] = {}
    for below in folders:
        label = _label(below.name)
        if label in _FOLDERS and (sounds := _sounds(_listed(below))):
            stems[label] = tuple(sounds)
    return SongFiles(place, "folders", stems, complete=True) if stems else None


def _slakh(place: Path, files: list[Path]) -> SongFiles | None:
    """A track of Slakh2100: the class of each rendered instrument, by name or by its General MIDI program."""
    table = place / "metadata.yaml"
    if table not in files or not (place / "stems").is_dir():
        return None
    import yaml

    try:
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast where it was built
        rows = dict(yaml.load(table.read_text(encoding="utf-8"), loader)["stems"])
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError) as error:
        reason = str(error).splitlines()[0]
        log.warning("'%s': cannot be read (%s); the song is passed over.", table, reason)
        return None
    sounds = {path.stem: path for path in _sounds(_listed(place / "stems"))}
    stems: dict[str, tuple[Path, ...]] = {}
    for key, row in sorted(rows.items()):
        if key in sounds and isinstance(row, dict):
            label = _instrument(row)
            stems[label] = (*stems.get(label, ()), sounds[key])
    return SongFiles(place, "slakh", stems, complete=True)


def _instrument(row: Mapping[str, object]) -> str:
    if row.get("is_drum"):
        return "drums"
    if row.get("inst_class"):
        return _label(str(row["inst_class"]).removesuffix("(continued)").strip())
    program = row.get("program_num")
    return next((name for name, range_ in _PROGRAMS.items() if program in range_), "other")


def _label(name: str) -> str:
    """Lower case with underscores, the way stems are named."""
    return name.strip().lower().replace(" ", "_").replace("-", "_")
