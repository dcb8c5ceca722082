"""Memory and time of `stemforge separate` against the length of the song, as a table and a plot.

    python bench/memory.py [--minutes 1 10 60 120] [--threads 2] [--work FOLDER]

Each song is made by bench/speed.py and separated in a process of its own into all stems, float32 wav. A row of
docs/memory.csv is written for each length, or written anew, so that lengths can be measured one after another;
docs/memory.png is drawn from all of them. Processor time (user and system, all threads)
says how time grows with length even where other work goes on beside. 120 minutes need 15 GB in that folder.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
from pathlib import Path

from speed import commands, make_song, measure

TABLE = Path(__file__).parents[1] / "docs" / "memory.csv"
COLUMNS = ("minutes", "wall_s", "cpu_s", "peak_gb")


def known() -> dict[float, tuple[float, ...]]:
    """The rows of the table by their minutes."""
    if not TABLE.exists():
        return {}
    with TABLE.open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))[1:]
    return {float(row[0]): tuple(map(float, row)) for row in rows}


def keep(row: tuple[float, ...]) -> dict[float, tuple[float, ...]]:
    """All rows, this one among them, now in the table too."""
    rows = known() | {row[0]: row}
    with TABLE.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows([f"{value:g}" for value in rows[minutes]] for minutes in sorted(rows))
    return rows


def draw(rows: dict[float, tuple[float, ...]]) -> None:
    """Memory on the left, time on the right."""
    from matplotlib.figure import Figure

    minutes = sorted(rows)
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    for place, column, label in ((1, 3, "peak memory, GB"), (2, 2, "processor time, s")):
        axes = figure.add_subplot(1, 2, place, xlabel="song, minutes", ylabel=label)
        axes.plot(minutes, [rows[length][column] for length in minutes], marker="o")
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
    figure.savefig(TABLE.with_suffix(".png"), dpi=110)


def main() -> None:
    """Measure one length after another; print, keep and draw what is known so far."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, nargs="+", default=[1, 10, 60, 120])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--work", type=Path, help="folder for songs and stems; default: a temporary one")
    args = parser.parse_args()
    for minutes in args.minutes:
        with tempfile.TemporaryDirectory(dir=args.work, prefix="stemforge-bench-") as folder:
            song = Path(folder) / "song.wav"
            make_song(song, minutes)
            wall, memory, cpu = measure(commands(song, Path(folder), None, peer=False)["stemforge"], args.threads)
        row = (minutes, round(wall, 1), round(cpu, 1), round(memory, 3))
        print("  ".join(f"{name} {value:g}" for name, value in zip(COLUMNS, row, strict=True)), flush=True)
        draw(keep(row))


if __name__ == "__main__":
    main()
