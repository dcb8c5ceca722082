"""Scores in dB: from a folder of separated songs, or from a checkpoint that separates first."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from stemforge.cli import console, score_report
from stemforge.cli.compare_run import Asked
from stemforge.cli.console import Report
from stemforge.errors import InputError, UsageError
from stemforge.tasks.cascade import VOICE
from stemforge.tasks.evaluate import SongScore, evaluate, list_songs, list_stems

if TYPE_CHECKING:
    from stemforge.separators.network import Options

OnFailed = Callable[[str, InputError], None]


@contextmanager
def estimates(
    ref: Path, est: Path | None, checkpoint: str | None, options: Options, device: str, on_failed: OnFailed
) -> Iterator[Path]:
    """The folder to score: EST, or a temporary one with the sums of the reference stems, separated."""
    if est is not None:
        if checkpoint is not None:
            raise UsageError("EST and --checkpoint: exclude each other. Leave EST out to score the checkpoint.")
        yield est
        return
    from stemforge import checkpoints
    from stemforge.tasks.score import separate_sums

    whole = VOICE in list_stems(list_songs(ref))
    separator = checkpoints.load(checkpoint or os.environ.get("STEMFORGE_MODEL"), device, whole=whole, **options)
    with TemporaryDirectory(prefix="stemforge-score-") as folder:
        with Report("plain") as report:
            separate_sums(
                ref, Path(folder), separator, on_song=lambda name: report.note(f"separated {name}"), on_failed=on_failed
            )
        yield Path(folder)


@dataclass
class _Tally:
    """Which songs cannot be scored, and how that is told."""

    json: bool
    codes: dict[str, int] = field(default_factory=dict)

    def failed(self, name: str, error: InputError) -> None:
        """One line, and with --json one object."""
        self.codes[name] = error.exit_code
        console.error(str(error))
        if self.json:
            console.result_json("failed", song=name, error={"code": error.exit_code, "message": str(error)})

    def scored(self, score: SongScore) -> None:
        """One object with --json."""
        if self.json:
            score_report.print_json("song", [score], song=score.name)


def run(ref: Path, est: Path | None, asked: Asked, checkpoint: str | None, options: Options, csv: Path | None) -> int:
    """Score and show; the exit code: 0, 3 when some songs cannot be scored, 4 when none can."""
    tally = _Tally(asked.json)
    with estimates(ref, est, checkpoint, options, asked.device, tally.failed) as folder:
        before = set(tally.codes)
        scores = evaluate(ref, folder, asked.chosen, on_song=tally.scored, on_failed=tally.failed, leave_out=before)
    if not scores:
        return max(tally.codes.values())
    failed = len(tally.codes)
    if asked.json:
        score_report.print_json("summary", scores, songs=len(scores), failed=failed)
    else:
        score_report.print_report(scores)
    if csv:
        score_report.write_csv(scores, csv)
    return 3 if failed else 0
