"""Speech in a song: phrases of recorded people, or of espeak-ng and flite (apt), programs of their own."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from stemforge.data.people import Person, excerpt, somebody
from stemforge.data.players import Sound
from stemforge.data.score import RATE, Note, Part

WORDS = (
    "light river stone over under never always morning shadow paper seven window little father silver running away "
    "tomorrow water mountain listen again turn around slowly hold believe nothing yellow garden moving forward street "
    "winter letter falling summer open your eyes and tell me where the road goes down to the harbour tonight we wait"
)
VOICES = {
    "espeak-ng": (
        "en-us",
        "en-gb",
        "de",
        "fr-fr",
        "es",
        "it",
        "pt",
        "en-us+f2",
        "en-us+f4",
        "en-gb+m3",
        "en-us+m7",
        "de+f3",
    ),
    "flite": ("kal16", "awb", "rms", "slt"),
}
"""By program; those of flite are made from recordings of four people, and free."""
RECORDED = 0.7
"""Share of the voices that are recorded people, where there are any."""
A_SECOND = 3
"""Words, about."""


@dataclass(frozen=True)
class Speaker:
    """A voice of a program; pitch 0-99, speed 1-127, both around what is usual for it."""

    program: str
    voice: str
    pitch: int
    speed: int


def available() -> bool:
    """Is the program `espeak-ng` here?"""
    return shutil.which("espeak-ng") is not None


def draw_speaker(rng: np.random.Generator, people: Sequence[Person] = ()) -> Speaker | Person:
    """A speaker at random; of the programs flite, where it is installed, in two of five draws."""
    if people and (not available() or rng.random() < RECORDED):
        return somebody(rng, people)
    program = "flite" if shutil.which("flite") and rng.random() < 0.4 else "espeak-ng"
    voice = str(rng.choice(VOICES[program]))
    return Speaker(program, voice, int(rng.integers(20, 80)), int(rng.integers(60, 127)))


def draw_part(rng: np.random.Generator, seconds: float, sung: bool = False) -> Part:
    """A part of phrases, spoken or sung as they were recorded; sung ones are longer."""
    notes, now = [], float(rng.uniform(1, 8))
    while now < seconds - 3:
        length = float(rng.uniform(3.0, 9.0) if sung else rng.uniform(1.5, 4.0))
        notes.append(Note(now, length, 60, 100))
        now += length + float(rng.exponential(1.5 if sung else 3.0))
    return Part("vocals", "speech", 54, tuple(notes), name="singing" if sung else "speech")


def play(rng: np.random.Generator, part: Part, frames: int, person: Person | None = None) -> Sound:
    """Each phrase from its start, cut at its length: (frames, 2), both sides equal. person: instead of a program."""
    sound, speaker = np.zeros((frames, 2), np.float32), person or draw_speaker(rng)
    speed = float(2 ** (rng.uniform(-2, 2) / 12)) if person else 1.0
    for note in part.notes:
        words, rate = spoken(rng, speaker, int(note.length * A_SECOND) + 1)
        phrase = soxr.resample(words, rate * speed, RATE).astype(np.float32)
        start = round(note.start * RATE)
        piece = phrase[: min(round(note.length * RATE), frames - start)]
        if len(piece) > 2000:
            piece[-1000:] *= np.linspace(1, 0, 1000, dtype=np.float32)
            sound[start : start + len(piece)] += piece[:, None]
    return sound


def spoken(rng: np.random.Generator, speaker: Speaker | Person, count: int) -> tuple[NDArray[np.float32], int]:
    """So many words at random, (time,), and their sampling rate; a tenth of a second of silence when none is said."""
    if isinstance(speaker, Person):
        return excerpt(rng, speaker, count / A_SECOND)
    words = " ".join(rng.choice(WORDS.split(), size=count))
    with tempfile.TemporaryDirectory(prefix="stemforge-speech-") as folder:
        path = Path(folder) / "words.wav"
        done = subprocess.run(_command(speaker, path, words), capture_output=True, check=False, timeout=30)
        if done.returncode != 0 or not path.is_file():
            return np.zeros(2205, np.float32), 22050
        samples, rate = soundfile.read(path, dtype="float32")
    return np.asarray(samples, np.float32), rate


def _command(speaker: Speaker, path: Path, words: str) -> list[str]:
    if speaker.program == "flite":
        hertz, stretch = 80 + 1.6 * speaker.pitch, 1.6 - speaker.speed / 127
        settings = ["--setf", f"int_f0_target_mean={hertz:.0f}", "--setf", f"duration_stretch={stretch:.2f}"]
        return ["flite", "-voice", speaker.voice, *settings, "-t", words, "-o", str(path)]
    tuned = ["-p", str(speaker.pitch), "-s", str(100 + speaker.speed)]
    return ["espeak-ng", "-v", speaker.voice, *tuned, "-w", str(path), words]
