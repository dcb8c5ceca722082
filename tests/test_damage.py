"""Copies of songs: each kind does what it says, and the stems of a copy add up to it."""

from __future__ import annotations

import io

import numpy as np
import pytest
import soundfile

from stemforge.train.damage import clipped, coded, damaged, limited, narrowed, shared, stood
from stemforge.train.data import Crops, Variety, find_songs
from tiny import TINY, tiny_songs

RATE = 44100


@pytest.fixture
def item():
    """Three stems of a second, (3, 2, time): a low tone, noise in bursts, and silence."""
    rng, seconds = np.random.default_rng(0), np.arange(RATE) / RATE
    tone = 0.2 * np.sin(2 * np.pi * 110 * seconds) * np.exp(-3 * (seconds % 0.5))
    noise = rng.normal(0, 0.1, (2, RATE)) * (seconds % 0.25 < 0.05)
    return np.stack([np.stack([tone, 0.5 * tone]), noise, np.zeros((2, RATE))]).astype(np.float32)


def spectrum(x):
    return np.abs(np.fft.rfft(x)) ** 2


def test_a_limiter_holds_its_ceiling_with_one_gain_for_all(item):
    """No sample of the sum is above the ceiling, and every stem and channel is turned down by the same gain."""
    copy = limited(item, push_db=9, reach=100)
    ceiling = np.abs(item.sum(axis=0)).max() * 10 ** (-9 / 20)
    assert np.abs(copy.sum(axis=0)).max() <= ceiling * (1 + 1e-5)
    loud = np.abs(item[0, 0]) > 1e-3
    gain = copy[0, 0, loud] / item[0, 0, loud]
    assert gain.max() <= 1 + 1e-5 and gain.min() < 0.5
    assert np.allclose(copy[..., loud], item[..., loud] * gain, atol=1e-5)


def test_a_limiter_leaves_alone_what_is_below(item):
    """Away from peaks nothing changes."""
    item[:, :, 20000:] *= 0.01
    assert np.array_equal(limited(item, push_db=6, reach=50)[:, :, 20100:], item[:, :, 20100:])


@pytest.mark.parametrize("soft", [False, True])
def test_clipping_is_that_of_the_sum(item, soft):
    """The stems add up to the sum cut off at its height, or bent by tanh."""
    mixture = item.sum(axis=0, dtype=np.float64)
    height = np.abs(mixture).max() * 10 ** (-6 / 20)
    wanted = height * np.tanh(mixture / height) if soft else mixture.clip(-height, height)
    assert np.allclose(clipped(item, push_db=6, soft=soft).sum(axis=0), wanted, atol=1e-6)


def test_a_narrow_copy(item):
    """Few values, the same in both channels, nothing far outside of the band but the steps between the values."""
    copy = narrowed(item, RATE, low=300, high=3000, mono=True, bits=6)
    mixture = copy.sum(axis=0, dtype=np.float64)
    step = np.abs(mixture).max() / 2**5
    assert np.allclose(mixture / step, np.round(mixture / step), atol=0.02)
    assert np.allclose(mixture[0], mixture[1], atol=1e-5)
    before, after = (spectrum(x) for x in (item[1, 0], narrowed(item, RATE, 300, 3000, False, 16)[1, 0]))
    assert after[100:150].sum() < 0.05 * before[100:150].sum()
    assert after[800:1500].sum() == pytest.approx(before[800:1500].sum(), rel=0.1)
    assert after[9000:].sum() < 1e-3 * before[9000:].sum()


@pytest.mark.parametrize("mp3", [False, True])
@pytest.mark.parametrize("compression", [0.3, 0.85])
def test_a_coded_copy_is_in_step_and_smaller(item, mp3, compression):
    """The copy lies on the song to the sample, differs from it, and its stems add up to what the decoder gives."""
    copy = coded(item, RATE, mp3, compression)
    song, heard = item.sum(axis=0), copy.sum(axis=0)
    at = np.fft.irfft(np.fft.rfft(heard[0], 2 * RATE) * np.fft.rfft(song[0], 2 * RATE).conj()).argmax()
    assert at == 0
    assert 5 < 10 * np.log10(np.sum(song**2) / np.sum((song - heard) ** 2)) < 45
    file, level = io.BytesIO(), np.abs(song).max() / 0.9
    kind = ("MP3", "MPEG_LAYER_III") if mp3 else ("OGG", "VORBIS")
    soundfile.write(file, song.T / level, RATE, format=kind[0], subtype=kind[1], compression_level=compression)
    file.seek(0)
    assert np.allclose(soundfile.read(file)[0].T[:, :RATE] * level, heard, atol=1e-5)


