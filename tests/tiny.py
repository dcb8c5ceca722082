"""A network of a few thousand parameters, and songs for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from stemforge import checkpoints
from stemforge.models.forge import Forge
from stemforge.train.config import TrainConfig
from stemforge.train.saving import save
from stemforge.train.trainer import start

TINY = {
    "names": ["bass", "drums", "other"],
    "rate": 8000,
    "segment": 0.5,
    "n_fft": 96,
    "edges": [0, 4, 12, 24],
    "pools": [[24, 36, 2], [36, 50, 2]],
    "width": 16,
    "heads": 2,
    "hidden": 24,
    "kernel": 3,
    "layers": 2,
    "rank": 8,
    "prompt_width": 6,
}


def tiny_default(
    place: Path, monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...] = tuple(TINY["names"]), name: str = "forge"
) -> None:
    """A checkpoint of a tiny network with these stems, untrained, in `place`, is the default one and has that name."""
    save(start(TrainConfig(network=TINY | {"names": list(names)})), place / "tiny")
    (place / "own.toml").write_text(checkpoints.entry_for(place / "tiny", name=name, default=True))
    monkeypatch.setenv("STEMFORGE_CHECKPOINTS", str(place / "own.toml"))


def tiny_network(**changes) -> Forge:
    """Freshly drawn weights; seed with torch.manual_seed."""
    return Forge.from_config(TINY | changes)


def tiny_songs(folder: Path, count: int = 2, seconds: float = 2.0, rate: int = 8000) -> Path:
    """Songs of a bass tone, drum clicks and a higher tone as int16 arrays (time, 2); the last one lacks `other`."""
    t = np.arange(int(seconds * rate)) / rate
    for k in range(count):
        place = folder / f"song{k}"
        place.mkdir(parents=True)
        parts = {
            "bass": np.sin(2 * np.pi * (60 + 10 * k) * t),
            "drums": np.random.default_rng(k).normal(size=len(t)) * (np.sin(2 * np.pi * 2 * t) > 0.9),
            "other": np.sin(2 * np.pi * (900 + 50 * k) * t),
        }
        for name, x in parts.items():
            if not (name == "other" and k == count - 1):
                np.save(place / f"{name}.npy", (3000 * np.stack([x, 0.5 * x], axis=1).clip(-3, 3)).astype(np.int16))
    return folder
