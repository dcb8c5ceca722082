"""What `stemforge train` shows: a live line on a terminal, lines elsewhere, JSON on stdout where that is asked for."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from stemforge.cli import console
from stemforge.train.trainer import Step

MEAN_OVER = 50  # steps a line of the log stands for
SMOOTHING = 0.9  # of the loss beside the bar


class View:
    """The messages of one run from step `first` to step `last`. report: begun by the caller."""

    def __init__(self, report: console.Report, first: int, last: int, *, json: bool) -> None:
        self._report, self._last, self._json = report, last, json
        self._since, self._begun, self._first = time.monotonic(), time.monotonic(), first
        self._steps: list[Step] = []
        self._loss: float | None = None
        self._heard = self._away = 0.0
        self._valid = ""
        report.task("training", last - first)

    def step(self, step: Step) -> Mapping[str, float] | None:
        """One step is done; the means of the last MEAN_OVER steps when it is time for them."""
        self._steps.append(step)
        if not step.skipped:
            self._loss = step.loss if self._loss is None else SMOOTHING * self._loss + (1 - SMOOTHING) * step.loss
        self._heard += step.audio_seconds
        self._report.advance(1)
        speed = self._heard / max(1e-9, time.monotonic() - self._begun - self._away)
        loss = "loss -" if self._loss is None else f"loss {self._loss:.3f}"
        self._report.describe(f"step {step.index + 1} {loss}{self._valid} {speed:.0f} s/s")
        if len(self._steps) < MEAN_OVER and step.index + 1 < self._last:
            return None
        line = summary(self._steps, time.monotonic() - self._since)
        left = (self._last - step.index - 1) * (time.monotonic() - self._since) / len(self._steps)
        self._steps, self._since = [], time.monotonic()
        self._told("step", step.index + 1, line, f", {console.clock(left)} left")
        return line

    def scored(self, index: int, figures: Mapping[str, float], seconds: float, *, best: bool) -> None:
        """The run was scored at a step, which took so long."""
        self._away += seconds
        self._since += seconds
        name = "all" if "all" in figures else next(iter(figures))
        self._valid = f" valid {figures[name]:.2f}"
        self._told("valid", index, figures, ", the best so far" if best else "")

    def lost(self, files: Sequence[tuple[Path, str]]) -> None:
        """Files that could not be read."""
        for path, reason in files:
            self._report.error(f"'{path}': cannot be read ({reason}); it counts as silence where that is so.")
            if self._json:
                console.result_json("quarantine", path=str(path), reason=reason)

    def _told(self, event: str, index: int, figures: Mapping[str, float], more: str) -> None:
        if self._json:
            finite = {key: value if math.isfinite(value) else None for key, value in figures.items()}
            console.result_json(event, step=index, **finite)
        words = " ".join(f"{key} {value:.3g}" for key, value in figures.items())
        self._report.note(f"{index:6d} {'valid ' if event == 'valid' else ''}{words}{more}")


def summary(steps: Sequence[Step], seconds: float) -> dict[str, float]:
    """Means over steps: the parts of each task's loss, gradient norm, learning rate, audio seconds a second.

    `waiting` is the share of the time in which no batch was there; steps that were left out for not being finite are
    counted as `skipped`.
    """
    taken = [step for step in steps if not step.skipped]
    parts: dict[str, list[float]] = {}
    for step in taken:
        for name, value in step.parts.items():
            parts.setdefault(name if name != "denoising" else f"mse_{step.task}", []).append(value)
    means = {name: sum(v) / len(v) for name, v in sorted(parts.items())}
    if taken:
        means["loss"] = sum(step.loss for step in taken) / len(taken)
        means["grad_norm"] = sum(step.grad_norm for step in taken) / len(taken)
    if len(taken) < len(steps):
        means["skipped"] = float(len(steps) - len(taken))
    heard = sum(step.audio_seconds for step in steps)
    seconds = max(seconds, 1e-9)
    waiting = min(1.0, sum(step.waited for step in steps) / seconds)
    return {
        **means,
        "learning_rate": steps[-1].learning_rate,
        "audio_s_per_s": heard / seconds,
        "waiting": waiting,
    }
