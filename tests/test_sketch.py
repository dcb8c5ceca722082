"""Pictures of sound, their codes, and the network that makes them."""

from __future__ import annotations

import json

import pytest
import torch

from songs import put, tone
from stemforge import checkpoints, devices
from stemforge.cli.main import main
from stemforge.inference.settings import Sampling
from stemforge.models.bands import FLOOR_DB, SILENCE, SPAN_DB, Bands, triangles
from stemforge.models.sketch import Sketch, SketchConfig
from stemforge.tasks.generate import generate
from stemforge.tasks.impute import Song, Wish, impute_blocks
from stemforge.train.config import TrainConfig
from stemforge.train.data import find_songs
from stemforge.train.recipes import batches_of, network_of, prepare
from stemforge.train.saving import save
from stemforge.train.sketches import sketch_loss
from stemforge.train.trainer import start
from tiny import tiny_songs

NAMES = ("bass", "drums", "other")
SHAPE = {"names": NAMES, "channels": 24, "sound_rate": 8000, "bands": 24, "hop": 80, "n_fft": 256, "segment": 2.0,
         "width": 32, "heads": 2, "hidden": 32, "kernel": 3, "layers": 2, "rank": 8}  # fmt: skip
SAMPLING = Sampling(steps=3)


def small(**changes: object) -> Sketch:
    """A network of 8 kHz and few weights, that says something."""
    torch.manual_seed(0)
    network = Sketch(SketchConfig(**{**SHAPE, **changes}))
    torch.nn.init.normal_(network.write.weight, std=0.1)
    return network.eval().requires_grad_(False)


def level_of(db: float) -> float:
    return (db - FLOOR_DB) / SPAN_DB - 1


@pytest.mark.parametrize(("rate", "bands", "n_fft"), [(44100, 128, 2048), (44100, 32, 512), (8000, 24, 256)])
def test_every_band_hears_and_every_frequency_is_heard(rate, bands, n_fft):
    """No empty band; no bin between the middles of the first and the last is in none."""
    bank = triangles(rate, bands, n_fft)
    assert (bank.sum(dim=1) > 0).all()
    peaks = bank.argmax(dim=1)
    assert (peaks.diff() >= 0).all()
    inside = bank[:, peaks[0] : peaks[-1] + 1]
    assert (inside.sum(dim=0) > 0).all()


def test_a_picture_is_in_decibels():
    """White noise of level 1 has 0 dB in every band, a tenth of it 20 dB less; silence is the floor."""
    noise, bands = torch.randn(44100 * 40, generator=torch.Generator().manual_seed(0)), Bands()
    loud, quiet = (10 * (10 ** ((bands.read(gain * noise) + 1) * SPAN_DB / 10)).mean(dim=1).log10() + FLOOR_DB
                   for gain in (1.0, 0.1))  # fmt: skip
    assert loud[2:-2].abs().max() < 1.5
    assert loud[60:120].abs().max() < 0.5
    assert torch.allclose(loud - quiet, torch.full_like(loud, 20.0), atol=0.05)
    assert (bands.read(torch.zeros(2, 44100)) == SILENCE).all()
    assert bands.read(torch.zeros(2, 44100)).shape == (2, 128, 100)


def test_a_tone_is_in_its_band():
    bands = Bands()
    for hz in (110.0, 440.0, 3520.0):
        wave = torch.from_numpy(tone(hz, rate=44100)[:, 0])
        heard = bands.read(wave)[:, 50]
        centre = triangles(44100, 128, 2048)[heard.argmax()].argmax() * 44100 / 2048
        assert abs(float(centre) - hz) < 44100 / 2048 + 0.02 * hz


def test_sound_of_a_picture_looks_like_it():
    """Two tones and clicks: it is the picture it was made of, within 1 dB in the median where that is loud."""
    torch.manual_seed(0)
    bands, wave = Bands(), torch.zeros(44100 * 2)
    for hz in (220.0, 1500.0):
        wave += torch.from_numpy(tone(hz, seconds=2.0, rate=44100)[:, 0])
    wave[11025::22050] += 0.5
    picture = bands.read(wave)
    found = bands.read(bands.sound(picture))
    loud = picture > level_of(-45)
    assert found.shape == picture.shape
    assert ((found - picture)[loud].abs() * SPAN_DB).median() < 1.0
    assert (bands.sound(bands.read(torch.zeros(44100))) == 0).all()


