"""Glow: normalising flows of magnitude spectra, one a stem, each trained on that stem alone (InstGlow).

Zhu et al. 2022, https://arxiv.org/abs/2204.09079: the decoder of Glow-TTS (Kim et al. 2020,
https://arxiv.org/abs/2005.11129) without text. Spectra are (batch, frame, row): linear magnitudes and one row of zeros,
because rows are split into fours. Everything is a linear layer over rows, so that a CPU's matrix units serve it.

The published models hear mono at 22.05 kHz through windows of 1024 samples. The same grid of times and frequencies is
had at 44.1 kHz with windows of 2048 samples and the lower half of the bins, so no resampling is needed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import weight_norm


@dataclass(frozen=True)
class GlowConfig:
    """What shapes the flows; the defaults are the published network on songs of 44.1 kHz.

    names: one flow each. rate in Hz. n_fft, hop: of the transform, in samples. rows: magnitudes that are modelled, from
    0 Hz on, and one of zeros. seconds: of a window. level_db: RMS that mixtures are brought to, in dB of full scale.
    bits: training samples are rounded to so many, and a uniform noise fills the gaps: what lies below is not modelled.
    """

    names: tuple[str, ...] = ("bass",)
    rate: int = 44100
    n_fft: int = 2048
    hop: int = 512
    rows: int = 514
    blocks: int = 12
    split: int = 4
    hidden: int = 128
    layers: int = 4
    kernel: int = 5
    dilation: int = 1
    dropout: float = 0.05
    seconds: float = 8.0
    level_db: float = -20.0
    bits: int = 16

    def __post_init__(self) -> None:
        if self.split % 2 or 2 * self.rows % self.split or self.rows - 1 > self.n_fft // 2 + 1:
            raise ValueError(f"rows {self.rows}: split {self.split} must be even and divide twice as many")
        if self.kernel % 2 == 0 or min(self.blocks, self.layers, self.hidden, self.hop) < 1 or not self.names:
            raise ValueError("kernel must be odd; blocks, layers, hidden, hop and names at least one")


class ActNorm(nn.Module):
    """z = bias + exp(log_scale) x a row; the first batch of a training sets it to mean 0 and variance 1."""

    started: Tensor

    def __init__(self, rows: int) -> None:
        super().__init__()
        self.log_scale, self.bias = nn.Parameter(torch.zeros(rows)), nn.Parameter(torch.zeros(rows))
        self.register_buffer("started", torch.zeros((), dtype=torch.bool))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x -> z and the log-determinant of each item."""
        if self.training and not self.started:
            self._start(x.detach())
        return self.bias + self.log_scale.exp() * x, self.log_scale.sum() * x.shape[1]

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """z -> x and the log-determinant of each item."""
        return (z - self.bias) * (-self.log_scale).exp(), -self.log_scale.sum() * z.shape[1]

    @torch.no_grad()
    def _start(self, x: Tensor) -> None:
        mean, variance = x.mean((0, 1)), x.var((0, 1), correction=0).clamp(min=1e-6)
        self.log_scale.copy_(-0.5 * variance.log())
        self.bias.copy_(-mean * self.log_scale.exp())
        self.started.fill_(True)


class Mix(nn.Module):
    """Invertible 1x1 convolution: one matrix for all groups of `split` rows, half of each group from either half.

    Rows are in planes, the first of all groups, then the second, and so on, because strided ones take twice as long.
    """

    def __init__(self, split: int) -> None:
        super().__init__()
        self.split = split
        matrix, _ = torch.linalg.qr(torch.randn(split, split))
        matrix[:, 0] *= torch.linalg.det(matrix).sign()
        self.weight = nn.Parameter(matrix.contiguous())

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x -> z and the log-determinant of each item."""
        return self._mixed(x, self.weight), self._log_det(x)

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """z -> x and the log-determinant of each item."""
        return self._mixed(z, torch.linalg.inv(self.weight)), -self._log_det(z)

    def _mixed(self, x: Tensor, matrix: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            planes = rearrange(x, "b t (p g) -> (b t) p g", p=self.split)
            mixed = matrix @ planes
        return rearrange(mixed, "(b t) p g -> b t (p g)", b=len(x))

    def _log_det(self, x: Tensor) -> Tensor:
        log_det: Tensor = torch.linalg.slogdet(self.weight)[1] * (x.shape[1] * x.shape[2] // self.split)
        return log_det


class Coupling(nn.Module):
    """The first half of the rows passes, and says how the second is scaled and moved; begins as the identity."""

    def __init__(self, c: GlowConfig) -> None:
        super().__init__()
        self.layers, self.kernel, self.rate, self.dropout = c.layers, c.kernel, c.dilation, c.dropout
        self.start = weight_norm(nn.Linear(c.rows, c.hidden), dim=0)
        self.inner = nn.ModuleList(
            weight_norm(nn.Linear(c.kernel * c.hidden, 2 * c.hidden), dim=0) for _ in range(c.layers)
        )
        last = c.layers - 1
        self.outer = nn.ModuleList(
            weight_norm(nn.Linear(c.hidden, c.hidden if k == last else 2 * c.hidden), dim=0) for k in range(c.layers)
        )
        self.end = nn.Linear(c.hidden, 2 * c.rows)
        nn.init.zeros_(self.end.weight)
        nn.init.zeros_(self.end.bias)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x -> z and the log-determinant of each item."""
        first, second = x.chunk(2, dim=-1)
        move, log_scale = self._affine(first)
        return torch.cat([first, move + log_scale.exp() * second], dim=-1), log_scale.sum((1, 2))

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """z -> x and the log-determinant of each item."""
        first, second = z.chunk(2, dim=-1)
        move, log_scale = self._affine(first)
        return torch.cat([first, (second - move) * (-log_scale).exp()], dim=-1), -log_scale.sum((1, 2))

    def _affine(self, first: Tensor) -> tuple[Tensor, Tensor]:
        """WaveNet-like: gated, dilated, with a sum of what every layer has to say."""
        x, said = self.start(first), None
        for k, (inner, outer) in enumerate(zip(self.inner, self.outer, strict=True)):
            heard = functional.dropout(inner(_around(x, self.kernel, self.rate**k)), self.dropout, self.training)
            bent, gate = heard.chunk(2, dim=-1)
            out = outer(bent.tanh() * gate.sigmoid())
            if k < self.layers - 1:
                step, out = out.chunk(2, dim=-1)
                x = x + step
            said = out if said is None else said + out
        move, log_scale = self.end(said).to(first.dtype).chunk(2, dim=-1)
        return move, log_scale


