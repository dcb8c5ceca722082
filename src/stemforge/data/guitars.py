"""Guitar players: strums, arpeggios, power chords, riffs and muted funk over the chords of a plan (beats)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from stemforge.data.grids import draw_pattern, hits, nearest, sections
from stemforge.data.harmony import KINDS, Chord, Plan
from stemforge.data.score import Note

Player = Callable[[np.random.Generator, Plan], list[Note]]

STRUMS = (
    "D...D.U...U.D.U.", "D...D...D...D...", "D...D.UU..UUD.U.", "D.....U.D.U.....", "D..D..D...D.U.D.",
    "D.DUD.DUD.DUD.DU",
    "D.......D.......", "D...x.U...U.x.U.", "D.UxD.UxD.UxD.Ux", "....D.......D...", "..U...U...U...U.",
    "D...............",
    "D..U..U.D..U..U.", "D.D.D.D.D.D.D.D.", "D-..D-..D-..D-..", "D.....D.....D...",
)  # fmt: skip
STRUMS_6 = ("D...U.D...U.", "D.....D.....", "D...DUD...DU", "D.D.D.D.D.D.", "D...........")
FUNK = (
    "D.xx.xD.xxD.x.xx", "x.D.xxU.x.D.xxUx", "D..D..x.xxD.x.U.", "xxD.xxDxxxD.xxDx", ".xD..xD..xD..xDU",
    "D.x.x.xUxDx.x.U.",
)  # fmt: skip
PICKS = (
    "0.2.3.4.3.2.4.3.", "0.3.2.4.3.5.4.3.", "0...2...3...4...", "0.2.3.2.1.2.3.2.", "0234543203454320",
    "0.1.2.3.4.3.2.1.",
    "0..3..4.0..3..4.", "b...3.4.0...3.4.", "b...b...b...b...", "0.34..3.0.45..3.",
)  # fmt: skip
PICKS_6 = ("0.2.3.4.3.2.", "0.3.4.5.4.3.", "0.2.3.1.3.4.", "b.3.4.0.3.4.")
CHUGS = (
    "p.p.p.p.p.p.p.p.", "A...p.p.A...p.p.", "A.......A...A...", "pppAppppApppAppp", "A.ppA.ppA.ppA.pp",
    "A...............",
    "A..A..A...A..A..", "p.ppp.ppA.ppp.A.", "A.....A.....A...", "A.pA.pA.pA.pA.p.", "A...A.A.-.A.A...",
)  # fmt: skip
CHUGS_6 = ("A.p.p.A.p.p.", "A.....A.....", "p.p.p.A.p.p.")


def voicing(chord: Chord, position: int) -> list[int]:
    """Six keys or fewer as a guitar has them: root on a low string, then fifth, octave and the colours above.

    position: lowest key allowed for the root, 40 (open E) to 52.
    """
    root = chord.root + 12 * -(-(position - chord.root) // 12)
    steps = KINDS[chord.kind]
    third, fifth = steps[1], steps[2]
    if chord.kind == "5":
        return [root, root + 7, root + 12]
    colour = steps[3] if len(steps) > 3 else 12
    keys = [root, root + fifth, root + colour, root + third + 12, root + fifth + 12]
    top = root + (steps[4] + 12 if len(steps) > 4 else 24)
    return sorted({*keys, top})


def strum(rng: np.random.Generator, plan: Plan) -> list[Note]:
    """Strummed chords: down strokes from the low string, up strokes from the high ones, muted strokes short."""
    pattern = draw_pattern(rng, plan, STRUMS, STRUMS_6)
    return _stroked(rng, plan, pattern, position=int(rng.choice([40, 43, 45, 48])), strings=6)


def funk(rng: np.random.Generator, plan: Plan) -> list[Note]:
    """Short chords on the high strings with muted sixteenths between."""
    pattern = draw_pattern(rng, plan, FUNK, STRUMS_6)
    return _stroked(
        rng, plan, pattern, position=int(rng.choice([45, 48, 52])), strings=int(rng.choice([3, 4])), cut=0.3
    )


def _stroked(
    rng: np.random.Generator, plan: Plan, pattern: str, position: int, strings: int, cut: float = 9.0
) -> list[Note]:
    plays = sections(rng, plan, 0.15)
    spread = rng.uniform(0.006, 0.022) * plan.tempo / 60
    notes: list[Note] = []
    for bar in (b for b in plan.bars if plays[b.section]):
        for beat, mark, length in hits(pattern, plan, bar):
            keys = voicing(bar.at(beat), position)[-strings:]
            keys = keys if mark != "U" else keys[: -min(4, len(keys)) - 1 : -1]
            force = (92 if mark == "D" else 78 if mark == "U" else 58) + (8 if beat == 0 else 0)
            long = 0.07 if mark == "x" else min(cut, length * rng.uniform(0.85, 1.0))
            for string, key in enumerate(keys):
                start = bar.index * plan.beats + beat + string * spread
                notes.append(Note(start, max(0.05, long - string * spread), key, int(force + rng.integers(-8, 9))))
    return notes


def arpeggio(rng: np.random.Generator, plan: Plan) -> list[Note]:
    """Picked chords: each string rings until the chord changes, or is stopped by the next note."""
    pattern = draw_pattern(rng, plan, PICKS, PICKS_6)
    plays, position = sections(rng, plan, 0.15), int(rng.choice([40, 43, 45, 48]))
    ringing = rng.random() < 0.7
    notes: list[Note] = []
    for bar in (b for b in plan.bars if plays[b.section]):
        for beat, mark, length in hits(pattern, plan, bar):
            keys = voicing(bar.at(beat), position)
            chosen = [keys[0], *keys[-3:]] if mark == "b" else [keys[int(mark) % len(keys)]]
            start = bar.index * plan.beats + beat
            long = max(length, plan.beats - beat) if ringing else length
            force = 88 if beat == 0 else 76
            notes += [Note(start, long, key, int(force + rng.integers(-10, 11))) for key in chosen]
    return notes


def power(rng: np.random.Generator, plan: Plan) -> list[Note]:
    """Root and fifth (often the octave too): long accents, palm-muted eighths and sixteenths."""
    pattern = draw_pattern(rng, plan, CHUGS, CHUGS_6)
    plays, low = sections(rng, plan, 0.15), int(rng.choice([36, 38, 40, 40, 40]))
    octave = rng.random() < 0.5
    notes: list[Note] = []
    for bar in (b for b in plan.bars if plays[b.section]):
        for beat, mark, length in hits(pattern, plan, bar):
            root = bar.at(beat).root + 12 * -(-(low - bar.at(beat).root) // 12)
            keys = [root, root + 7, root + 12] if octave else [root, root + 7]
            muted = mark == "p"
            long = min(length, 0.12) if muted else length * 0.97
            force = 70 if muted else 104
            start = bar.index * plan.beats + beat
            notes += [Note(start, long, key, int(force + rng.integers(-8, 9))) for key in keys[: 2 if muted else 3]]
    return notes


def riff(rng: np.random.Generator, plan: Plan) -> list[Note]:
    """A one- or two-bar figure of single low notes that follows the roots of the chords."""
    steps = np.array([0, 0, 0, 3, 5, 7, 10, 12, -2])
    places = np.sort(rng.choice(plan.beats * 2, size=int(rng.integers(4, plan.beats * 2)), replace=False)) / 2
    places[0] = 0.0
    moves = rng.choice(steps, size=len(places))
    moves[0] = 0
    plays, low = sections(rng, plan, 0.2), int(rng.choice([40, 40, 45, 52]))
    doubled = rng.random() < 0.3
    notes: list[Note] = []
    for bar in (b for b in plan.bars if plays[b.section]):
        for i, beat in enumerate(places):
            root = nearest(bar.at(float(beat)).root, low + 5)
            stop = places[i + 1] if i + 1 < len(places) else plan.beats
            keys = [root + int(moves[i])] + ([root + int(moves[i]) + 12] if doubled else [])
            start, long = bar.index * plan.beats + float(beat), float(stop - beat) * rng.uniform(0.5, 0.95)
            notes += [Note(start, long, max(36, key), int(92 + rng.integers(-12, 13))) for key in keys]
    return notes


PLAYERS: dict[str, Player] = {"strum": strum, "funk": funk, "arpeggio": arpeggio, "power": power, "riff": riff}
HABITS: dict[str, tuple[str, ...]] = {
    "rock": ("power", "strum", "riff", "arpeggio", "power"),
    "pop": ("strum", "strum", "arpeggio", "arpeggio", "funk"),
    "ballad": ("arpeggio", "arpeggio", "strum"),
    "funk": ("funk", "funk", "riff", "strum"),
    "jazz": ("strum", "funk", "arpeggio"),
    "blues": ("strum", "riff", "power", "arpeggio"),
    "metal": ("power", "power", "riff"),
    "country": ("strum", "strum", "arpeggio"),
    "electronic": ("funk", "arpeggio", "power", "riff"),
}
