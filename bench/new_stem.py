"""A stem that no network knows: takes of one instrument to train a flow on, and songs in which it plays.

    python bench/new_stem.py takes OUT --font FONT.sf2 --program 73 --name flute --minutes 25
    python bench/new_stem.py songs SONGS OUT --font ANOTHER.sf2 --program 73 --name flute --seconds 6

Takes are melodies by one preset (General MIDI from 0: 73 is the flute) with the effects of a lead instrument, in
OUT/take-000.wav and so on. Songs are the middle `--seconds` of those in SONGS (one folder a song with one file a stem),
with one stem more, at the mean level of the others; its sound should be of a font that no take was made with. Then

    stemforge train flow stem=flute --data TAKES --valid TAKES --out runs/flow-flute
    python bench/methods.py OUT --seconds 6 --methods shared --flow flute=runs/flow-flute/best

and the same on SONGS without the flute say what the new stem is worth and what it costs the others (docs/flows.md).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from methods import middle_of

from stemforge.audio.writer import write
from stemforge.data import effects, melodies
from stemforge.data.levels import TARGETS, active_rms, to_level
from stemforge.data.plans import draw_plan
from stemforge.data.players import Sound, play_font
from stemforge.data.score import RATE, Part, humanise, in_seconds
from stemforge.tasks.evaluate import list_songs
from stemforge.types import Stems

RANGE = (60, 91)
"""Keys of the melodies: C4 to G6."""
STRUCK = range(16)
"""Programs whose notes do not bend: keys and bars."""
TAKE = 60.0
"""Seconds of a take."""


def played(rng: np.random.Generator, args: argparse.Namespace, seconds: float) -> Sound:
    """A melody (time, 2) with effects."""
    plan, program = draw_plan(rng, seconds), args.program
    notes, bends = melodies.lead(rng, plan, *args.range, bendy=bool(rng.random() < 0.3) and program not in STRUCK)
    notes = humanise(notes, rng, plan.tempo, 0.006, 5.0)
    beat = 60 / plan.tempo
    part = Part("other", "lead", program, in_seconds(notes, plan.tempo), bends=tuple((t * beat, v) for t, v in bends))
    dry = play_font(args.font, 0, program, part, round(seconds * RATE))
    return effects.apply(effects.draw_chain(rng, "other", "lead", program, sampled=True), dry)


def stem_of(name: str, sound: Sound) -> Stems:
    """One stem."""
    return Stems((name,), torch.from_numpy(np.ascontiguousarray(sound.T)).float()[None], RATE)


def takes(args: argparse.Namespace) -> None:
    """Write the takes."""
    for number in range(round(60 * args.minutes / TAKE)):
        sound = played(np.random.default_rng((args.seed, number)), args, TAKE)
        write(stem_of(f"take-{number:03d}", to_level(sound, TARGETS["other"])), args.out)


def songs(args: argparse.Namespace) -> None:
    """Write the songs with the stem in them."""
    for number, song in enumerate(list_songs(args.songs)):
        stems = middle_of(song, args.seconds)
        levels = [active_rms(each.samples[0].T.numpy()) for each in stems]
        rng = np.random.default_rng((args.seed, number))
        sound = played(rng, args, 4 * args.seconds)[-stems[0].samples.shape[-1] :]
        level = float(np.mean([each for each in levels if np.isfinite(each)]))
        for stem in (*stems, stem_of(args.name, to_level(sound, level))):
            write(stem, args.out / song.name)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    for run in (takes, songs):
        command = commands.add_parser(run.__name__)
        if run is songs:
            command.add_argument("songs", type=Path)
            command.add_argument("--seconds", type=float, default=6.0)
        else:
            command.add_argument("--minutes", type=float, default=25.0)
        command.add_argument("out", type=Path)
        command.add_argument("--font", type=Path, required=True)
        command.add_argument("--program", type=int, required=True)
        command.add_argument("--range", type=int, nargs=2, default=RANGE, metavar=("LOW", "HIGH"), help="keys")
        command.add_argument("--name", required=True)
        command.add_argument("--seed", type=int, default=0)
        command.set_defaults(run=run)
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
