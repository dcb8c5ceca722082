"""A run that saves without a pause, killed again and again; prints one line for each kill.

python tests/killed.py FOLDER KILLS SEED
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import torch
from safetensors import safe_open

from stemforge.train.config import TrainConfig
from stemforge.train.saving import BEST, WEIGHTS, resume, save, save_best
from stemforge.train.trainer import Run, averaged
from tiny import TINY

CONFIG = TrainConfig(network=TINY)


def fill(run: Run) -> None:
    """Every weight says which step it is of."""
    with torch.no_grad():
        for network in (run.network, averaged(run)):
            for weight in network.parameters():
                weight.fill_(run.index)


def saves(folder: Path) -> None:
    """Go on from what is there, saving each step, for ever."""
    run = resume(CONFIG, folder)
    while True:
        run.index += 1
        fill(run)
        save(run, folder)
        save_best(run, folder, {"all": float(run.index)})


def values(path: Path) -> set[float]:
    """All values of all weights of a checkpoint, and the step in its metadata."""
    with safe_open(path, framework="pt") as file:
        found = {float(v) for key in file.keys() for v in file.get_tensor(key).unique()}  # noqa: SIM118
        return found | {float(json.loads(file.metadata()["training"])["step"])}


def main(folder: Path, kills: int, seed: int) -> None:
    """Kill a child at a random moment, look at what it left, let the next one go on from there."""
    delays, last = random.Random(seed), 0
    for _ in range(kills):
        best = folder / BEST / WEIGHTS
        before = best.stat().st_mtime_ns if best.exists() else 0
        if not (child := os.fork()):
            saves(folder)
        while not best.exists() or best.stat().st_mtime_ns == before:  # the child has come as far as its first save
            time.sleep(0.01)
        time.sleep(0.03 + 0.15 * delays.random())
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        run = resume(CONFIG, folder)
        held = {float(v) for w in run.network.parameters() for v in w.detach().unique()}
        sets = [held, values(folder / "model.safetensors"), values(best)]
        whole = run.index >= last and held == {run.index} and all(len(found) == 1 for found in sets)
        json.loads((folder / "config.json").read_text())
        parts = sorted(path.name for path in folder.glob("*.part"))
        print(json.dumps({"whole": whole, "step": run.index, "parts": parts}), flush=True)
        last = run.index


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
