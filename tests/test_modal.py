"""Modelled strings, tines and bars: in tune, dying away, different each time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from stemforge.data import modal
from stemforge.data.players import play_map
from stemforge.data.score import RATE, Note, Part


def strongest_near(wave: np.ndarray, hz: float) -> float:
    """Frequency of the strongest partial within a semitone of hz."""
    spectrum = np.abs(np.fft.rfft(wave * np.hanning(len(wave)), 4 * len(wave)))
    frequencies = np.fft.rfftfreq(4 * len(wave), 1 / RATE)
    near = np.abs(np.log2(frequencies.clip(1) / hz)) < 1 / 12
    return float(frequencies[near][np.argmax(spectrum[near])])


def test_damped_partials_are_their_closed_form() -> None:
    """The matrix product equals the sum of damped cosines."""
    hz, rates = np.array([220.0, 1234.5]), np.array([3.0, 20.0])
    weights = np.array([0.5, 0.2 - 0.1j])
    n = np.arange(5000) / RATE
    expected = sum(np.real(w * np.exp((2j * np.pi * f - r) * n)) for w, f, r in zip(weights, hz, rates, strict=True))
    assert np.allclose(modal.damped(hz, weights, rates, 5000), expected, atol=1e-5)


@pytest.mark.parametrize("stem", ["guitar", "piano", "other"])
@pytest.mark.parametrize("seed", range(6))
def test_notes_are_in_tune_and_die_away(stem: str, seed: int) -> None:
    """The fundamental is within 20 cents of the key, the end is quieter than the start, nothing clips."""
    rng = np.random.default_rng(seed)
    build = modal.draw_build(rng, stem)
    sound = modal.note(rng, build, 57, 100, 2.0)
    wave = sound.mean(axis=1).astype(float)
    assert np.isfinite(sound).all() and np.abs(sound).max() < 1
    assert abs(1200 * np.log2(strongest_near(wave[2000:42000], 220.0) / 220.0)) < 20
    assert np.square(wave[-RATE // 4 :]).mean() < 0.5 * np.square(wave[: RATE // 4]).mean()


def test_louder_keys_are_louder_and_brighter() -> None:
    """Velocity raises level and the share of high partials of a plucked string."""
    build = next(
        b for b in (modal.draw_build(np.random.default_rng(s), "guitar") for s in range(9)) if b.kind == "steel"
    )
    soft, hard = (modal.note(np.random.default_rng(0), build, 50, v, 1.0).mean(axis=1) for v in (40, 120))
    share = [np.square(np.diff(x)).mean() / np.square(x).mean() for x in (soft, hard)]
    assert np.square(hard).mean() > 2 * np.square(soft).mean() and share[1] > share[0]


def test_the_sampler_plays_a_modelled_map(tmp_path: Path) -> None:
    """A map loads, sounds at the key that was asked for, and depends on nothing but the generator."""
    made = [modal.modelled_map(np.random.default_rng(3), "guitar", tmp_path / name) for name in ("a", "b")]
    part = Part("guitar", "comp", 24, (Note(0.0, 1.0, 57, 100),))
    first, second = (play_map(m.path, part, RATE) for m in made)
    assert np.array_equal(first, second)
    assert abs(1200 * np.log2(strongest_near(first.mean(axis=1)[2000:40000].astype(float), 220.0) / 220.0)) < 25
