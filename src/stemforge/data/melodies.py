"""Lead lines and colours over the chords of a plan: melodies from motifs, pads, synth figures, stabs (beats)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from stemforge.data.grids import draw_pattern, hits, nearest, sections
from stemforge.data.harmony import Plan
from stemforge.data.keyboards import close_voicing
from stemforge.data.score import Note

RHYTHMS = (
    (1.0, 1.0, 1.0, 1.0), (0.5, 0.5, 1.0, 0.5, 0.5, 1.0), (1.5, 0.5, 2.0), (0.5, 0.5, 0.5, 0.5, 1.0, 1.0),
    (3.0, 1.0), (2.0, 2.0),
    (0.75, 0.75, 0.5, 1.0, 1.0), (0.25, 0.25, 0.5, 0.5, 0.5, 2.0), (4.0,), (-0.5, 0.5, 0.5, 0.5, 1.0, 1.0),
    (-1.0, 1.0, 1.0, 1.0),
    (1.0, 0.5, 0.5, -1.0, 1.0), (0.5, 1.0, 0.5, 0.5, 1.0, 0.5), (-2.0, 0.5, 0.5, 0.5, 0.5), (0.25,) * 8 + (1.0, -1.0),
    (1 / 3, 1 / 3, 1 / 3, 1.0, 1 / 3, 1 / 3, 1 / 3, 1.0), (0.5,) * 8, (0.25,) * 16,
)  # fmt: skip
Motif = tuple[tuple[float, float, int], ...]
"""(beat, length, steps on the scale from the note before)."""
STABS = (
    "....C.......C...",
    "C..C..C.........",
    "..C...C...C...C.",
    "C.C.............",
    "..........C.C...",
    "C..C............",
)
SEQUENCES = (
    "0123012301230123",
    "0.1.2.3.0.1.2.3.",
    "0.2.1.2.3.2.1.2.",
    "0..1..2..3..2.1.",
    "0.0.3.0.0.3.2.1.",
    "0123321001233210",
)


def lead(
    rng: np.random.Generator, plan: Plan, low: int, high: int, bendy: bool = False
) -> tuple[list[Note], list[tuple[float, float]]]:
    """A melody in low..high (keys) and its bends (beat, semitones): two motifs, repeated, varied and rested.

    bendy: notes are bent into and shaken as a guitar, a voice or a synthesizer does it; then only one note at a time.
    """
    motifs = [_motif(rng, plan) for _ in range(int(rng.integers(2, 4)))]
    plays, rest = sections(rng, plan, 0.3), float(rng.uniform(0.05, 0.35))
    doubles = 0.0 if bendy else float(rng.choice([0.0, 0.0, 0.15, 0.6]))
    scale = _melodic_scale(rng, plan)
    key, notes, bends = (low + high) / 2, [], []
    for bar in plan.bars:
        if not plays[bar.section] or (rng.random() < rest and bar.place % 4 != 0):
            continue
        motif = motifs[(bar.place // 2 + bar.section) % len(motifs)] if rng.random() < 0.8 else _motif(rng, plan)
        for beat, length, move in motif:
            key = _melody_key(key, move, beat, bar.at(beat).pitches, scale, low, high)
            start = bar.index * plan.beats + beat
            notes.append(Note(start, length * rng.uniform(0.7, 1.0), int(key), int(92 + rng.integers(-14, 15))))
            if rng.random() < doubles:
                notes.append(replace(notes[-1], key=_below(int(key), scale), velocity=max(1, notes[-1].velocity - 10)))
            if bendy:
                bends += _ornament(rng, start, length)
    return (notes if doubles else _graced(rng, notes, scale)), bends


def _melodic_scale(rng: np.random.Generator, plan: Plan) -> tuple[int, ...]:
    steps: tuple[int, ...]
    kind = rng.random()
    minor = (plan.key + 3) % 12 in plan.scale
    if kind < 0.35:
        steps = (0, 3, 5, 7, 10) if minor else (0, 2, 4, 7, 9)
    elif plan.style in ("blues", "rock", "funk") and kind < 0.6:
        steps = (0, 3, 5, 6, 7, 10)
    else:
        return plan.scale
    return tuple(sorted((plan.key + step) % 12 for step in steps))


def _motif(rng: np.random.Generator, plan: Plan) -> Motif:
    rhythm = RHYTHMS[int(rng.integers(len(RHYTHMS)))]
    stretch = 1.5 if plan.compound else 1.0
    beat, motif = 0.0, []
    for length in rhythm:
        size = abs(length) * stretch
        if length > 0 and beat < plan.beats:
            motif.append(
                (beat, min(size, plan.beats - beat), int(rng.choice([-3, -2, -1, -1, -1, 0, 1, 1, 1, 2, 3, 4])))
            )
        beat += size
    return tuple(motif) or ((0.0, float(plan.beats), 0),)


def _melody_key(
    key: float, move: int, beat: float, chord: tuple[int, ...], scale: tuple[int, ...], low: int, high: int
) -> int:
    """The next key: `move` scale steps on, chord tones on strong beats, turned back at the edges of the register."""
    if key > high - 4:
        move = -abs(move)
    elif key < low + 4:
        move = abs(move)
    pool = chord if beat in (0.0, 2.0) else scale
    ladder = [k for k in range(low, high + 1) if k % 12 in pool]
    place = min(range(len(ladder)), key=lambda i: abs(ladder[i] - key))
    move = round(move * 0.6) if pool is chord else move
    return ladder[int(np.clip(place + move, 0, len(ladder) - 1))]


def _below(key: int, scale: tuple[int, ...]) -> int:
    return next((k for k in (key - 3, key - 4, key - 5) if k % 12 in scale), key - 12)


def _graced(rng: np.random.Generator, notes: list[Note], scale: tuple[int, ...]) -> list[Note]:
    """Some notes get a short note from below or a turn before them."""
    chance = float(rng.choice([0.0, 0.05, 0.12]))
    graces = [
        Note(max(0.0, n.start - 0.12), 0.1, n.key - (1 if (n.key - 1) % 12 in scale else 2), max(1, n.velocity - 20))
        for n in notes
        if rng.random() < chance
    ]
    return notes + graces


def _ornament(rng: np.random.Generator, start: float, length: float) -> list[tuple[float, float]]:
    """Bend up into the note, or vibrato on its second half, or nothing but a straight wheel."""
    kind = rng.random()
    if kind < 0.2 and length >= 0.5:
        depth = float(rng.choice([-1.0, -2.0]))
        times = np.linspace(0.0, min(0.35, length / 2), 6)
        return [(start + float(t), depth * (1 - i / 5)) for i, t in enumerate(times)]
    if kind < 0.5 and length >= 1.0:
        times = np.arange(length * 0.4, length * 0.95, 0.05)
        shake = rng.uniform(0.15, 0.45) * np.sin(2 * np.pi * rng.uniform(2.2, 3.4) * (times - times[0]))
        return [(start, 0.0), *((start + float(t), float(s)) for t, s in zip(times, shake, strict=True))]
    return [(start, 0.0)]


def pad(rng: np.random.Generator, plan: Plan) -> list[Note]:
    """Held chords, led smoothly; sometimes an octave doubled or only two voices."""
    plays, centre, size = sections(rng, plan, 0.25), float(rng.uniform(52, 72)), int(rng.choice([2, 3, 3, 4]))
    doubled = rng.random() < 0.3
    notes: list[Note] = []
    before: list[int] = []
    for bar in (b for b in plan.bars if plays[b.section]):
        for i, (beat, chord) in enumerate(bar.chords):
            stop = bar.chords[i + 1][0] if i + 1 < len(bar.chords) else plan.beats
            before = close_voicing(chord, before, centre, size)
            keys = before + ([before[0] + 12] if doubled else [])
            force = int(76 + 16 * bar.energy + rng.integers(-4, 5))
            notes += [Note(bar.index * plan.beats + beat, (stop - beat) * 1.02, key, force) for key in keys]
    return notes


def sequence(rng: np.random.Generator, plan: Plan) -> list[Note]:
    """A running figure of single chord tones, as a synthesizer or a marimba plays it."""
    pattern = draw_pattern(rng, plan, SEQUENCES, ("0.1.2.3.2.1.", "012321012321"))
    plays, centre = sections(rng, plan, 0.3), float(rng.uniform(52, 76))
    notes: list[Note] = []
    for bar in (b for b in plan.bars if plays[b.section]):
        for beat, mark, length in hits(pattern, plan, bar):
            pitches = bar.at(beat).pitches
            key = nearest(pitches[int(mark) % len(pitches)], centre) + (12 if int(mark) >= len(pitches) else 0)
            notes.append(Note(bar.index * plan.beats + beat, length * 0.8, key, int(84 + rng.integers(-10, 11))))
    return notes


def stabs(rng: np.random.Generator, plan: Plan) -> list[Note]:
    """Short chords of brass or organ in a sparse rhythm."""
    pattern = draw_pattern(rng, plan, STABS, ("C.....C.....", "....C.....C."))
    plays, centre = sections(rng, plan, 0.3), float(rng.uniform(58, 72))
    notes: list[Note] = []
    before: list[int] = []
    for bar in (b for b in plan.bars if plays[b.section]):
        for beat, _, length in hits(pattern, plan, bar):
            before = close_voicing(bar.at(beat), before, centre, 3)
            long = min(length, float(rng.choice([0.3, 0.5, 1.0])))
            notes += [Note(bar.index * plan.beats + beat, long, key, int(96 + rng.integers(-8, 9))) for key in before]
    return notes


def counter(rng: np.random.Generator, plan: Plan) -> list[Note]:
    """A slow line of one note a chord, moving as little as it can."""
    plays, key = sections(rng, plan, 0.3), float(rng.uniform(60, 76))
    notes: list[Note] = []
    for bar in (b for b in plan.bars if plays[b.section]):
        for i, (beat, chord) in enumerate(bar.chords):
            stop = bar.chords[i + 1][0] if i + 1 < len(bar.chords) else plan.beats
            target = float(np.clip(key + rng.normal(0, 3), 55, 82))
            key = min((nearest(pitch, target) for pitch in chord.pitches), key=lambda k: abs(k - target))
            notes.append(Note(bar.index * plan.beats + beat, stop - beat, int(key), int(82 + rng.integers(-8, 9))))
    return notes
