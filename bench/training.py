"""Does training starve or swell? Share of the time without a batch, audio seconds a second and memory, over a run.

    python bench/training.py SONGS [--config forge] [--steps 200] [--every 20] [--compile] [key=value ...]

Prints a row every `--every` steps: means since the row before, and the memory that the process holds (Linux). Nothing
is written. --threads: of the matrix products; the readers come on top.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

import torch
from lightning_fabric import Fabric

from stemforge.cli.train_config import resolved, settings, wanted_of
from stemforge.devices import keep_memory
from stemforge.train.data import find_songs
from stemforge.train.recipes import batches_of, compile_in_place
from stemforge.train.trainer import fit, start


def resident() -> float:
    """Memory of this process in MB."""
    rows = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return int(next(row for row in rows if row.startswith("VmRSS")).split()[1]) / 1024


def main() -> None:
    """Read the command line, train, print rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("songs", type=Path)
    parser.add_argument("changes", nargs="*", metavar="key=value")
    parser.add_argument("--config", type=Path, default=Path("forge"))
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--every", type=int, default=20)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--compile", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    keep_memory()
    config = replace(resolved(settings(given.config, given.changes), Path()), steps=given.steps)
    run = start(config)
    if given.compile:
        compile_in_place(run.network)
    songs = find_songs(given.songs, wanted_of(config, run.network.names), run.network.rate)
    fabric = Fabric(accelerator="cpu", devices=1, precision=config.precision)  # type: ignore[arg-type]
    heard = waited = total = 0.0
    begun = since = time.perf_counter()
    print(f"{'step':>6} {'MB':>7} {'waiting':>8} {'s/s':>6}")
    for step in fit(run, batches_of(songs, run.network, config, config.seed), fabric):
        heard, waited, total = heard + step.audio_seconds, waited + step.waited, total + step.waited
        if run.index % given.every == 0:
            seconds = time.perf_counter() - since
            print(f"{run.index:6d} {resident():7.0f} {waited / seconds:8.2%} {heard / seconds:6.1f}", flush=True)
            heard, waited, since = 0.0, 0.0, time.perf_counter()
    print(f"waiting {total / (time.perf_counter() - begun):.2%} of the time")


if __name__ == "__main__":
    main()
