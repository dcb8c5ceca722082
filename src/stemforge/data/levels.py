"""Loudness of stems: active RMS, targets, shares of time in which stems sound."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stemforge.data.score import RATE

TARGETS = {"bass": -21.0, "drums": -20.0, "guitar": -24.0, "piano": -23.0, "other": -24.0, "vocals": -21.0}
"""dBFS, active RMS."""
PEAK = 0.9
ACTIVE = -45.0
"""dBFS over one second above which a stem counts as sounding."""


def active_rms(sound: NDArray[np.floating]) -> float:
    """RMS in dBFS over the 100 ms frames that are within 40 dB of the loudest; -inf for silence. sound: (time, 2)."""
    power = frame_power(sound, RATE // 10)
    loudest = power.max(initial=0.0)
    if loudest <= 1e-12:
        return -np.inf
    return float(10 * np.log10(power[power >= loudest * 1e-4].mean()))


def frame_power(sound: NDArray[np.floating], size: int) -> NDArray[np.float64]:
    """Mean square of each whole frame of `size` samples, over both channels."""
    count = len(sound) // size
    if count == 0:
        return np.asarray([np.mean(sound.astype(np.float64) ** 2)]) if len(sound) else np.zeros(0)
    frames = sound[: count * size].reshape(count, -1)
    return np.asarray([np.dot(frame, frame) for frame in frames], np.float64) / frames.shape[1]


def to_level(sound: NDArray[np.float32], level: float) -> NDArray[np.float32]:
    """The sound at an active RMS of `level` dBFS; silence stays silent."""
    now = active_rms(sound)
    return sound if not np.isfinite(now) else sound * np.float32(10 ** ((level - now) / 20))


def tamed(sound: NDArray[np.float32], crest: float) -> NDArray[np.float32]:
    """Peaks bent down softly so that none is more than `crest` dB above the active RMS, as a drum bus limiter does."""
    level = active_rms(sound)
    if not np.isfinite(level):
        return sound
    top = np.float32(10 ** ((level + crest) / 20))
    knee = top * np.float32(0.5)
    loud = np.abs(sound)
    bent = knee + (top - knee) * np.tanh((loud - knee) / (top - knee))
    return np.where(loud > knee, np.sign(sound) * bent, sound)


def draw_level(rng: np.random.Generator, stem: str) -> float:
    """A target in dBFS: 4 dB around the stem's usual level, 8 dB in one of seven songs."""
    width = 8.0 if rng.random() < 0.15 else 4.0
    return TARGETS[stem] + float(rng.uniform(-width, width))


def common_gain(stems: dict[str, NDArray[np.float32]]) -> float:
    """One gain, at most 1, with which neither the mixture nor any stem peaks above PEAK."""
    mixture = sum(stems.values(), np.float32(0))
    peaks = [float(np.abs(sound).max(initial=0.0)) for sound in (*stems.values(), np.asarray(mixture))]
    return min(1.0, PEAK / max(*peaks, 1e-9))


def active_seconds(sound: NDArray[np.int16]) -> NDArray[np.bool_]:
    """For each second whether the stem sounds above ACTIVE. sound: (time, 2) int16."""
    power = frame_power(sound.astype(np.float32) / 32768, RATE)
    return power > 10 ** (ACTIVE / 10)
