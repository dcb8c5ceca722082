"""What do copies as they reach listeners cost: mono, loud, clipped, lo-fi, coded?

    python bench/damage.py SONGS [--checkpoint forge] [--seconds 12] [--first N]

SONGS: folders with a file a stem. The middle of each is damaged (`stemforge.train.damage`), stems with it, and taken
apart. Printed are active SI-SDR improvements in dB, of every stem and of all, and how far the copy is from the song.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from vocals import RATE, middle

from stemforge import checkpoints
from stemforge.audio.metrics import active_gains
from stemforge.audio.resample import to_rate
from stemforge.devices import keep_memory
from stemforge.tasks.evaluate import list_songs
from stemforge.tasks.separate import separate
from stemforge.train.damage import clipped, coded, limited, narrowed, stood
from stemforge.types import Audio

Float = NDArray[np.float32]


def coarse(item: Float) -> Float:
    """item (stem, channel, time) at half of the rate, and back: nothing at all above 11 kHz."""
    stems = (to_rate(to_rate(Audio(torch.from_numpy(stem), RATE), RATE // 2), RATE).samples.numpy() for stem in item)
    return np.stack([stem[:, : item.shape[-1]] for stem in stems])


COPIES: dict[str, Callable[[Float], Float]] = {
    "as it is": lambda item: item,
    "mono": partial(stood, width=0, balance_db=0),
    "right 8 dB quieter": partial(stood, width=1, balance_db=-8),
    "left alone": partial(stood, width=1, balance_db=-200),
    "at 22050 Hz": coarse,
    "loud, 9 dB limited": partial(limited, push_db=9, reach=100),
    "clipped, 3 dB": partial(clipped, push_db=3, soft=False),
    "clipped, 9 dB": partial(clipped, push_db=9, soft=False),
    "driven, 9 dB": partial(clipped, push_db=9, soft=True),
    "MP3, 128 kbit/s": partial(coded, rate=RATE, mp3=True, compression=0.65),
    "MP3, 82 kbit/s": partial(coded, rate=RATE, mp3=True, compression=0.85),
    "Vorbis, 80 kbit/s": partial(coded, rate=RATE, mp3=False, compression=0.9),
    "lo-fi, 100 Hz to 5 kHz, mono, 8 bits": partial(narrowed, rate=RATE, low=100, high=5000, mono=True, bits=8),
    "below 10 kHz, 12 bits": partial(narrowed, rate=RATE, low=20, high=10000, mono=False, bits=12),
}


def main() -> None:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("songs", type=Path)
    parser.add_argument("--checkpoint")
    parser.add_argument("--seconds", type=float, default=12.0)
    parser.add_argument("--first", type=int, help="so many songs only")
    args = parser.parse_args()
    keep_memory()
    separator = checkpoints.load(args.checkpoint)
    songs = [middle(song, args.seconds) for song in list_songs(args.songs)[: args.first]]
    for label, copied in COPIES.items():
        found: dict[str, list[float]] = {}
        far = []
        for song in songs:
            item = torch.stack(list(song.values())).numpy()
            copy = copied(item)
            far.append(10 * np.log10(np.square(item.sum(0)).sum() / max(np.square((copy - item).sum(0)).sum(), 1e-9)))
            stems = separate(Audio(torch.from_numpy(copy.sum(axis=0)), RATE), separator)
            refs = {name: x.mean(axis=0).astype(np.float64) for name, x in zip(song, copy, strict=True)}
            ests = {name: stems[name].samples.mean(dim=0).double().numpy() for name in refs}
            for name, values in active_gains(refs, ests, RATE).items():
                found.setdefault(name, []).extend(values)
        every = float(np.mean([value for values in found.values() for value in values]))
        each = "  ".join(f"{name} {np.mean(values):.2f}" for name, values in sorted(found.items()))
        print(f"{label}: all {every:.2f}  {each}  copy at {np.mean(far):.1f} dB", flush=True)


if __name__ == "__main__":
    main()
