"""Copies of a song as they reach listeners: mono, loud, clipped, lo-fi or coded, in stems that add up to the copy.

What is done to the channels or the band of a song is done to each stem. A limiter or clipper turns all stems of a
moment down by one gain. What few bits or a coder change is shared by the stems as their power is at each time and
frequency.
"""

from __future__ import annotations

import io

import numpy as np
import soundfile
import torch
from torch import Tensor
from torch.nn.functional import avg_pool1d, max_pool1d

from stemforge.train.files import Float

FFT, HOP = 2048, 1024
"""Of the spectra in which stems share what a copy changes."""
MP3_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
QUIET = 1e-8
"""Beside the mean power of a stem: where it is silent."""


def damaged(item: Float, rate: int, rng: np.random.Generator) -> Float:
    """A copy of (stem, channel, time) at `rate` Hz: in other channels as often as all else together; silence stays."""
    if not np.abs(item).max() > 0:
        return item
    if item.shape[1] == 2 and rng.random() < 0.5:
        return stood(item, *_stand(rng))
    kind = rng.integers(4)
    if kind == 0:
        return limited(item, rng.uniform(3, 12), round(rate * rng.uniform(0.001, 0.005)))
    if kind == 1:
        return clipped(item, rng.uniform(2, 9), soft=bool(rng.random() < 0.5))
    if kind == 2:
        mono, bits = bool(rng.random() < 0.5), int(rng.integers(7, 13))
        return narrowed(item, rate, rng.uniform(20, 150), rng.uniform(3000, 12000), mono, bits)
    return coded(item, rate, mp3=bool(rng.random() < 0.5), compression=rng.uniform(0.3, 0.85))


def _stand(rng: np.random.Generator) -> tuple[float, float]:
    """Width and balance: most often mono, else narrow or a little wide; out of balance, now and then by a channel."""
    width = 0.0 if rng.random() < 0.6 else rng.uniform(0, 1.4)
    chance = rng.random()
    if chance < 0.1:
        return width, 200.0 * rng.choice((-1, 1))
    return width, rng.normal(0, 5) if chance < 0.5 else 0.0


def stood(item: Float, width: float, balance_db: float) -> Float:
    """Stereo item (stem, 2, time) with all sides scaled by `width`, 0 is mono, and the right louder by `balance_db`."""
    middle, side = item.mean(axis=1), (item[:, 0] - item[:, 1]) * np.float32(0.5 * width)
    left, right = 10 ** (-max(balance_db, 0.0) / 20), 10 ** (min(balance_db, 0.0) / 20)
    return np.stack([(middle + side) * np.float32(left), (middle - side) * np.float32(right)], axis=1)


def limited(item: Float, push_db: float, reach: int) -> Float:
    """item (stem, channel, time) with the peaks of its sum `push_db` lower: a limiter that looks `reach` samples ahead.

    The gain is the smallest that any sample within reach asks for, averaged over as many, so no peak gets through.
    """
    loudest = torch.from_numpy(np.abs(item.sum(axis=0)).max(axis=0))[None]
    ceiling, window = float(loudest.max()) * 10 ** (-push_db / 20), 2 * reach + 1
    asked = (ceiling / max_pool1d(loudest, window, 1, reach).clamp(min=1e-9)).clamp(max=1)
    gain = avg_pool1d(asked, window, 1, reach, count_include_pad=False)
    return np.asarray(item * gain[0].numpy(), np.float32)


def clipped(item: Float, push_db: float, soft: bool) -> Float:
    """item (stem, channel, time) with its sum cut off `push_db` below its peak; soft: bent by tanh instead."""
    mixture = item.sum(axis=0, dtype=np.float64)
    height = np.maximum(np.abs(mixture) / (np.abs(mixture).max() * 10 ** (-push_db / 20)), 1e-9)
    gain = np.tanh(height) / height if soft else 1 / np.maximum(height, 1)
    return np.asarray(item * gain, np.float32)


def narrowed(item: Float, rate: int, low: float, high: float, mono: bool, bits: int) -> Float:
    """item (stem, channel, time) between `low` and `high` Hz, in so many bits; mono: the same in all channels."""
    time = item.shape[-1]
    hz = torch.arange(time // 2 + 1) * (rate / time)
    band = (hz / low) ** 4 / (1 + (hz / low) ** 4) / (1 + (hz / high) ** 8)
    x: Float = torch.fft.irfft(torch.fft.rfft(torch.from_numpy(item)) * band, n=time).numpy()
    x = np.broadcast_to(x.mean(axis=1, keepdims=True), x.shape) if mono else x
    mixture = x.sum(axis=0)
    step = max(float(np.abs(mixture).max()), 1e-9) * 2.0 ** (1 - bits)
    return shared(x, np.round(mixture / step) * step - mixture)


def coded(item: Float, rate: int, mp3: bool, compression: float) -> Float:
    """item (stem, channel, time) with its sum through MP3 (where that knows the rate) or Ogg Vorbis, and back.

    compression: 0 is best and 1 smallest; MP3 has 320 to 57 kbit/s, beyond 0.85 no longer in step with the song.
    """
    mixture = item.sum(axis=0).T
    level, file = max(float(np.abs(mixture).max()), 1e-9) / 0.9, io.BytesIO()
    kind = ("MP3", "MPEG_LAYER_III") if mp3 and rate in MP3_RATES and len(item[0]) < 3 else ("OGG", "VORBIS")
    soundfile.write(file, mixture / level, rate, format=kind[0], subtype=kind[1], compression_level=compression)
    file.seek(0)
    heard = soundfile.read(file, len(mixture), dtype="float32", always_2d=True, fill_value=0)[0] * level
    return shared(item, np.asarray(heard - mixture, np.float32).T)


def shared(item: Float, change: Float) -> Float:
    """item (stem, channel, time) + `change` (channel, time), which stems take as their power is, silent ones none."""
    stems, what = _spectra(item), _spectra(change)
    power = stems.real.square() + stems.imag.square()
    power += QUIET * power.mean(dim=(1, 2, 3), keepdim=True)  # where none of them sounds, as loud as they are elsewhere
    taken = what * (power / power.sum(dim=0).clamp(min=torch.finfo(torch.float32).tiny))
    flat = taken.reshape(-1, *taken.shape[-2:])
    added = torch.istft(flat, FFT, HOP, window=torch.hann_window(FFT), length=item.shape[-1])
    return np.asarray(item + added.reshape(item.shape).numpy(), np.float32)


def _spectra(x: Float) -> Tensor:
    """(..., channel, frequency, frame) of (..., channel, time)."""
    flat = torch.from_numpy(np.ascontiguousarray(x, np.float32)).reshape(-1, x.shape[-1])
    spectra = torch.stft(flat, FFT, HOP, window=torch.hann_window(FFT), return_complex=True)
    return spectra.reshape(*x.shape[:-1], *spectra.shape[-2:])
