"""Networks of other papers, trained by the same trainer on the same songs for the same processor time.

    python bench/peers.py train forge conv-tasnet hdemucs --data RENDERS --valid VALID --out RUNS --core-seconds 1800
    python bench/peers.py table SONGS RUNS/forge RUNS/conv-tasnet RUNS/hdemucs

train: one run a config, one after the other, on one thread, separation alone and from fresh weights. How long a step
takes is measured first and the steps are what the budget allows, since the learning rate falls towards the last one.
What the processor really spent, validation included, is written to RUN/cost.json. Further key=value go to all runs.
table: parameters, steps, processor time, active SI-SDR improvement on SONGS in dB, the score on VALID while training,
and what a song of a minute costs: real-time factor with start-up, processor time, memory (two threads, one pass).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from speed import make_song, measure

from stemforge import checkpoints
from stemforge.cli.train_plot import curves

STEMFORGE = str(Path(sys.executable).parent / "stemforge")
SHORT = (5, 15)
"""Steps of the two runs whose difference says what a step takes; both validate five times."""


def trained(config: str, steps: int, out: Path, args: argparse.Namespace) -> float:
    """Processor seconds of a run of so many steps."""
    often = [f"{key}={max(1, steps // 5)}" for key in ("validate_every", "save_every")]
    words = [STEMFORGE, "train", config, f"steps={steps}", "shares=[1, 0, 0, 0, 0]", *often, *args.changes]
    words += ["--data", str(args.data), "--valid", str(args.valid), "--out", str(out), "--device", "cpu", "--quiet"]
    return measure(words, threads=1)[2]


def train(args: argparse.Namespace) -> None:
    """A run a config, within the budget."""
    for config in args.configs:
        with tempfile.TemporaryDirectory() as folder:
            short, longer = (trained(config, steps, Path(folder) / str(steps), args) for steps in SHORT)
        step = (longer - short) / (SHORT[1] - SHORT[0])
        steps = int((args.core_seconds - (short - SHORT[0] * step)) / step)
        print(f"{config}: {step:.2f} s a step, {steps} steps", flush=True)
        out = args.out / Path(config).stem
        spent = trained(config, steps, out, args)
        (out / "cost.json").write_text(json.dumps({"steps": steps, "core_seconds": round(spent)}) + "\n")


def scores(run: Path, songs: Path) -> dict[str, float]:
    """Active SI-SDR improvement of each stem and of all, with one pass, as `stemforge evaluate` prints it."""
    words = [STEMFORGE, "evaluate", str(songs), "--checkpoint", str(run), "--passes", "1", "--json"]
    said = subprocess.run(words, stdout=subprocess.PIPE, check=True, text=True).stdout
    found: dict[str, float] = json.loads(said.splitlines()[-1])["active"]
    return found


def described(run: Path, songs: Path, song: Path) -> dict[str, object]:
    """One row of the table."""
    network = checkpoints.network_of(checkpoints.find(run))
    row: dict[str, object] = {"run": run.name, "M": round(sum(w.numel() for w in network.parameters()) / 1e6, 1)}
    row |= json.loads((run / "cost.json").read_text())
    row |= {stem: round(db, 2) for stem, db in scores(run, songs).items()}
    row["curve"] = [round(value, 2) for value in curves(run)["valid/all"][1]]
    out = str(song.parent / "out")
    words = [STEMFORGE, "separate", str(song), "-n", str(run), "-o", out, "--passes", "1", "--on-exist", "overwrite"]
    wall, memory, spent = measure(words, threads=2)
    return row | {"real_time": round(wall / 60, 3), "cpu_s": round(spent, 1), "peak_gb": round(memory, 2)}


def table(args: argparse.Namespace) -> None:
    """A line a run."""
    with tempfile.TemporaryDirectory() as folder:
        song = Path(folder) / "song.wav"
        make_song(song, minutes=1)
        for run in args.runs:
            print("  ".join(f"{key} {value}" for key, value in described(run, args.songs, song).items()), flush=True)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ways = parser.add_subparsers(required=True)
    way = ways.add_parser("train")
    way.add_argument("configs", nargs="+")
    way.add_argument("--changes", nargs="*", default=[], metavar="key=value")
    for name in ("--data", "--valid", "--out"):
        way.add_argument(name, type=Path, required=True)
    way.add_argument("--core-seconds", type=float, required=True)
    way.set_defaults(act=train)
    way = ways.add_parser("table")
    way.add_argument("songs", type=Path)
    way.add_argument("runs", type=Path, nargs="+")
    way.set_defaults(act=table)
    args = parser.parse_args()
    args.act(args)


if __name__ == "__main__":
    main()
