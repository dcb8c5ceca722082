"""Effects that a mixing engineer would put on a stem, drawn at random; pedalboard plays them.

Each `draw_…` returns a list of (name, settings) that goes into the manifest; `apply` plays such a list.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemforge.data.extras import require
from stemforge.data.score import RATE

Chain = list[tuple[str, dict[str, float]]]
RUMBLE = {"bass": (25, 45), "drums": (20, 40), "guitar": (60, 130), "piano": (25, 80), "other": (40, 150),
          "vocals": (60, 140)}  # fmt: skip
CUT = ("piano", "other")
"""Stems that lose their lows beside a bass; guitars have few."""


def draw_chain(rng: np.random.Generator, stem: str, role: str, program: int, sampled: bool) -> Chain:
    """Effects for one part. sampled: a recorded instrument, which may get an amplifier's drive if it is a guitar."""
    chain: Chain = []
    if rng.random() < 0.7:
        chain.append(("HighpassFilter", {"cutoff_frequency_hz": float(rng.uniform(*RUMBLE[stem]))}))
    if stem == "guitar":
        chain += _amplifier(rng, role, program, sampled)
    if stem == "bass":
        chain += _bass_amplifier(rng)
    if rng.random() < 0.75:
        chain += _equalizer(rng)
    if rng.random() < {"drums": 0.5, "bass": 0.6, "vocals": 0.8}.get(stem, 0.35):
        chain.append(_compressor(rng))
    if stem in ("guitar", "piano", "other") and rng.random() < 0.25:
        chain.append(_modulation(rng))
    if (stem == "vocals" or (stem in ("guitar", "other") and role == "lead")) and rng.random() < 0.35:
        chain.append(_delay(rng))
    if rng.random() < {"bass": 0.12, "drums": 0.65, "vocals": 0.85}.get(stem, 0.6):
        chain.append(_reverb(rng, stem))
    if rng.random() < 0.03:
        chain.append(("Bitcrush", {"bit_depth": float(rng.integers(8, 13))}))
    if rng.random() < 0.05:
        chain.append(("LowpassFilter", {"cutoff_frequency_hz": float(rng.uniform(4000, 12000))}))
    return chain


def draw_cut(rng: np.random.Generator) -> float:
    """Where an engineer cuts off the lows of a stem beside a bass, in Hz; 0, for nowhere, half of the time."""
    return float(rng.uniform(40, 90)) if rng.random() < 0.5 else 0.0


def _amplifier(rng: np.random.Generator, role: str, program: int, sampled: bool) -> Chain:
    """Drive and the low-pass of a speaker; a cleaner amplifier, or none (an acoustic guitar)."""
    driven = 0.85 if role == "power" else 0.5 if role == "lead" else 0.4
    electric = sampled or program in (26, 27, 28, 29, 30)
    if electric and rng.random() < driven:
        heavy = float(rng.uniform(8, 22) if program not in (29, 30) or sampled else rng.uniform(2, 10))
        speaker = float(rng.uniform(3800, 6500))
        return [
            ("HighpassFilter", {"cutoff_frequency_hz": float(rng.uniform(80, 180))}),
            ("Distortion", {"drive_db": heavy}),
            ("HighpassFilter", {"cutoff_frequency_hz": 40.0}),
            (
                "PeakFilter",
                {"cutoff_frequency_hz": float(rng.uniform(400, 2500)), "gain_db": float(rng.uniform(-4, 5)), "q": 0.8},
            ),
            ("LowpassFilter", {"cutoff_frequency_hz": speaker}),
            ("LowpassFilter", {"cutoff_frequency_hz": speaker * 1.1}),
        ]
    if electric and rng.random() < 0.5:
        return [("LowpassFilter", {"cutoff_frequency_hz": float(rng.uniform(4500, 9000))})]
    return []


def _bass_amplifier(rng: np.random.Generator) -> Chain:
    chain: Chain = []
    if rng.random() < 0.2:
        chain.append(("Distortion", {"drive_db": float(rng.uniform(3, 14))}))
    if rng.random() < 0.5 or chain:
        chain.append(("LowpassFilter", {"cutoff_frequency_hz": float(np.exp(rng.uniform(np.log(900), np.log(6000))))}))
    return chain


