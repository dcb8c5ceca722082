"""Sample rate and channels: lengths, alignment, and the way back."""

from __future__ import annotations

import math

import pytest
import torch

from stemforge.audio.resample import resampled, to_channels, to_rate
from stemforge.types import Audio


def tone(rate: int, hz: float, seconds: float = 1.0, channels: int = 2) -> torch.Tensor:
    wave = torch.sin(2 * math.pi * hz * torch.arange(round(rate * seconds), dtype=torch.float64) / rate)
    return (0.5 * wave).float().repeat(channels, 1)


@pytest.mark.parametrize("rate", [8000, 22050, 48000, 96000, 192000])
def test_a_tone_stays_where_it_is(rate: int) -> None:
    """A tone at another rate is the same tone at that rate: no delay, no change of level, away from the ends."""
    y = to_rate(Audio(tone(rate, 440), rate), 44100)
    assert y.rate == 44100 and y.samples.shape == (2, 44100)
    inside = slice(4000, -4000)
    assert (y.samples - tone(44100, 440))[:, inside].abs().max() < 1e-4


def test_blocks_do_not_matter() -> None:
    """Block by block or at once: the same samples."""
    x = torch.randn(2, 20000, generator=torch.Generator().manual_seed(0))
    whole = torch.cat(list(resampled([x], 48000, 44100)), dim=-1)
    parts = torch.cat(list(resampled(x.split(777, dim=-1), 48000, 44100)), dim=-1)
    assert whole.shape == parts.shape
    assert (whole - parts).abs().max() < 1e-6


def test_leading_axes_are_kept() -> None:
    """Stems (stem, channel, time) are resampled as each channel by itself."""
    x = torch.randn(3, 2, 5000, generator=torch.Generator().manual_seed(0))
    y = torch.cat(list(resampled([x], 44100, 22050)), dim=-1)
    alone = torch.cat(list(resampled([x[2, 1:]], 44100, 22050)), dim=-1)
    assert y.shape[:2] == (3, 2)
    assert (y[2, 1] - alone[0]).abs().max() < 1e-6


def test_same_rate_passes_through() -> None:
    """At the same rate the blocks themselves come out."""
    block = torch.ones(1, 10)
    assert next(resampled([block], 44100, 44100)) is block
    audio = Audio(block, 44100)
    assert to_rate(audio, 44100) is audio


@pytest.mark.parametrize("length", [1, 2, 3, 100])
@pytest.mark.parametrize("rate", [8000, 192000])
def test_tiny_sounds(length: int, rate: int) -> None:
    """Even one sample has a length at another rate."""
    y = to_rate(Audio(torch.ones(1, length), rate), 44100)
    assert y.samples.shape[-1] == max(1, round(length * 44100 / rate))


def test_mono_to_stereo_and_back() -> None:
    """Mono copied to two channels and averaged again is the same, bit by bit; two channels stay two."""
    x = torch.randn(1, 100, generator=torch.Generator().manual_seed(0))
    assert torch.equal(to_channels(to_channels(x, 2), 1), x)
    stereo = to_channels(x, 2)
    assert to_channels(stereo, 2) is stereo
    with pytest.raises(ValueError, match="no rule"):
        to_channels(stereo, 3)
