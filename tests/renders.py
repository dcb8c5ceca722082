"""Songs as `stemforge data render` writes them, of four tones instead of a band."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from stemforge.data.score import RATE

VOICES = {"bass": "rubner_pizz", "drums": "muldjordkit", "guitar": "strat", "piano": "cp80"}


def song_row(index: int, seconds: int) -> dict[str, Any]:
    """song.json of a song in which all four sound all the time."""
    part = {"name": "channel 1", "role": "human", "program": 0, "notes": 99, "effects": []}
    return {
        "index": index, "seed": 5, "seconds": float(seconds), "song": {"source": "midi"},
        "stems": {name: {"parts": [{**part, "voice": voice}]} for name, voice in VOICES.items()},
        "active": {name: [1] * seconds for name in VOICES},
    }  # fmt: skip


def rendered(folder: Path, count: int, seconds: int) -> list[Path]:
    """So many songs; their folders."""
    time = np.arange(seconds * RATE) / RATE
    for index in range(count):
        place = folder / f"{index:06d}"
        place.mkdir(parents=True)
        (place / "song.json").write_text(json.dumps(song_row(index, seconds)))
        for k, name in enumerate(VOICES):
            tone = 2000 * np.sin(2 * np.pi * (80 * (k + 1) + 11 * index) * time)
            np.save(place / f"{name}.npy", np.stack([tone, 0.5 * tone], axis=1).astype(np.int16))
    return sorted(folder.iterdir())
