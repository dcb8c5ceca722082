"""musicnn: a network that tags music, here as an embedding that passes gradients to the waveform.

Pons and Serra 2019, "musicnn: pre-trained convolutional neural networks for music audio tagging"
(https://arxiv.org/abs/1909.06654), after the code of musicnn 0.1.0. Two differences to that: sound shorter or longer
than 3 s is taken too, and the spectrum stays in float32, where the original rounds it to half precision, in which loud
sounds overflow. Weights come with `stemforge checkpoints pull musicnn`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stemforge.models.tensorflow import PARTS

RATE = 16000
SEGMENT_S = 3.0
_FFT, _HOP, _MELS = 512, 256, 96
_EPS = 1e-3

_MTT = (
    "guitar,classical,slow,techno,strings,drums,electronic,rock,fast,piano,ambient,beat,violin,vocal,synth,female,"
    "indian,opera,male,singing,vocals,no vocals,harpsichord,loud,quiet,flute,woman,male vocal,no vocal,pop,soft,sitar,"
    "solo,man,classic,choir,voice,new age,dance,male voice,female vocal,beats,harp,cello,no voice,weird,country,metal,"
    "female voice,choral"
)
MTT_TAGS = tuple(_MTT.split(","))
"""Tags of MagnaTagATune, in the order of the logits."""

_MSD = (
    "rock,pop,alternative,indie,electronic,female vocalists,dance,00s,alternative rock,jazz,beautiful,metal,chillout,"
    "male vocalists,classic rock,soul,indie rock,Mellow,electronica,80s,folk,90s,chill,instrumental,punk,oldies,blues,"
    "hard rock,ambient,acoustic,experimental,female vocalist,guitar,Hip-Hop,70s,party,country,easy listening,sexy,"
    "catchy,funk,electro,heavy metal,Progressive rock,60s,rnb,indie pop,sad,House,happy"
)
MSD_TAGS = tuple(_MSD.split(","))
"""Tags of the Million Song Dataset, in the order of the logits."""


class Heard(NamedTuple):
    """What the network says of each sound of a batch: logits (batch, tag), penultimate (batch, 200), mean_pool
    (batch, 753), the mean over time of all features before the dense layers."""

    logits: Tensor
    penultimate: Tensor
    mean_pool: Tensor


class MusicNN(nn.Module):
    """Front end of tall and of long filters, three residual layers, pooling over time, two dense layers.

    Args:
        tags: names of the logits.
        timbral, temporal, mid, dense: channels of the layers; the defaults are those of the weights there are.
    """

    def __init__(
        self, tags: Sequence[str], timbral: int = 204, temporal: int = 51, mid: int = 64, dense: int = 200
    ) -> None:
        super().__init__()
        self.tags = tuple(tags)
        front = 2 * timbral + 3 * temporal
        width = front + 3 * mid
        self.mel = LogMel()
        self.norm = nn.BatchNorm2d(1, _EPS)
        self.timbral = nn.ModuleList(_Front(timbral, 7, tall) for tall in (38, 67))
        self.temporal = nn.ModuleList(_Front(temporal, long, 1) for long in (128, 64, 32))
        self.mid = nn.ModuleList(_Mid(inputs, mid) for inputs in (front, mid, mid))
        self.pool_norm = nn.BatchNorm1d(2 * width, _EPS)
        self.dense = nn.Linear(2 * width, dense)
        self.dense_norm = nn.BatchNorm1d(dense, _EPS)
        self.out = nn.Linear(dense, len(self.tags))

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> MusicNN:
        """The network that `config()` describes. Raises TypeError, ValueError or KeyError when it does not fit."""
        return cls(**{key: value for key, value in config.items() if key != "architecture"})

    def forward(self, wave: Tensor) -> Heard:
        """Sound (batch, time) at 16 kHz, full scale at 1, at least 512 samples; 48000 are what it was trained on."""
        return self.hear(self.mel(wave))

    def hear(self, mel: Tensor) -> Heard:
        """The same for spectra (batch, frame, 96) of `LogMel`."""
        x = self.norm(mel.unsqueeze(1))
        front = torch.cat([filters(x) for filters in (*self.timbral, *self.temporal)], dim=1)
        first = self.mid[0](front)
        second = self.mid[1](first) + first
        third = self.mid[2](second) + second
        features = torch.cat([front, first, second, third], dim=1)
        mean_pool = features.mean(dim=-1)
        pooled = torch.stack([features.amax(dim=-1), mean_pool], dim=-1).flatten(1)
        penultimate = self.dense_norm(self.dense(self.pool_norm(pooled)).relu())
        return Heard(self.out(penultimate), penultimate, mean_pool)


class _Front(nn.Module):
    """Filters of `long` frames x `tall` bands; spectra (batch, 1, frame, band) -> maximum over bands (batch, c, frame).

    Padded to the length of the input as TensorFlow does: for an even filter one zero more after than before.
    """

    def __init__(self, channels: int, long: int, tall: int) -> None:
        super().__init__()
        self.padding = (0, 0, (long - 1) // 2, long // 2)
        self.conv = nn.Conv2d(1, channels, (long, tall))
        self.norm = nn.BatchNorm2d(channels, _EPS)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.norm(self.conv(F.pad(x, self.padding)).relu())
        return found.amax(dim=-1)


class _Mid(nn.Module):
    """A layer over 7 frames: (batch, inputs, frame) -> (batch, channels, frame)."""

    def __init__(self, inputs: int, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(inputs, channels, 7, padding=3)
        self.norm = nn.BatchNorm1d(channels, _EPS)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.norm(self.conv(x).relu())
        return found


class LogMel(nn.Module):
    """log10(1 + 10000 power) in 96 mel bands; sound (batch, time) -> (batch, time // 256, 96).

    Frames of 512 samples lie around every 256th sample, the sound being mirrored at its ends, as in librosa.
    """

    window: Tensor
    bands: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("window", torch.hann_window(_FFT), persistent=False)
        self.register_buffer("bands", torch.from_numpy(mel_bands()).float(), persistent=False)

    def forward(self, wave: Tensor) -> Tensor:
        padded = F.pad(wave, (_FFT // 2, _FFT // 2), mode="reflect")
        spectrum = torch.fft.rfft(padded.unfold(-1, _FFT, _HOP)[..., : wave.shape[-1] // _HOP, :] * self.window)
        power = spectrum.real.square() + spectrum.imag.square()
        mel: Tensor = torch.log10(1 + 10000 * (power @ self.bands))
        return mel


def mel_bands() -> np.ndarray[Any, np.dtype[np.float64]]:
    """Triangles of area one (257 frequencies, 96 bands), on Slaney's scale: linear below 1 kHz, logarithmic above."""
    per_mel, step, corner = 200 / 3, math.log(6.4) / 27, 1000.0
    top = corner / per_mel + math.log(RATE / 2 / corner) / step
    mels = np.linspace(0, top, _MELS + 2)
    edges = np.where(mels < 15, mels * per_mel, corner * np.exp(step * (mels - 15)))
    frequencies = np.linspace(0, RATE / 2, _FFT // 2 + 1)[:, None]
    low, centre, high = edges[:-2], edges[1:-1], edges[2:]
    triangles = np.minimum((frequencies - low) / (centre - low), (high - frequencies) / (high - centre)).clip(0)
    bands: np.ndarray[Any, np.dtype[np.float64]] = triangles * 2 / (high - low)
    return bands


_LAYERS = {
    "conv2d": "timbral.0.conv",
    "conv2d_1": "timbral.1.conv",
    "conv2d_2": "temporal.0.conv",
    "conv2d_3": "temporal.1.conv",
    "conv2d_4": "temporal.2.conv",
    "conv2d_5": "mid.0.conv",
    "conv2d_6": "mid.1.conv",
    "conv2d_7": "mid.2.conv",
    "dense": "dense",
    "dense_1": "out",
    "batch_normalization": "norm",
    "batch_normalization_1": "timbral.0.norm",
    "batch_normalization_2": "timbral.1.norm",
    "batch_normalization_3": "temporal.0.norm",
    "batch_normalization_4": "temporal.1.norm",
    "batch_normalization_5": "temporal.2.norm",
    "batch_normalization_6": "mid.0.norm",
    "batch_normalization_7": "mid.1.norm",
    "batch_normalization_8": "mid.2.norm",
    "batch_normalization_9": "pool_norm",
    "batch_normalization_10": "dense_norm",
}


def from_tensorflow(arrays: Mapping[str, np.ndarray[Any, np.dtype[Any]]]) -> dict[str, Tensor]:
    """The state dict of `MusicNN` out of the variables of the original; those of its optimiser are left out.

    Kernels of TensorFlow are (frame, band, input, output), those of its dense layers (input, output).
    """
    state: dict[str, Tensor] = {}
    for name, array in arrays.items():
        layer, _, part = name.partition("/")
        if layer not in _LAYERS or part not in PARTS:
            continue
        tensor = torch.from_numpy(np.array(array))
        if part == "kernel" and layer.startswith("conv"):
            tensor = tensor.permute(3, 2, 0, 1)
            if _LAYERS[layer].startswith("mid"):  # here bands are channels
                tensor = tensor.squeeze(1).transpose(1, 2)
        elif part == "kernel":
            tensor = tensor.T
        state[f"{_LAYERS[layer]}.{PARTS[part]}"] = tensor.contiguous()
    return state
