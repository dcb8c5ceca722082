"""Singing: what a speech synthesizer or a recorded person says, its pitch and time bent to a melody by WORLD.

Morise, Yokomori and Ozawa 2016, "WORLD: a vocoder-based high-quality speech synthesis system for real-time
applications" (https://doi.org/10.1587/transinf.2015EDP7457), through the package pyworld.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import soxr
from numpy.typing import NDArray

from stemforge.data import speech
from stemforge.data.extras import require
from stemforge.data.people import Person
from stemforge.data.players import Sound
from stemforge.data.score import RATE, Note, Part

Curve = NDArray[np.float64]
STEP_MS = 5.0
_A_SECOND = int(1000 / STEP_MS)
BREATH_S = 0.45
"""A pause of this length ends a phrase."""
LONGEST = 10
"""Notes of a phrase."""
CONSONANT = 18
"""Steps that a consonant may last."""


@dataclass(frozen=True)
class Singer:
    """A voice: who speaks, by how much its formants are higher, vibrato (semitones, Hz), slides (steps)."""

    speaker: speech.Speaker | Person
    formants: float
    vibrato: float
    rate: float
    slide: int


class _Words(NamedTuple):
    """What WORLD finds in speech: which steps are voiced, envelope and aperiodicity (step, bin), sampling rate."""

    voiced: NDArray[np.bool_]
    envelope: Curve
    aperiodicity: Curve
    rate: int


def available(people: Sequence[Person] = ()) -> bool:
    """Are somebody who speaks and WORLD here?"""
    return (bool(people) or speech.available()) and importlib.util.find_spec("pyworld") is not None


def draw_singer(rng: np.random.Generator, people: Sequence[Person] = ()) -> Singer:
    """A voice at random."""
    return Singer(
        speech.draw_speaker(rng, people), float(rng.uniform(0.88, 1.18)), float(rng.uniform(0, 0.5)),
        float(rng.uniform(4.8, 6.4)), int(rng.integers(4, 24)),
    )  # fmt: skip


def play(rng: np.random.Generator, part: Part, frames: int, people: Sequence[Person] = ()) -> Sound:
    """The melody of the part, sung: (frames, 2), both sides equal; now and then a second voice doubles the first."""
    sound = np.zeros((frames, 2), np.float32)
    for _ in range(int(rng.choice([1, 2, 3], p=[0.7, 0.2, 0.1]))):
        singer, late = draw_singer(rng, people), int(rng.uniform(0, 0.02) * RATE)
        for notes in phrases(part.notes):
            sung = _sung(rng, singer, part, notes)
            start = round(notes[0].start * RATE) + late
            sung = sung[: max(frames - start, 0)]
            sound[start : start + len(sung)] += sung[:, None]
    return sound


def phrases(notes: tuple[Note, ...]) -> list[list[Note]]:
    """The notes by breath: at most LONGEST of them, no pause of BREATH_S within; overlapping notes become a line."""
    found: list[list[Note]] = []
    for note in sorted(notes, key=lambda note: note.start):
        last = found[-1][-1] if found else None
        if last is not None and note.start - last.start < 0.06:
            continue
        if last is None or note.start - (last.start + last.length) > BREATH_S or len(found[-1]) == LONGEST:
            found.append([])
        found[-1].append(note)
    return found


def _sung(rng: np.random.Generator, singer: Singer, part: Part, notes: list[Note]) -> NDArray[np.float32]:
    """One phrase from its first note on, at RATE."""
    world: Any = require("pyworld")
    words = _analysed(world, *speech.spoken(rng, singer.speaker, len(notes) + 2))
    runs = _runs(words.voiced)
    if not runs:
        return np.zeros(0, np.float32)
    read, loud = _reading(rng, runs, notes)
    steps = np.round(read).astype(np.int64)
    hertz = _melody(rng, singer, part, notes, len(read)) * words.voiced[steps]
    envelope = np.maximum(_shifted(words.envelope[steps], singer.formants) * loud[:, None] ** 2, 1e-14)
    made = world.synthesize(hertz, np.ascontiguousarray(envelope), words.aperiodicity[steps], words.rate, STEP_MS)
    return np.asarray(soxr.resample(made, words.rate, RATE), np.float32)


def _analysed(world: Any, samples: NDArray[np.float32], rate: int) -> _Words:  # noqa: ANN401 - a module
    x = samples.astype(np.float64)
    pitch, times = world.dio(x, rate, frame_period=STEP_MS)
    pitch = world.stonemask(x, pitch, times, rate)
    return _Words(pitch > 0, world.cheaptrick(x, pitch, times, rate), world.d4c(x, pitch, times, rate), rate)


def _runs(voiced: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """First and last step of each stretch of at least 40 ms with a voice: about the vowels."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], voiced.view(np.int8), [0]])))
    return [(int(a), int(b) - 1) for a, b in edges.reshape(-1, 2) if b - a >= 8]


