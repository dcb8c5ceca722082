"""The page of an edit: what was there before, and every variation, around the regions that were made anew."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from stemforge.report.colours import Colour, colour_of
from stemforge.report.sheet import Lane, Sheet, part_of
from stemforge.report.songs import rows
from stemforge.tasks.edit_files import MIX, Piece, open_song, open_stems
from stemforge.tasks.edit_song import Job
from stemforge.tasks.files import SIDECAR
from stemforge.tasks.regions import Region

BEFORE, CROSS_FADE, REST = "Before", "Cross-fade", "rest"
_HUES = (38.0, 262.0, 142.0, 312.0, 205.0, 5.0, 90.0, 285.0)


def sheet_of(title: str, task: str, job: Job, variations: Mapping[str, Path]) -> Sheet:
    """What the page of an edit shows: the part of the song that was heard and changed, before and after.

    Args:
        title: the name of the song.
        task: inpaint, continue, ...
        job: what was asked for.
        variations: folders of the results, finished, by their names on the page.

    Raises:
        InputError: a result cannot be read.
    """
    piece, spans = job.piece, job.spans
    shown = Region(spans[0].first, spans[-1].last)
    marks = tuple(((r.first - shown.first) / piece.rate, (r.last - shown.first) / piece.rate) for r in job.regions)
    before = CROSS_FADE if task == "transition" else BEFORE
    lanes = _lanes(before, piece, job, shown, marks, colour_of(BEFORE))
    for number, (name, folder) in enumerate(variations.items()):
        after = open_song(_only(folder)) if piece.names == (MIX,) else open_stems(folder, piece.names)
        lanes += _lanes(name, after, job, shown, marks, Colour(_HUES[number % len(_HUES)]))
    facts = json.loads((next(iter(variations.values())) / SIDECAR).read_text(encoding="utf-8"))
    keyed = [_keyed(lane, number) for number, lane in enumerate(lanes)]
    count = "1 variation" if len(variations) == 1 else f"{len(variations)} variations"
    lead = f"{task.capitalize()}, {count} by {facts['recipe']['checkpoint']['name']}"
    return Sheet(title, lead, keyed, shown.length / piece.rate, next(iter(variations)), shown.first / piece.rate,
                 _settings(facts, variations))  # fmt: skip


def _settings(facts: Mapping[str, Any], variations: Mapping[str, Path]) -> list[tuple[str, str]]:
    """What the sidecar of the first variation says; with several of them without what is of one alone."""
    own = {"seed", "elapsed, s", "gain", "peak"} if len(variations) > 1 else set()
    return [(name, value) for name, value in rows(facts) if name not in own]


def _lanes(
    group: str, piece: Piece, job: Job, shown: Region, marks: tuple[tuple[float, float], ...], colour: Colour
) -> list[Lane]:
    """One version: a lane for a song; of stems one for each that was edited, and one for all others together."""

    def lane(name: str, colour: Colour, chosen: list[int]) -> Lane:
        return Lane(name, group, _heard(piece, chosen, shown), piece.rate, piece.channels, colour, marks=marks)

    if piece.names == (MIX,):
        return [lane(group.lower(), colour, [0])]
    edited = [index for index, name in enumerate(piece.names) if name in job.names]
    others = [index for index in range(len(piece.names)) if index not in edited]
    found = [lane(piece.names[index], colour_of(piece.names[index]), [index]) for index in edited]
    return [*found, replace(lane(REST, colour_of(REST), others), marks=())] if others else found


def _heard(piece: Piece, chosen: list[int], shown: Region) -> Callable[[], Iterator[Tensor]]:
    """The sum of some rows of a piece, in a part of it."""
    return lambda: part_of((rows[chosen].sum(dim=0) for rows in piece.stream()), shown.first, shown.last)


def _keyed(lane: Lane, number: int) -> Lane:
    return replace(lane, key=str(number)) if number < 10 else lane


def _only(folder: Path) -> Path:
    """The one sound that a song was edited to."""
    facts = json.loads((folder / SIDECAR).read_text(encoding="utf-8"))
    return folder / str(facts["outputs"][MIX])
