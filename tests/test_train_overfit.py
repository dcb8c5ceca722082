"""The trainer can learn one crop by heart: what it minimises is what is wanted."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest

from songs import put
from stemforge import devices
from stemforge.cli.main import main

RATE, SECONDS = 44100, 6.0
T = np.arange(round(RATE * SECONDS)) / RATE
PLAIN = ["augment=0", "remix=0", "left_out=0", "shares=[1, 0, 0, 0, 0]"]
SMALL = ["network.width=128", "network.hidden=256", "network.layers=4", "network.rank=128"]


def notes(keys: list[int], length: float, partials: int, fall: float, vibrato: float = 0.0) -> np.ndarray:
    """A line of notes of `length` seconds, each a sum of partials that fade at `fall` a second."""
    place = (T / length).astype(int)
    hz = 440 * 2 ** ((np.asarray(keys)[place % len(keys)] - 69) / 12)
    cycles = 2 * np.pi * np.cumsum(hz * (1 + vibrato * np.sin(2 * np.pi * 5 * T))) / RATE
    wave = sum(np.sin(k * cycles + k * k) / k for k in range(1, partials + 1))
    return np.asarray(wave) * np.exp(-fall * (T % length)) * np.minimum(1, (T % length) / 0.004)


def song(folder: Path) -> Path:
    """Six seconds of five stems that overlap in time and frequency."""
    noise = np.random.default_rng(0).standard_normal(len(T))
    kick = np.sin(2 * np.pi * 55 * T) * np.exp(-((T % 0.6) / 0.12))
    stems = {
        "bass": notes([36, 36, 43, 41], 0.5, 8, 1.5),
        "drums": kick + 0.4 * noise * np.exp(-((T % 0.3) / 0.03)),
        "guitar": notes([52, 55, 59, 64, 62], 0.25, 20, 5.0),
        "piano": sum(notes([48 + step, 53 + step], 1.0, 6, 2.0) for step in (0, 4, 7)),
        "other": notes([67, 69, 72], 2.0, 12, 0.0, vibrato=0.006),
    }
    for k, (name, wave) in enumerate(stems.items()):
        left, right = np.cos(0.3 + 0.2 * k), np.sin(0.3 + 0.2 * k)
        level = 0.08 / np.sqrt((wave**2).mean())
        put(folder / "song" / f"{name}.wav", (level * np.stack([left * wave, right * wave], axis=1)), RATE)
    return folder


@pytest.mark.slow
def test_one_crop_is_learnt_by_heart(tmp_path, capsys, monkeypatch):
    """A small network of the family of `forge`: 20 dB better than the mixture within five CPU minutes.

    What the network says is scored, without the Wiener filter behind it, which ends at about 18 dB.
    """
    monkeypatch.setattr(devices, "keep_memory", lambda: None)
    songs, run = str(song(tmp_path / "songs")), str(tmp_path / "run")
    begun = time.process_time()
    words = ["train", "forge", "steps=500", "warmup=20", "ema=0.9", "batch_size=1", "seconds=6", *PLAIN, *SMALL]
    assert main([*words, "--data", songs, "-o", run, "-d", "cpu", "-q"]) == 0
    spent = time.process_time() - begun
    config = tmp_path / "run" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"spread": None}))
    capsys.readouterr()
    assert main(["evaluate", songs, "-n", run, "-d", "cpu", "--json"]) == 0
    active = json.loads(capsys.readouterr().out.splitlines()[-1])["active"]
    with capsys.disabled():
        print(f"\none crop: {active['all']:.1f} dB active in {spent / 60:.1f} CPU minutes")
    assert active["all"] >= 20 and spent < 300
