"""`stemforge impute --from`: what other songs play beside stems like these."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stemforge.cli.synthesis import Session
from stemforge.errors import UsageError
from stemforge.inference.settings import Sampling
from stemforge.tasks.edit_files import Files
from stemforge.tasks.gather import stem_files
from stemforge.tasks.impute import Wish
from stemforge.tasks.library_files import Found, borrowed, ranked, songs_in

if TYPE_CHECKING:
    from torch import Tensor

STRENGTH = 0.3
BEST = 5
"""Of the songs that are like the kept stems so many are taken in turn, one for each seed."""


@dataclass(frozen=True)
class Loan:
    """What the new stems begin with, how far from it they may go, and what the sidecar says of it."""

    blocks: Iterable[Tensor]
    strength: float
    told: dict[str, Any]


def check(options: dict[str, Any]) -> None:
    """Raises UsageError for what does not go with --from; InputError when it is no library."""
    library, strength = options["library"], options["strength"]
    if library is None:
        return
    if options["sketch"] is not None:
        raise UsageError("--from with --sketch: new stems begin with one of them. Give one.")
    if options["region"]:
        raise UsageError("--from with --region: whole stems are borrowed. Give one of them.")
    Sampling().begun(STRENGTH if strength is None else strength)
    songs_in(library, but="")


def described(options: dict[str, Any]) -> dict[str, Any]:
    """Of the library, for the sidecar: its name, and a sum over the names and sizes of its files."""
    library: Path | None = options["library"]
    if library is None:
        return {}
    files = [f"{path.relative_to(library)} {path.stat().st_size}\n" for song in songs_in(library, "")
             for path in stem_files(song).values()]  # fmt: skip
    return {"library": {"name": library.absolute().name, "sha256": sha256("".join(files).encode()).hexdigest()}}


def lenders(session: Session, given: Files, fill: tuple[str, ...] | None, *, but: str) -> list[Found]:
    """The songs to borrow from, the one that is most alike first; none of them is called `but`."""
    library: Path | None = session.options["library"]
    if library is None:
        return []
    songs, made = songs_in(library, but), Wish(fill).names(session.network, given.names)
    session.report.task(f"looking through {library.name}", len(songs))
    found = ranked(session.network, given, made, songs, on_song=lambda done: session.report.advance(1))
    return found[:BEST]


def loan(session: Session, given: Files, made: tuple[str, ...], found: list[Found], seed: int) -> Loan | None:
    """What a seed borrows; None where nothing is."""
    if not found:
        return None
    one, strength = found[seed % len(found)], session.options["strength"]
    strength = STRENGTH if strength is None else strength
    session.report.note(f"borrowed from {one.song.name} at {one.match.semitones:+d} semitones")
    told = {"song": one.song.name, "alike": round(one.match.alike, 3), "semitones": one.match.semitones,
            "strength": strength}  # fmt: skip
    return Loan(borrowed(session.network, given, one, made), strength, told)
