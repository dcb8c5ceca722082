"""MMA (Musical MIDI Accompaniment, https://www.mellowood.ca/mma/): a chord chart in, a band out.

MMA is a program of its own (Debian package `mma`); it is run as a process and only its MIDI output is used.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import mido
import numpy as np

from stemforge.data.harmony import Bar, Plan
from stemforge.data.midi import stem_of
from stemforge.data.score import DRUM_CHANNEL, Note, Part

LIBRARIES = (Path("/usr/share/mma/lib"), Path("/usr/local/share/mma/lib"))
"""Where the package puts the grooves; MMA itself finds them only there."""
HELD_OUT_FAMILIES = (
    "stdlib/softrock", "stdlib/popballad", "stdlib/folkrock", "stdlib/jazzguitar", "stdlib/samba",
    "stdlib/countryblues",
    "casio/16beat2", "casio/8beatballad2", "kara/Kfunk1", "stdlib/rockwaltz", "stdlib/arpeggio68",
)  # fmt: skip
"""Families that only validation songs use."""


@dataclass(frozen=True)
class Family:
    """Grooves that belong together: one file of the library, its beats a bar, and its grooves by use."""

    name: str
    beats: int
    body: tuple[str, ...]
    intro: tuple[str, ...]
    fill: tuple[str, ...]


def available() -> bool:
    """Is the program `mma` here, with its library?"""
    return shutil.which("mma") is not None and any(path.is_dir() for path in LIBRARIES)


@cache
def families() -> tuple[Family, ...]:
    """All groove families of the installed MMA, sorted by name; empty where MMA is not installed."""
    root = next((path for path in LIBRARIES if path.is_dir()), None)
    if root is None or not available():
        return ()
    found = [_family(path, root) for path in sorted(root.glob("*/*.mma"))]
    return tuple(family for family in found if family is not None)


def _family(path: Path, root: Path) -> Family | None:
    text = path.read_text(encoding="latin-1")
    times = {int(beats) for beats in re.findall(r"^\s*Time\s+(\d+)", text, re.IGNORECASE | re.MULTILINE)}
    names = re.findall(r"^\s*DefGroove\s+(\S+)", text, re.IGNORECASE | re.MULTILINE)
    special = ("end", "intro", "fill", "-44", "count", "ending")
    body = tuple(name for name in names if not any(word in name.lower() for word in special))
    if len(times) != 1 or not body or "metronome" in path.stem or path.stem == "none":
        return None
    intro = tuple(name for name in names if "intro" in name.lower())
    fill = tuple(name for name in names if "fill" in name.lower())
    return Family(path.relative_to(root).with_suffix("").as_posix(), times.pop(), body, intro, fill)


def draw_family(rng: np.random.Generator, held_out: bool) -> Family | None:
    """A family at random (with 3, 4 or 6 beats a bar), from the held-out ones or from all others; None without MMA."""
    pool = [f for f in families() if f.beats in (3, 4, 6) and (f.name in HELD_OUT_FAMILIES) == held_out]
    pool = [f for f in pool if not f.name.startswith("zoom/")] if rng.random() < 0.85 else pool
    return pool[int(rng.integers(len(pool)))] if pool else None


def accompany(rng: np.random.Generator, plan: Plan, family: Family) -> list[Part]:
    """The band's parts for the plan, notes in beats; an empty list when MMA refuses the chart."""
    with tempfile.TemporaryDirectory(prefix="stemforge-mma-") as folder:
        chart, out = Path(folder) / "song.mma", Path(folder).resolve() / "song.mid"
        chart.write_text(chart_text(rng, plan, family), encoding="ascii")
        try:
            done = subprocess.run(["mma", "-f", str(out), str(chart)], capture_output=True, timeout=60, check=False)
        except subprocess.TimeoutExpired:
            return []
        if done.returncode != 0 or not out.is_file():
            return []
        return _tracks(mido.MidiFile(out))


def chart_text(rng: np.random.Generator, plan: Plan, family: Family) -> str:
    """The plan as MMA reads it: a groove for each section, fills in last bars, one chord mark a beat."""
    grooves = {letter: str(rng.choice(family.body)) for letter in sorted(set(plan.form))}
    if family.intro and "I" in grooves:
        grooves["I"] = str(rng.choice(family.intro))
    lines = [f"RndSeed {int(rng.integers(1, 2**31))}", f"Tempo {plan.tempo:.0f}", f"Use {family.name}"]
    current = ""
    for bar in plan.bars:
        groove = grooves[plan.form[bar.section]]
        if bar.last and family.fill and rng.random() < 0.6:
            groove = str(rng.choice(family.fill))
        if groove != current:
            lines.append(f"Groove {groove}")
            current = groove
        lines.append(f"{bar.index + 1} {_marks(bar, plan.beats)}")
    return "\n".join(lines) + "\n"


def _marks(bar: Bar, beats: int) -> str:
    starts = {round(beat): chord.name for beat, chord in bar.chords}
    return " ".join(starts.get(beat, "/") for beat in range(beats))


def _tracks(file: mido.MidiFile) -> list[Part]:
    parts: list[Part] = []
    for track in file.tracks:
        now, program, channel = 0, 0, 0
        sounding: dict[int, list[tuple[int, int]]] = {}
        notes: list[Note] = []
        for message in track:
            now += message.time
            if message.type == "program_change":
                program, channel = message.program, message.channel
            elif message.type == "note_on" and message.velocity > 0:
                channel = message.channel
                sounding.setdefault(message.note, []).append((now, message.velocity))
            elif message.type in ("note_on", "note_off") and sounding.get(message.note):
                start, velocity = sounding[message.note].pop(0)
                length = max(now - start, 6) / file.ticks_per_beat
                notes.append(Note(start / file.ticks_per_beat, length, message.note, velocity))
        if notes:
            parts.append(_named(track.name, program, channel, notes))
    return parts


def _named(name: str, program: int, channel: int, notes: list[Note]) -> Part:
    first = name.split("-")[0].lower()
    if channel == DRUM_CHANNEL or first.startswith("drum"):
        return Part("drums", "drums", 0, tuple(notes), name=name)
    if first.startswith(("bass", "walk")):
        return Part("bass", "bass", program if 32 <= program < 40 else 33, tuple(notes), name=name)
    stem = stem_of(program, channel)
    stem = "other" if stem == "bass" else stem
    role = "lead" if first.startswith(("solo", "melody")) else "comp"
    return Part(stem, role, program, tuple(notes), name=name)
