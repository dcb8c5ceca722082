"""What a sound looks like: a waveform and a spectrogram, from blocks, in memory that does not grow with its length."""

from __future__ import annotations

import io

import numpy as np
import torch
from torch import Tensor

from stemforge.report.colours import Colour

SIZE = 4096
"""Samples of one spectrum."""

LOWEST_HZ, HIGHEST_HZ, RANGE_DB = 40.0, 18000.0, 72.0
BANDS = 112

HEIGHT = 200
"""Units of a waveform from top to bottom."""

_POWER = 0.6
_LOOKS = 4  # spectra in a column, where there is room for so many
_AT_ONCE = 128
_QUALITY = 72


class Wave:
    """Lowest and highest sample and the power of each column of a sound of so many frames; columns <= frames."""

    def __init__(self, columns: int, frames: int) -> None:
        self._edges = (np.arange(columns + 1) * frames + columns - 1) // columns
        self.low, self.high = np.zeros(columns), np.zeros(columns)
        self._energy = np.zeros(columns)
        self._at, self._frames = 0, frames

    def add(self, block: Tensor) -> None:
        """The next samples (channel, time); those beyond `frames` are left out."""
        samples = block[:, : self._frames - self._at].numpy()
        if samples.shape[1] == 0:
            return
        last = self._at + samples.shape[1]
        first_column, end = np.searchsorted(self._edges, (self._at, last - 1), side="right") - 1
        columns = np.arange(first_column, end + 1)
        starts = np.maximum(self._edges[columns] - self._at, 0)
        self.low[columns] = np.minimum(self.low[columns], np.minimum.reduceat(samples.min(axis=0), starts))
        self.high[columns] = np.maximum(self.high[columns], np.maximum.reduceat(samples.max(axis=0), starts))
        power = np.square(samples, dtype=np.float64).mean(axis=0)
        self._energy[columns] += np.add.reduceat(power, starts)
        self._at = last

    @property
    def rms(self) -> np.ndarray:
        """Root of the mean power of each column."""
        return np.sqrt(self._energy / np.diff(self._edges))

    @property
    def peak(self) -> float:
        """Largest absolute sample."""
        return float(max(self.high.max(), -self.low.min()))


def outline(low: np.ndarray, high: np.ndarray, scale: float) -> str:
    """What is between two lines as the path of an SVG, a unit wide each column, HEIGHT high: `scale` is its edge.

    The height is a power of the level below one, so that quiet stems are seen beside loud ones.
    """
    middle = HEIGHT / 2
    shares = (np.sign(line) * np.minimum(np.abs(line) / scale, 1) ** _POWER for line in (high, low))
    top, bottom = (np.rint(middle - middle * share).astype(int) for share in shares)
    bottom = np.maximum(bottom, top + 1)
    forth = "".join(f"l1 {step}" for step in np.diff(top))
    back = "".join(f"l-1 {step}" for step in np.diff(bottom[::-1]))
    return f"M0 {top[0]}{forth}V{bottom[-1]}{back}z"


class Spectrum:
    """Level of each band, from low to high in equal steps of pitch, and each column of a sound.

    The power of a band is that of all it holds, so that pink noise is even. 0 dB is a sine of full scale.
    """

    def __init__(self, columns: int, frames: int, rate: int) -> None:
        looks = columns * min(_LOOKS, max(1, -(-2 * frames // (SIZE * columns))))
        self._starts = np.rint((np.arange(looks) + 0.5) * frames / looks).astype(int)
        edges = np.geomspace(LOWEST_HZ, min(HIGHEST_HZ, rate / 2), BANDS + 1)
        self._places = edges / (rate / SIZE) + 0.5
        self._window = torch.hann_window(SIZE)
        self._columns, self._done, self._at = columns, 0, 0
        self._held: Tensor | None = None
        self._power = np.zeros((looks, BANDS))

    def add(self, block: Tensor) -> None:
        """The next samples (channel, time)."""
        before = block.new_zeros((block.shape[0], SIZE // 2)) if self._held is None else self._held
        held = torch.cat([before, block], dim=-1)
        ready = int(np.searchsorted(self._starts, self._at + held.shape[-1] - SIZE, side="right"))
        while self._done < ready:
            starts = self._starts[self._done : min(ready, self._done + _AT_ONCE)] - self._at
            framed = torch.stack([held[:, start : start + SIZE] for start in starts.tolist()])
            self._power[self._done : self._done + len(starts)] = self._bands(framed)
            self._done += len(starts)
        following = self._starts[self._done] if self._done < len(self._starts) else self._at + held.shape[-1]
        keep = max(0, min(int(following) - self._at, held.shape[-1]))
        self._held, self._at = held[:, keep:], self._at + keep

    def levels(self) -> np.ndarray:
        """(band, column) in dB, when all has been added; what was not is silent."""
        if self._held is not None and self._done < len(self._starts):
            self.add(self._held.new_zeros((self._held.shape[0], SIZE)))
        mean = self._power.reshape(self._columns, -1, BANDS).mean(axis=1)
        return np.asarray(10 * np.log10(mean.T + 1e-12))

    def _bands(self, framed: Tensor) -> np.ndarray:
        """Power of each band of frames (frame, channel, SIZE): differences of its integral over frequency."""
        full_scale = (float(self._window.sum()) / 2) ** 2
        power = torch.fft.rfft(framed * self._window).abs().square().mean(dim=1) / full_scale
        total = np.concatenate([np.zeros((len(power), 1)), power.double().numpy().cumsum(axis=1)], axis=1)
        places = self._places.clip(0, total.shape[1] - 1.001)
        below = places.astype(int)
        at = total[:, below] + (places - below) * (total[:, below + 1] - total[:, below])
        return np.diff(at, axis=1)


def painted(levels: np.ndarray, top: float, colour: Colour) -> bytes:
    """Levels (band, column) in dB as a WebP image, high bands on top: `top` is lightest, RANGE_DB below it darkest."""
    from PIL import Image

    share = ((levels[::-1] - top + RANGE_DB) / RANGE_DB).clip(0, 1)
    pixels = colour.ramp()[np.rint(255 * share).astype(np.uint8)]
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "WEBP", quality=_QUALITY, method=4)
    return file.getvalue()


def height_of(hz: float, rate: int) -> float:
    """Where a frequency is in the picture, as a share of its height from the top."""
    highest = min(HIGHEST_HZ, rate / 2)
    return float(np.log(highest / hz) / np.log(highest / LOWEST_HZ))
