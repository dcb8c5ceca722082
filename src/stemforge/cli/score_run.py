"""Where the estimates of `stemforge evaluate` come from: a folder, or a checkpoint that separates first."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from stemforge.cli.console import Report
from stemforge.errors import UsageError


@contextmanager
def estimates(ref: Path, est: Path | None, checkpoint: str | None, steps: int, device: str) -> Iterator[Path]:
    """The folder to score: EST, or a temporary one with the sums of the reference stems, separated."""
    if est is not None:
        if checkpoint is not None:
            raise UsageError("EST and --checkpoint: exclude each other. Leave EST out to score the checkpoint.")
        yield est
        return
    from stemforge import checkpoints
    from stemforge.tasks.score import separate_sums

    separator = checkpoints.load(checkpoint or os.environ.get("STEMFORGE_MODEL"), device, steps=steps)
    with TemporaryDirectory(prefix="stemforge-score-") as folder:
        with Report("plain") as report:
            separate_sums(ref, Path(folder), separator, on_song=lambda name: report.note(f"separated {name}"))
        yield Path(folder)
