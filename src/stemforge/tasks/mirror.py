"""Songs whose stems go to object storage: each is made in a folder here that looks like the one there.

Before, the folder gets the names of what is there and the sidecar; so what is finished, or foreign, is told as on a
disk. Afterwards the stems go there and the sidecar last. A mark stands there meanwhile: what a stopped run leaves is
told from a finished song, as on a disk.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from stemforge import storage
from stemforge.audio.writer import output_errors
from stemforge.storage import Url
from stemforge.tasks.files import SIDECAR, Place

_MARK = f".{SIDECAR}.upload.part"


@dataclass(frozen=True)
class Mirror:
    """The folder `here` stands for the address `there`."""

    here: Path
    there: Url

    def far(self, folder: Path) -> Url:
        """What a folder below `here` stands for."""
        return Url(self.there / folder.relative_to(self.here))

    def check(self) -> None:
        """Raises OutputError unless files can be written there, UsageError for storage that is not known."""
        storage.put(self.there / _MARK)
        storage.remove(self.there / _MARK)

    def reflect(self, place: Place) -> None:
        """Make the folder of a song: empty files for what is there, and its sidecar. Raises InputError, OutputError."""
        there = self.far(place.folder)
        found = storage.names(there)
        with output_errors(place.folder):
            place.folder.mkdir(parents=True, exist_ok=True)
            for name in found - {place.sidecar}:
                (place.folder / name).touch()
            if place.sidecar in found:
                storage.fetch(there / place.sidecar, place.manifest)

    def publish(self, place: Place) -> None:
        """Bring a finished song there; what is not of it any more is removed there. Raises InputError, OutputError."""
        there = self.far(place.folder)
        before = storage.names(there)
        made = {file.name for file in place.folder.iterdir() if not file.name.startswith(".")}
        storage.put(there / _MARK)
        for name in sorted(made - {place.sidecar}):
            if (place.folder / name).stat().st_size:
                storage.put(there / name, place.folder / name)
        for name in sorted(before - made - {_MARK}):
            storage.remove(there / name)
        storage.put(there / place.sidecar, place.manifest)
        storage.remove(there / _MARK)
