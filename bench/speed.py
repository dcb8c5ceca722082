"""Time and memory of `stemforge separate`, next to htdemucs on the same songs and threads.

    python bench/speed.py [--minutes 3 30] [--threads 2] [--checkpoint NAME] [--passes 2 1] [--peer-minutes 3]

Every figure is that of a process of its own: wall time from its start to its end, and its highest resident memory.
The songs are made here, 44.1 kHz stereo. htdemucs (Rouard et al. 2023, https://arxiv.org/abs/2211.08553) is demucs
4.1.0 with random weights: `pip install --no-deps demucs==4.1.0 julius lameenc sphn pyyaml tqdm`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile as sf

RATE = 44100
HTDEMUCS = {"bottom_channels": 512, "segment": 7.8, "samplerate": RATE}
"""What the released htdemucs differs in from the defaults of its class; 41.5 million parameters."""


def make_song(path: Path, minutes: float) -> None:
    """A 16-bit wav: a beat of decaying noise, a moving bass tone and a chord."""
    rng = np.random.default_rng(0)
    beat = np.arange(RATE // 2) / RATE
    with sf.SoundFile(path, "w", RATE, 2, subtype="PCM_16") as file:
        for _ in range(round(minutes * 120)):
            hit = 0.2 * rng.standard_normal((len(beat), 2)) * np.exp(-18 * beat)[:, None]
            notes = [55 * 2 ** (rng.integers(12) / 12), *(220 * 2 ** (rng.integers(0, 24, 3) / 12))]
            tones = sum(0.1 * np.sin(2 * np.pi * hz * beat) * np.exp(-2 * beat) for hz in notes)
            file.write(hit + tones[:, None] * rng.uniform(0.7, 1, 2))


def measure(command: Sequence[str], threads: int) -> tuple[float, float, float]:
    """Wall time in seconds, peak memory in GB and processor time in seconds of a process with so many threads."""
    env = dict(os.environ, **{f"{name}_NUM_THREADS": str(threads) for name in ("OMP", "MKL", "OPENBLAS")})
    start = time.perf_counter()
    process = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"speed: {' '.join(command)} ended with {process.returncode}")
    return time.perf_counter() - start, usage.ru_maxrss * 1024 / 1e9, usage.ru_utime + usage.ru_stime


def htdemucs(song: Path, out: Path) -> None:
    """What `demucs song` does: read, normalise, apply the model with its default settings, write four stems."""
    import torch
    from demucs.apply import apply_model
    from demucs.htdemucs import HTDemucs

    torch.manual_seed(0)
    model = HTDemucs(["drums", "bass", "other", "vocals"], **HTDEMUCS).eval()
    mixture = torch.from_numpy(sf.read(song, dtype="float32", always_2d=True)[0].T.copy())
    mean, std = mixture.mean(), mixture.std()
    with torch.no_grad():
        stems = apply_model(model, (mixture - mean)[None] / std, overlap=0.25)[0] * std + mean
    for name, stem in zip(model.sources, stems, strict=True):
        sf.write(out / f"{name}.wav", stem.numpy().T, RATE, subtype="FLOAT")


def commands(song: Path, work: Path, checkpoint: str | None, passes: list[int], peer: bool) -> dict[str, list[str]]:
    """What is measured on one song: name -> command line."""
    out = work / "out"
    out.mkdir(exist_ok=True)
    stemforge = [str(Path(sys.executable).parent / "stemforge"), "separate", str(song), "--out", str(out)]
    stemforge += ["--device", "cpu", "--on-exist", "overwrite", *(["--name", checkpoint] if checkpoint else [])]
    found = {f"stemforge --passes {k}": [*stemforge, "--passes", str(k)] for k in passes} or {"stemforge": stemforge}
    if peer:
        found["htdemucs"] = [sys.executable, __file__, "--htdemucs", str(song), str(out)]
    return found


def main() -> None:
    """Measure, print one line for each process, and one JSON object at the end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, nargs="+", default=[3, 30])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--checkpoint")
    parser.add_argument("--passes", type=int, nargs="+", default=[], help="each of them; default: the checkpoint's own")
    parser.add_argument("--peer-minutes", type=float, default=3, help="longest song that htdemucs is given; 0 for none")
    parser.add_argument("--work", type=Path, help="folder for songs and stems, some GB; default: a temporary one")
    parser.add_argument("--htdemucs", type=Path, nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.htdemucs:
        htdemucs(*args.htdemucs)
        return
    rows = []
    for minutes in args.minutes:
        with tempfile.TemporaryDirectory(dir=args.work, prefix="stemforge-bench-") as folder:
            song = Path(folder) / "song.wav"
            make_song(song, minutes)
            found = commands(song, Path(folder), args.checkpoint, args.passes, minutes <= args.peer_minutes)
            for name, command in found.items():
                wall, memory, cpu = measure(command, args.threads)
                rows.append({"what": name, "minutes": minutes, "threads": args.threads, "wall_s": round(wall, 2)})
                rows[-1]["cpu_s"] = round(cpu, 1)
                rows[-1] |= {"real_time_factor": round(wall / (60 * minutes), 4), "peak_gb": round(memory, 3)}
                print("  ".join(f"{key} {value}" for key, value in rows[-1].items()), flush=True)
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
