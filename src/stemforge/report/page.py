"""A sheet as one HTML file that needs nothing beside it and no network."""

from __future__ import annotations

import base64
import math
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import numpy as np

from stemforge.audio.writer import output_errors
from stemforge.report.pictures import LOWEST_HZ, height_of, outline, painted
from stemforge.report.sheet import Lane, Sheet, View, looked_at
from stemforge.report.sound import bitrate_for

MINUS = "\N{MINUS SIGN}"

_TICKS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1200, 3600)
_MOST_THREADS = 4
_HEADROOM_DB = 3.0
_QUIETEST = 0.02  # what fills a waveform at least


@dataclass(frozen=True)
class _Drawn:
    """A lane as the template takes it."""

    name: str
    group: int
    alone: bool
    key: str
    note: str
    level: str
    light: str
    dark: str
    peaks: str
    rms: str
    columns: int
    spectrogram: str
    bands: list[tuple[str, float]]
    marks: list[tuple[float, float, str]]
    sound: str | None
    file: str | None
    file_name: str


def html(sheet: Sheet, bitrate: int | None = None) -> str:
    """The page; the same sheet gives the same text.

    bitrate: of its sounds in kbit/s; None for the highest with which it can be sent. Raises InputError when a sound
    cannot be read.
    """
    return _rendered("page.html", sheet, bitrate or bitrate_for(sheet.seconds * len(sheet.lanes)), whole=True)


def fragment(sheet: Sheet) -> str:
    """The lanes and their player alone, for a page that has the same style and script.

    Sounds are taken from the files that the lanes name. Raises InputError when a sound cannot be read.
    """
    return _rendered("fragment.html", sheet, None, whole=False)


def _rendered(template: str, sheet: Sheet, bitrate: int | None, *, whole: bool) -> str:
    """A template with what it needs; `whole`: it is a page of its own."""
    from jinja2 import Environment, FileSystemLoader
    from markupsafe import Markup

    folder = Path(__file__).parent
    with ThreadPoolExecutor(min(_MOST_THREADS, os.cpu_count() or 1)) as pool:
        views = list(pool.map(lambda lane: looked_at(lane, sheet.seconds, bitrate), sheet.lanes))
    groups = list(dict.fromkeys(lane.group for lane in sheet.lanes))
    environment = Environment(loader=FileSystemLoader(folder), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return environment.get_template(template).render(
        sheet=sheet,
        clean=_text,
        style=Markup((folder / "page.css").read_text(encoding="utf-8")),
        script=Markup((folder / "page.js").read_text(encoding="utf-8")),
        groups=groups,
        active=groups.index(sheet.group),
        lanes=list(_drawn(sheet, views, groups)),
        linked=bitrate is None and whole,
        bitrate=bitrate,
        ticks=list(_ticks(sheet)),
    )


def write_page(path: Path, text: str) -> None:
    """Write it in one piece. Raises OutputError, SpaceError."""
    with output_errors(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.{os.getpid()}.part")
        try:
            part.write_text(text, encoding="utf-8", errors="backslashreplace")
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)


def clock(seconds: float, digits: int = 0) -> str:
    """As 1:05, or 1:05.25 with digits."""
    scale = 10**digits
    whole = math.floor(seconds * scale + 0.5)
    rest = f"{whole % (60 * scale) / scale:0{2 + (digits + 1 if digits else 0)}.{digits}f}"
    return f"{whole // (60 * scale)}:{rest}"


def _drawn(sheet: Sheet, views: list[View], groups: list[str]) -> Iterator[_Drawn]:
    """All lanes, with scales that they share."""
    scale = max(_QUIETEST, *(view.wave.peak for view in views))
    top = max(float(np.quantile(view.levels, 0.999)) for view in views) + _HEADROOM_DB
    names = [lane.group for lane in sheet.lanes]
    for lane, view in zip(sheet.lanes, views, strict=True):
        wave = view.wave
        yield _Drawn(
            name=lane.name,
            group=groups.index(lane.group),
            alone=names.count(lane.group) == 1,
            key=lane.key,
            note=lane.note,
            level=_level(view),
            light=lane.colour.on_light,
            dark=lane.colour.on_dark,
            peaks=outline(wave.low, wave.high, scale),
            rms=outline(-wave.rms, wave.rms, scale),
            columns=len(wave.low),
            spectrogram=_data("image/webp", painted(view.levels, top, lane.colour)),
            bands=[(f"{hz // 1000}k" if hz >= 1000 else str(hz), 100 * height_of(hz, lane.rate))
                   for hz in (100, 1000, 10000) if LOWEST_HZ < hz < lane.rate / 2],
            marks=[_mark(mark, sheet) for mark in lane.marks],
            sound=_sound(lane, view),
            file=_address(lane),
            file_name=Path(lane.file or "").name,
        )  # fmt: skip


def _sound(lane: Lane, view: View) -> str | None:
    """Where a player finds a lane: in the page, or in the file beside it."""
    if view.sound is not None:
        return _data("audio/mpeg", view.sound)
    return _address(lane)


def _address(lane: Lane) -> str | None:
    return None if lane.file is None else "./" + quote(lane.file, errors="surrogateescape")


def _level(view: View) -> str:
    """Loudness and peak in words."""
    peak = view.wave.peak
    if peak == 0:
        return "silent"
    peak_db = f"peak {_signed(20 * math.log10(peak))} dBFS"
    return peak_db if view.lufs is None else f"{_signed(view.lufs)} LUFS, {peak_db}"


def _signed(value: float) -> str:
    return f"{round(value, 1) + 0.0:.1f}".replace("-", MINUS)


def _mark(mark: tuple[float, float], sheet: Sheet) -> tuple[float, float, str]:
    """Left edge and width of a marked part in percent, and its times in the song."""
    start, stop = (min(max(at, 0.0), sheet.seconds) for at in mark)
    words = f"{clock(sheet.first + start, 2)} to {clock(sheet.first + stop, 2)}"
    return 100 * start / sheet.seconds, 100 * (stop - start) / sheet.seconds, words


def _ticks(sheet: Sheet) -> Iterator[tuple[float, str]]:
    """Round times of the song and their places in percent."""
    step = next((step for step in _TICKS if sheet.seconds / step <= 8), _TICKS[-1])
    digits = 1 if step < 1 else 0
    for number in range(math.ceil(sheet.first / step), math.floor((sheet.first + sheet.seconds) / step) + 1):
        yield 100 * (number * step - sheet.first) / sheet.seconds, clock(number * step, digits)


def _data(kind: str, contents: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(contents).decode()}"


def _text(value: object) -> str:
    """As it can be written in UTF-8: bytes of file names that are no text as escapes."""
    return str(value).encode("utf-8", "backslashreplace").decode("utf-8")
