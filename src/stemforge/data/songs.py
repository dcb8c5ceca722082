"""Song number k of a seed: composed or cast from human MIDI, checked for activity, cut to an excerpt."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from stemforge.data import speech
from stemforge.data.catalogue import Catalogue
from stemforge.data.compose import compose, recast
from stemforge.data.midi import read_midi
from stemforge.data.people import Person
from stemforge.data.score import Part, Score, excerpt, transposed
from stemforge.errors import InputError

SHORTEST, LONGEST = 75.0, 150.0
"""Seconds of a song."""
HUMAN = 0.45
"""Share of songs from human MIDI, where there is any."""
SPEECH, WITH_PEOPLE = 0.1, 0.3
"""Share of songs with spoken words, and where there are recorded people with what they say or sing."""
AS_SUNG = 0.3
"""Of these, the share with recorded singing, where there is any."""
OCTAVES = {"bass": (12,), "guitar": (-12, -12, 12), "piano": (-12, 12)}
"""Where parts are moved now and then, so that a stem is not known by its register."""
MOVED = 0.08
"""Share of these parts that are moved."""
MIN_NOTES = 0.3
"""Notes a second that a stem must have to be kept."""
TOGETHER = 0.4
"""Share of seconds in which at least three stems (two where stems lack on purpose) must have notes."""
ATTEMPTS = 12


def song_rng(seed: int, index: int, split: str) -> np.random.Generator:
    """The generator from which everything about one song is drawn."""
    return np.random.default_rng(np.random.SeedSequence([seed, index, {"train": 0, "valid": 1}[split]]))


def draw_song(rng: np.random.Generator, catalogue: Catalogue, longest: float = LONGEST) -> Score:
    """A song that passes the activity filter. Errors: InputError when many draws in a row fail."""
    for _ in range(ATTEMPTS):
        seconds = float(rng.uniform(min(SHORTEST, longest), longest))
        if catalogue.songs and rng.random() < HUMAN:
            path = catalogue.songs[int(rng.integers(len(catalogue.songs)))]
            song = _window(rng, recast(rng, _read(path)), seconds)
        else:
            song = compose(rng, seconds, catalogue.split == "valid")
        song = _thinned(_moved(rng, song))
        if song.seconds >= min(20, 0.8 * longest) and _lively(song):
            return _with_speech(rng, song, catalogue.people)
    raise InputError(f"no usable song in {ATTEMPTS} draws: the MIDI files are too empty. Add songs with several parts.")


@lru_cache(maxsize=256)
def _read(path: Path) -> Score:
    return read_midi(path)


def _window(rng: np.random.Generator, song: Score, seconds: float) -> Score:
    """The busiest of a few random excerpts."""
    seconds = min(seconds, song.seconds)
    starts = rng.uniform(0, max(song.seconds - seconds, 0.0), 4)
    cuts = [excerpt(song, float(start), seconds) for start in starts]
    best = max(cuts, key=_coverage)
    return replace(best, details={**best.details, "excerpt": round(float(starts[cuts.index(best)]), 2)})


def _moved(rng: np.random.Generator, song: Score) -> Score:
    """Now and then a bass plays high, a guitar low, a piano an octave from where it was written."""
    parts = []
    for part in song.parts:
        moves = part.stem in OCTAVES and rng.random() < MOVED
        parts.append(transposed(part, int(rng.choice(OCTAVES[part.stem]))) if moves else part)
    return replace(song, parts=tuple(parts))


def _thinned(song: Score) -> Score:
    """Without parts that are nearly silent, and without stems that have too few notes."""
    counts: dict[str, int] = {}
    for part in song.parts:
        counts[part.stem] = counts.get(part.stem, 0) + len(part.notes)
    kept = {stem for stem, count in counts.items() if count >= MIN_NOTES * song.seconds}
    return replace(song, parts=tuple(part for part in song.parts if part.stem in kept and len(part.notes) > 2))


def note_seconds(parts: tuple[Part, ...], seconds: float) -> dict[str, np.ndarray[tuple[int], np.dtype[np.bool_]]]:
    """For each stem and second: is there a note? Drum hits count for their second."""
    table: dict[str, np.ndarray[tuple[int], np.dtype[np.bool_]]] = {}
    for part in parts:
        row = table.setdefault(part.stem, np.zeros(int(seconds) + 1, np.bool_))
        for note in part.notes:
            row[int(note.start) : int(note.start + note.length) + 1] = True
    return table


def _coverage(song: Score) -> float:
    table = note_seconds(song.parts, song.seconds)
    needed = 3 if len(table) > 3 else 2
    return float(np.mean(np.sum(list(table.values()), axis=0) >= needed)) if table else 0.0


def _lively(song: Score) -> bool:
    return len(song.stems()) >= 2 and _coverage(song) >= TOGETHER


def _with_speech(rng: np.random.Generator, song: Score, people: tuple[Person, ...]) -> Score:
    if rng.random() >= (WITH_PEOPLE if people else SPEECH) or not (people or speech.available()):
        return song
    singers = [person for person in people if person.sings]
    speaks = len(singers) < len(people) or speech.available()
    sung = bool(singers) and (not speaks or rng.random() < AS_SUNG)
    return replace(song, parts=(*song.parts, speech.draw_part(rng, song.seconds, sung)))
