"""What `--jobs` gains on a folder of short songs, half mp3 and half flac, written as mp3 and as float wav.

    python bench/jobs.py [--songs 20] [--seconds 20] [--jobs 1 2 4] [--threads 2] [--rounds 1] [--delay SECONDS]

Wall time with start-up of `stemforge separate` on the whole folder, the best of the rounds. With --delay a network that
sleeps so long for each window takes the place of the checkpoint: what a fast device beside an idle CPU would do.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

import soundfile as sf
from speed import RATE, make_song, measure

TESTS = Path(__file__).parents[1] / "tests"


def make_songs(folder: Path, count: int, seconds: float) -> None:
    """Songs of the same sound under different names."""
    make_song(folder / "song.wav", seconds / 60)
    x = sf.read(folder / "song.wav")[0]
    (folder / "song.wav").unlink()
    for n in range(count):
        sf.write(folder / f"{n:02d}.{'mp3' if n % 2 else 'flac'}", x, RATE)


def sleeper(folder: Path, delay: float) -> list[str]:
    """A command with a network that only waits, and its folder."""
    sys.path.insert(0, str(TESTS))
    from shares import Shares, make_checkpoint
    from stemforge.models.registry import ARCHITECTURES

    ARCHITECTURES["shares"] = Shares
    make_checkpoint(folder / "sleeper", delay=delay, segment=8.0, names=["bass", "drums", "guitar", "piano", "other"])
    return [sys.executable, str(TESTS / "shares.py"), "separate", "--name", str(folder / "sleeper")]


def main() -> None:
    """Measure, print one line for each number of jobs and format, and one JSON object at the end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--songs", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--jobs", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--delay", type=float)
    args = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory(prefix="stemforge-bench-") as folder:
        songs, out = Path(folder, "songs"), Path(folder, "out")
        songs.mkdir()
        make_songs(songs, args.songs, args.seconds)
        command = [str(Path(sys.executable).parent / "stemforge"), "separate"]
        if args.delay is not None:
            command = sleeper(Path(folder), args.delay)
        for form in ("mp3", "wav"):
            for jobs in args.jobs:
                line = [
                    *command,
                    str(songs),
                    "-o",
                    str(out),
                    "-y",
                    "-q",
                    "-d",
                    "cpu",
                    "--format",
                    form,
                    "-j",
                    str(jobs),
                ]
                wall = min(measure(line, args.threads)[0] for _ in range(args.rounds))
                rows.append({"format": form, "jobs": jobs, "wall_s": round(wall, 2)})
                print("  ".join(f"{key} {value}" for key, value in rows[-1].items()), flush=True)
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
