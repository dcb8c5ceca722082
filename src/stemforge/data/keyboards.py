"""Piano players: block chords, arpeggios, stride, Alberti figures, octaves and syncopated comping (beats)."""

from __future__ import annotations

import numpy as np

from stemforge.data.grids import draw_pattern, hits, nearest, sections
from stemforge.data.guitars import Player
from stemforge.data.harmony import Chord, Plan
from stemforge.data.score import Note

BLOCKS = (
    "C...C...C...C...", "C.......C.......", "C...............", "C..C..C...C.....", "C.C.C.C.C.C.C.C.",
    "....C.......C...",
    "..C...C...C...C.", "C.....C.....C...", "C..C..C.C..C..C.", "C-..C-..C-..C-..", "...C..C....C..C.",
    "C.....C-........",
)  # fmt: skip
BLOCKS_6 = ("C.....C.....", "C...C.C...C.", "C.C.C.C.C.C.", "C...........")
LEFTS = (
    "R...............",
    "R.......R.......",
    "R.......F.......",
    "R...F...R...F...",
    "R.R.R.R.R.R.R.R.",
    "R.....R.F.......",
)
LEFTS_6 = ("R.....R.....", "R.....F.....", "R...........")
FIGURES = (
    "0.2.1.2.0.2.1.2.", "0.1.2.3.4.3.2.1.", "0123432101234321", "0...2...3...2...", "0.2.4.2.0.2.4.2.",
    "0.1.2.1.3.1.2.1.",
    "0..1..2.0..1..2.", "4.3.2.1.4.3.2.1.",
)  # fmt: skip
FIGURES_6 = ("0.1.2.3.2.1.", "0.2.4.0.2.4.", "0.1.2.1.2.1.")


def close_voicing(chord: Chord, before: list[int], centre: float, size: int) -> list[int]:
    """A close position of the chord near `before` (or `centre`): the inversion that moves least."""
    pitches = chord.pitches[1:] + chord.pitches[:1] if len(chord.pitches) > size else chord.pitches
    target = float(np.mean(before)) * 0.7 + centre * 0.3 if before else centre
    best: list[int] = []
    for turn in range(len(pitches[:size])):
        order = pitches[:size][turn:] + pitches[:size][:turn]
        keys = [nearest(order[0], target - 4)]
        for pitch in order[1:]:
            keys.append(keys[-1] + (pitch - keys[-1]) % 12)
        if not best or abs(np.mean(keys) - target) < abs(np.mean(best) - target):
            best = keys
    return best


def block(rng: np.random.Generator, plan: Plan) -> list[Note]:
    """Right-hand chords in a rhythm over left-hand roots, fifths or octaves."""
    right = draw_pattern(rng, plan, BLOCKS, BLOCKS_6)
    left = draw_pattern(rng, plan, LEFTS, LEFTS_6)
    plays, centre, size = sections(rng, plan, 0.15), float(rng.uniform(58, 69)), int(rng.choice([3, 3, 4]))
    octaves, hand = rng.random() < 0.5, rng.random() < 0.8
    notes: list[Note] = []
    before: list[int] = []
    for bar in (b for b in plan.bars if plays[b.section]):
        start = bar.index * plan.beats
        for beat, _, length in hits(right, plan, bar):
            before = close_voicing(bar.at(beat), before, centre, size)
            force = 74 + 14 * bar.energy
            notes += [Note(start + beat, length * 0.95, key, int(force + rng.integers(-6, 7))) for key in before]
        if hand:
            notes += _left_hand(rng, plan, left, bar.index, octaves)
    return notes


def _left_hand(rng: np.random.Generator, plan: Plan, pattern: str, index: int, octaves: bool) -> list[Note]:
    bar = plan.bars[index]
    notes: list[Note] = []
    for beat, mark, length in hits(pattern, plan, bar):
        chord = bar.at(beat)
        key = nearest(chord.root, 43) + (7 if mark == "F" else 0)
        keys = [key, key - 12] if octaves else [key]
        force = int(80 + rng.integers(-8, 9))
        notes += [Note(bar.index * plan.beats + beat, length * 0.95, k, force) for k in keys]
    return notes


