"""What of an item is shown, given, hidden or made anew, and at which noise level, as its task asks.

Where stems are made, those that do not sound in a crop are hidden nine times of ten: then a stem that is shown is one
that plays, and what is asked for is not made silent because many songs lack it.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Task = Literal["separate", "denoise", "generate", "impute", "inpaint", "diffuse", "flow"]
TASKS: tuple[Task, ...] = ("separate", "denoise", "generate", "impute", "inpaint")
MADE: tuple[Task, ...] = ("generate", "impute", "inpaint")
"""Tasks without a mixture: what a song is made of is decided at high noise."""
LOG_SIGMA, LOG_SIGMA_MADE, SPREAD = -0.5, 0.4, 1.5
"""Mean of ln sigma, beside a mixture and without one, and its standard deviation."""
SOUNDS = 10**-4.5
"""Mean square of a stem that plays."""
ABSENT = 0.9
"""Chance that a stem that does not play is hidden where stems are made."""
FEWER = 0.3
"""Chance that stems that play are hidden too: others are made, or imputed, without them."""


def sigmas_of(task: Task, rng: np.random.Generator, count: int) -> NDArray[np.float32]:
    """Noise level of each of `count` items, log-normal."""
    mean = LOG_SIGMA_MADE if task in MADE else LOG_SIGMA
    return np.exp(rng.normal(mean, SPREAD, count)).clip(1e-3, 100).astype(np.float32)


def levels_of(
    task: Task, level: np.float32, rng: np.random.Generator, playing: NDArray[np.bool_], time: int
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Noise level of each stem of an item, (stem, 1 or time), 0 where known, and which stems are hidden, (stem,).

    level: of what is not known; playing: (stem,), which stems sound; time: samples of the item.
    """
    stems = len(playing)
    sigma, hidden = np.full((stems, 1), level, np.float32), np.full(stems, task == "separate")
    if task in MADE:
        hidden = ~playing & (rng.random(stems) < ABSENT) & playing.any()
    shown = rng.permutation(np.flatnonzero(~hidden))
    if task in ("generate", "impute") and rng.random() < FEWER:
        away = _some(len(shown) - (task == "impute"), rng)
        hidden[shown[:away]], shown = True, shown[away:]
    if task == "impute" or (task == "denoise" and rng.random() < 0.3):
        sigma[shown[: _some(len(shown), rng)]] = 0
    if task == "inpaint":
        sigma = np.repeat(sigma, time, axis=1)
        start, length = rng.integers(time), rng.integers(time // 8, time // 2)
        sigma[:, :start], sigma[:, start + length :] = 0, 0
    return sigma, hidden


def _some(stems: int, rng: np.random.Generator) -> int:
    """How many of the stems: one at least and never all."""
    return int(rng.integers(1, stems)) if stems > 1 else 0