def test_rates_that_mp3_does_not_know_are_coded_as_vorbis(item):
    """And so are more than two channels."""
    assert np.array_equal(coded(item, 10000, True, 0.5), coded(item, 10000, False, 0.5))
    three = np.concatenate([item, item[:, :1]], axis=1)
    assert coded(three, RATE, True, 0.5).shape == three.shape


def test_a_change_goes_to_the_stem_that_sounds_there(item):
    """Stems and change add up; a low change goes to the low stem, and a silent one stays silent."""
    change = np.stack([item[0, 0], item[0, 1]]) * np.float32(-0.5)
    stems = shared(item, change)
    assert np.allclose(stems.sum(axis=0), item.sum(axis=0) + change, atol=1e-5)
    assert np.square(stems[0] - item[0] - change).sum() < 0.05 * np.square(change).sum()
    assert np.array_equal(stems[2], item[2])


def test_copies_are_drawn(item):
    """Every kind comes, the same seed draws the same copy, silent stems stay silent, and silence stays silence."""
    copies = [damaged(item, RATE, np.random.default_rng(seed)) for seed in range(12)]
    far = [float(np.square(copy - item).sum() / np.square(item).sum()) for copy in copies]
    assert min(far) > 0 and max(far) < 2 and len(set(far)) > 9
    mono = [np.array_equal(copy[:, 0], copy[:, 1]) for copy in copies]
    assert 0 < sum(mono) < 9
    assert all(copy.shape == item.shape and copy.dtype == np.float32 and not copy[2].any() for copy in copies)
    assert np.array_equal(copies[3], damaged(item, RATE, np.random.default_rng(3)))
    assert not damaged(np.zeros_like(item), RATE, np.random.default_rng(0)).any()


def test_crops_are_damaged_as_often_as_asked(tmp_path):
    """Separation items only, whose level stays that of all others; augment=0 leaves them alone."""
    songs = find_songs(tiny_songs(tmp_path / "songs"), tuple(TINY["names"]))

    def items(damage, augment=1.0, shares=(1, 0, 0, 0, 0)):
        variety = Variety(0.0, 0.0, augment, damage)
        crops = Crops(songs, tuple(TINY["names"]), 8000, 0.25, 2, 0, shares, -20.0, 2, variety)
        return np.concatenate([crops.batch(k).stems.numpy() for k in range(4)])

    plain, copies = items(0.0), items(1.0)
    assert all(not np.allclose(a, b, atol=1e-4) for a, b in zip(plain, copies, strict=True))
    some = [not np.array_equal(a, b) for a, b in zip(plain, items(0.5), strict=True)]
    assert 0 < sum(some) < len(some)
    assert np.allclose(np.sqrt(np.mean(copies[..., ::4].sum(axis=1) ** 2, axis=(1, 2))), 0.1, rtol=1e-3)
    assert np.array_equal(items(1.0, augment=0.0), items(0.0, augment=0.0))
    assert np.array_equal(items(1.0, shares=(0, 0, 1, 0, 0)), items(0.0, shares=(0, 0, 1, 0, 0)))


def test_channels_of_a_copy(item):
    """Mono is the same in both, a width of 1 changes nothing, and a balance turns one channel down."""
    mono = stood(item, 0, 0)
    assert np.array_equal(mono[:, 0], mono[:, 1])
    assert np.allclose(mono[:, 0], item.mean(axis=1), atol=1e-7)
    assert np.allclose(stood(item, 1, 0), item, atol=1e-6)
    for db in (-6.0, 6.0):
        quiet, loud = (0, 1) if db > 0 else (1, 0)
        copy = stood(item, 1, db)
        assert np.allclose(copy[:, loud], item[:, loud], atol=1e-6)
        assert np.allclose(copy[:, quiet], item[:, quiet] * 10 ** (-6 / 20), atol=1e-6)
