"""Bass and drum players over a plan (beats). Drum keys are General MIDI percussion keys."""

from __future__ import annotations

import numpy as np

from stemforge.data.grids import draw_pattern, fitted, hits, nearest, sections, step_length
from stemforge.data.harmony import Bar, Chord, Plan
from stemforge.data.score import Note

KICK, RIM, SNARE, CLAP, CLOSED, PEDAL, OPEN, CRASH, RIDE, BELL = 36, 37, 38, 39, 42, 44, 46, 49, 51, 53
TOMS = (50, 48, 47, 45, 43, 41)
BASSES = (
    "R...............", "R.......R.......", "R.......F.......", "R...R...R...R...", "R.R.R.R.R.R.R.R.",
    "R.....R.F.....F.",
    "R..R..R.R..R..R.", "R..R....F..R....", "R.O.R.O.R.O.R.O.", "..R...R...R...R.", "R...F...O...F...",
    "R.RR..R.F.R...O.",
    "R..x.xO..xR.x.F.", "R.-.R.-.R.-.F.-.", "RRRRRRRRRRRRRRRR", "R.....R.......R.", "R...-.F.R...-.A.",
    "R..R..A.R..F..A.",
)  # fmt: skip
BASSES_6 = ("R.....F.....", "R...R.F...F.", "R.R.R.R.R.R.", "R...........", "R...F.O...F.")
STEPS = {"R": 0, "x": 0, "F": 7, "O": 12}

KICKS = (
    "x.......x.......", "x.......x.x.....", "x..x....x..x....", "x.x.....x.x.....", "x.....x.x.......",
    "x...x...x...x...",
    "x.........x.....", "x..x..x...x.....", "x.......xx......", "x.x..x..x..x.x..", "xxxxxxxxxxxxxxxx",
    "x.....x...x.....",
)  # fmt: skip
SNARES = (
    "....x.......x...", "....x.......x...", "....x.......x...", "........x.......", "....x..g.g..x...",
    "....x.......x..x",
    "....x..x.x..x...", "....r.......r...", "...r..r....r..r.", "....x.......x.g.", "....c.......c...",
)  # fmt: skip
HATS = (
    "h.h.h.h.h.h.h.h.", "hhhhhhhhhhhhhhhh", "h...h...h...h...", "..h...h...h...h.", "h.h.h.o.h.h.h.o.",
    "r.r.r.r.r.r.r.r.",
    "r...r.r.r...r.r.", "h..hh..hh..hh..h", "..o...o...o...o.", "hhhohhhhhhhohhhh", "o...o...o...o...",
    "r...r...r...r...",
    "h.hhh.hhh.hhh.hh", "p...p...p...p...",
)  # fmt: skip
KICKS_6 = ("x...........", "x.....x.....", "x...x.......", "x.....x...x.")
SNARES_6 = ("......x.....", "......r.....", "......x...g.")
HATS_6 = ("h.h.h.h.h.h.", "h...h.h...h.", "r.r.r.r.r.r.", "h.....h.....")
WALTZ = (
    ("x...........",),
    ("....x...x...", "....r...r...", "........x..."),
    ("h...h...h...", "r...r.r.r...", "h.h.h.h.h.h."),
)
JAZZ = (
    ("x.......x.......", "x...............", "........x....x.."),
    ("............g...", "....r.......r...", "......g.....g..."),
    ("r...r.r.r...r.r.", "r...r...r...r...", "....p.......p..."),
)
HITS = {"x": SNARE, "g": SNARE, "r": RIM, "c": CLAP}
CYMBALS = {"h": CLOSED, "o": OPEN, "r": RIDE, "p": PEDAL}
EXTRAS = ((54, 56), (70, 82), (69,), (62, 63, 64), (60, 61), (75,), (56,), (39,), (81, 80))


def bass_line(rng: np.random.Generator, plan: Plan) -> list[Note]:
    """Walking in swing and sometimes elsewhere, else one figure for each section letter."""
    walking = 0.75 if plan.style == "jazz" else 0.4 if plan.swing > 0.55 else 0.05
    if not plan.compound and rng.random() < walking:
        return _walk(rng, plan)
    figures = {letter: draw_pattern(rng, plan, BASSES, BASSES_6) for letter in sorted(set(plan.form))}
    if rng.random() < 0.5:
        figures = dict.fromkeys(figures, figures[min(figures)])
    plays, low, tight = sections(rng, plan, 0.07), int(rng.choice([28, 28, 31, 33])), float(rng.uniform(0.5, 1.0))
    notes: list[Note] = []
    for bar in (b for b in plan.bars if plays[b.section]):
        for beat, mark, length in hits(figures[plan.form[bar.section]], plan, bar):
            key = _bass_key(rng, plan, bar, beat, mark, low)
            long = 0.08 if mark == "x" else length * tight
            force = int((60 if mark == "x" else 96) + rng.integers(-10, 11))
            notes.append(Note(bar.index * plan.beats + beat, long, key, force))
        if bar.last and rng.random() < 0.3:
            notes.append(
                Note((bar.index + 1) * plan.beats - 0.5, 0.45, notes[-1].key + int(rng.choice([2, -1, 5])), 92)
            )
    return notes


