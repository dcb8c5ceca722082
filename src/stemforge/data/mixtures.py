"""Captioned mixtures out of rendered songs, for a network that learns from mixtures alone.

Each song becomes one sound file, its sections a few bars long: in some the whole band plays, in others a quartet, trio
or duo of it, and in very few a single instrument, as songs have breaks and solos. captions.jsonl says of each section,
in several ways, what is heard; no file holds a stem. A section with one sounding stem is let in only while at most
`solo` of all sections are like that, so the share holds for the whole set, and is 0 where 0 is asked for.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from stemforge.data.captions import captions, scene_of
from stemforge.data.score import RATE
from stemforge.errors import InputError, OutputError, UsageError

FORMATS = ("flac", "wav", "npy")
HEARD = 0.3
"""Share of the seconds of a section in which a stem must sound to be spoken of."""
FADE_IN, FADE_OUT = RATE // 50, RATE // 5
"""Samples after and before the border of two sections."""
CAPTIONS = "captions.jsonl"


@dataclass(frozen=True)
class Wish:
    """section: seconds, about; whole: share of sections in which all play; solo: of those with one stem at most;
    captions: how many a section gets.
    """

    section: float = 12.0
    whole: float = 0.5
    solo: float = 0.05
    captions: int = 4
    seed: int = 0


@dataclass(frozen=True)
class Section:
    """Of a song: start and length in seconds, the stems that play, those that are heard, captions where it counts."""

    start: float
    seconds: float
    stems: tuple[str, ...]
    heard: tuple[str, ...]
    captions: tuple[str, ...] = ()


@dataclass
class Tally:
    """Sections so far: how many there are and how many have one sounding stem."""

    sections: int = 0
    single: int = 0
    sizes: Counter[int] = field(default_factory=Counter)
    whole: int = 0

    def may_be_single(self, share: float) -> bool:
        """Would one more leave their share where it must be?"""
        return self.single + 1 <= share * (self.sections + 1)

    def add(self, section: Section, whole: bool) -> None:
        """One more."""
        self.sections += 1
        self.single += len(section.heard) == 1
        self.sizes[len(section.heard)] += 1
        self.whole += whole


def mix_songs(
    renders: Path,
    out: Path,
    wish: Wish | None = None,
    format: str = "flac",
    on_song: Callable[[float], None] = lambda seconds: None,
) -> dict[str, Any]:
    """Write the captioned mixtures of every song under `renders` into `out`; returns the report that it also writes.

    on_song gets the seconds of each finished song. The same songs and wish give the same files.

    Raises:
        UsageError: impossible values. InputError: no song, or one that cannot be read. OutputError: no place to write.
    """
    wish = wish or Wish()
    _check(wish, format)
    folders = sorted(path.parent for path in renders.glob("*/song.json"))
    if not folders:
        raise InputError(f"songs '{renders}': no song.json in its folders. Give what stemforge data render wrote.")
    tally, lines = Tally(), list[dict[str, Any]]()
    try:
        (out / "audio").mkdir(parents=True, exist_ok=True)
        for folder in folders:
            row = _row(folder)
            sections = arranged(row, wish, tally)
            file = Path("audio") / f"{folder.name}.{format}"
            _write(out / file, mixed(folder, row, sections), format)
            lines += [_line(file, section) for section in sections if section.captions]
            on_song(row["seconds"])
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        (out / CAPTIONS).write_text(text, encoding="utf-8")
        report = _report(lines, tally, wish, len(folders))
        (out / "report.json").write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise OutputError(
            f"cannot write to '{out}': {error.strerror}. Free some space or choose another --out."
        ) from None
    return report


def _check(wish: Wish, format: str) -> None:
    if format not in FORMATS:
        raise UsageError(f"--format {format}: formats are {', '.join(FORMATS)}.")
    if not (0 <= wish.whole <= 1 and 0 <= wish.solo <= 1):
        raise UsageError(f"--whole {wish.whole} and --solo {wish.solo}: are shares, between 0 and 1.")
    if wish.section < 1 or wish.captions < 1:
        raise UsageError(f"--section {wish.section:g} and --captions {wish.captions}: give 1 or more.")


def _row(folder: Path) -> dict[str, Any]:
    """song.json, with what is needed here in it."""
    path = folder / "song.json"
    try:
        row: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        _ = row["seconds"], row["active"], row["song"], [made["parts"] for made in row["stems"].values()]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"song '{path}': cannot be read ({error!r}). Render it again.") from None
    return row


def arranged(row: Mapping[str, Any], wish: Wish, tally: Tally) -> list[Section]:
    """The sections of a song, from its beginning to its end, counted in the tally.

    row: song.json. A section without captions plays as the song does and counts for nothing: it is nearly silent, or
    one more single instrument would be too many.
    """
    rng = np.random.default_rng((wish.seed, int(row["seed"]), int(row["index"])))
    song, seconds = row["song"], float(row["seconds"])
    bar = int(song["beats"]) * 60 / float(song["tempo"]) if "tempo" in song else 1.0
    length = max(1, round(wish.section / bar)) * bar
    starts = np.arange(0, max(seconds - 0.6 * length, 1e-9), length)
    stops = [*starts[1:], seconds]
    return [_section(rng, row, float(a), float(b - a), wish, tally) for a, b in zip(starts, stops, strict=True)]


def _section(
    rng: np.random.Generator, row: Mapping[str, Any], start: float, seconds: float, wish: Wish, tally: Tally
) -> Section:
    span = slice(int(start), max(int(start) + 1, round(start + seconds)))
    everyone = tuple(row["stems"])
    heard = tuple(name for name in everyone if np.mean(row["active"].get(name, [0])[span] or [0]) >= HEARD)
    stems, alone = everyone, tally.may_be_single(wish.solo)
    if len(heard) > 1 and rng.random() >= wish.whole:
        size = 1 if alone and rng.random() < 0.5 else 2 if len(heard) == 2 else int(rng.integers(2, len(heard)))
        chosen = set(rng.permutation(len(heard))[:size])
        heard = tuple(name for k, name in enumerate(heard) if k in chosen)
        stems = heard if size < len(everyone) else everyone
    if not heard or (len(heard) == 1 and not alone):
        return Section(start, seconds, everyone, heard)
    section = Section(start, seconds, stems, heard, captions(rng, scene_of(row, heard), wish.captions))
    tally.add(section, stems == everyone)
    return section


def mixed(folder: Path, row: Mapping[str, Any], sections: list[Section]) -> NDArray[np.int16]:
    """The song as its sections want it: (time, 2) int16, turned down as a whole where it would clip."""
    frames = round(float(row["seconds"]) * RATE)
    total = np.zeros((frames, 2), np.float32)
    for name in row["stems"]:
        sound = _stem(folder, name)[:frames]
        total[: len(sound)] += sound * _envelope(name, sections, frames)[: len(sound), None]
    peak = float(np.abs(total).max(initial=0.0))
    return np.round(total * (min(1.0, 0.99 / max(peak, 1e-9)) * 32767)).astype(np.int16)


def _envelope(name: str, sections: list[Section], frames: int) -> NDArray[np.float32]:
    """1 where the stem plays, 0 where not, with short slopes inside the sections in which it plays."""
    gain = np.zeros(frames, np.float32)
    for k, section in enumerate(sections):
        if name not in section.stems:
            continue
        first = round(section.start * RATE)
        last = frames if k == len(sections) - 1 else round(sections[k + 1].start * RATE)
        gain[first:last] = 1
        if k and name not in sections[k - 1].stems:
            gain[first : first + FADE_IN] = np.linspace(0, 1, FADE_IN)[: last - first]
        if k < len(sections) - 1 and name not in sections[k + 1].stems:
            gain[max(first, last - FADE_OUT) : last] *= np.linspace(1, 0, FADE_OUT)[-(last - first) :]
    return gain


def _stem(folder: Path, name: str) -> NDArray[np.float32]:
    """(time, 2) of a rendered stem."""
    path = next((folder / f"{name}.{end}" for end in FORMATS if (folder / f"{name}.{end}").is_file()), None)
    try:
        if path is None:
            raise ValueError("no such file")
        if path.suffix == ".npy":
            found = np.load(path, allow_pickle=False).astype(np.float32) / np.float32(32768)
        else:
            found = soundfile.read(path, dtype="float32", always_2d=True)[0]
        if found.ndim != 2 or found.shape[1] != 2:
            raise ValueError(f"has the shape {found.shape}")
    except (OSError, ValueError, EOFError, soundfile.SoundFileError) as error:
        raise InputError(f"stem '{folder / name}': cannot be read ({error}). Render the song again.") from None
    return np.asarray(found, np.float32)


def _write(path: Path, sound: NDArray[np.int16], format: str) -> None:
    """The file is there only when it is whole."""
    part = path.with_name(f".{path.name}")
    try:
        if format == "npy":
            with part.open("wb") as file:
                np.save(file, sound)
        else:
            soundfile.write(part, sound, RATE, subtype="PCM_16", format=format.upper())
        part.replace(path)
    except soundfile.SoundFileError as error:
        raise OutputError(f"cannot write '{path}': {error}. Free some space or choose another --out.") from None


def _line(file: Path, section: Section) -> dict[str, Any]:
    return {
        "file": file.as_posix(), "start": round(section.start, 3), "seconds": round(section.seconds, 3),
        "captions": list(section.captions), "heard": list(section.heard),
    }  # fmt: skip


def _report(lines: list[dict[str, Any]], tally: Tally, wish: Wish, songs: int) -> dict[str, Any]:
    """Sections, hours, shares by how many stems are heard, and some of the captions."""
    count = max(tally.sections, 1)
    said = [caption for line in lines for caption in line["captions"]]
    return {
        "songs": songs, "sections": tally.sections, "hours": round(sum(line["seconds"] for line in lines) / 3600, 4),
        "share_single_instrument": round(tally.single / count, 4), "asked_at_most": wish.solo,
        "share_everybody_plays": round(tally.whole / count, 4),
        "share_by_stems_heard": {str(size): round(n / count, 4) for size, n in sorted(tally.sizes.items())},
        "captions": len(said), "different_captions": len(set(said)),
        "examples": said[:: max(1, len(said) // 12)][:12],
    }  # fmt: skip