def learned(**changes: object) -> tuple[Sketch, torch.Tensor]:
    """A network whose codes were taken from noise in two colours, and that noise, (item, time)."""
    network = small(**changes)
    noise = torch.randn(8, 16000, generator=torch.Generator().manual_seed(1))
    sounds = torch.cat([noise[:4].cumsum(dim=1) * 0.02, 0.05 * noise[4:]])
    sounds = sounds * torch.linspace(0, 1, 16000).mul(40).sin().clamp(min=0)
    network.learn(network.pictures.read(sounds))
    return network, sounds


def test_codes_are_principal_components():
    """Uncorrelated, with the deviations that the network knows, the largest first; all tell the whole picture."""
    network, sounds = learned(channels=240)
    codes = network.encode(sounds)
    assert codes.shape == (8, 240, 20)
    rows = codes.transpose(0, 1).flatten(1).double()
    covariance = rows @ rows.mT / rows.shape[1]
    assert torch.allclose(covariance.diag()[:20].sqrt().float(), network.spread[:20], rtol=0.01)
    off = covariance - covariance.diag().diag()
    assert off.abs()[:20, :20].max() < 0.01 * covariance.diag().max()
    assert (network.spread.diff() <= 0).all()
    assert torch.allclose(network.picture(codes), network.pictures.read(sounds), atol=2e-3)


def test_fewer_components_tell_the_most():
    network, sounds = learned()
    picture = network.pictures.read(sounds)
    gap = network.picture(network.encode(sounds)) - picture
    assert gap.square().mean() < 0.35 * picture.var()


def test_what_is_clean_stays_and_what_is_hidden_says_nothing():
    network, sounds = learned()
    codes = network.encode(sounds[:3])[None]
    noise = torch.randn(codes.shape, generator=torch.Generator().manual_seed(2))
    level = torch.tensor([0.0, 2.0, 2.0])[None, :, None]
    found = network.denoise(codes + level[..., None] * noise, level)
    assert torch.allclose(found[:, 0], codes[:, 0], atol=1e-5)
    hidden = torch.tensor([[False, False, True]])
    one = network.denoise(codes + level[..., None] * noise, level, hidden=hidden)
    other = network.denoise(
        codes + level[..., None] * noise * torch.tensor([1, 1, 5])[:, None, None], level, hidden=hidden
    )
    assert torch.allclose(one[:, :2], other[:, :2], atol=1e-5)
    assert not torch.allclose(one[:, 1], found[:, 1], atol=1e-3)


def test_a_network_that_says_nothing_is_the_filter_of_its_components():
    """With F = 0: x s^2 / (s^2 + sigma^2), and a loss of 1 on codes that are as wide as it thinks."""
    network = small()
    network.spread.copy_(torch.linspace(3, 0.5, 24))
    for weight in network.write.parameters():
        weight.zero_()
    generator = torch.Generator().manual_seed(3)
    codes = torch.randn(64, 3, 24, 20, generator=generator) * network.spread[:, None]
    noise = torch.randn(codes.shape, generator=generator)
    sigma = torch.full((64, 3, 1), 1.7)
    x = codes + 1.7 * noise
    wiener = x * network.spread[:, None] ** 2 / (network.spread[:, None] ** 2 + 1.7**2)
    assert torch.allclose(network.denoise(x, sigma), wiener, atol=1e-5)
    hidden = torch.zeros(64, 3, dtype=torch.bool)
    loss, _ = sketch_loss(network, codes, sigma, hidden, noise)
    assert loss.item() == pytest.approx(1, abs=0.02)
    sigma[:, 0], hidden[:, 1] = 0, True
    assert sketch_loss(network, codes, sigma, hidden, noise)[0].item() == pytest.approx(1, abs=0.02)


def test_the_config_builds_the_same_network():
    network, _ = learned()
    again = Sketch.from_config(json.loads(json.dumps(network.to_config())))
    assert again.config == network.config
    again.load_state_dict(network.state_dict())
    with pytest.raises(ValueError, match="rate 7"):
        Sketch(SketchConfig(rate=7))


def test_pieces_and_what_goes_with_given_stems():
    """The samplers of sound make codes: as many as were asked for, the given ones as they are."""
    network, sounds = learned()
    piece = generate(network, 3.0, SAMPLING, seed=1)
    assert piece.samples.shape == (3, 24, 30)
    assert network.decode(piece.samples).shape == (3, 24000)
    given = network.encode(sounds[:2])
    song = Song([given], ("bass", "drums"), given.shape[-1], 1.0)
    made = torch.cat(list(impute_blocks(network, song, SAMPLING, Wish(("other",), seed=1))), dim=-1)
    again = torch.cat(list(impute_blocks(network, song, SAMPLING, Wish(("other",), seed=1))), dim=-1)
    assert made.shape == (1, 24, 20)
    assert torch.equal(made, again)
    quieter = Song([given - 1], ("bass", "drums"), given.shape[-1], 1.0)
    assert not torch.equal(made, torch.cat(list(impute_blocks(network, quieter, SAMPLING, Wish(("other",), seed=1)))))


