"""Speech in `other`: phrases of nonsense and plain words spoken by espeak-ng (apt: espeak-ng), a program of its own."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import soundfile
import soxr

from stemforge.data.players import Sound
from stemforge.data.score import RATE, Note, Part

WORDS = (
    "light river stone over under never always morning shadow paper seven window little father silver running away "
    "tomorrow water mountain listen again turn around slowly hold believe nothing yellow garden moving forward street "
    "winter letter falling summer open your eyes and tell me where the road goes down to the harbour tonight we wait"
)
VOICES = ("en-us", "en-gb", "de", "fr-fr", "es", "it", "pt", "en-us+f2", "en-us+f4", "en-gb+m3", "en-us+m7", "de+f3")


def available() -> bool:
    """Is the program `espeak-ng` here?"""
    return shutil.which("espeak-ng") is not None


def draw_part(rng: np.random.Generator, seconds: float) -> Part:
    """A part of phrases: key is the pitch setting of the voice (0-99), velocity its speed."""
    notes, now = [], float(rng.uniform(1, 8))
    pitch, speed = int(rng.integers(20, 80)), int(rng.integers(60, 127))
    while now < seconds - 3:
        length = float(rng.uniform(1.5, 4.0))
        notes.append(Note(now, length, pitch, speed))
        now += length + float(rng.exponential(3.0))
    return Part("other", "speech", 54, tuple(notes), name="speech")


def play(rng: np.random.Generator, part: Part, frames: int) -> Sound:
    """Each phrase from its start, cut at its length: (frames, 2), both sides equal."""
    sound = np.zeros((frames, 2), np.float32)
    voice = str(rng.choice(VOICES))
    with tempfile.TemporaryDirectory(prefix="stemforge-speech-") as folder:
        for i, note in enumerate(part.notes):
            words = " ".join(rng.choice(WORDS.split(), size=int(note.length * 3) + 1))
            phrase = _spoken(words, voice, note, Path(folder) / f"{i}.wav")
            start = round(note.start * RATE)
            piece = phrase[: min(round(note.length * RATE), frames - start)]
            if len(piece) > 2000:
                piece[-1000:] *= np.linspace(1, 0, 1000, dtype=np.float32)
                sound[start : start + len(piece)] += piece[:, None]
    return sound


def _spoken(words: str, voice: str, note: Note, path: Path) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    speed = str(100 + note.velocity)
    command = ["espeak-ng", "-v", voice, "-p", str(note.key), "-s", speed, "-w", str(path), words]
    done = subprocess.run(command, capture_output=True, check=False, timeout=30)
    if done.returncode != 0 or not path.is_file():
        return np.zeros(0, np.float32)
    samples, rate = soundfile.read(path, dtype="float32")
    return np.asarray(soxr.resample(samples, rate, RATE), np.float32)
