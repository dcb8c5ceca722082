"""How `stemforge data check` shows what it found."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from stemforge.cli import console
from stemforge.cli.options import listed
from stemforge.cli.score_report import print_table
from stemforge.train.check import SongReport, check, totals
from stemforge.train.layouts import Wanted

SHOWN = 20
"""Songs with findings that are listed; --json lists all."""
PATIENCE = 2.0
"""Seconds before a bar appears."""


def run(folder: Path, stems: str | None, rate: int, jobs: int, *, json: bool, quiet: bool) -> int:
    """Check every file; the exit code: 0, 3 when some songs have files that cannot be used, 4 when all have."""
    from stemforge import checkpoints

    names = listed(stems, "--stems") or checkpoints.find().shown
    songs: list[SongReport] = []
    with console.Report(verbosity=-1 if quiet else 0) as report:
        count, reports = check(folder, Wanted(names), rate, jobs)
        begun, shown = time.monotonic(), 0
        for song in reports:
            songs.append(song)
            if json:
                console.result_json("song", **_row(song, folder))
            if time.monotonic() - begun > PATIENCE:
                if not shown:
                    report.task(str(folder), count)
                report.advance(len(songs) - shown)
                shown = len(songs)
    damaged = sum(bool(song.errors) for song in songs)
    if json:
        console.result_json("summary", **_summary(songs, names, folder), damaged=damaged)
    else:
        _print(songs, names, folder)
    if not any(song.usable for song in songs):
        return 4
    return 3 if damaged else 0


def _row(song: SongReport, folder: Path) -> dict[str, Any]:
    files = [
        {
            "path": str(file.path.relative_to(folder)),
            "stem": file.stem,
            "seconds": round(file.seconds, 3),
            "sounding_seconds": round(file.sounding, 3),
            "peak": round(file.peak, 5),
            "sample_rate": file.rate or None,
            "channels": file.channels or None,
            "error": file.error or None,
        }
        for file in song.files
    ]
    found = {"layout": song.layout, "missing": list(song.missing), "notes": list(song.notes), "files": files}
    return {"song": str(song.folder.relative_to(folder)), "status": "failed" if song.errors else "ok", **found}


def _summary(songs: list[SongReport], names: tuple[str, ...], folder: Path) -> dict[str, Any]:
    stems = {
        name: {"songs": int(row["songs"]), **{k: round(v, 4) for k, v in row.items() if k != "songs"}}
        for name, row in totals(songs, names).items()
    }
    return {
        "folder": str(folder),
        "layouts": sorted({song.layout for song in songs}),
        "songs": len(songs),
        "hours": round(sum(song.seconds for song in songs) / 3600, 4),
        "sample_rates": sorted({file.rate for song in songs for file in song.files if file.rate}),
        "stems": stems,
    }


def _print(songs: list[SongReport], names: tuple[str, ...], folder: Path) -> None:
    found = _summary(songs, names, folder)
    rates = ", ".join(map(str, found["sample_rates"]))
    kinds = " and ".join(found["layouts"])
    plural = "" if len(songs) == 1 else "s"
    line = f"{folder}: {len(songs)} song{plural} ({kinds}), {found['hours']:.2f} h{f', {rates} Hz' if rates else ''}"
    console.result(console.one_line(line))
    rows = [
        (name, str(row["songs"]), str(len(songs) - row["songs"]), f"{row['hours']:.2f}", f"{row['sounding_hours']:.2f}")
        for name, row in found["stems"].items()
    ]
    print_table("", ("stem", "songs", "without", "hours", "hours sounding"), rows)
    odd = [song for song in songs if song.errors or song.notes]
    for song in odd[:SHOWN]:
        for error in song.errors:
            console.result(console.one_line(f"unusable: {error}"))
        if song.notes:
            console.result(console.one_line(f"{song.folder.relative_to(folder)}: {'; '.join(song.notes)}"))
    if len(odd) > SHOWN:
        console.result(f"and {len(odd) - SHOWN} more songs; --json lists all")
