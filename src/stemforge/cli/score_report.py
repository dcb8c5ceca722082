"""How scores are shown: a table on a terminal, tab-separated lines elsewhere, JSON lines, a CSV file."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import mean, median

from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from stemforge.cli import console
from stemforge.errors import OutputError
from stemforge.tasks.evaluate import Means, SongScore, means

CSV_HEADER = ("song", "figure", "stem", "windows", "db")


def print_json(event: str, scores: Sequence[SongScore], **extra: str | int) -> None:
    """One line: the figures over all windows of `scores`, and the worst sum."""
    figures = {figure: {stem: round(db, 3) for stem, db in row.items()} for figure, row in means(scores).items()}
    worst = round(max(score.sum_db for score in scores), 2)
    console.result_json(event, **extra, **figures, sum_db=worst)


def print_report(scores: Sequence[SongScore]) -> None:
    """Two tables: one row a song, and one row a figure. Gains in dB."""
    for title, header, rows in (_songs(scores), _figures(means(scores))):
        print_table(title, header, rows)


def print_table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table with numbers to the right on a terminal, tab-separated lines elsewhere."""
    screen = Console()
    if screen.is_terminal:
        table = Table(header[0], *_right(header[1:]), title=title, title_justify="left")
        for row in rows:
            table.add_row(escape(console.one_line(row[0])), *row[1:])
        screen.print(table)
    else:
        for row in (header, *rows):
            console.result("\t".join(map(console.one_line, row)))


def write_csv(scores: Sequence[SongScore], path: Path) -> None:
    """One line for each song, figure and stem: windows that count and their mean gain in dB. Raises OutputError."""
    part = path.with_name(path.name + ".part")
    try:
        with part.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
            writer = csv.writer(file)
            writer.writerow(CSV_HEADER)
            writer.writerows(_csv_rows(scores))
        part.replace(path)
    except OSError as error:
        raise OutputError(f"write '{path}': {error.strerror}. Choose another --csv file.") from error


def _csv_rows(scores: Sequence[SongScore]) -> Iterator[tuple[str, str, str, int, str]]:
    for score in scores:
        for figure, of_stems in score.gains.items():
            for stem, values in of_stems.items():
                yield score.name, figure, stem, len(values), f"{mean(values):.3f}"
        yield score.name, "sum_db", "", 1, f"{score.sum_db:.2f}"


def _songs(scores: Sequence[SongScore]) -> tuple[str, list[str], list[list[str]]]:
    """Per song: `active` of each stem and of all, the other figures of all; then mean and median over the songs."""
    per_song = [score.means() for score in scores]
    stems = sorted({stem for found in per_song for stem in found.get("active", {})} - {"all"})
    cells = [("active", stem) for stem in (*stems, "all")] + [("stereo", "all"), ("treble", "all"), ("msdm", "all")]
    columns = [[found.get(figure, {}).get(stem) for found in per_song] for figure, stem in cells]
    columns.append([score.sum_db for score in scores])
    rows = [[score.name, *(_db(column[i]) for column in columns)] for i, score in enumerate(scores)]
    for name, average in (("mean of songs", mean), ("median of songs", median)):
        known = ([db for db in column if db is not None] for column in columns)
        rows.append([name, *(_db(average(values)) if values else "" for values in known)])
    return "Songs: active for each stem, dB", ["song", *stems, "active", "stereo", "treble", "msdm", "sum_db"], rows


def _figures(found: Means) -> tuple[str, list[str], list[list[str]]]:
    """Per figure: the mean over the windows of all songs, for each stem and for all."""
    stems = sorted({stem for row in found.values() for stem in row} - {"all"})
    rows = [[figure, *(_db(row.get(stem)) for stem in (*stems, "all"))] for figure, row in found.items()]
    return "All windows, dB", ["figure", *stems, "all"], rows


def _db(value: float | None) -> str:
    return "" if value is None or math.isnan(value) else f"{value:.2f}"


def _right(names: Sequence[str]) -> list[Column]:
    return [Column(name, justify="right") for name in names]