def _equalizer(rng: np.random.Generator) -> Chain:
    chain: Chain = [
        ("LowShelfFilter", {"cutoff_frequency_hz": float(rng.uniform(80, 300)), "gain_db": float(rng.uniform(-6, 6))}),
        (
            "HighShelfFilter",
            {"cutoff_frequency_hz": float(rng.uniform(2500, 9000)), "gain_db": float(rng.uniform(-6, 6))},
        ),
    ]
    for _ in range(int(rng.integers(0, 3))):
        place = float(np.exp(rng.uniform(np.log(200), np.log(6000))))
        settings = {
            "cutoff_frequency_hz": place,
            "gain_db": float(rng.uniform(-6, 6)),
            "q": float(rng.uniform(0.5, 2.5)),
        }
        chain.append(("PeakFilter", settings))
    return chain


def _compressor(rng: np.random.Generator) -> tuple[str, dict[str, float]]:
    return "Compressor", {
        "threshold_db": float(rng.uniform(-32, -14)), "ratio": float(rng.uniform(1.5, 6)),
        "attack_ms": float(rng.uniform(1, 40)), "release_ms": float(rng.uniform(50, 300)),
    }  # fmt: skip


def _modulation(rng: np.random.Generator) -> tuple[str, dict[str, float]]:
    if rng.random() < 0.7:
        return "Chorus", {
            "rate_hz": float(rng.uniform(0.3, 2.0)),
            "depth": float(rng.uniform(0.1, 0.4)),
            "mix": float(rng.uniform(0.2, 0.5)),
        }
    return "Phaser", {
        "rate_hz": float(rng.uniform(0.2, 1.5)),
        "depth": float(rng.uniform(0.2, 0.7)),
        "mix": float(rng.uniform(0.2, 0.5)),
    }


def _delay(rng: np.random.Generator) -> tuple[str, dict[str, float]]:
    return "Delay", {
        "delay_seconds": float(rng.uniform(0.12, 0.5)), "feedback": float(rng.uniform(0.1, 0.45)),
        "mix": float(rng.uniform(0.08, 0.3)),
    }  # fmt: skip


def _reverb(rng: np.random.Generator, stem: str) -> tuple[str, dict[str, float]]:
    size = float(rng.uniform(0.05, 0.45) if stem == "drums" else rng.uniform(0.1, 0.8))
    wet = float(rng.uniform(0.03, 0.15) if stem in ("drums", "bass") else rng.uniform(0.04, 0.28))
    return "Reverb", {
        "room_size": size,
        "damping": float(rng.uniform(0.2, 0.8)),
        "wet_level": wet,
        "dry_level": 0.8,
        "width": float(rng.uniform(0.5, 1)),
    }


def apply(chain: Chain, sound: NDArray[np.float32]) -> NDArray[np.float32]:
    """Play the effects on a sound (time, 2) at 44.1 kHz; the length stays."""
    if not chain:
        return sound
    pedalboard: Any = require("pedalboard")
    board = pedalboard.Pedalboard([getattr(pedalboard, name)(**settings) for name, settings in chain])
    return np.ascontiguousarray(board(np.ascontiguousarray(sound.T), RATE).T, dtype=np.float32)


def without_lows(sound: NDArray[np.float32], cut_hz: float) -> NDArray[np.float32]:
    """Less by 9 dB at cut_hz and by 18 dB an octave below; nothing happens at 0."""
    return apply([("HighpassFilter", {"cutoff_frequency_hz": cut_hz})] * 3 if cut_hz else [], sound)


def placed(sound: NDArray[np.float32], pan: float, width: float) -> NDArray[np.float32]:
    """Stereo width (0 mono, 1 as it is) and pan (-1 left to 1 right, constant power)."""
    middle = (sound[:, 0] + sound[:, 1]) * np.float32(0.5)
    side = (sound[:, 0] - sound[:, 1]) * np.float32(0.5 * width)
    angle = (pan + 1) * np.pi / 4
    left, right = np.float32(np.sqrt(2) * np.cos(angle)), np.float32(np.sqrt(2) * np.sin(angle))
    out = np.empty_like(sound)
    np.multiply(middle + side, left, out=out[:, 0])
    np.multiply(middle - side, right, out=out[:, 1])
    return out


def draw_place(rng: np.random.Generator, stem: str, alone: bool) -> tuple[float, float]:
    """Pan and width of a part: bass, drums and voices in the middle, the others anywhere."""
    if stem in ("bass", "drums"):
        return float(rng.normal(0, 0.05)), float(rng.uniform(0.0, 1.0) if stem == "bass" else rng.uniform(0.5, 1.0))
    if stem == "vocals":
        return float(rng.normal(0, 0.1)), 1.0
    spread = 0.35 if alone else 0.6
    return float(np.clip(rng.normal(0, spread), -0.9, 0.9)), float(rng.uniform(0.4, 1.0))
