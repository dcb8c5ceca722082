"""What a song is before it sounds: parts with notes, bends and controllers, all in seconds."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

RATE = 44100
STEMS = ("bass", "drums", "guitar", "piano", "other", "vocals")
DRUM_CHANNEL = 9


@dataclass(frozen=True)
class Note:
    """One note: start and length (seconds in a Score, beats inside the composers), key 0-127, velocity 1-127."""

    start: float
    length: float
    key: int
    velocity: int

    def moved(self, beats: float) -> Note:
        """The same note later by `beats`."""
        return replace(self, start=self.start + beats)


@dataclass(frozen=True)
class Part:
    """The notes of one player. `role` is comp, lead, pad, bass, drums, vowels or human; program is General MIDI 0-127.

    bends: (seconds, semitones); controls: (seconds, controller number, value 0-127).
    """

    stem: str
    role: str
    program: int
    notes: tuple[Note, ...]
    bends: tuple[tuple[float, float], ...] = ()
    controls: tuple[tuple[float, int, int], ...] = ()
    name: str = ""

    @property
    def end(self) -> float:
        """When the last note stops, in seconds (0 for a part without notes)."""
        return max((note.start + note.length for note in self.notes), default=0.0)


@dataclass(frozen=True)
class Score:
    """A song to be played: parts in seconds, and `details` for the manifest."""

    title: str
    seconds: float
    parts: tuple[Part, ...]
    details: dict[str, object] = field(default_factory=dict)

    def stems(self) -> set[str]:
        """Names of the stems that have at least one note."""
        return {part.stem for part in self.parts if part.notes}


def humanise(notes: list[Note], rng: np.random.Generator, tempo: float, timing: float, force: float) -> list[Note]:
    """Notes in beats with normal deviations of `timing` seconds and `force` velocity steps."""
    shifts = rng.normal(0.0, timing * tempo / 60, len(notes))
    forces = rng.normal(0.0, force, len(notes))
    return [
        replace(n, start=max(0.0, n.start + s), velocity=int(np.clip(n.velocity + f, 1, 127)))
        for n, s, f in zip(notes, shifts, forces, strict=True)
    ]


def swung(notes: list[Note], swing: float) -> list[Note]:
    """Notes in beats with the second eighth of each beat moved from 0.5 to `swing` (0.5 changes nothing)."""

    def warp(beat: float) -> float:
        whole, part = divmod(beat, 1.0)
        return whole + (part * swing / 0.5 if part < 0.5 else swing + (part - 0.5) * (1 - swing) / 0.5)

    return [replace(n, start=warp(n.start), length=max(0.02, warp(n.start + n.length) - warp(n.start))) for n in notes]


def in_seconds(notes: list[Note], tempo: float) -> tuple[Note, ...]:
    """Notes in beats to notes in seconds at `tempo` beats a minute, sorted."""
    beat = 60.0 / tempo
    timed = [replace(n, start=n.start * beat, length=n.length * beat) for n in notes]
    return tuple(sorted(timed, key=lambda n: (n.start, n.key)))


def excerpt(score: Score, start: float, seconds: float) -> Score:
    """The song from `start` for `seconds`; controllers and bends before the cut are carried to its beginning."""
    return replace(score, seconds=seconds, parts=tuple(_cut(part, start, start + seconds) for part in score.parts))


def _cut(part: Part, start: float, stop: float) -> Part:
    notes = [
        replace(n, start=max(n.start, start) - start, length=min(n.start + n.length, stop) - max(n.start, start))
        for n in part.notes
        if n.start < stop and n.start + n.length > start + 0.05
    ]
    before: dict[int, int] = {number: value for time, number, value in part.controls if time <= start}
    controls = [(0.0, number, value) for number, value in sorted(before.items())]
    controls += [(time - start, number, value) for time, number, value in part.controls if start < time < stop]
    held = [semitones for time, semitones in part.bends if time <= start][-1:]
    bends = [(0.0, semitones) for semitones in held]
    bends += [(time - start, semitones) for time, semitones in part.bends if start < time < stop]
    return replace(part, notes=tuple(notes), controls=tuple(controls), bends=tuple(bends))


def scaled(score: Score, factor: float) -> Score:
    """The song `factor` times as fast."""

    def faster(part: Part) -> Part:
        return replace(
            part,
            notes=tuple(replace(n, start=n.start / factor, length=n.length / factor) for n in part.notes),
            bends=tuple((time / factor, value) for time, value in part.bends),
            controls=tuple((time / factor, number, value) for time, number, value in part.controls),
        )

    return replace(score, seconds=score.seconds / factor, parts=tuple(faster(part) for part in score.parts))


def transposed(part: Part, semitones: int) -> Part:
    """The part moved by `semitones`; drums stay. Notes that leave 0-127 are dropped."""
    if part.stem == "drums":
        return part
    notes = (replace(n, key=n.key + semitones) for n in part.notes)
    return replace(part, notes=tuple(n for n in notes if 0 <= n.key <= 127))


def folded(notes: tuple[Note, ...], low: int, high: int) -> tuple[Note, ...]:
    """Notes moved by octaves into low..high (at least an octave wide); unchanged where they fit."""

    def fold(key: int) -> int:
        while key < low:
            key += 12
        while key > high:
            key -= 12
        return key

    return tuple(replace(n, key=fold(n.key)) for n in notes)
