"""Embedders: sound of any rate, width and length in, gradients through, and loaders of CLAP and PaSST on stand-ins."""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path

import librosa
import numpy as np
import pytest
import soxr
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from stemforge import embedders, wheels
from stemforge.errors import CheckpointError, UsageError
from stemforge.models.embedders import LEVEL, ClapMel, Ear, Impression, of_clap, of_musicnn
from stemforge.models.musicnn import MusicNN
from stemforge.tasks import wishes
from stemforge.types import Audio


def small() -> Ear:
    """A small musicnn with drawn weights."""
    torch.manual_seed(0)
    network = MusicNN(("guitar", "piano"), timbral=3, temporal=2, mid=4, dense=5).eval().requires_grad_(False)
    return of_musicnn(network)


def sound(seconds: float = 4.0, rate: int = 44100, hz: float = 440.0) -> Tensor:
    """(1, 2, time): a tone on the left, noise on the right."""
    time = torch.arange(round(seconds * rate)) / rate
    noise = torch.randn(len(time), generator=torch.Generator().manual_seed(1)) * 0.02
    return torch.stack([0.3 * torch.sin(2 * torch.pi * hz * time), noise])[None]


def test_stereo_of_any_rate_is_heard_as_mono_at_the_own_rate() -> None:
    """The waves that reach the network are those of another resampler, at one level, in segments up to the end."""
    seen: list[Tensor] = []

    def network(wave: Tensor) -> Impression:
        seen.append(wave)
        return Impression(wave[:, :4], None)

    ear, given = Ear(network, 16000, 3.0), sound()
    found = ear.hear(given, 44100)
    expected = soxr.resample(given[0].mean(0).numpy(), 44100, 16000, "VHQ")
    expected *= LEVEL / np.sqrt(np.mean(given[0].mean(0).numpy() ** 2))
    assert seen[0].shape == (2, 48000) and found.embedding.shape == (1, 4) and found.logits is None
    middle = slice(1000, -1000)
    assert np.abs(seen[0][0].numpy()[middle] - expected[:48000][middle]).max() < 0.02
    assert torch.equal(seen[0][0, 16000:], seen[0][1, :32000])
    ear.hear(sound(0.5), 44100)
    assert seen[1].shape == (1, 48000)


def test_the_level_of_a_sound_does_not_matter() -> None:
    """Louder or softer, the embedding is the same; silence is finite."""
    ear, given = small(), sound()
    assert torch.allclose(ear.hear(given, 44100).embedding, ear.hear(0.1 * given, 44100).embedding, atol=1e-4)
    assert ear.hear(torch.zeros(1, 2, 50000), 44100).embedding.isfinite().all()


def part_of(found: Impression, part: str | int) -> Tensor:
    """A field, or one of the layers."""
    return found.layers[part] if isinstance(part, int) else getattr(found, part)


@pytest.mark.parametrize("part", ["embedding", "logits", 0, 1])
def test_gradients_reach_the_stereo_sound(part: str | int) -> None:
    """The slope along a direction is the finite difference, through resampling, spectrum and network."""
    ear, given = small(), sound(1.0)
    direction = torch.randn(given.shape, generator=torch.Generator().manual_seed(2)) * 0.02

    def value(x: Tensor) -> Tensor:
        found = ear.hear(x, 44100)
        return part_of(found, part).double().square().sum()

    leaf = given.clone().requires_grad_()
    (slope,) = torch.autograd.grad(value(leaf), leaf)
    level = given.mean(1).square().mean().sqrt()

    def held(x: Tensor) -> Tensor:  # the gain is constant under the gradient
        return value(x) if level == 0 else value_at(x, float(level))

    def value_at(x: Tensor, level: float) -> Tensor:
        from torchaudio.functional import resample

        wave = resample(x.mean(1) * (LEVEL / level), 44100, 16000)
        found = ear.network(wave.repeat(1, 3)[:, :48000])
        return part_of(found, part).double().square().sum()

    assert float(value(given)) == pytest.approx(float(held(given)), rel=1e-4)
    small_step = 1e-3
    difference = (held(given + small_step * direction) - held(given - small_step * direction)) / (2 * small_step)
    assert float((slope.double() * direction).sum()) == pytest.approx(float(difference), rel=0.03)


def test_layers_are_the_features_and_the_bands() -> None:
    """Of musicnn: the mean of all features, and the mean and deviation of each mel band; averaged over segments."""
    torch.manual_seed(0)
    network = MusicNN(("guitar", "piano"), timbral=3, temporal=2, mid=4, dense=5).eval().requires_grad_(False)
    wave = sound(3.0, 16000)[0].mean(0)
    wave = wave * (LEVEL / wave.square().mean().sqrt())
    features, bands = of_musicnn(network).hear(sound(3.0, 16000), 16000).layers
    assert torch.allclose(features, network(wave[None]).mean_pool, atol=1e-4)
    mel = network.mel(wave[None])[0]
    assert torch.allclose(bands[0], torch.cat([mel.mean(0), mel.std(0)]), atol=1e-4)
    twice = of_musicnn(network).hear(torch.cat([sound(3.0, 16000)] * 2, dim=-1), 16000)
    assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(twice.layers, (features, bands), strict=True))


def test_a_wish_is_least_where_it_is_fulfilled() -> None:
    """Near to a reference: 0 for the reference itself, taken apart or not; towards a tag: what its logit says."""
    ear, other = small(), sound(hz=1000.0)
    wish = wishes.like(ear, Audio(sound()[0], 44100), 44100)
    stems = torch.stack([sound(), -0.5 * sound(), 0.5 * sound()], dim=1)
    assert float(wish(stems, torch.tensor(1.0))) < 1e-3 < float(wish(other[:, None], torch.tensor(1.0)))
    logits = ear.hear(other, 44100).logits
    assert logits is not None
    found = wishes.tagged(ear, [1], 44100)(other[:, None], torch.tensor(1.0))
    assert float(found) == pytest.approx(float(torch.nn.functional.softplus(-logits[0, 1])), rel=1e-5)


