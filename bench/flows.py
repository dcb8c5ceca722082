"""Does each flow like its own stem best? Bits a value of every stem under every flow.

    python bench/flows.py SONGS [--checkpoint flows] [--flow STEM=CHECKPOINT ...] [--pieces 48] [--csv FILE]

SONGS: one folder a song with one file a stem, which no flow was trained on. Pieces of 3 s that sound are drawn from the
files of each stem and brought to one loudness. Printed: one row a stem, one column a flow, the negative log-likelihood
a value in bits (smaller is better), and for how many stems their own flow wins.
"""

from __future__ import annotations

import argparse
import csv
import math
from pathlib import Path
from typing import cast

import torch

from stemforge import checkpoints
from stemforge.models.glow import Flows
from stemforge.train.data import find_songs
from stemforge.train.flow import Pieces, flow_loss

LEVEL = 10 ** (-24 / 20)
"""RMS of a piece."""


def pieces_of(songs: Path, stem: str, rate: int, count: int) -> torch.Tensor:
    """(piece, 1, 1, time), each of RMS LEVEL."""
    drawn = Pieces(find_songs(songs, (stem,), rate), (stem,), rate, 3.0, count, seed=0, augment=0.0).batch(0).stems
    return drawn * (LEVEL / drawn.square().mean((1, 2, 3), keepdim=True).sqrt().clamp(min=1e-4))


def main() -> None:
    """Read the command line, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("songs", type=Path)
    parser.add_argument("--checkpoint", default="flows")
    parser.add_argument("--flow", action="append", default=[], metavar="STEM=CHECKPOINT")
    parser.add_argument("--pieces", type=int, default=48)
    parser.add_argument("--csv", type=Path)
    args = parser.parse_args()
    places = dict(text.split("=", 1) for text in args.flow)
    own = cast(Flows, checkpoints.network_of(checkpoints.find(args.checkpoint)))
    flows = {name: own.only(name) for name in own.names}
    flows |= {name: cast(Flows, checkpoints.network_of(checkpoints.find(p))).only(name) for name, p in places.items()}
    rows = []
    for stem in flows:
        pieces = pieces_of(args.songs, stem, own.rate, args.pieces)
        dither = torch.rand(pieces.shape, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            bits = {name: float(flow_loss(flow, pieces, dither)[0]) / math.log(2) for name, flow in flows.items()}
        rows.append({"stem": stem, **bits})
        print(f"{stem:8} " + "  ".join(f"{name} {value:6.3f}" for name, value in bits.items()), flush=True)
    best = [min(flows, key=lambda name, row=row: cast(float, row[name])) == row["stem"] for row in rows]
    print(f"own flow best: {sum(best)} of {len(best)}")
    if args.csv:
        with args.csv.open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main()
