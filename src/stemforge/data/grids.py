"""Step patterns: strings with one character a step, cut to the metre of a song."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from stemforge.data.harmony import Bar, Plan


def step_length(plan: Plan) -> float:
    """Length of one pattern step in beats: sixteenths, or half of an eighth in 6/8."""
    return 0.5 if plan.compound else 0.25


def fitted(pattern: str, plan: Plan) -> str:
    """A pattern of 16 steps (or a multiple) for one bar of the metre: 16, or 12 steps in 3/4 and 6/8."""
    steps = round(plan.beats / step_length(plan))
    if len(pattern) % steps == 0 or len(pattern) < steps:
        return (pattern * steps)[:steps] if len(pattern) < steps else pattern
    return pattern[:steps]


def draw_pattern(rng: np.random.Generator, plan: Plan, simple: tuple[str, ...], compound: tuple[str, ...]) -> str:
    """One of the patterns for the metre of the plan."""
    return fitted(str(rng.choice(compound if plan.compound else simple)), plan)


def hits(pattern: str, plan: Plan, bar: Bar) -> Iterator[tuple[float, str, float]]:
    """(beat in the bar, character, beats until the next character that is not ".") for each hit of a bar.

    "-" prolongs nothing and starts nothing: it ends the note before it.
    """
    steps = round(plan.beats / step_length(plan))
    offset = (bar.place * steps) % len(pattern) if len(pattern) > steps else 0
    row = pattern[offset : offset + steps]
    places = [i for i, mark in enumerate(row) if mark != "."]
    for i, place in enumerate(places):
        stop = places[i + 1] if i + 1 < len(places) else steps
        if row[place] != "-":
            yield place * step_length(plan), row[place], (stop - place) * step_length(plan)


def sections(rng: np.random.Generator, plan: Plan, absent: float) -> dict[int, bool]:
    """Which sections a player plays: each is left out with chance `absent`, never all of them."""
    count = len(plan.form)
    plays = {i: bool(rng.random() >= absent) for i in range(count)}
    if not any(plays.values()):
        plays[int(rng.integers(count))] = True
    return plays


def nearest(pitch: int, centre: float) -> int:
    """The key with pitch class `pitch` that is closest to `centre`."""
    return round((centre - pitch) / 12) * 12 + pitch