def test_batches_are_codes_with_a_level_each(tmp_path):
    """One level an item, or one a code where a part of the time is made anew; a share of the codes is clean there."""
    config = TrainConfig(batch_size=8, seconds=1.5, shares=(0, 0, 0.3, 0.3, 0.4),
                         network={"architecture": "sketch", **SHAPE})  # fmt: skip
    songs = find_songs(tiny_songs(tmp_path / "songs", seconds=8.0), NAMES)
    network = network_of(config.network)
    batches = batches_of(songs, network, config, seed=0)
    other = network_of(config.network)
    prepare(batches, other)
    assert torch.equal(other.axes, network.axes)
    assert network.axes.abs().sum() > 0
    drawn = [batches.batch(k) for k in range(12)]
    assert {batch.task for batch in drawn} == {"generate", "impute", "inpaint"}
    for batch in drawn:
        assert batch.stems.shape == (4, 3, 24, 15)
        assert batch.sigma.shape == (4, 3, 15 if batch.task == "inpaint" else 1)
        assert (batch.sigma == 0).any() == (batch.task != "generate")


def test_it_learns_and_goes_on(tmp_path, monkeypatch):
    """From the command line: the loss falls, a second call goes on, and the best weights are a checkpoint."""
    monkeypatch.setattr(devices, "keep_memory", lambda: None)
    monkeypatch.chdir(tmp_path)
    tiny_songs(tmp_path / "songs", seconds=8.0), tiny_songs(tmp_path / "valid", seconds=8.0)
    lines = [f"{key} = {json.dumps(value)}" for key, value in SHAPE.items()]
    (tmp_path / "small.toml").write_text("\n".join(["[network]", 'architecture = "sketch"', *lines]) + "\n")
    changes = ["batch_size=8", "seconds=1.0", "excerpts=8", "precision=32-true", "validate_every=30", "warmup=2",
               "shares=[0, 0, 0.4, 0.4, 0.2]", "ema=0.8", "rate=3e-3"]  # fmt: skip
    words = ["train", "small.toml", *changes, "--data", "songs", "--valid", "valid", "--out", "run", "-d", "cpu"]
    assert main([*words, "steps=2"]) == 0
    fresh = checkpoints.network_of(checkpoints.find(str(tmp_path / "run")))
    assert main([*words, "steps=60"]) == 0
    network = checkpoints.network_of(checkpoints.find(str(tmp_path / "run" / "best")))
    assert torch.equal(fresh.axes, network.axes)
    config = TrainConfig(batch_size=8, seconds=1.0, shares=(0, 0, 1, 0, 0), network=network.to_config())
    batches = batches_of(find_songs(tmp_path / "valid", NAMES), network, config, seed=9)
    batch = batches.batch(0)
    noise = network.noise(batch.stems, torch.Generator().manual_seed(0))
    before, after = (float(sketch_loss(n, batch.stems, batch.sigma, batch.hidden, noise)[0]) for n in (fresh, network))
    assert after < 0.9 * before


@pytest.mark.parametrize("words", ["separate song.wav -n sketch -o out", "generate -n sketch --duration 1 -o out"])
def test_no_command_takes_sketches_for_sound(tmp_path, monkeypatch, capsys, words):
    """One line that says so, exit code 2, nothing written."""
    monkeypatch.chdir(tmp_path)
    save(start(TrainConfig(network={"architecture": "sketch", **SHAPE})), tmp_path / "sketch")
    put(tmp_path / "song.wav", tone(440), 8000)
    assert main(words.split()) == 2
    assert "makes sketches of stems, no sound. Give it to generate or impute as --sketch." in capsys.readouterr().err
    assert not list(tmp_path.glob("out/**/*.wav"))


def test_a_code_is_decided_by_as_many_others_as_in_training():
    """Half of the seconds of training on each side, in every block; how long the piece is makes no difference."""
    network = small(layers=1)
    assert [block.attention.reach for block in network.blocks] == [10]
    codes = torch.randn(1, 3, 24, 60)
    level = torch.full((1, 1, 1), 0.5)
    whole, part = network.denoise(codes, level), network.denoise(codes[..., :42], level)
    assert torch.allclose(whole[..., :30], part[..., :30], atol=1e-5)