def _around(x: Tensor, kernel: int, dilation: int) -> Tensor:
    """Each frame with its neighbours: (batch, frame, row) -> (batch, frame, kernel * row), zeros beyond the ends."""
    reach, frames = dilation * (kernel // 2), x.shape[1]
    x = functional.pad(x, (0, 0, reach, reach))
    return torch.cat([x[:, k * dilation : k * dilation + frames] for k in range(kernel)], dim=-1)


class Glow(nn.Module):
    """An invertible map between spectra x and Gaussian z, both (batch, frame, row) with an even number of frames."""

    def __init__(self, config: GlowConfig) -> None:
        super().__init__()
        parts: list[nn.Module] = []
        for _ in range(config.blocks):
            parts += [ActNorm(2 * config.rows), Mix(config.split), Coupling(config)]
        self.parts, self.each = nn.ModuleList(parts), config.split // 2

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x -> z and log |det dz/dx| of each item (batch,)."""
        return self._through(x, [part.__call__ for part in self.parts])

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """z -> x and log |det dx/dz| of each item (batch,)."""
        return self._through(z, [part.inverse for part in reversed(self.parts)])

    def _through(self, x: Tensor, maps: list[Any]) -> tuple[Tensor, Tensor]:
        y, log_det = rearrange(x, "b (t s) (g h) -> b t (s h g)", s=2, h=self.each), x.new_zeros(len(x))
        for each in maps:
            y, part = each(y)
            log_det = log_det + part
        return rearrange(y, "b t (s h g) -> b (t s) (g h)", s=2, h=self.each), log_det

    def log_prob(self, x: Tensor) -> Tensor:
        """Natural logarithm of the density of each item (batch,)."""
        z, log_det = self.forward(x)
        return log_det - 0.5 * (z.square() + math.log(2 * math.pi)).sum((1, 2))


class Flows(nn.Module):
    """Flows of several stems that share nothing but their spectra."""

    architecture = "glow"
    channels = 1
    takes_bf16 = True  # in the couplings, of which only magnitudes are made

    def __init__(self, config: GlowConfig | None = None) -> None:
        super().__init__()
        self.config = c = config or GlowConfig()
        self.names, self.rate, self.segment = c.names, c.rate, c.seconds
        self.nets = nn.ModuleList(Glow(c) for _ in c.names)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Build from the table of a config.json (lists become tuples); TypeError on unknown keys."""
        values: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in config.items() if k != "architecture"
        }
        return cls(GlowConfig(**values))

    def to_config(self) -> dict[str, Any]:
        """The table that `from_config` reads."""
        return {"architecture": self.architecture, **asdict(self.config)}

    def only(self, name: str) -> Flows:
        """One of the flows, that of `name`; where there is but one it takes the name. KeyError when there is none."""
        if name not in self.names and len(self.names) > 1:
            raise KeyError(name)
        found = self.nets[self.names.index(name) if name in self.names else 0]
        one = Flows(replace(self.config, names=(name,), blocks=1))
        one.config, one.nets = replace(self.config, names=(name,)), nn.ModuleList([found])
        return one.eval()

    def spectrum(self, x: Tensor) -> Tensor:
        """(..., time), time >= 1 -> (..., frame, n_fft // 2 + 1) complex, scaled as windows of 1024 samples have it."""
        n, hop, scale = self.config.n_fft, self.config.hop, 1024 / self.config.n_fft
        window = torch.hann_window(n, device=x.device, dtype=x.dtype)
        mode = "reflect" if x.shape[-1] > n // 2 else "constant"
        found = torch.stft(
            x.reshape(-1, x.shape[-1]), n, hop, window=window, center=True, pad_mode=mode, return_complex=True
        )
        return (found.mT * scale).reshape(*x.shape[:-1], found.shape[-1], found.shape[-2])

    def sound(self, spectrum: Tensor, time: int) -> Tensor:
        """(..., frame, n_fft // 2 + 1) complex -> (..., time): the inverse of `spectrum`."""
        n, hop, scale = self.config.n_fft, self.config.hop, 1024 / self.config.n_fft
        window = torch.hann_window(n, device=spectrum.device, dtype=spectrum.real.dtype)
        flat = spectrum.reshape(-1, *spectrum.shape[-2:]).mT / scale
        return torch.istft(flat, n, hop, window=window, center=True, length=time).reshape(*spectrum.shape[:-2], time)

    def magnitudes(self, spectrum: Tensor) -> Tensor:
        """(..., frame, bin) complex -> (..., frame, row), an even number of frames: zeros in the last row and frame."""
        low = spectrum[..., : self.config.rows - 1].abs()
        return functional.pad(low, (0, 1, 0, low.shape[-2] % 2))
