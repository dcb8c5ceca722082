"""What training minimises.

Separation (all stems hidden), for each item and stem:

    sounding   -log10(c^2 / (1 - c^2 + 1e-3)), c the cosine between D_i and x_i: the scale-invariant SDR itself
               (Le Roux et al. 2019, https://arxiv.org/abs/1811.02508, eq. 3) with a ceiling at 30 dB
    silent     0.5 log10(|D_i|^2 / |y|^2 + 1e-5): towards 50 dB under the mixture and no further
               (Wisdom et al. 2020, https://arxiv.org/abs/2006.12701, eq. 4)
    each band  |D_i - x_i|^2 / |y|^2, which fixes the scale and keeps the treble honest; being convex it asks for the
               mean where the instrument is uncertain, while a logarithm alone asks for the likeliest and mutes the rest

All other tasks: the weighted squared error of EDM (Karras et al. 2022, https://arxiv.org/abs/2206.00364, eq. 8), with
equal weight for each octave.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional

from stemforge.models.forge import Forge, Outputs

ACTIVE = 1e-3  # a stem sounds in a frame if its energy is more than this part of the mixture's mean energy


class Moments(NamedTuple):
    """Second moments of mixture Y and stems X, summed over the bins of a group: all that the error of masks depends on.

    yy: |Y|^2 (batch, 1, channel, frame, group); xx: |X_i|^2 (batch, stem, channel, frame, group);
    yx: Re(Y* X_i), same shape; yx_imag: Im(Y* X_i) of the low bins, each a group of its own.
    """

    yy: Tensor
    xx: Tensor
    yx: Tensor
    yx_imag: Tensor


@torch.no_grad()
def moments(network: Forge, y: Tensor, x: Tensor) -> Moments:
    """y: (batch, channel, frame, frequency), x: (batch, stem, channel, frame, frequency), complex."""
    low, y = network.low, y[:, None]
    flat_y, flat_x = (torch.view_as_real(s.contiguous()).flatten(-2) for s in (y, x))

    def groups(a: Tensor, b: Tensor) -> Tensor:
        """Sum of a * b over real and imaginary parts and over the bins of each group."""
        parts = [rearrange(a[..., : 2 * low] * b[..., : 2 * low], "... (g k) -> ... g k", k=2).sum(-1)]
        for first, last, size in network.config.pools:
            product = a[..., 2 * first : 2 * last] * b[..., 2 * first : 2 * last]
            product = functional.pad(product, (0, 2 * (last - first) - product.shape[-1]))
            parts.append(rearrange(product, "... (g k) -> ... g k", k=2 * size).sum(-1))
        return torch.cat(parts, dim=-1)

    imag = y.real[..., :low] * x.imag[..., :low] - y.imag[..., :low] * x.real[..., :low]
    return Moments(groups(flat_y, flat_y), groups(flat_x, flat_x), groups(flat_y, flat_x), imag)


class Products(NamedTuple):
    """Inner products of estimates D and stems X, band by band: each (batch, stem, band)."""

    dd: Tensor
    dx: Tensor
    xx: Tensor

    @property
    def error(self) -> Tensor:
        """|D - X|^2."""
        return (self.dd - 2 * self.dx + self.xx).clamp(min=0)


def products(network: Forge, out: Outputs, m: Moments) -> Products:
    """<D, D>, <D, X>, <X, X> with all stems hidden, where D_i = q_i Y with q_i = r_i + m_i (1 - sum r): exact."""
    low, shares = network.low, out.masks.softmax(dim=1)
    real, imag = out.ratio.real, out.ratio.imag
    q_real = torch.cat([real + shares[..., :low] * (1 - real.sum(1, keepdim=True)), shares[..., low:]], dim=-1)
    q_imag = imag - shares[..., :low] * imag.sum(1, keepdim=True)
    power = q_real * q_real
    dd = (power * m.yy).sum(dim=(2, 3))
    dx = (q_real * m.yx).sum(dim=(2, 3))
    extra_dd = (q_imag * q_imag * m.yy[..., :low]).sum(dim=(2, 3))
    extra_dx = (q_imag * m.yx_imag).sum(dim=(2, 3))
    pad = (0, dd.shape[-1] - low)
    found = (dd + functional.pad(extra_dd, pad), dx + functional.pad(extra_dx, pad), m.xx.sum(dim=(2, 3)))
    return Products(*(by_band(network, x) for x in found))


def by_band(network: Forge, energy: Tensor) -> Tensor:
    """(..., group) summed over the groups of each band -> (..., band)."""
    spans = [*network.spans, (network.low, energy.shape[-1])]
    return torch.stack([energy[..., a:b].sum(-1) for a, b in spans], dim=-1)


def compile_in_place() -> None:
    """Let torch.compile translate what waits for memory: 1.54 -> 1.31 s a separation step on one core."""
    globals().update({f.__name__: torch.compile(f, dynamic=False) for f in (moments, products)})


def separation_loss(network: Forge, mixture: Tensor, stems: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
    """One evaluation with all stems hidden. mixture: (batch, channel, time); stems: (batch, stem, channel, time)."""
    y = network.stft(mixture)
    m = moments(network, y, network.stft(stems))
    out = network(y)
    p = products(network, out, m)
    bands = by_band(network, m.yy.sum(dim=(1, 2, 3)))[:, None].clamp(
        min=1e-8
    )  # energy of the mixture, (batch, 1, band)
    whole = bands.sum(-1)
    sounds = (p.xx.sum(-1) > 1e-3 * whole).float()
    cosine = p.dx.sum(-1).clamp(min=0) ** 2 / (p.dd.sum(-1) * p.xx.sum(-1)).clamp(min=1e-12)
    sdr = ((cosine + 1e-3) / (1 - cosine + 1e-3).clamp(min=1e-4)).log10()
    quiet = (p.dd.sum(-1) / whole + 1e-5).log10()
    linear = (p.error / bands).mean()
    each = m.xx.sum(dim=(2, 4))  # (batch, stem, frame)
    sounding = (each > ACTIVE * m.yy.sum(dim=(2, 4)).mean(-1, keepdim=True)).float()
    activity = functional.binary_cross_entropy_with_logits(out.activity, sounding)
    loss = (0.5 * (1 - sounds) * quiet - sounds * sdr).mean() + 2 * linear + 0.5 * activity
    heard = (sounds * sdr).sum().detach() / sounds.sum().clamp(min=1)
    return loss, {"sdr_db": 10 * heard, "linear": linear.detach(), "activity": activity.detach()}


def denoising_loss(
    network: Forge,
    stems: Tensor,
    sigma: Tensor,
    hidden: Tensor,
    mixture: Tensor | None,
    noise: Tensor,
    prompt: Tensor | None = None,
) -> tuple[Tensor, Mapping[str, Tensor]]:
    """Weighted squared error of the stems that are being generated.

    stems, noise: (batch, stem, channel, time); sigma: (batch, stem, 1 or time), 0 where known; hidden: (batch, stem)
    bool, neither shown nor scored; mixture: (batch, channel, time) or None; prompt: (batch, feature) or None.
    """
    frames = network.frame_sigma(sigma, stems.shape[-1])
    x = network.stft((stems + sigma[:, :, None] * noise) * ~hidden[:, :, None, None])
    y = network.stft(mixture) if mixture is not None else None
    c = network.coefficients(frames, hidden)
    out = network(y, x * c.c_in, frames, hidden, prompt)
    gap = network.combine(out, y, x, frames, hidden, c) - network.stft(stems)
    octave = 1 / (torch.arange(gap.shape[-1], device=gap.device) + 15.0)
    weight = (octave / octave.sum()) / c.c_out.clamp(min=1e-6).square()
    each = ((gap.real.square() + gap.imag.square()) * weight).sum(-1).mean(2)  # (batch, stem, frame)
    scored = (frames > 0) & ~hidden[:, :, None]
    loss = (each * scored).sum() / scored.sum().clamp(min=1)
    return loss, {"denoising": loss.detach()}
