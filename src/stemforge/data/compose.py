"""Compose songs: a plan, a band (our players, MMA's, or both), lead lines; and cast human MIDI songs anew."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from stemforge.data import guitars, keyboards, melodies, mma, rhythm
from stemforge.data.harmony import Plan
from stemforge.data.plans import draw_plan
from stemforge.data.score import Note, Part, Score, excerpt, folded, humanise, in_seconds, scaled, swung, transposed

ORGANS, STRINGS, BRASS, PADS = (16, 24), (48, 56), (56, 64), (88, 96)
LEADS = tuple(range(40, 44)) + tuple(range(56, 80)) + tuple(range(80, 88)) + (9, 11, 12, 13, 21, 22, 104, 105, 110, 114)
REGISTERS = {"guitar": (52, 84), "piano": (60, 96), "other": (55, 86)}
SUNG = 0.5
"""Share of the melodies of neither guitar nor piano that are sung."""
SINGER = 0.35
"""Share of songs of our own, and of human MIDI songs with a melody that can be sung, that get a singer."""
RANGE = (50, 76)
"""What singers sing: D3 to E5."""
LACKING = 0.13
"""Share of songs that lack one or two stems on purpose."""
NO_OTHER = 0.25
"""Share of the songs left that have nothing but bass, drums, guitar and piano: half of what bands play."""


def compose(rng: np.random.Generator, seconds: float, held_out: bool) -> Score:
    """A song of our own of about `seconds`; held_out: with MMA families that only validation uses."""
    family = mma.draw_family(rng, held_out) if rng.random() < 0.6 else None
    plan = draw_plan(rng, seconds, family.beats if family else None)
    band = mma.accompany(rng, plan, family) if family else []
    band = [_recast(rng, part) for part in band]
    parts = band + _missing(rng, plan, {part.stem for part in band})
    parts = _without_some(rng, parts + _leads(rng, plan) + _colours(rng, plan, parts))
    timed = tuple(_timed(rng, plan, part, human=part not in band) for part in parts if part.notes)
    details: dict[str, object] = {
        "source": "mma" if band else "own", "groove": family.name if family and band else None, "style": plan.style,
        "tempo": round(plan.tempo, 2), "key": plan.key, "beats": plan.beats, "swing": round(plan.swing, 3),
        "form": "".join(plan.form), "players": [part.name for part in parts],
    }  # fmt: skip
    return excerpt(
        Score(f"{plan.style} in {plan.beats}", plan.seconds, timed, details), 0.0, min(seconds, plan.seconds)
    )


def _recast(rng: np.random.Generator, part: Part) -> Part:
    """MMA's chord tracks change hands now and then, so that guitar and piano both comp in many songs."""
    if part.stem in ("piano", "other") and part.role == "comp" and rng.random() < 0.3:
        return replace(part, stem="guitar", program=int(rng.integers(24, 31)), notes=folded(part.notes, 40, 84))
    if part.stem in ("guitar", "other") and part.role == "comp" and rng.random() < 0.3:
        return replace(part, stem="piano", program=0)
    return part


def _missing(rng: np.random.Generator, plan: Plan, there: set[str]) -> list[Part]:
    """Players for the stems that the band lacks, and at times a second guitar or piano."""
    parts: list[Part] = []
    if "drums" not in there:
        parts.append(Part("drums", "drums", 0, tuple(rhythm.drum_beat(rng, plan)), name="own drums"))
    if "bass" not in there:
        parts.append(
            Part("bass", "bass", int(rng.integers(32, 40)), tuple(rhythm.bass_line(rng, plan)), name="own bass")
        )
    count = {"guitar": int("guitar" not in there) + int(rng.random() < 0.25), "piano": int("piano" not in there)}
    for _ in range(count["guitar"]):
        habit = str(rng.choice(guitars.HABITS[plan.style]))
        role = "power" if habit == "power" else "comp"
        program = int(rng.choice([29, 30])) if habit == "power" else int(rng.integers(24, 30))
        parts.append(
            Part("guitar", role, program, tuple(guitars.PLAYERS[habit](rng, plan)), name=f"own {habit} guitar")
        )
    for _ in range(count["piano"]):
        habit = str(rng.choice(keyboards.HABITS[plan.style]))
        notes = tuple(keyboards.PLAYERS[habit](rng, plan))
        controls = _pedal(plan) if habit in ("broken", "block") and rng.random() < 0.5 else ()
        parts.append(Part("piano", "comp", 0, notes, controls=controls, name=f"own {habit} piano"))
    return parts


def _pedal(plan: Plan) -> tuple[tuple[float, int, int], ...]:
    """Sustain pedal, changed with every bar (times in beats)."""
    pressed: list[tuple[float, int, int]] = []
    for bar in plan.bars:
        start = float(bar.index * plan.beats)
        pressed += [(start, 64, 0), (start + 0.12, 64, 127)]
    return tuple(pressed)


def _leads(rng: np.random.Generator, plan: Plan) -> list[Part]:
    """One or two melodies for guitar, piano, another instrument or a voice; rarely none."""
    parts: list[Part] = []
    stems = [str(stem) for stem in rng.choice(["guitar", "piano", "other"], p=[0.3, 0.2, 0.5], size=2)]
    stems = ["vocals" if stem == "other" and rng.random() < SUNG else stem for stem in stems]
    stems = stems[: int(rng.choice([0, 1, 2], p=[0.12, 0.6, 0.28]))] + ["vocals"] * int(rng.random() < SINGER)
    for stem in stems:
        role = "vowels" if stem == "vocals" else "lead"
        bendy = role == "vowels" or (stem != "piano" and rng.random() < 0.55)
        low, high = RANGE if role == "vowels" else REGISTERS[stem]
        shift = int(rng.integers(-5, 6))
        notes, bends = melodies.lead(rng, plan, low + shift, high + shift, bendy)
        program = {"guitar": int(rng.integers(24, 32)), "piano": 0}.get(stem, int(rng.choice(LEADS)))
        parts.append(Part(stem, role, program, tuple(notes), bends=tuple(bends), name=f"{role} {stem}"))
    return parts