def _bass_key(rng: np.random.Generator, plan: Plan, bar: Bar, beat: float, mark: str, low: int) -> int:
    root = bar.at(beat).root + 12 * -(-(low - bar.at(beat).root) // 12)
    if mark == "A":
        after = plan.bars[(bar.index + 1) % len(plan.bars)].at(0.0).root
        return nearest(after, root) + int(rng.choice([-1, 1, 2, -2]))
    step = STEPS[mark]
    return root + (-5 if step == 7 and root - 5 >= 28 and rng.random() < 0.3 else step)


def _walk(rng: np.random.Generator, plan: Plan) -> list[Note]:
    notes: list[Note] = []
    key = 36.0
    for bar in plan.bars:
        for beat in range(plan.beats):
            chord = bar.at(beat)
            follow = bar.at(beat + 1) if beat + 1 < plan.beats else plan.bars[(bar.index + 1) % len(plan.bars)].at(0.0)
            key = _walk_step(rng, key, beat, chord, follow, plan)
            notes.append(Note(bar.index * plan.beats + beat, 0.9, int(key), int(94 + rng.integers(-10, 11))))
            if rng.random() < 0.07:
                notes.append(Note(bar.index * plan.beats + beat + 0.5, 0.3, int(key), 70))
    return notes


def _walk_step(rng: np.random.Generator, key: float, beat: int, chord: Chord, follow: Chord, plan: Plan) -> float:
    centre = float(np.clip(key + rng.normal(0, 4), 31, 48))
    if beat == 0:
        return nearest(chord.root, centre)
    if beat == plan.beats - 1:
        return nearest(follow.root, centre) + float(rng.choice([-1, 1, 2, -2]))
    pool = chord.pitches if rng.random() < 0.7 else plan.scale
    return nearest(int(rng.choice(pool)), centre)


def drum_beat(rng: np.random.Generator, plan: Plan) -> list[Note]:
    """A groove for each section letter, ghost notes, fills at section ends, crashes at their starts."""
    grooves = {letter: _groove(rng, plan) for letter in sorted(set(plan.form))}
    if rng.random() < 0.5:
        shared = grooves[min(grooves)]
        grooves = {letter: (shared[0], shared[1], groove[2]) for letter, groove in grooves.items()}
    plays, extra = sections(rng, plan, 0.07), rng.choice(len(EXTRAS)) if rng.random() < 0.3 else None
    shake = fitted(
        str(rng.choice(["x.x.x.x.x.x.x.x.", "xxxxxxxxxxxxxxxx", "..x...x...x...x.", "x..x..x...x.x..."])), plan
    )
    notes: list[Note] = []
    for bar in (b for b in plan.bars if plays[b.section]):
        start = bar.index * plan.beats
        filled = bar.last and rng.random() < 0.75
        stop = plan.beats - float(rng.choice([1, 2, plan.beats])) if filled else plan.beats
        notes += [note.moved(start) for note in _groove_bar(rng, plan, bar, grooves[plan.form[bar.section]], stop)]
        if filled:
            notes += [note.moved(start) for note in _fill(rng, plan, max(stop, 0.0))]
        if bar.place == 0 and rng.random() < 0.7:
            notes.append(Note(start, 1.0, int(rng.choice([CRASH, 57])), int(105 + rng.integers(-10, 11))))
        if extra is not None:
            for beat, _, _ in hits(shake, plan, bar):
                notes.append(Note(start + beat, 0.2, int(rng.choice(EXTRAS[extra])), int(70 + rng.integers(-15, 16))))
    return notes


def _groove(rng: np.random.Generator, plan: Plan) -> tuple[str, str, str]:
    if plan.compound:
        tables: tuple[tuple[str, ...], ...] = (KICKS_6, SNARES_6, HATS_6)
    elif plan.beats == 3:
        tables = WALTZ
    elif plan.style == "electronic":
        tables = (("x...x...x...x...", *KICKS[:4]), SNARES, HATS)
    elif plan.style == "jazz":
        tables = JAZZ
    elif plan.style == "metal":
        tables = (KICKS, SNARES[:4], (*HATS[:4], "o...o...o...o...", "r...r...r...r..."))
    else:
        tables = (tuple(k for k in KICKS if k.count("x") < 12), SNARES, HATS)
    kick, snare, hat = (fitted(str(rng.choice(table)), plan) for table in tables)
    return kick, snare, hat


def _groove_bar(
    rng: np.random.Generator, plan: Plan, bar: Bar, groove: tuple[str, str, str], stop: float
) -> list[Note]:
    notes = []
    for row, pattern in enumerate(groove):
        for beat, mark, _ in hits(pattern, plan, bar):
            if beat >= stop or rng.random() < 0.03:
                continue
            accent = 10 if beat % (3 if plan.compound else 1) == 0 else -8
            key = KICK if row == 0 else HITS[mark] if row == 1 else CYMBALS[mark]
            force = (104, 50 if mark == "g" else 102, 78 + accent)[row] + 10 * (bar.energy - 0.6) + rng.integers(-7, 8)
            notes.append(Note(beat, 0.25, key, int(np.clip(force, 20, 127))))
    if rng.random() < 0.2:
        notes.append(Note(float(rng.integers(plan.beats * 2)) / 2 % max(stop, 0.5), 0.2, KICK, 90))
    return notes


def _fill(rng: np.random.Generator, plan: Plan, start: float) -> list[Note]:
    unit = step_length(plan) * float(rng.choice([1, 1, 2]))
    count = max(1, round((plan.beats - start) / unit))
    path = np.sort(rng.integers(0, len(TOMS) + 1, count))
    keys = [SNARE if p == 0 else TOMS[p - 1] for p in path]
    kept = rng.random(count) < rng.uniform(0.6, 1.0)
    fill = [
        Note(start + i * unit, 0.2, key, int(np.clip(84 + 25 * i / count + rng.integers(-8, 9), 1, 127)))
        for i, key in enumerate(keys)
        if kept[i]
    ]
    return [*fill, Note(start, 0.2, KICK, 100)]
