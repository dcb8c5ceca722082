"""Loudness against the standard's own tones, and that blocks do not matter."""

from __future__ import annotations

import math

import pytest
import torch

from stemforge.audio.loudness import Meter


def tone(rate: int, seconds: float, peak_db: float, channels: int = 2, frequency: float = 997) -> torch.Tensor:
    time = torch.arange(round(rate * seconds), dtype=torch.float64) / rate
    return (10 ** (peak_db / 20) * torch.sin(2 * math.pi * frequency * time)).float().expand(channels, -1)


def loudness(sound: torch.Tensor, rate: int, size: int = 1 << 17) -> float | None:
    meter = Meter(rate)
    for block in sound.split(size, dim=-1):
        meter.add(block)
    return meter.integrated()


@pytest.mark.parametrize("rate", [22050, 44100, 48000, 96000])
def test_tones_of_the_standard(rate: int) -> None:
    """A full-scale tone of 997 Hz has -3.01 LUFS in one channel; EBU Tech 3341 has -23 LUFS for -23 dBFS in two."""
    assert loudness(tone(rate, 3, 0, channels=1), rate) == pytest.approx(-3.01, abs=0.05)
    assert loudness(tone(rate, 20, -23), rate) == pytest.approx(-23, abs=0.1)


def test_gates() -> None:
    """EBU Tech 3341, case 3: what is 10 LU quieter than the rest counts for nothing, nor does silence."""
    parts = [tone(48000, 10, -36), tone(48000, 60, -23), tone(48000, 10, -36), torch.zeros(2, 48000 * 10)]
    assert loudness(torch.cat(parts, dim=-1), 48000) == pytest.approx(-23, abs=0.1)


def test_blocks_do_not_matter() -> None:
    """The same figure for blocks of any size."""
    sound = 0.1 * torch.randn(2, 5 * 44100, generator=torch.Generator().manual_seed(0))
    whole = loudness(sound, 44100, sound.shape[-1])
    assert loudness(sound, 44100, 4001) == pytest.approx(whole, abs=1e-9)


def test_nothing_to_measure() -> None:
    """Silence and what is shorter than 0.4 s have no loudness."""
    assert loudness(torch.zeros(1, 44100), 44100) is None
    assert loudness(torch.ones(1, 17000), 44100) is None
    assert Meter(8000).integrated() is None