def _colours(rng: np.random.Generator, plan: Plan, parts: list[Part]) -> list[Part]:
    """Pads, sequences, stabs and slow lines in `other`: none to two."""
    chance = 0.45 if any(part.stem == "other" for part in parts) else 0.85
    colours: list[Part] = []
    while rng.random() < chance and len(colours) < 2:
        kind = str(rng.choice(["pad", "pad", "sequence", "stabs", "counter", "organ"]))
        low, high = {"pad": PADS if rng.random() < 0.4 else STRINGS, "sequence": (80, 88), "stabs": BRASS,
                     "counter": (40, 80), "organ": ORGANS}[kind]  # fmt: skip
        writer = {"pad": melodies.pad, "sequence": melodies.sequence, "stabs": melodies.stabs,
                  "counter": melodies.counter, "organ": keyboards.block}[kind]  # fmt: skip
        role = "pad" if kind in ("pad", "organ") else "lead"
        program = int(rng.integers(low, high))
        colours.append(Part("other", role, program, tuple(writer(rng, plan)), name=f"own {kind}"))
        chance /= 2
    return colours


def _without_some(rng: np.random.Generator, parts: list[Part]) -> list[Part]:
    """With chance LACKING one or two stems are taken out; of the other songs NO_OTHER lose `other`."""
    if rng.random() >= LACKING:
        bare = rng.random() < NO_OTHER and len({part.stem for part in parts}) > 3
        return [part for part in parts if part.stem != "other"] if bare else parts
    gone = set(rng.choice(["bass", "drums", "guitar", "piano", "other"], size=int(rng.integers(1, 3)), replace=False))
    return [part for part in parts if part.stem not in gone]


def _timed(rng: np.random.Generator, plan: Plan, part: Part, human: bool) -> Part:
    """Beats to seconds; our own players swing and get small deviations."""
    notes = list(part.notes)
    if human:
        notes = swung(notes, plan.swing) if plan.swing > 0.5 else notes
        tight = float(rng.choice([0.0, 0.004, 0.008, 0.012]))
        notes = humanise(notes, rng, plan.tempo, tight, float(rng.uniform(2, 8)))
    beat = 60 / plan.tempo
    return replace(
        part,
        notes=in_seconds(notes, plan.tempo),
        bends=tuple(sorted((time * beat, value) for time, value in part.bends)),
        controls=tuple(sorted((time * beat, number, value) for time, number, value in part.controls)),
    )


def recast(rng: np.random.Generator, song: Score) -> Score:
    """A human song with another tempo, key and cast: the same notes by other players.

    Parts of `other` are handed to guitar, piano or bass where the song has none (most often), or at random (seldom).
    """
    shift, factor = int(rng.integers(-5, 7)), float(rng.uniform(0.85, 1.15))
    parts = [transposed(part, shift) for part in song.parts if len(part.notes) >= 4]
    for stem, (low, high) in {"guitar": (40, 84), "piano": (28, 100), "bass": (28, 55)}.items():
        if any(part.stem == stem for part in parts) and rng.random() > 0.1:
            continue
        parts = _handed(rng, parts, stem, low, high)
    parts = _without_some(rng, _sung(rng, parts))
    details = {"source": "midi", "song": song.title, "transposed": shift, "tempo_factor": round(factor, 4)}
    return scaled(replace(song, parts=tuple(parts), details=details), factor)


def _handed(rng: np.random.Generator, parts: list[Part], stem: str, low: int, high: int) -> list[Part]:
    others = [i for i, part in enumerate(parts) if part.stem == "other" and _fits(part.notes, low, high)]
    if not others or rng.random() < 0.2:
        return parts
    chosen = int(rng.choice(others))
    first = {"guitar": 24, "piano": 0, "bass": 32}[stem]
    moved = replace(parts[chosen], stem=stem, program=first + int(rng.integers(0, 8)))
    return [*parts[:chosen], replace(moved, notes=folded(moved.notes, low, high)), *parts[chosen + 1 :]]


def _sung(rng: np.random.Generator, parts: list[Part]) -> list[Part]:
    """With chance SINGER a melody of `other` (one note at a time) is sung instead."""
    lines = [i for i, part in enumerate(parts) if part.stem == "other" and _line(part.notes)]
    if not lines or rng.random() >= SINGER:
        return parts
    chosen = int(rng.choice(lines))
    voice = replace(parts[chosen], stem="vocals", role="vowels", notes=folded(parts[chosen].notes, *RANGE))
    return [*parts[:chosen], voice, *parts[chosen + 1 :]]


def _line(notes: tuple[Note, ...]) -> bool:
    """Hardly two notes at a time, of a length that can be sung?"""
    apart = np.diff(sorted(note.start for note in notes))
    return bool(np.mean(apart > 0.06) > 0.9 and np.median([note.length for note in notes]) > 0.12)


def _fits(notes: tuple[Note, ...], low: int, high: int) -> bool:
    inside = sum(low <= note.key <= high for note in notes)
    return inside >= 0.6 * len(notes)
