"""Draw the plan of a composed song: style, key, metre, tempo, swing, sections and their chords."""

from __future__ import annotations

import numpy as np

from stemforge.data.harmony import LOOPS, MAJOR, MINOR, Bar, Chord, Plan, enriched, parse_loop, random_loop

STYLES: dict[str, tuple[float, tuple[int, int], tuple[str, ...], float]] = {
    # share, tempo range, loop lists, chance of swing
    "rock": (0.17, (95, 165), ("rock", "pop", "minor"), 0.08),
    "pop": (0.20, (80, 132), ("pop", "minor", "modal"), 0.08),
    "ballad": (0.13, (58, 86), ("ballad", "pop", "minor"), 0.1),
    "funk": (0.10, (88, 118), ("modal", "blues", "minor"), 0.15),
    "jazz": (0.10, (85, 200), ("jazz",), 0.8),
    "blues": (0.07, (65, 140), ("blues",), 0.75),
    "metal": (0.06, (110, 185), ("rock", "minor"), 0.0),
    "country": (0.08, (85, 175), ("country", "pop"), 0.2),
    "electronic": (0.09, (100, 140), ("minor", "modal", "pop"), 0.1),
}


def draw_plan(rng: np.random.Generator, seconds: float, beats: int | None = None) -> Plan:
    """A plan of about `seconds`; `beats` forces the metre (3, 4, or 6 for 6/8)."""
    names = list(STYLES)
    shares = np.array([STYLES[name][0] for name in names])
    style = str(rng.choice(names, p=shares / shares.sum()))
    _, (slow, fast), lists, swing_chance = STYLES[style]
    metre = beats or int(rng.choice([4, 3, 6], p=[0.86, 0.07, 0.07]))
    tempo = float(rng.uniform(slow, fast)) * {4: 1.0, 3: 1.1, 6: 2.2}[metre]
    key = int(rng.integers(12))
    swing = float(rng.uniform(0.57, 0.68)) if metre != 6 and rng.random() < swing_chance else 0.5
    loops, minor = _draw_loops(rng, style, lists)
    count = max(8, round(seconds * tempo / 60 / metre))
    bars, form = _form(rng, [parse_loop(loop, key, metre) for loop in loops], count, style)
    scale = tuple(sorted((key + step) % 12 for step in (MINOR if minor else MAJOR)))
    return Plan(style, key, scale, metre, metre == 6, tempo, swing, bars, form)


def _draw_loops(rng: np.random.Generator, style: str, lists: tuple[str, ...]) -> tuple[list[str], bool]:
    pool = [loop for name in lists for loop in LOOPS[name]]
    loops = [str(loop) for loop in rng.choice(pool, size=3, replace=False)]
    minor = any(mark.split(":")[0].startswith("0m") for mark in loops[0].split()[:2])
    if style not in ("jazz", "blues"):
        loops = [random_loop(rng, minor) if rng.random() < 0.25 else loop for loop in loops]
    return loops, minor


def _form(
    rng: np.random.Generator, loops: list[list[tuple[tuple[float, Chord], ...]]], count: int, style: str
) -> tuple[tuple[Bar, ...], tuple[str, ...]]:
    """Sections A, B, C over the loops until `count` bars are full; each section has its own energy."""
    amount = float(rng.choice([0.0, 0.1, 0.3])) if style != "metal" else 0.0
    loops = [enriched(loop, rng, amount) for loop in loops]
    energies = rng.uniform(0.3, 1.0, len(loops))
    pattern = str(rng.choice(["AABABCB", "ABABCB", "AABA", "ABAC", "ABCABC", "AAB", "AB", "IABABCBB"]))
    bars: list[Bar] = []
    form: list[str] = []
    while len(bars) < count:
        letter = pattern[len(form) % len(pattern)]
        loop = loops["IABC".index(letter) - 1 if letter != "I" else 0]
        energy = 0.15 if letter == "I" else float(energies["ABC".index(letter)])
        size = len(loop) * (2 if len(loop) <= 4 and letter != "I" else 1)
        section = [loop[i % len(loop)] for i in range(size)][: count - len(bars)]
        for place, chords in enumerate(section):
            last = place == len(section) - 1
            bars.append(Bar(len(bars), chords, len(form), place, last, energy))
        form.append(letter)
    return tuple(bars), tuple(form)
