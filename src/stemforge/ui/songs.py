"""Songs that were dropped on the page, and what was made of them: folders below one that does not stay."""

from __future__ import annotations

import json
import logging
import re
import secrets
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from zipfile import ZIP_STORED, ZipFile, ZipInfo

from stemforge.audio.io import Source, blocks, probe
from stemforge.audio.writer import Encoding, StemWriter, output_errors
from stemforge.errors import InputError, UsageError
from stemforge.report.colours import colour_of
from stemforge.report.page import clock, fragment
from stemforge.report.sheet import Lane, Sheet
from stemforge.report.songs import MIX, ORIGINAL, sheet_of
from stemforge.tasks.files import SIDECAR, Place

MOST_SECONDS = 3600.0
"""Of one song: what is decoded has a gigabyte an hour, and so has each of its stems."""

AS_IT_WAS = "original.wav"
VIEW = "view.html"

_PART = 1 << 18


log = logging.getLogger("stemforge")


class GoneError(UsageError):
    """A song, version, file or job is not here, or not any more."""


def clean(name: str) -> str:
    """The name of a file as it can be that of a folder in a zip: no path, nothing that some system does not allow."""
    return re.sub(r'[<>:"/\\|?*\x00-\x1f\x7f]', "_", name).strip(" .") or "song"


@dataclass(frozen=True)
class Version:
    """What was made of a song: its stems in a folder with a sidecar. Number 0 is the song as it was, without stems.

    outputs: names of files by stem; `mix` among them where it was written.
    """

    number: int
    title: str
    folder: Path
    outputs: dict[str, str] = field(default_factory=dict)

    @property
    def stems(self) -> tuple[str, ...]:
        """Their names."""
        return tuple(name for name in self.outputs if name != MIX)

    def file(self, name: str) -> Path:
        """One of its files, by a name that it has. Raises GoneError for every other."""
        known = (*self.outputs.values(), SIDECAR) if self.number else (AS_IT_WAS,)
        if name not in known:
            raise GoneError(f"'{name}': is not among the files of this version.")
        return self.folder / name


@dataclass
class Song:
    """A song by the name it came with, decoded to a wav, and its versions in the order of their numbers.

    notes: what was odd about its file.
    """

    id: str
    name: str
    folder: Path
    source: Source
    notes: tuple[str, ...] = ()
    versions: list[Version] = field(default_factory=list)

    def version(self, number: int) -> Version:
        """The version of that number. Raises GoneError."""
        if not 0 <= number < len(self.versions):
            raise GoneError(f"version {number} of '{self.name}': is not there. Load the page again.")
        return self.versions[number]

    def add(self, title: str, folder: Path) -> Version:
        """List a folder with stems and sidecar as the next version, drawn. Raises InputError: it cannot be read."""
        facts = json.loads((folder / SIDECAR).read_text(encoding="utf-8"))
        version = Version(len(self.versions), title, folder, dict(facts["outputs"]))
        sheet = sheet_of(Place(folder), facts, self.source)
        was = f"{self._address(self.versions[0])}/{AS_IT_WAS}"
        files = [f"{self._address(version)}/{lane.file}" if lane.file else was for lane in sheet.lanes]
        lanes = [replace(lane, file=file) for lane, file in zip(sheet.lanes, files, strict=True)]
        return self._listed(version, replace(sheet, lanes=lanes))

    def add_original(self) -> Version:
        """List the song as it was. Raises as `add` does."""
        version, source = Version(0, ORIGINAL, self.folder / "0"), self.source
        lane = Lane(ORIGINAL.lower(), ORIGINAL, lambda: blocks(source, again=True), source.rate, source.channels,
                    colour_of(ORIGINAL), "0", f"{self._address(version)}/{AS_IT_WAS}")  # fmt: skip
        width = "stereo" if source.channels == 2 else "mono"
        lead = f"As it was: {clock(source.seconds)}, {source.rate / 1000:g} kHz {width}"
        return self._listed(version, Sheet(self.name, lead, [lane], source.seconds, ORIGINAL))

    def _listed(self, version: Version, sheet: Sheet) -> Version:
        (version.folder / VIEW).write_text(fragment(sheet), encoding="utf-8")
        self.versions.append(version)
        return version

    def _address(self, version: Version) -> str:
        return f"songs/{self.id}/{version.number}"