def broken(rng: np.random.Generator, plan: Plan) -> list[Note]:
    """Arpeggios over one to two octaves, with a low root at each chord; the pedal holds."""
    pattern = draw_pattern(rng, plan, FIGURES, FIGURES_6)
    plays, centre = sections(rng, plan, 0.15), float(rng.uniform(52, 70))
    held, rooted = rng.random() < 0.7, rng.random() < 0.7
    notes: list[Note] = []
    for bar in (b for b in plan.bars if plays[b.section]):
        start = bar.index * plan.beats
        for beat, mark, length in hits(pattern, plan, bar):
            chord = bar.at(beat)
            ladder = [nearest(chord.root, centre - 5)]
            while len(ladder) < 5:
                ladder.append(ladder[-1] + min((p - ladder[-1]) % 12 or 12 for p in chord.pitches))
            long = plan.beats - beat if held else length
            notes.append(Note(start + beat, long, ladder[int(mark)], int(72 + 12 * bar.energy + rng.integers(-8, 9))))
        for beat, chord in bar.chords if rooted else ():
            notes.append(Note(start + beat, plan.beats - beat, nearest(chord.root, 40), int(82 + rng.integers(-6, 7))))
    return notes


def stride(rng: np.random.Generator, plan: Plan) -> list[Note]:
    """Left hand root and chord in turn, right hand chords on the off-beats or silent."""
    plays, unit = sections(rng, plan, 0.15), 3.0 if plan.compound else 1.0
    right = rng.random() < 0.4
    notes: list[Note] = []
    before: list[int] = []
    for bar in (b for b in plan.bars if plays[b.section]):
        for i in range(round(plan.beats / unit)):
            beat = i * unit
            start, chord = bar.index * plan.beats + beat, bar.at(beat)
            low = i % 2 == 0 if plan.beats != 3 else i == 0
            before = close_voicing(chord, before, 60, 3)
            root = nearest(chord.root, 40) + (7 if i % 4 == 2 and rng.random() < 0.5 else 0)
            for key in [root, root - 12] if low else before:
                notes.append(Note(start, unit * (0.8 if low else 0.45), key, int(84 + rng.integers(-8, 9))))
            if right and rng.random() < 0.6:
                notes += [Note(start + unit / 2, unit * 0.4, key + 12, int(78 + rng.integers(-8, 9))) for key in before]
    return notes


def comp(rng: np.random.Generator, plan: Plan) -> list[Note]:
    """Free syncopated chords as in jazz and soul: a new rhythm each bar, rootless voicings."""
    plays, centre, density = sections(rng, plan, 0.15), float(rng.uniform(58, 66)), float(rng.uniform(0.2, 0.5))
    notes: list[Note] = []
    before: list[int] = []
    for bar in (b for b in plan.bars if plays[b.section]):
        slots = np.arange(plan.beats * 2) / 2
        chosen = slots[rng.random(len(slots)) < density]
        for beat in chosen if len(chosen) else [0.0]:
            before = close_voicing(bar.at(float(beat)), before, centre, 4)
            length = float(rng.choice([0.25, 0.45, 0.9, 1.5]))
            force = int(80 + rng.integers(-14, 15))
            notes += [Note(bar.index * plan.beats + float(beat), length, key, force) for key in before]
    return notes


PLAYERS: dict[str, Player] = {"block": block, "broken": broken, "stride": stride, "comp": comp}
HABITS: dict[str, tuple[str, ...]] = {
    "rock": ("block", "block", "broken"),
    "pop": ("block", "broken", "block"),
    "ballad": ("broken", "broken", "block"),
    "funk": ("comp", "block"),
    "jazz": ("comp", "comp", "stride", "block"),
    "blues": ("stride", "comp", "block"),
    "metal": ("block", "broken"),
    "country": ("stride", "block", "broken"),
    "electronic": ("block", "block", "broken"),
}
