"""The transform is exact, linear and of unit scale; coloured noise has the colour asked for."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stemforge.models.spectra import Stft, colour, interpolate_db


@settings(max_examples=30, deadline=None)
@given(time=st.integers(1, 2000), n_fft=st.sampled_from([12, 48, 96, 384]))
def test_round_trip_is_exact_for_any_length(time, n_fft):
    """Analysis and synthesis give back every sample, the first and the last too."""
    stft = Stft(n_fft).double()
    x = torch.randn(2, time, dtype=torch.float64, generator=torch.Generator().manual_seed(time))
    spectrum = stft(x)
    assert spectrum.shape == (2, stft.frames(time), n_fft // 2 + 1)
    torch.testing.assert_close(stft.inverse(spectrum, time), x, atol=1e-6, rtol=0)  # window held in float32


def test_white_noise_has_unit_coefficients():
    """Noise of variance 1 has coefficients of mean square 1 away from the ends."""
    stft = Stft(384)
    spectrum = stft(torch.randn(200_000, generator=torch.Generator().manual_seed(0)))[4:-4]
    assert spectrum.abs().square().mean().item() == pytest.approx(1, abs=0.02)


def test_window_must_be_a_multiple_of_three():
    """Other windows would not add up to a constant."""
    with pytest.raises(ValueError, match="multiple of 3"):
        Stft(1024)


def test_interpolation_meets_its_points_and_is_flat_outside():
    """At a given point the curve has the given level; beyond the ends it stays."""
    hz, db = [100.0, 1000.0, 10000.0], [0.0, -20.0, -60.0]
    found = interpolate_db(hz, db, torch.tensor([0.0, 100.0, 1000.0, 316.2278, 10000.0, 20000.0]))
    torch.testing.assert_close(
        20 * found.log10(), torch.tensor([0.0, 0.0, -20.0, -10.0, -60.0, -60.0]), atol=1e-3, rtol=0
    )


def test_coloured_noise_follows_the_curve():
    """The power of filtered noise, band by band, is the curve squared."""
    rate, hz, db = 8000, [50.0, 500.0, 4000.0], [0.0, -10.0, -30.0]
    noise = colour(torch.randn(2**17, generator=torch.Generator().manual_seed(1)), rate, hz, db)
    power = torch.fft.rfft(noise).abs().square() / 2**17
    at = torch.fft.rfftfreq(2**17, 1 / rate)
    for low, high in ((100, 110), (500, 520), (2000, 2100)):
        band = (at >= low) & (at < high)
        wanted = interpolate_db(hz, db, at[band]).square().mean()
        assert (10 * (power[band].mean() / wanted).log10()).abs() < 0.7


def test_colouring_is_linear():
    """Colouring a sum is the sum of the coloured, so sums of stems stay exact."""
    a, b = torch.randn(2, 1000, generator=torch.Generator().manual_seed(2))
    curve = ([50.0, 4000.0], [0.0, -30.0])
    torch.testing.assert_close(colour(a + b, 8000, *curve), colour(a, 8000, *curve) + colour(b, 8000, *curve))
