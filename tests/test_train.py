"""Losses equal their definitions, batches depend on (seed, step) alone, a resumed run equals the uncut one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric

from stemforge.errors import InputError
from stemforge.train.config import TrainConfig
from stemforge.train.data import TASKS, Crops, Variety, driven, find_songs, read_at
from stemforge.train.files import StemFile
from stemforge.train.loss import moments, products
from stemforge.train.recipes import pieces_of, score_of, scores_of
from stemforge.train.saving import resume, save
from stemforge.train.trainer import averaged, fit, schedule, start
from stemforge.train.validate import validate
from tiny import TINY, tiny_network, tiny_songs

CONFIG = TrainConfig(
    steps=6, batch_size=2, seconds=0.25, warmup=2, precision="32-true", network=TINY, shares=(0.4, 0.2, 0.2, 0.1, 0.1)
)


@pytest.fixture
def songs(tmp_path):
    return find_songs(tiny_songs(tmp_path / "songs"), tuple(TINY["names"]))


def crops_of(songs, **changes) -> Crops:
    given = {
        "rate": 8000,
        "seconds": 0.25,
        "batch_size": 2,
        "seed": 0,
        "shares": CONFIG.shares,
        "level_db": -20.0,
    } | changes
    return Crops(songs, tuple(TINY["names"]), **given)


def read(stem, start, count):
    out = np.zeros((2, count), np.float32)
    stem.read(start, out)
    return out


def test_products_equal_those_of_the_combined_spectra():
    """The fast formula gives the inner products of D and X summed over bins, channels and frames."""
    torch.manual_seed(0)
    network = tiny_network()
    for linear in [*network.write_masks, *network.write_ratio]:
        torch.nn.init.normal_(linear.weight, std=0.5)
    stems = 0.1 * torch.randn(2, 3, 2, 900)
    x, y = network.stft(stems), network.stft(stems.sum(1))
    with torch.no_grad():
        found = products(network, network(y), moments(network, y, x))
        hidden = torch.ones(2, 3, dtype=torch.bool)
        d = network.combine(network(y), y, None, torch.zeros(2, 3, y.shape[2]), hidden)
    for got, wanted in zip(found, (d * d.conj(), d * x.conj(), x * x.conj()), strict=True):
        torch.testing.assert_close(got.sum(-1), wanted.real.sum(dim=(2, 3, 4)), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.error.sum(-1), (d - x).abs().square().sum(dim=(2, 3, 4)), rtol=1e-3, atol=1e-3)


def test_batches_depend_on_seed_and_step_alone(songs):
    """The same step gives the same batch, twice and in any order; another seed another."""
    crops = crops_of(songs)
    first = [crops.batch(k) for k in range(4)]
    for k in reversed(range(4)):
        again = crops.batch(k)
        assert again.task == first[k].task
        torch.testing.assert_close(again.stems, first[k].stems, rtol=0, atol=0)
    assert any(
        (crops_of(songs, seed=1).batch(k).stems.shape != b.stems.shape)
        or (crops_of(songs, seed=1).batch(k).stems != b.stems).any()
        for k, b in enumerate(first)
    )


def test_every_task_comes_and_asks_for_what_it_should(songs):
    """All tasks appear; only separation is given a mixture; imputation knows a stem, inpainting a stretch of time."""
    seen = {}
    crops = crops_of(songs)
    for k in range(60):
        seen.setdefault(crops.batch(k).task, crops.batch(k))
    assert set(seen) == set(TASKS)
    assert {t for t, b in seen.items() if b.mixture is not None} == {"separate", "denoise"}
    assert seen["separate"].hidden.all()
    assert (seen["impute"].sigma == 0).any() and (seen["impute"].sigma > 0).any()
    assert seen["inpaint"].sigma.shape[-1] == seen["inpaint"].stems.shape[-1]
    known = (seen["inpaint"].sigma == 0).float().mean()
    assert 0.4 < known < 1


def test_songs_of_one_item_stay_together_outside_separation(songs):
    """The stems of a generated item are those of one song at one time."""
    crops = crops_of(songs, shares=(0, 0, 1, 0, 0))
    batch = crops.batch(0)
    assert batch.task == "generate"
    for item in batch.stems.numpy():
        match = [
            any(np.allclose(item[0], item[0] * 0 + part, atol=1e-4) for part in (_cut(song, "bass", item[0]),))
            for song in songs
        ]
        assert any(match)


def test_crops_as_they_are(songs):
    """Without remix, left-out stems and augmentation a separation item is a crop of one song at another level."""
    crops = crops_of(songs, shares=(1, 0, 0, 0, 0), variety=Variety(0.0, 0.0, 0.0))
    for item in (item for k in range(3) for item in crops.batch(k).stems.numpy()):
        assert np.sqrt((item.sum(0)[:, ::4] ** 2).mean()) == pytest.approx(0.1, rel=1e-4)
        assert any(_scaled(item, song) for song in songs)


def _scaled(item, song):
    """Is there a place in the song that the item equals up to one factor?"""
    count = item.shape[-1]
    whole = np.stack([_whole(song, name) for name in TINY["names"]]).astype(np.float64)
    inner = sum(
        np.convolve(x, y[::-1], "valid") for x, y in zip(whole.reshape(6, -1), item.reshape(6, -1), strict=True)
    )
    energy = np.convolve((whole**2).sum(axis=(0, 1)), np.ones(count), "valid")
    return bool((inner / np.sqrt(np.maximum(energy, 1e-9)) > (1 - 1e-6) * np.linalg.norm(item)).any())


def _whole(song, name):
    return read(song.stems[name], 0, song.frames) if name in song.stems else np.zeros((2, song.frames), np.float32)


def test_how_crops_vary_can_be_set(songs):
    """Every item is put together from several songs, or loses a stem, when it is asked for."""
    mixed = crops_of(songs, shares=(1, 0, 0, 0, 0), variety=Variety(1.0, 0.0, 0.0))
    items = [item for k in range(4) for item in mixed.batch(k).stems.numpy()]
    assert not all(any(_scaled(item, song) for song in songs) for item in items)
    poor = crops_of(songs, shares=(1, 0, 0, 0, 0), variety=Variety(0.0, 1.0, 0.0))
    items = [item for k in range(4) for item in poor.batch(k).stems.numpy()]
    assert all((np.abs(item).max(axis=(1, 2)) == 0).any() for item in items)


def _cut(song, name, wanted):
    """The piece of the stem that fits best, channels in either order."""
    whole = read(song.stems[name], 0, song.frames)
    starts = range(song.frames - wanted.shape[-1] + 1)
    pieces = [whole[:, s : s + wanted.shape[-1]] for s in starts]
    return min((p for piece in pieces for p in (piece, piece[::-1])), key=lambda p: float(np.abs(p - wanted).max()))


def test_reading_past_the_end_gives_zeros(songs):
    """A crop that reaches beyond a stem is filled up with silence."""
    stem = songs[0].stems["bass"]
    found = read(stem, stem.frames - 10, 50)
    assert found.shape == (2, 50) and np.abs(found[:, 10:]).max() == 0 and np.abs(found[:, :10]).max() > 0


def test_what_cannot_be_read_is_named(tmp_path):
    """An empty folder and a broken file raise InputError with the path."""
    with pytest.raises(InputError, match="no folder"):
        find_songs(tmp_path, ("bass",))
    broken = tmp_path / "bass.wav"
    broken.write_text("not sound")
    with pytest.raises(InputError, match=r"bass\.wav"):
        StemFile.open(broken)


def test_schedule_rises_holds_and_falls():
    """Linear warm-up to 1, constant, linear to 0 at the end."""
    config = TrainConfig(steps=100, warmup=10, decay=0.2)
    values = [schedule(k, config) for k in range(100)]
    assert values[0] == pytest.approx(0.1) and values[9:80] == [1.0] * 71
    assert values[99] == pytest.approx(0.05) and sorted(values[80:], reverse=True) == values[80:]


def weights_after(folder, songs, stops):
    """Train CONFIG, leaving and resuming at each of `stops`."""
    fabric = Fabric(accelerator="cpu", devices=1)
    for stop in [*stops, CONFIG.steps]:
        run = resume(CONFIG, folder)
        for _ in fit(run, crops_of(songs), fabric):
            if run.index >= stop:
                break
        save(run, folder)
    return run


def test_a_resumed_run_equals_the_uncut_one(tmp_path, songs):
    """Cut at steps 1 and 4 and resumed, weights and averages are the same bit for bit."""
    whole = weights_after(tmp_path / "whole", songs, [])
    cut = weights_after(tmp_path / "cut", songs, [1, 4])
    for a, b in ((whole.network, cut.network), (averaged(whole), averaged(cut))):
        for (name, x), (_, y) in zip(a.state_dict().items(), b.state_dict().items(), strict=True):
            assert torch.equal(x, y), name


def test_training_learns(tmp_path, songs):
    """On two songs of tones and clicks, 150 steps of separation gain decibels."""
    config = TrainConfig(**{**CONFIG.__dict__, "steps": 150, "shares": (1.0, 0, 0, 0, 0), "ema": 0.9})
    run = start(config)
    piece = [np.stack([read(s, 0, 12000) for s in songs[0].stems.values()])]
    pieces = [np.concatenate([p, p, p], axis=-1) for p in piece]
    before = validate(run.network, pieces)["all"]
    steps = list(fit(run, crops_of(songs, shares=config.shares), Fabric(accelerator="cpu", devices=1)))
    assert [s.index for s in steps] == list(range(150))
    assert all(np.isfinite(s.loss) for s in steps)
    assert validate(averaged(run), pieces)["all"] > before + 3


def test_what_is_learned_of_making_leaves_separation_alone(tmp_path, songs):
    """With learn = making separated stems stay what they are, bit by bit, in the averaged weights and after a resumed
    run too; stems that are made change."""
    network = {**TINY, "detail": 3, "across": True}
    config = TrainConfig(
        **{**CONFIG.__dict__, "network": network, "learn": "making", "shares": (0, 0.2, 0.3, 0.3, 0.2), "rate": 0.01}
    )
    run, fabric = start(config), Fabric(accelerator="cpu", devices=1)
    torch.manual_seed(3)
    x, sigma = 0.1 * torch.randn(1, 3, 2, 2000), torch.ones(1, 3, 1)
    apart, made = (found.detach() for found in (run.network.separate(x.sum(1)), run.network.denoise(x, sigma)))
    for _ in range(2):
        for _ in fit(run, crops_of(songs, shares=config.shares), fabric):
            if run.index == 3:
                break
        save(run, tmp_path / "run")
        run = resume(config, tmp_path / "run")
    assert run.index == config.steps
    for trained in (run.network, averaged(run)):
        assert torch.equal(trained.separate(x.sum(1)), apart)
        assert (trained.denoise(x, sigma) - made).abs().max() > 1e-4


def test_making_is_scored_by_its_loss(songs):
    """Where separation cannot change, the best weights are those of the lowest loss on fixed crops of those tasks."""
    config = TrainConfig(**{**CONFIG.__dict__, "learn": "making", "shares": (0, 0, 0.5, 0.5, 0), "excerpts": 5})
    run = start(config)
    pieces = pieces_of(songs, run.network, config)
    assert sum(len(piece.stems) for piece in pieces) >= 5 and {piece.task for piece in pieces} <= {"generate", "impute"}
    figures = scores_of(run.network, pieces)
    assert figures.keys() == {"loss"} and score_of(figures) == -figures["loss"] < 0
    assert scores_of(run.network, pieces_of(songs, run.network, config)) == figures


def test_drive_keeps_the_level_and_adds_harmonics():
    """An overdriven tone has its old level, odd harmonics that it had not, and silence stays silence."""
    t = np.arange(16000) / 8000
    tone = np.stack([np.sin(2 * np.pi * 200 * t)] * 2).astype(np.float32) * 0.1
    out = driven(tone, 8000, np.random.default_rng(3))
    assert np.sqrt((out**2).mean()) == pytest.approx(np.sqrt((tone**2).mean()), rel=0.01)
    before, after = (np.abs(np.fft.rfft(x[0]))[1200] for x in (tone, out))  # 600 Hz
    assert after > 100 * before
    assert not driven(tone * 0, 8000, np.random.default_rng(3)).any()


@pytest.mark.parametrize("speed", [0.8, 0.99, 1.0, 1.003, 1.25])
def test_a_tape_at_another_speed_keeps_its_treble(tmp_path, speed):
    """A tone of 10 kHz has another pitch and the old level to 0.1 dB: crops at other speeds sound like the others."""
    tone = np.sin(2 * np.pi * 10000 * np.arange(100000) / 44100)
    np.save(tmp_path / "bass.npy", np.round(np.stack([tone] * 2, 1) * 20000).astype(np.int16))
    out = np.ones((2, 44100), np.float32)
    read_at(StemFile.open(tmp_path / "bass.npy"), 100, out, speed)
    middle = out[0, 2000:-2000]
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle))))
    assert np.argmax(spectrum) * 44100 / len(middle) == pytest.approx(10000 * speed, rel=2e-4)
    assert 20 * np.log10(np.sqrt(2 * (middle**2).mean()) * 32768 / 20000) == pytest.approx(0, abs=0.1)


def test_arrays_of_another_shape_are_refused(tmp_path):
    """An array that is not int16 (time, 2) is told by name, before training begins."""
    np.save(tmp_path / "bass.npy", np.zeros((10, 2), np.float32))
    with pytest.raises(InputError, match=r"bass.npy.*float32"):
        StemFile.open(tmp_path / "bass.npy")
