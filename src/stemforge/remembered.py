"""Small arrays in the user's cache: they may be gone at any time, and are then made again."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def recalled(path: Path) -> NDArray[Any] | None:
    """What was kept there; None where it is not there whole. Pickles are not read."""
    try:
        found = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return found if isinstance(found, np.ndarray) else None


def remember(path: Path, array: NDArray[Any]) -> None:
    """Keep an array, whole or not at all; without a place to write it is only not remembered."""
    part = path.with_suffix(f".{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            np.save(file, array, allow_pickle=False)
        part.replace(path)
    except OSError:
        with suppress(OSError):
            part.unlink(missing_ok=True)