def test_the_spectrum_of_clap_is_that_of_librosa() -> None:
    """dB of mel bands, frame by frame."""
    wave = sound(0.5, 48000)[0].mean(0)
    mel = librosa.feature.melspectrogram(
        y=wave.numpy(), sr=48000, n_fft=1024, hop_length=480, n_mels=64, fmin=50, fmax=14000, pad_mode="reflect"
    )
    expected = 10 * np.log10(np.maximum(mel, 1e-10)).T
    found = ClapMel()(wave[None])
    assert found.shape == (1, 1, 51, 64) and np.abs(found[0, 0].numpy() - expected).max() < 0.05


class Clap(nn.Module):
    """Stands in for transformers.ClapModel."""

    def __init__(self, config: dict[str, int]) -> None:
        super().__init__()
        self.audio = nn.Linear(64, config["projection_dim"])

    def get_audio_features(self, input_features: Tensor) -> Tensor:
        return self.audio(input_features.mean(dim=(1, 2)) / 100)


class Passt(nn.Module):
    """Stands in for a PaSST: a spectrum (batch, 1, band, frame) in, logits and embedding out."""

    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Linear(4, 3)

    def forward(self, mel: Tensor) -> tuple[Tensor, Tensor]:
        embedding = mel.mean(dim=(1, 3))
        return self.out(embedding), embedding


class Mel(nn.Module):
    """Stands in for the spectrum of PaSST."""

    def __init__(self, **sizes: int) -> None:
        super().__init__()
        assert sizes["sr"] == 32000 and sizes["n_mels"] == 128

    def forward(self, wave: Tensor) -> Tensor:
        return wave.unfold(-1, 4, 1000).transpose(1, 2)


def folder(path: Path, config: dict[str, object], network: nn.Module) -> str:
    path.mkdir()
    (path / "config.json").write_text(json.dumps(config))
    save_file(network.state_dict(), path / "model.safetensors")
    return str(path)


@pytest.fixture
def packages(monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers and hear21passt as they are used here."""
    config = types.SimpleNamespace(from_dict=lambda values: values)
    parts = {"transformers": types.SimpleNamespace(ClapModel=Clap, ClapConfig=config)}
    parts["hear21passt.models.passt"] = types.SimpleNamespace(get_model=lambda arch, pretrained: Passt())
    parts["hear21passt.models.preprocess"] = types.SimpleNamespace(AugmentMelSTFT=Mel)
    for name, part in parts.items():
        monkeypatch.setitem(sys.modules, name, part)


def test_clap_and_passt_are_loaded_from_their_weights(packages: None, tmp_path: Path) -> None:
    """A config and safetensors become an ear with gradients; configs of transformers say model_type."""
    clap = Clap({"projection_dim": 6})
    ear = embedders.load(folder(tmp_path / "clap", {"model_type": "clap", "projection_dim": 6}, clap))
    given = sound(1.0).requires_grad_()
    found = ear.hear(given, 44100).embedding
    assert found.shape == (1, 6) and torch.autograd.grad(found.sum(), given)[0].abs().max() > 0
    assert torch.allclose(found, of_clap(clap).hear(given, 44100).embedding)
    net = nn.Module()
    net.net = Passt()
    ear = embedders.load(folder(tmp_path / "passt", {"architecture": "passt", "tags": ["a", "b", "c"]}, net))
    heard = ear.hear(sound(1.0), 44100)
    assert ear.tags == ("a", "b", "c") and heard.logits is not None and heard.logits.shape == (1, 3)


def test_weights_that_do_not_fit_are_refused(packages: None, tmp_path: Path) -> None:
    """Missing weights, other shapes, a config of something else."""
    config = {"architecture": "clap", "projection_dim": 6}
    for name, network, say in (
        ("none", nn.Linear(1, 1), "lacks"),
        ("shape", Clap({"projection_dim": 5}), "does not fit"),
    ):
        with pytest.raises(CheckpointError, match=say):
            embedders.load(folder(tmp_path / name, config, network))
    with pytest.raises(CheckpointError, match="not one of"):
        embedders.load(folder(tmp_path / "other", {"architecture": "forge"}, nn.Linear(1, 1)))


def test_what_is_not_there_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unknown names, a package that is not installed, weights that were not pulled."""
    monkeypatch.setenv("STEMFORGE_CACHE", str(tmp_path))
    with pytest.raises(UsageError, match="MTT"):
        embedders.load("VGG")
    with pytest.raises(CheckpointError, match="checkpoints pull musicnn"):
        embedders.load("MTT")

    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(CheckpointError, match="pip install transformers"):
        embedders.load(folder(tmp_path / "clap", {"architecture": "clap"}, nn.Linear(1, 1)))


def test_real_musicnn_when_it_is_there() -> None:
    """Both networks hear 44.1 kHz stereo, with gradients, and know their tags."""
    for model in wheels.MUSICNN_MODELS:
        try:
            ear = embedders.load(model)
        except CheckpointError as error:
            pytest.skip(str(error))
        given = sound(1.0).requires_grad_()
        found = ear.hear(given, 44100)
        assert found.embedding.shape == (1, 200) and found.logits is not None and len(ear.tags) == 50
        assert torch.autograd.grad(found.logits.sum(), given)[0].isfinite().all()
