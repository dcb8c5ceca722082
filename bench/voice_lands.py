"""Where does a voice go that a checkpoint without vocals, or one that folds them into `other`, takes apart?

    python bench/voice_lands.py SONGS SPEECH [--level -3] [--seconds 12] [--first N] [--checkpoint forge] [--vocals]

SONGS and SPEECH as bench/vocals.py has them. Every song is taken apart with and without the voice. Printed are the
share of the voice in each stem, <with - without, voice> / <voice, voice>, whose sum is 1, and the SI-SDR in dB that
every stem but `other` loses by the voice, over windows in which it sounds.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from vocals import RATE, active_rms, middle, phrases, voice

from stemforge import checkpoints
from stemforge.audio.metrics import active_gains
from stemforge.devices import keep_memory
from stemforge.tasks.evaluate import list_songs
from stemforge.tasks.separate import separate
from stemforge.types import Audio, Separator


def shares(plain: dict[str, Tensor], sung: dict[str, Tensor], spoken: Tensor) -> dict[str, float]:
    """Part of the voice in each stem."""
    return {name: float(((sung[name] - plain[name]) * spoken).sum() / spoken.square().sum()) for name in plain}


def losses(refs: dict[str, Tensor], plain: dict[str, Tensor], sung: dict[str, Tensor]) -> dict[str, list[float]]:
    """SI-SDR in dB that each stem but `other` loses, window by window: the improvement before less that after."""
    wanted, before, after = ({name: x[name].mean(dim=0).double().numpy() for name in refs} for x in (refs, plain, sung))
    gained, left = (active_gains(wanted, heard, RATE) for heard in (before, after))
    pairs = {name: zip(gained[name], left[name], strict=True) for name in gained if name != "other"}
    return {name: [a - b for a, b in values] for name, values in pairs.items()}


def parted(separator: Separator, mixture: Tensor) -> dict[str, Tensor]:
    """Stems by name."""
    stems = separate(Audio(mixture, RATE), separator)
    return {name: stems[name].samples for name in stems.names}


def main() -> None:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("songs", type=Path)
    parser.add_argument("speech", type=Path)
    parser.add_argument("--level", type=float, default=-3.0)
    parser.add_argument("--seconds", type=float, default=12.0)
    parser.add_argument("--first", type=int, help="so many songs only")
    parser.add_argument("--checkpoint")
    parser.add_argument("--vocals", action="store_true", help="with the stems that the checkpoint folds")
    args = parser.parse_args()
    keep_memory()
    separator, files = checkpoints.load(args.checkpoint, whole=args.vocals), phrases(args.speech)
    landed: list[dict[str, float]] = []
    lost: dict[str, list[float]] = {}
    for number, song in enumerate(list_songs(args.songs)[: args.first]):
        stems = middle(song, args.seconds)
        rest = torch.stack(list(stems.values())).sum(dim=0)
        spoken = voice(files, rest.shape[-1], number) * active_rms(rest) * 10 ** (args.level / 20)
        plain, sung = parted(separator, rest), parted(separator, rest + spoken)
        landed.append(shares(plain, sung, spoken))
        refs = {name: x for name, x in stems.items() if name in plain}
        for name, values in losses(refs, plain, sung).items():
            lost.setdefault(name, []).extend(values)
    mean = {name: float(np.mean([song[name] for song in landed])) for name in landed[0]}
    print("share of the voice:", "  ".join(f"{name} {100 * share:.0f}%" for name, share in mean.items()))
    print("SI-SDR lost, dB:", "  ".join(f"{name} {np.mean(values):.2f}" for name, values in lost.items()))
    print(f"mean {np.mean([np.mean(v) for v in lost.values()]):.2f} dB, {len(landed)} songs, voice {args.level:g} dB")


if __name__ == "__main__":
    main()
