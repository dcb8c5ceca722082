"""Sound as a picture, and a picture as sound: how loud each band of frequencies is, a hundred times a second.

The bands lie evenly on asinh(f / 300 Hz): as wide as each other below, a share of an octave wide above, as the ear has
them. A picture knows nothing of phases; Griffin and Lim 1984 (https://doi.org/10.1109/TASSP.1984.1164317), with the
momentum of Perraudin et al. 2013 (https://doi.org/10.1109/WASPAA.2013.6701851), finds some that go with it.
"""

from __future__ import annotations

import math

import torch
import torchaudio
from torch import Tensor, nn
from torch.nn import functional

BEND_HZ = 300.0
"""Where the scale of bands turns from even steps in Hz to even steps in octaves."""
LOWEST_HZ, HIGHEST_HZ = 30.0, 16000.0
FLOOR_DB, SPAN_DB = -70.0, 17.0
"""Less than the floor counts as silence; so many decibels are 1 in a picture."""
SILENCE = -1.0
"""Of a band at the floor."""
MOMENTUM = 0.99


class Bands(nn.Module):
    """Reads sounds of `rate` Hz as pictures and back.

    bands: how many; n_fft: samples of a window; hop: from one window to the next.
    Amplitudes are those of a tight frame: white noise of level 1 has 1 in all bands.
    """

    window: Tensor
    bank: Tensor

    def __init__(self, rate: int = 44100, bands: int = 128, n_fft: int = 2048, hop: int = 441) -> None:
        super().__init__()
        self.n_fft, self.hop = n_fft, hop
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)
        self.register_buffer("bank", triangles(rate, bands, n_fft), persistent=False)
        self.scale = float((3 / 8 * n_fft) ** -0.5)  # sum of squares of a Hann window: 3/8 n

    def read(self, sound: Tensor) -> Tensor:
        """(..., time) -> (..., band, frame) of time // hop frames, at least -1."""
        rows = [self._read(row) for row in sound.reshape(-1, sound.shape[-1])]  # one fits into the cache
        return torch.stack(rows).reshape(*sound.shape[:-1], *rows[0].shape)

    def _read(self, sound: Tensor) -> Tensor:
        """(time,) -> (band, frame)."""
        spectrum = torch.stft(sound, self.n_fft, self.hop, window=self.window, return_complex=True)
        real, imaginary = torch.view_as_real(spectrum[:, : sound.shape[-1] // self.hop]).unbind(-1)
        power = self.bank @ (real * real + imaginary * imaginary) * (self.scale**2 / self.bank.sum(dim=1, keepdim=True))
        level_db = 10 * power.clamp(min=10 ** (FLOOR_DB / 10)).log10()
        return (level_db - FLOOR_DB) / SPAN_DB + SILENCE

    def sound(self, picture: Tensor, iterations: int = 32, seed: int = 0) -> Tensor:
        """(..., band, frame) -> (..., frame * hop) on the CPU, with phases found in so many iterations from noise."""
        flat = picture.reshape(-1, *picture.shape[-2:])
        level_db = (flat - SILENCE) * SPAN_DB + FLOOR_DB
        amplitude = 10 ** (level_db / 20) * (level_db > FLOOR_DB + 1)
        shares = self.bank / self.bank.sum(dim=0, keepdim=True).clamp(min=1e-9)
        spectrum = functional.pad(shares.mT @ amplitude, (0, 1)).cpu() / self.scale
        time = picture.shape[-1] * self.hop
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed % 2**63)
            found: Tensor = torchaudio.functional.griffinlim(
                spectrum, self.window.cpu(), self.n_fft, self.hop, self.n_fft, 1.0, iterations, MOMENTUM, time, True
            )
        return found.reshape(*picture.shape[:-2], time)

    def parts(self, sound: Tensor, shares: Tensor) -> Tensor:
        """Sound (channel, time) in parts (stem, channel, time) that add up to it, by shares (stem, band, frame).

        Shares add up to 1 over the stems, and those of the last frame hold to the end. What lies outside of the bands
        goes with the nearest one.
        """
        edges = self.bank.sum(dim=0) > 0
        first, last = int(edges.float().argmax()), len(edges) - 1 - int(edges.flip(0).float().argmax())
        weights = self.bank / self.bank.sum(dim=0, keepdim=True).clamp(min=1e-9)
        weights[0, :first], weights[-1, last + 1 :] = 1.0, 1.0
        spectrum = torch.stft(sound, self.n_fft, self.hop, window=self.window, return_complex=True)
        frames = torch.arange(spectrum.shape[-1], device=sound.device).clamp(max=shares.shape[-1] - 1)
        masks = weights.mT @ shares[..., frames]
        found = [torch.istft(spectrum * mask, self.n_fft, self.hop, window=self.window, length=sound.shape[-1])
                 for mask in masks]  # fmt: skip
        stems = torch.stack(found)
        return stems + (sound - stems.sum(dim=0)) / len(stems)


def summed(pictures: Tensor) -> tuple[Tensor, Tensor]:
    """The picture (..., band, frame) of stems (..., stem, band, frame) together, and the share of each in it.

    Sounds that know nothing of each other add up in power; what is at the floor adds nothing. Shares are the slope of
    the sum in each stem: 1 for all where all are silent, so one that begins to sound is heard.
    """
    above = (pictures - SILENCE).clamp(min=0) * (SPAN_DB / 10 * math.log(10))
    total = above.expm1().sum(dim=-3, keepdim=True).log1p()
    picture = (total / (SPAN_DB / 10 * math.log(10)) + SILENCE).squeeze(-3)
    return picture, (above - total).exp()


def triangles(rate: int, bands: int, n_fft: int) -> Tensor:
    """(band, frequency): weights of the bins in each band; none is empty, and neighbours overlap by half."""
    scale = torch.arange(n_fft // 2 + 1).mul(rate / n_fft / BEND_HZ).asinh()
    first, last = (math.asinh(hz / BEND_HZ) for hz in (LOWEST_HZ, min(HIGHEST_HZ, rate / 2)))
    at = torch.linspace(first, last, bands + 2)[:, None]
    rising, falling = (scale - at[:-2]) / at.diff(dim=0)[:-1], (at[2:] - scale) / at.diff(dim=0)[1:]
    bank = torch.minimum(rising, falling).clamp(min=0)
    nearest = (scale - at[1:-1]).abs().argmin(dim=1)
    bank[torch.arange(bands), nearest] = bank[torch.arange(bands), nearest].clamp(min=1e-3)
    return bank
