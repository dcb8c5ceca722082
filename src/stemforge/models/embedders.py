"""Embeddings of sound that pass gradients to it: any rate and width in, the rate of the embedder inside.

An `Ear` is what is needed of an embedding network: mono waves at its own rate in, one row of features each out, and
logits of its tags where it has some. `Ear.hear` folds to mono, brings the sound to one level, resamples (a windowed
sinc, torchaudio), cuts it into segments as long as those that the network was trained on, and averages over them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from stemforge.errors import CheckpointError
from stemforge.models import musicnn

LEVEL = 0.1
"""RMS that every sound is brought to before it is heard; -20 dB."""


class Impression(NamedTuple):
    """Of each sound of a batch: embedding (batch, feature), logits (batch, tag) where there are tags, and what earlier
    layers hear, features and bands, (batch, feature) each: harder to please without sounding like it.
    """

    embedding: Tensor
    logits: Tensor | None
    layers: tuple[Tensor, ...] = ()


@dataclass(frozen=True)
class Ear:
    """An embedding network.

    network: mono waves (batch, time) at `rate` -> Impression. segment: seconds. tags: names of the logits.
    """

    network: Callable[[Tensor], Impression]
    rate: int
    segment: float
    tags: tuple[str, ...] = ()

    def hear(self, sound: Tensor, rate: int) -> Impression:
        """Sound (batch, channel, time) at `rate` Hz, any length; the gain that brings it to its level is constant."""
        from torchaudio.functional import resample

        wave = sound.float().mean(dim=1)
        level = wave.detach().square().mean(dim=-1, keepdim=True).sqrt().clamp(min=1e-5)
        wave = resample(wave * (LEVEL / level), rate, self.rate)
        pieces = _pieces(wave, round(self.segment * self.rate))
        found = self.network(pieces.flatten(0, 1))

        def mean(rows: Tensor) -> Tensor:
            return rows.reshape(*pieces.shape[:2], -1).mean(dim=1)

        logits = None if found.logits is None else mean(found.logits)
        return Impression(mean(found.embedding), logits, tuple(mean(layer) for layer in found.layers))


def _pieces(wave: Tensor, length: int) -> Tensor:
    """Waves (batch, time) as (batch, piece, length); the last piece ends with the sound, a short sound is repeated."""
    if wave.shape[-1] < length:
        wave = wave.repeat(1, -(-length // wave.shape[-1]))[:, :length]
    starts = [min(at, wave.shape[-1] - length) for at in range(0, wave.shape[-1], length)]
    return torch.stack([wave[:, at : at + length] for at in dict.fromkeys(starts)], dim=1)


def of_musicnn(network: musicnn.MusicNN) -> Ear:
    """The penultimate layer and the tags of a musicnn; as layers its features, and mean and deviation of each band."""

    def heard(wave: Tensor) -> Impression:
        mel = network.mel(wave)
        found, bands = network.hear(mel), torch.cat([mel.mean(dim=1), mel.std(dim=1)], dim=1)
        return Impression(found.penultimate, found.logits, (found.mean_pool, bands))

    return Ear(heard, musicnn.RATE, musicnn.SEGMENT_S, network.tags)


class ClapMel(nn.Module):
    """The spectrum of CLAP: dB of 64 mel bands (Slaney) from 50 Hz to 14 kHz; (batch, time) -> (batch, 1, frame, 64).

    Frames of 1024 samples lie around every 480th sample at 48 kHz (Wu et al. 2023, https://arxiv.org/abs/2211.06687,
    as in the feature extractor of transformers for `rand_trunc`).
    """

    window: Tensor
    bands: Tensor

    def __init__(self) -> None:
        super().__init__()
        import librosa

        bands = librosa.filters.mel(sr=48000, n_fft=1024, n_mels=64, fmin=50, fmax=14000)
        self.register_buffer("window", torch.hann_window(1024), persistent=False)
        self.register_buffer("bands", torch.from_numpy(bands.T.copy()), persistent=False)

    def forward(self, wave: Tensor) -> Tensor:
        """dB of the power, at least -100."""
        framed = functional.pad(wave, (512, 512), mode="reflect").unfold(-1, 1024, 480)
        power = torch.view_as_real(torch.fft.rfft(framed * self.window)).square().sum(-1)
        return 10 * (power @ self.bands).clamp(min=1e-10).log10()[:, None]


def of_clap(network: nn.Module, mel: nn.Module | None = None) -> Ear:
    """The audio embedding of a `ClapModel` of transformers; 48 kHz, segments of 10 s."""
    spectrum = ClapMel() if mel is None else mel

    def heard(wave: Tensor) -> Impression:
        found: Any = network.get_audio_features(input_features=spectrum(wave))  # type: ignore[operator]
        return Impression(getattr(found, "pooler_output", found), None)

    return Ear(heard, 48000, 10.0)


def of_passt(network: nn.Module, tags: tuple[str, ...] = ()) -> Ear:
    """The embedding and the AudioSet tags of a PaSST with its spectrum inside (hear21passt); 32 kHz, 10 s."""

    def heard(wave: Tensor) -> Impression:
        logits, embedding = network(wave)
        return Impression(embedding, logits)

    return Ear(heard, 32000, 10.0, tags)


def _clap(config: dict[str, Any]) -> tuple[nn.Module, Callable[[nn.Module], Ear]]:
    transformers = _package("transformers", "clap")
    return transformers.ClapModel(transformers.ClapConfig.from_dict(config)), of_clap


def _passt(config: dict[str, Any]) -> tuple[nn.Module, Callable[[nn.Module], Ear]]:
    package = _package("hear21passt.models.passt", "passt")
    tags = tuple(config.get("tags", ()))
    network = package.get_model(arch=config.get("arch", "passt_s_swa_p16_128_ap476"), pretrained=False)
    return _PasstWithMel(network), partial(of_passt, tags=tags)


class _PasstWithMel(nn.Module):
    """PaSST after its own spectrum."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        mel = _package("hear21passt.models.preprocess", "passt")
        sizes = {
            "n_mels": 128,
            "sr": 32000,
            "win_length": 800,
            "hopsize": 320,
            "n_fft": 1024,
            "freqm": 48,
            "timem": 192,
        }
        self.mel, self.net = mel.AugmentMelSTFT(**sizes), net

    def forward(self, wave: Tensor) -> tuple[Tensor, Tensor]:
        logits, embedding = self.net(self.mel(wave).unsqueeze(1))
        return logits, embedding


def _package(name: str, architecture: str) -> Any:  # noqa: ANN401 (a module)
    """A package that only this embedder needs. Raises CheckpointError when it is not installed."""
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError:
        project = name.split(".")[0]
        raise CheckpointError(
            f"embedder '{architecture}': needs the package {project}. Run pip install {project}, or take musicnn."
        ) from None


ARCHITECTURES: dict[str, Callable[[dict[str, Any]], tuple[nn.Module, Callable[[nn.Module], Ear]]]] = {
    "clap": _clap,
    "passt": _passt,
}
"""Embedders that a checkpoint may name: its config -> the network to be filled with weights, and its ear."""
