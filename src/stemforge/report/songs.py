"""The page of a song whose stems are written: what its sidecar lists, beside it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from stemforge.audio.io import Source, blocks, probe
from stemforge.errors import OutputError
from stemforge.report.colours import colour_of
from stemforge.report.page import MINUS, clock, html, write_page
from stemforge.report.sheet import Lane, Sheet, added
from stemforge.tasks.files import Place, write_sidecar

MIX = "mix"
STEMS, ORIGINAL, MIXTURE = "Stems", "Original", "Mixture"

_DONE = {"separate": "Taken apart", "impute": "Completed", "generate": "Generated"}
_UNITS = {"rate": "rate, Hz", "leftover_db": "leftover, dB", "elapsed_s": "elapsed, s", "lufs": "loudness, LUFS"}
_SHOWN = 16  # letters of a sha256


def write(place: Place, original: Source | None = None, *, sanitize: bool = False) -> str:
    """Make the page of a finished song and list it in the sidecar; its name.

    Args:
        place: of the stems; its sidecar is there.
        original: the song that was taken apart, to be heard and seen beside its stems.
        sanitize: samples of it that are not finite are zero.

    Raises:
        InputError: a stem or the original cannot be read.
        OutputError, SpaceError: the sidecar cannot be read, or the page not written.
    """
    facts = _sidecar(place)
    write_page(place.page, html(sheet_of(place, facts, original, sanitize=sanitize)))
    listed(place, place.page.name)
    return place.page.name


def listed(place: Place, name: str) -> None:
    """Name a page in the sidecar as `report`. Raises OutputError."""
    write_sidecar(place, {**_sidecar(place), "report": name})


def sheet_of(
    place: Place, facts: Mapping[str, Any], original: Source | None = None, *, sanitize: bool = False
) -> Sheet:
    """What the page of a finished song shows. Raises InputError when a stem cannot be opened."""
    recipe = facts["recipe"]
    sources = {name: probe(place.folder / path) for name, path in facts["outputs"].items()}
    mixed = sources.pop(MIX, None)
    stems = [_lane(name, source, recipe, facts["outputs"][name], str(number)) for number, (name, source) in
             enumerate(sources.items(), start=1)]  # fmt: skip
    whole: list[Lane] = []
    if original is not None:
        whole = [_whole(ORIGINAL, original, sanitize=sanitize)]
    elif mixed is not None:
        whole = [replace(_whole(MIXTURE, mixed), file=facts["outputs"][MIX])]
    elif len(stems) > 1:
        parts = [lane.blocks for lane in stems]
        whole = [replace(stems[0], name=MIXTURE.lower(), group=MIXTURE, blocks=lambda: added([p() for p in parts]),
                         colour=colour_of("mixture"), key="0", file=None, note="", marks=())]  # fmt: skip
    lanes = [*whole, *(lane if int(lane.key) < 10 else replace(lane, key="") for lane in stems)]
    seconds = max(source.frames / source.rate for source in sources.values())
    return Sheet(_title(recipe, place), _lead(facts, stems, seconds), lanes, seconds, STEMS, settings=rows(facts))


def rows(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What a sidecar says of how it was made, as names and values; what is not set is left out."""
    made = {name: value for name, value in facts.items() if name not in ("schema", "outputs", "recipe", "report")}
    return list(dict.fromkeys(_flat({**facts["recipe"], **made})))


def _flat(found: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    for name, value in found.items():
        words = f"{above}, {name}" if above and above != "settings" else name
        words = _UNITS.get(name, words.replace("_", " "))
        if isinstance(value, dict):
            yield from _flat(value, words)
        elif value is not None and value is not False and value != []:
            yield words, _value(name, value)


def _value(name: str, value: object) -> str:
    if name == "sha256":
        return f"{str(value)[:_SHOWN]}…"
    if isinstance(value, list):
        pairs = value and all(isinstance(part, list) for part in value)
        return ", ".join(" to ".join(_value("", end) for end in part) if pairs else _value("", part) for part in value)
    if isinstance(value, float):
        return f"{value:.6g}".replace("-", MINUS, 1 if value < 0 else 0)
    return "yes" if value is True else str(value)


def _sidecar(place: Place) -> dict[str, Any]:
    try:
        found = json.loads(place.manifest.read_text(encoding="utf-8"))
        _ = found["recipe"], found["outputs"].values()
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise OutputError(f"'{place.manifest}': cannot be read. Give --overwrite to write the stems anew.") from None
    return dict(found)


def _lane(name: str, source: Source, recipe: Mapping[str, Any], path: str, key: str) -> Lane:
    """A stem, with what was kept or made of it."""
    regions = recipe.get("regions")
    marks = regions.get(name, []) if isinstance(regions, dict) else []
    note = "kept" if name in recipe.get("keep", ()) else "new" if name in recipe.get("fill", ()) and not marks else ""
    seconds = source.frames / source.rate
    ends = tuple((start, min(stop, seconds)) for start, stop in marks)
    return Lane(name, STEMS, lambda: blocks(source), source.rate, source.channels, colour_of(name), key, path, note,
                ends)  # fmt: skip


def _whole(name: str, source: Source, *, sanitize: bool = False) -> Lane:
    """A song as it was, or a mixture."""
    return Lane(name.lower(), name, lambda: blocks(source, sanitize=sanitize), source.rate, source.channels,
                colour_of(name), "0")  # fmt: skip


def _title(recipe: Mapping[str, Any], place: Place) -> str:
    """The name of the song."""
    found = recipe.get("input")
    name = found.get("name") if isinstance(found, dict) else found
    return Path(str(name)).stem if name else place.folder.name


def _lead(facts: Mapping[str, Any], stems: list[Lane], seconds: float) -> str:
    """What was done, in a line."""
    recipe, one = facts["recipe"], stems[0]
    what = _DONE.get(recipe.get("task", "separate"), "Made")
    count = "1 stem" if len(stems) == 1 else f"{len(stems)} stems"
    width = "stereo" if one.channels == 2 else "mono"
    name = recipe["checkpoint"]["name"]
    return f"{what} by {name}: {count}, {clock(seconds)}, {one.rate / 1000:g} kHz {width}"