def _reading(rng: np.random.Generator, runs: list[tuple[int, int]], notes: list[Note]) -> tuple[Curve, Curve]:
    """For each step of the song, which step of the speech is heard, and how loud: consonant, vowel for a note."""
    origin = notes[0].start
    ends = [round((note.start + note.length - origin) * _A_SECOND) for note in notes]
    starts = [round((note.start - origin) * _A_SECOND) for note in notes]
    read, loud = np.zeros(max(ends) + 1), np.zeros(max(ends) + 1)
    first = int(rng.integers(len(runs)))
    for k, (start, end) in enumerate(zip(starts, ends, strict=True)):
        stop = min(end, starts[k + 1]) if k + 1 < len(starts) else end
        j = (first + k) % len(runs)
        begin, last = runs[j]
        lead = min(begin - (runs[j - 1][1] if j else 0), CONSONANT, (stop - start) // 3)
        if stop - start < 4:
            continue
        read[start : start + lead] = np.arange(begin - lead, begin)
        read[start + lead : stop] = np.linspace(begin, last, stop - start - lead)
        loud[start:stop] = (notes[k].velocity / 127) ** 0.7
        loud[max(stop - 5, start) : stop] *= np.linspace(1, 0.3, min(5, stop - start))
    return read, loud


def _melody(rng: np.random.Generator, singer: Singer, part: Part, notes: list[Note], steps: int) -> Curve:
    """Hz of each step: the notes with slides between them, the part's bends, vibrato on what is held, drift."""
    at = notes[0].start + np.arange(steps) / _A_SECOND
    place = np.searchsorted([note.start for note in notes], at, side="right") - 1
    keys = np.array([note.key for note in notes], np.float64)[np.maximum(place, 0)]
    window = np.hanning(singer.slide + 2)[1:-1]
    keys = np.convolve(np.pad(keys, len(window), mode="edge"), window / window.sum(), "same")[
        len(window) : -len(window)
    ]
    held = at - np.array([note.start for note in notes])[np.maximum(place, 0)]
    keys += singer.vibrato * np.clip(held / 0.4 - 0.6, 0, 1) * np.sin(2 * np.pi * singer.rate * at)
    drift = np.convolve(rng.normal(0, 0.6, steps + 59), np.ones(60) / 60, "valid")
    if part.bends:
        times, bends = zip(*part.bends, strict=True)
        keys += np.interp(at, times, bends)
    return np.asarray(440.0 * 2 ** ((keys + drift - 69) / 12), np.float64)


def _shifted(envelope: Curve, ratio: float) -> Curve:
    """Envelopes (step, bin) with all formants `ratio` times as high."""
    bins = np.arange(envelope.shape[1])
    at = np.minimum(bins / ratio, bins[-1])
    low = at.astype(np.int64)
    high = np.minimum(low + 1, bins[-1])
    weight = at - low
    return np.asarray(envelope[:, low] * (1 - weight) + envelope[:, high] * weight, np.float64)