class Shelf:
    """All songs of one server, below a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._songs: dict[str, Song] = {}

    @property
    def songs(self) -> tuple[Song, ...]:
        """The oldest first."""
        return tuple(self._songs.values())

    def song(self, id: str) -> Song:
        """The song of that id. Raises GoneError."""
        if id not in self._songs:
            raise GoneError("this song is not here any more. Drop it again.")
        return self._songs[id]

    @contextmanager
    def incoming(self, name: str) -> Iterator[Path]:
        """A file for a song that is being sent, gone at the end; only the ending of its name is kept."""
        ending = "".join(letter for letter in Path(name).suffix[1:9] if letter.isascii() and letter.isalnum())
        path = self._folder / f"{secrets.token_hex(8)}.{ending}"
        try:
            with output_errors(self._folder):
                yield path
        finally:
            path.unlink(missing_ok=True)

    def add(self, path: Path, name: str) -> Song:
        """Decode the song in a file, draw it and list it.

        Args:
            path: the file.
            name: what it is called on the page, in its files and in messages.

        Raises:
            InputError: it is not sound, damaged at some place, or too long; the message has its name, not the path.
            OutputError, SpaceError: there is no room for it.
        """
        id = secrets.token_hex(8)
        try:
            with _warnings() as said:
                source = probe(path, channels="downmix")
                if source.seconds > MOST_SECONDS:
                    most = f"{MOST_SECONDS / 60:g} minutes"
                    raise InputError(
                        f"'{path}': lasts {clock(source.seconds)}, more than {most}. Use `stemforge separate` for it."
                    )
                decoded = self._decoded(source, self._folder / id / "0")
            notes = tuple(text.replace(str(path), name) for text in said)
            song = Song(id, Path(name).stem, self._folder / id, decoded, notes)
            song.add_original()
        except InputError as error:
            shutil.rmtree(self._folder / id, ignore_errors=True)
            raise InputError(str(error).replace(str(path), name)) from None
        self._songs[id] = song
        return song

    def remove(self, id: str) -> None:
        """Forget a song and remove its files. Raises GoneError."""
        shutil.rmtree(self.song(id).folder, ignore_errors=True)
        del self._songs[id]

    def _decoded(self, source: Source, folder: Path) -> Source:
        """The whole song as float32 wav, so that what is damaged is found now, and a browser can play it."""
        name = AS_IT_WAS.removesuffix(".wav")
        with StemWriter(folder, (name,), source.rate, source.channels, Encoding(), frames=source.frames) as writer:
            for block in blocks(source):
                writer.write(block[None])
            writer.finish()
        return probe(folder / AS_IT_WAS)


@contextmanager
def _warnings() -> Iterator[list[str]]:
    """What the library warns of in this thread."""
    said: list[str] = []
    thread = threading.get_ident()

    class Heard(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.thread == thread:
                said.append(record.getMessage())

    handler = Heard(logging.WARNING)
    log.addHandler(handler)
    try:
        yield said
    finally:
        log.removeHandler(handler)


class _Pipe:
    """A file that only goes forward: what was written since it was last emptied."""

    def __init__(self) -> None:
        self._held = bytearray()

    def write(self, part: bytes) -> int:
        self._held += part
        return len(part)

    def flush(self) -> None: ...

    def close(self) -> None: ...

    def emptied(self) -> bytes:
        taken, self._held = bytes(self._held), bytearray()
        return taken


def zipped(song: Song, version: Version) -> Iterator[bytes]:
    """A zip of the stems of a version, with its sidecar, in parts; it is never in memory as a whole."""
    pipe = _Pipe()
    with ZipFile(pipe, "w", ZIP_STORED) as archive:
        for name in (*version.outputs.values(), SIDECAR):
            info = ZipInfo(f"{song.name}/{name}", (1980, 1, 1, 0, 0, 0))
            info.file_size = (version.folder / name).stat().st_size
            with (version.folder / name).open("rb") as file, archive.open(info, "w") as target:
                while part := file.read(_PART):
                    target.write(part)
                    yield pipe.emptied()
    yield pipe.emptied()
