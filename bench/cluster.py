"""What `--engine ray` gains with more workers, what a dead worker costs, and a round trip through object storage.

    python bench/cluster.py [--songs 40] [--seconds 20] [--workers 1 2] [--checkpoint NAME] [--tiny] [--s3]

Wall time of `stemforge separate` on a folder with each number of workers of this machine, and that of one song, which
is all start-up; each worker computes with one thread. Then the folder once more with the most workers, one of which is
killed (SIGKILL) at a song: what the report says of each song, and whether its stems are those of the runs before, byte
for byte. --s3: the folder from and to a local S3 server (moto), and the same comparison. --tiny takes a checkpoint of a
few thousand random numbers, which shows the cost of everything but the network.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import soundfile as sf
from speed import RATE, make_song

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from clusters import at_work, s3_server, tiny_checkpoint


def make_songs(folder: Path, count: int, seconds: float) -> None:
    """Songs that differ in their first second."""
    folder.mkdir()
    make_song(folder / "song.wav", seconds / 60)
    x = sf.read(folder / "song.wav")[0]
    (folder / "song.wav").unlink()
    for n in range(count):
        x[:RATE] *= 1 - n / (2 * count)
        sf.write(folder / f"{n:02d}.flac", x, RATE)


def start(songs: str, out: str, report: Path, *arguments: str) -> subprocess.Popen[bytes]:
    """A run that says nothing."""
    command = [sys.executable, "-m", "stemforge", "separate", songs, "-o", out, "--report", str(report), "-q"]
    return subprocess.Popen([*command, *arguments], stdout=subprocess.DEVNULL)


def timed(songs: Path, out: Path, workers: int) -> float:
    """Wall seconds of a run."""
    begun = time.perf_counter()
    process = start(str(songs), str(out), out.with_suffix(".jsonl"), "--engine", "ray", "--workers", str(workers))
    if code := process.wait():
        raise SystemExit(f"cluster: --workers {workers} ended with {code}")
    return time.perf_counter() - begun


def stems(folder: Path) -> dict[str, str]:
    """sha256 of every sound file below a folder."""
    files = (path for path in folder.rglob("*") if path.suffix == ".wav")
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def said(report: Path) -> Counter[str]:
    """How often each song has which status."""
    events = [json.loads(line) for line in report.read_text().splitlines()]
    return Counter(f"{event['input']} {event['status']}" for event in events)


def killed(songs: Path, out: Path, workers: int, count: int) -> dict[str, object]:
    """A run one of whose workers is killed when a quarter of the songs is done."""
    report = out.with_suffix(".jsonl")
    process = start(str(songs), str(out), report, "--engine", "ray", "--workers", str(workers))
    while process.poll() is None and (not report.exists() or report.read_text().count("\n") < count // 4):
        time.sleep(0.05)
    victims: list[int] = []
    while process.poll() is None and not (victims := at_work(process.pid)):
        time.sleep(0.01)
    for victim in victims[:1]:
        os.kill(victim, signal.SIGKILL)
    code, found = process.wait(), said(report)
    once = sum(times == 1 and name.endswith(" ok") for name, times in found.items())
    return {"killed": len(victims[:1]), "exit_code": code, "songs": count, "ok_once": once, "lines": found.total()}


def through_s3(songs: Path, folder: Path, workers: int) -> dict[str, object]:
    """From a bucket to a bucket."""
    import fsspec

    with s3_server():
        system = fsspec.filesystem("s3")
        system.mkdir("music")
        system.put(str(songs), "music/songs", recursive=True)
        begun = time.perf_counter()
        options = "--engine", "ray", "--workers", str(workers)
        code = start("s3://music/songs", "s3://music/stems", folder / "s3.jsonl", *options).wait()
        wall = time.perf_counter() - begun
        system.get("music/stems", str(folder / "s3"), recursive=True)
        return {"s3_workers": workers, "exit_code": code, "wall_s": round(wall, 2)}


def main() -> None:
    """Measure, and print one JSON object a line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--songs", type=int, default=40)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--checkpoint")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--s3", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="stemforge-bench-") as name:
        folder = Path(name)
        if args.checkpoint:
            os.environ["STEMFORGE_MODEL"] = args.checkpoint
        if args.tiny:
            os.environ["STEMFORGE_CHECKPOINTS"] = str(tiny_checkpoint(folder / "ck"))
        make_songs(folder / "songs", args.songs, args.seconds)
        make_songs(folder / "one", 1, args.seconds)
        walls: dict[int, float] = {}
        for workers in args.workers:
            begin = timed(folder / "one", folder / f"one{workers}", workers)
            walls[workers] = timed(folder / "songs", folder / f"out{workers}", workers)
            row = {"workers": workers, "wall_s": walls[workers], "one_song_s": begin}
            row["ratio"] = walls[args.workers[0]] / walls[workers]
            print(json.dumps({key: round(value, 2) for key, value in row.items()}), flush=True)
        wanted = stems(folder / f"out{args.workers[0]}")
        row = killed(folder / "songs", folder / "killed", max(args.workers), args.songs)
        print(json.dumps({**row, "same_bytes": stems(folder / "killed") == wanted}), flush=True)
        if args.s3:
            row = through_s3(folder / "songs", folder, max(args.workers))
            print(json.dumps({**row, "same_bytes": stems(folder / "s3") == wanted}), flush=True)


if __name__ == "__main__":
    main()
