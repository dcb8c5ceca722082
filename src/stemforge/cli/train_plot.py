"""The curves of a run as one image."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TypeAlias

from stemforge.cli.train_request import needed
from stemforge.errors import InputError, OutputError

Curves: TypeAlias = "dict[str, tuple[list[int], list[float]]]"


def curves(run: Path) -> Curves:
    """Steps and values of each column of the logs of a run, what was done again told once.

    Raises:
        InputError: there are no logs, or they cannot be read.
    """
    rows: dict[int, dict[str, float]] = {}
    for path in sorted(run.glob("logs/from-*/metrics.csv")):
        try:
            found = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
            first = int(path.parent.name.removeprefix("from-"))
            rows = {step: row for step, row in rows.items() if step < first}
            for row in found:
                values = {key: float(value) for key, value in row.items() if value and key != "step"}
                rows.setdefault(int(row["step"]), {}).update(values)
        except (OSError, ValueError, KeyError) as error:
            raise InputError(f"'{path}': cannot be read ({error}). Remove it to draw the rest.") from None
    if not rows:
        raise InputError(f"run '{run}': no logs in it. Give the --out of `stemforge train`.")
    found_curves: Curves = {}
    for step, values in sorted(rows.items()):
        for key, value in values.items():
            steps, line = found_curves.setdefault(key, ([], []))
            steps.append(step + 1)
            line.append(value)
    return found_curves


def draw(run: Path) -> Path:
    """Validation, losses, learning rate and speed of a run over its steps, drawn to RUN/curves.png.

    Raises:
        UsageError: matplotlib is not installed.
        InputError: there are no logs.
        OutputError: the image cannot be written.
    """
    found = curves(run)
    needed("matplotlib")
    from matplotlib.figure import Figure

    panels = [panel for panel in _panels(found) if panel[1]]
    rows = -(-len(panels) // 2)
    figure = Figure(figsize=(12, 3.5 * rows), layout="constrained")
    for k, (title, keys, scale) in enumerate(panels):
        axes = figure.add_subplot(rows, 2, k + 1, title=title, xlabel="step", yscale=scale)
        for key in keys:
            steps, values = found[key]
            axes.plot(steps, values, label=key.removeprefix("valid/"), linewidth=2 if key == "valid/all" else 1)
        axes.grid(alpha=0.3)
        if len(keys) > 1:
            axes.legend(fontsize="small")
    target = run / "curves.png"
    try:
        figure.savefig(target, dpi=110)
    except OSError as error:
        raise OutputError(f"'{target}': cannot be written: {error.strerror}. Check the disk.") from None
    return target


def _panels(found: Curves) -> list[tuple[str, list[str], str]]:
    """Title, columns and scale of the vertical axis of each panel."""
    single = {
        "sdr_db": "SI-SDR of training crops, dB",
        "grad_norm": "gradient norm",
        "learning_rate": "learning rate",
        "audio_s_per_s": "audio seconds per second",
    }
    valid = [key for key in found if key.startswith("valid/")]
    losses = [key for key in found if key not in (*single, *valid, "skipped", "lost_files", "waiting")]
    title = "validation loss" if valid == ["valid/loss"] else "validation: active SI-SDR improvement, dB"
    singles = [
        (name, [key] if key in found else [], "log" if key == "grad_norm" else "linear") for key, name in single.items()
    ]
    return [(title, valid, "linear"), ("parts of the loss", losses, "linear"), *singles]
