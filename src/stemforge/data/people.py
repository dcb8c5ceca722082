"""Recorded people: what they say or sing, as it was recorded.

    voices/spoken/<person>/**    voices/sung/<person>/**

A file may be a word or an hour; every format that soundfile reads will do.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

FORMATS = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff")
TRIES = 40
"""So many files at the most make one excerpt."""


@dataclass(frozen=True)
class Person:
    """One voice and its recordings. sings: it sings in them; size: bytes of all of them."""

    name: str
    files: tuple[Path, ...]
    sings: bool = False
    size: int = 1


def find(voices: Path) -> tuple[Person, ...]:
    """Everybody in a folder, sorted; nobody where there is none."""
    found = []
    for kind in ("spoken", "sung"):
        for folder in sorted(path for path in voices.glob(f"{kind}/*") if path.is_dir()):
            files = sorted(path for path in folder.glob("**/*") if path.suffix.lower() in FORMATS)
            if files:
                size = sum(path.stat().st_size for path in files)
                found.append(Person(folder.name, tuple(files), kind == "sung", size))
    return tuple(found)


def somebody(rng: np.random.Generator, people: Sequence[Person]) -> Person:
    """Somebody: the more there is of a person the more often, by the square root of it."""
    weights = np.sqrt([person.size for person in people])
    return people[int(rng.choice(len(people), p=weights / weights.sum()))]


def excerpt(rng: np.random.Generator, person: Person, seconds: float) -> tuple[NDArray[np.float32], int]:
    """So many seconds at random, one file after the other, mono (time,), and their sampling rate, that of the first.

    Less where there is no more, a tenth of a second of silence where nothing can be read.
    """
    sound, rate = np.zeros(0, np.float32), 0
    for _ in range(TRIES):
        path = person.files[int(rng.integers(len(person.files)))]
        with suppress(soundfile.SoundFileError):
            info = soundfile.info(path)
            if rate in (0, info.samplerate):
                count = min(info.frames, round(seconds * info.samplerate) - len(sound))
                start = int(rng.integers(info.frames - count + 1))
                piece, rate = soundfile.read(path, count, start, dtype="float32", always_2d=True)
                sound = np.concatenate([sound, _eased(piece.mean(axis=1), rate)])
        if rate and len(sound) == round(seconds * rate):
            break
    return (sound, rate) if len(sound) else (np.zeros(2205, np.float32), 22050)


def _eased(piece: NDArray[np.float32], rate: int) -> NDArray[np.float32]:
    """Ten milliseconds to come and to go, since it may be cut out of a word."""
    size = min(rate // 100, len(piece) // 2)
    slope = np.linspace(0, 1, size, dtype=np.float32)
    piece[:size] *= slope
    piece[len(piece) - size :] *= slope[::-1]
    return piece
