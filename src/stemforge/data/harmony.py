"""Chords, progressions and the form of a song: what all composed parts agree on.

A loop is written as one token a bar, `offset from the key note in semitones` + `kind`: "0 9m 5 7" is I vi IV V.
Two chords in one bar are joined by a comma: "2m7,7:7" is ii-V (":" parts offset and kind where the kind is a digit).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

KINDS: dict[str, tuple[int, ...]] = {
    "": (0, 4, 7), "m": (0, 3, 7), "7": (0, 4, 7, 10), "M7": (0, 4, 7, 11), "m7": (0, 3, 7, 10), "m7b5": (0, 3, 6, 10),
    "dim7": (0, 3, 6, 9), "dim": (0, 3, 6), "aug": (0, 4, 8), "sus4": (0, 5, 7), "sus2": (0, 2, 7), "6": (0, 4, 7, 9),
    "m6": (0, 3, 7, 9), "9": (0, 4, 7, 10, 14), "m9": (0, 3, 7, 10, 14), "M9": (0, 4, 7, 11, 14), "5": (0, 7, 12),
    "7sus4": (0, 5, 7, 10),
}  # fmt: skip
NAMES = ("C", "Db", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B")

LOOPS: dict[str, tuple[str, ...]] = {
    "pop": (
        "0 7 9m 5", "9m 5 0 7", "0 5 9m 7", "0 9m 5 7", "0 4m 5 7", "5 7 9m 9m", "0 2m 5 7", "0 0 5 5", "5 0 7 9m",
        "0 7 2m 5", "0 5 0 7", "9m 7 5 7", "0 9m 2m 7", "5 5 0 0 7 7 9m 7", "0 4m 9m 5 2m 5 7 7", "0 11dim 9m 7sus4",
        "0 7 5 7", "0sus2 9m7 5M7 7", "5M7 7 4m7 9m7", "2m7 7 0 9m7", "0 5m 0 7", "0 3 5 0", "0 4:7 9m 5",
    ),
    "minor": (
        "0m 8 3 10", "0m 10 8 10", "0m 5m 8 7", "0m 5m 0m 7:7", "0m 3 10 5", "0m 8 10 0m", "0m 10 8 7:7", "8 10 0m 0m",
        "0m 0m 5m 0m", "0m 7m 8 5m", "0m 3 8 7:7", "0m 2m7b5 7:7 0m", "5m 0m 7:7 0m", "0m 10 5m 8", "0m 1 0m 10",
    ),
    "rock": (
        "0 10 5 0", "0 5 10 5", "0 3 5 3", "0 0 10 5", "0 7 5 0", "0 5 7 5", "0 8 10 0", "0 10 8 10", "0 3 10 5",
        "0m 3 5m 10", "0 0 5 5 7 5 0 7", "0 1 0 1", "0m 0m 10 8", "0,3 5 0,10 5",
    ),
    "jazz": (
        "2m7 7:7 0M7 0M7", "0M7 9:7 2m7 7:7", "0M7 9m7 2m7 7:7", "4m7 9:7 2m7 7:7", "2m7b5 7:7 0m6 0m6",
        "0M7 3dim7 2m7 7:7", "0M7 5:7 0M7 9:7 2m7 7:7 0M7,9:7 2m7,7:7", "0m7 5m7 2m7b5 7:7", "5M7 5m6 4m7 9:7 2m7 7:7",
        "0M7 0M7 2:7 2:7 2m7 7:7 0M7 7:7", "0m7 0m7 1m7 0m7", "6m7b5 5m6 4m7 3dim7 2m7 7:7 0:6 7:7",
        "0M9 10:9 0M9 7:9", "0m9 5:9 0m9 5:9",
    ),
    "blues": (
        "0:7 0:7 0:7 0:7 5:7 5:7 0:7 0:7 7:7 5:7 0:7 7:7", "0:7 5:7 0:7 0:7 5:7 5:7 0:7 9:7 2m7 7:7 0:7,9:7 2m7,7:7",
        "0m7 0m7 0m7 0m7 5m7 5m7 0m7 0m7 8:7 7:7 0m7 7:7", "0:7 0:7 5:7 0:7 7:7 5:7 0:7 7:7",
        "0:9 0:9 5:9 0:9", "0 7:7 5 5 0 7:7 0 7:7",
    ),
    "modal": (
        "0m7 5", "0m 10 0m 10", "0 2 0 2", "0M7 2 0M7 2", "0m9 0m9 10M7 10M7", "0sus4 0 10 0", "0m 2 0m 2",
        "0:7 10 0:7 5",
        "0m 0m 8M7 8M7", "0m 0m 0m 0m 1M7 1M7 0m 0m", "0 0 0 0",
    ),
    "ballad": (
        "0 4m 5 7", "0 7 9m 4m 5 0 2m 7", "0M7 4m7 5M7 7", "0 0M7 0:7 5 5m 0 2m 7", "9m 4m 5 0 2m 0 7sus4 7",
        "0m 7m 8 3 5m 0m 2m7b5 7:7", "0m 10 3 8 5m 0m 7:7 7:7", "0 2m 4m 5", "0 9m 5 5m", "5M7 4m7 2m7 0M7",
        "0,7 9m,4m 5,0 2m,7",
    ),

       "country": (
        "0 0 5 0 0 0 7 7", "0 5 0 7", "0 0 7 0", "0 9m 5 7", "0 5 7 0", "0 2:7 7 0", "5 0 7 0", "0 0:7 5 5 0 7:7 0 0",
    ),
}  # fmt: skip
RICHER = {"": ("M7", "6", "sus2", "sus4", "M9"), "m": ("m7", "m7", "m9", "m6"), "7": ("9", "7sus4")}
MAJOR, MINOR = (0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10)


@dataclass(frozen=True)
class Chord:
    """Root as pitch class 0-11 and kind as in KINDS."""

    root: int
    kind: str

    @property
    def name(self) -> str:
        """Name that chord charts use, for example "Bbm7"."""
        return NAMES[self.root] + self.kind

    @property
    def pitches(self) -> tuple[int, ...]:
        """Pitch classes, the root first."""
        return tuple((self.root + step) % 12 for step in KINDS[self.kind])

    @property
    def minor(self) -> bool:
        """Has the chord a minor third?"""
        return 3 in KINDS[self.kind]


@dataclass(frozen=True)
class Bar:
    """One bar: chords as (beat in the bar, chord), the section it belongs to, and whether it ends that section."""

    index: int
    chords: tuple[tuple[float, Chord], ...]
    section: int
    place: int
    last: bool
    energy: float

    def at(self, beat: float) -> Chord:
        """The chord that sounds at `beat` of this bar."""
        return [chord for start, chord in self.chords if start <= beat + 1e-6][-1]


@dataclass(frozen=True)
class Plan:
    """A song before its parts: bars of `beats` beats, tempo in beats a minute, `swing` as place of the off-eighth.

    compound: the beats are eighths in threes (6/8). scale: pitch classes that melodies use.
    """

    style: str
    key: int
    scale: tuple[int, ...]
    beats: int
    compound: bool
    tempo: float
    swing: float
    bars: tuple[Bar, ...]
    form: tuple[str, ...]

    @property
    def seconds(self) -> float:
        """Length of all bars."""
        return len(self.bars) * self.beats * 60 / self.tempo


def parse_loop(text: str, key: int, beats: int) -> list[tuple[tuple[float, Chord], ...]]:
    """A loop as in LOOPS to chords by bar, transposed to `key`."""
    bars = []
    for token in text.split():
        marks = token.split(",")
        bars.append(tuple((beats * i // len(marks) * 1.0, _chord(mark, key)) for i, mark in enumerate(marks)))
    return bars


def _chord(mark: str, key: int) -> Chord:
    offset, _, kind = mark.partition(":")
    if not kind:
        digits = len(offset) - len(offset.lstrip("0123456789"))
        offset, kind = offset[:digits], offset[digits:]
    return Chord((key + int(offset)) % 12, kind)


def random_loop(rng: np.random.Generator, minor: bool) -> str:
    """A diatonic walk over 4 or 8 bars, for loops that no list holds."""
    kinds = ("m", "dim", "", "m", "m", "", "") if minor else ("", "m", "m", "", "", "m", "dim")
    scale = MINOR if minor else MAJOR
    moves = {0: (3, 4, 5, 1, 2), 1: (4, 3, 6), 2: (5, 3), 3: (4, 0, 1, 5), 4: (0, 5, 3), 5: (3, 1, 4, 2), 6: (0, 2, 5)}
    degree, tokens = int(rng.choice([0, 0, 0, 5, 3])), []
    for _ in range(int(rng.choice([4, 4, 8]))):
        tokens.append(f"{scale[degree]}{kinds[degree]}")
        degree = int(rng.choice(moves[degree]))
    return " ".join(tokens)


def enriched(
    bars: list[tuple[tuple[float, Chord], ...]], rng: np.random.Generator, amount: float
) -> list[tuple[tuple[float, Chord], ...]]:
    """Some chords get sevenths, ninths or suspensions; `amount` is the share."""

    def rich(chord: Chord) -> Chord:
        if chord.kind in RICHER and rng.random() < amount:
            return Chord(chord.root, str(rng.choice(RICHER[chord.kind])))
        return chord

    return [tuple((beat, rich(chord)) for beat, chord in bar) for bar in bars]
