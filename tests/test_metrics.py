"""The figures of a separation: against closed forms and against the definitions written out a second time."""

from __future__ import annotations

import numpy as np
import pytest
import soxr
from hypothesis import given
from hypothesis import strategies as st

from stemforge.audio.metrics import FLOOR_DB, gains, msdm_gains, si_sdr, sum_gap_db

RATE = 44100


def tone(hz: float, seconds: float = 8.0, level: float = 0.2, phase: float = 0.0) -> np.ndarray:
    return level * np.sin(2 * np.pi * hz * np.arange(int(seconds * RATE)) / RATE + phase)


def stereo(left: np.ndarray, right: np.ndarray | None = None) -> np.ndarray:
    return np.stack([left, left if right is None else right], axis=1)


@pytest.mark.parametrize("leak", [1.0, 0.1, 0.01])
def test_active_gain_of_a_known_leak(leak: float) -> None:
    """With orthogonal tones of equal level the gain is that of the leak: 20 log10(1 / leak)."""
    a, b = stereo(tone(250)), stereo(tone(1000))
    found = gains({"bass": a, "piano": b}, {"bass": a + leak * b, "piano": b + leak * a}, RATE)
    for figure in ("active", "stereo"):
        for stem in ("bass", "piano"):
            assert found[figure][stem] == pytest.approx([20 * np.log10(1 / leak)] * len(found[figure][stem]), abs=0.01)
    assert len(found["active"]["bass"]) == 3
    assert len(found["stereo"]["bass"]) == 6


def test_stereo_punishes_a_folded_stem() -> None:
    """A stem that sits on one side and is put in the middle keeps its mono figure and loses the stereo one."""
    a, b, silent = tone(250), tone(1000), np.zeros(8 * RATE)
    refs = {"bass": stereo(a, silent), "piano": stereo(silent, b)}
    folded = {stem: stereo(x.mean(axis=1)) for stem, x in refs.items()}
    found = gains(refs, folded, RATE)
    assert np.mean(found["active"]["bass"]) > 60
    assert "bass" not in found["stereo"]  # alone on its side: there is nothing to separate there
    both = {"bass": stereo(a, 0.5 * a), "piano": stereo(0.5 * b, b)}
    wrong = {"bass": both["bass"], "piano": both["piano"][:, ::-1] + both["bass"]}
    assert np.mean(gains(both, wrong, RATE)["stereo"]["piano"]) < 7


def test_treble_ignores_what_is_below() -> None:
    """A stem whose top is leaked loses above 8 kHz, whatever happens below."""
    low, high, other = tone(500), tone(10000, level=0.05), tone(12000, level=0.05)
    refs = {"drums": stereo(low + high), "guitar": stereo(other)}
    ests = {"drums": stereo(high + 0.1 * other), "guitar": stereo(other + 0.1 * high)}
    found = gains(refs, ests, RATE)
    assert np.mean(found["treble"]["drums"]) == pytest.approx(20, abs=0.01)


def test_silence_can_only_lose() -> None:
    """Digital silence instead of an active stem scores the floor, minus what the mixture scored."""
    a, b = stereo(tone(250)), stereo(tone(1000))
    found = gains({"bass": a, "piano": b}, {"bass": 0 * a, "piano": b}, RATE)
    assert found["active"]["bass"] == pytest.approx([FLOOR_DB] * 3, abs=0.01)


def test_msdm_figure_follows_its_definition() -> None:
    """The MSDM figure equals its definition written out for one window, on noise."""
    rng = np.random.default_rng(1)
    refs = {stem: 0.1 * rng.standard_normal(4 * RATE) for stem in ("bass", "drums")}
    ests = {stem: x + 0.03 * rng.standard_normal(x.shape) for stem, x in refs.items()}
    low = {stem: soxr.resample(x, RATE, 22050) for stem, x in refs.items()}
    mixture = low["bass"] + low["drums"]

    def snr(est, ref):
        alpha = (np.dot(est, ref) + 1e-8) / (np.dot(ref, ref) + 1e-8)
        error = alpha * ref - est
        return 10 * np.log10((np.dot(alpha * ref, alpha * ref) + 1e-8) / (np.dot(error, error) + 1e-8))

    found = msdm_gains(refs, ests, RATE)
    for stem, ref in low.items():
        expected = snr(soxr.resample(ests[stem], RATE, 22050), ref) - snr(mixture, ref)
        assert found[stem] == pytest.approx([expected], abs=1e-9)


def test_mono_references_have_no_stereo_figure() -> None:
    """One channel leaves nothing to score apart."""
    a, b = tone(250)[:, None], tone(1000)[:, None]
    assert gains({"bass": a, "piano": b}, {"bass": a, "piano": b}, RATE)["stereo"] == {}


@given(scale=st.floats(1e-2, 1e2), noise=st.floats(1e-3, 10), seed=st.integers(0, 99))
def test_si_sdr_is_blind_to_scale(scale: float, noise: float, seed: int) -> None:
    """SI-SDR does not change when the estimate is louder, and never leaves its floor."""
    rng = np.random.default_rng(seed)
    ref = rng.standard_normal(512)
    est = ref + noise * rng.standard_normal(512)
    assert si_sdr(scale * est, ref) == pytest.approx(si_sdr(est, ref), abs=1e-6)
    assert si_sdr(est, ref) >= FLOOR_DB


def test_sum_gap_is_the_level_of_the_error() -> None:
    """An error 60 dB under the mixture is reported as -60 dB."""
    a, b = stereo(tone(250)), stereo(tone(1000))
    assert sum_gap_db({"bass": a, "piano": b}, {"bass": a, "piano": b + 1e-3 * (a + b)}) == pytest.approx(-60, abs=0.01)
