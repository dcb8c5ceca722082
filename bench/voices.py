"""Voices for `vocals.py` and `voice_lands.py`: by turns spoken by espeak-ng or flite, and sung to a random melody.

    python bench/voices.py OUT [--count 40] [--seed 0]

One wav of 8 s each, 44.1 kHz, mono. Singing needs pyworld (`pip install 'stemforge[data]'`).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import soundfile

from stemforge.data import singing, speech
from stemforge.data.score import RATE, Note, Part

SECONDS = 8
SCALE = (0, 2, 3, 5, 7, 8, 10)


def melody(rng: np.random.Generator) -> Part:
    """A walk over a minor scale, with rests."""
    notes, now, step = [], float(rng.uniform(0, 0.5)), int(rng.integers(0, 7))
    while now < SECONDS - 1:
        length = float(rng.choice([0.25, 0.375, 0.5, 0.75]))
        octave, degree = divmod(step, len(SCALE))
        notes.append(Note(now, 0.95 * length, 50 + 12 * octave + SCALE[degree], 100))
        step = int(np.clip(step + rng.integers(-2, 3), 0, 13))
        now += length + (float(rng.uniform(0.3, 0.8)) if rng.random() < 0.15 else 0.0)
    return Part("vocals", "singing", 54, tuple(notes))


def main() -> None:
    """The command line of this file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    for number in range(args.count):
        rng = np.random.default_rng([args.seed, number])
        if number % 2:
            name, sound = "sung", singing.play(rng, melody(rng), SECONDS * RATE)
        else:
            words = Part("vocals", "speech", 54, (Note(0.0, 3.5, 60, 100), Note(4.0, 3.5, 60, 100)))
            name, sound = "spoken", speech.play(rng, words, SECONDS * RATE)
        soundfile.write(args.out / f"{number:02d}_{name}.wav", sound.mean(axis=1), RATE, subtype="PCM_16")


if __name__ == "__main__":
    main()
