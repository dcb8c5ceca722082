"""Time to frequency and back, exactly: a tight frame of Hann windows, and noise with the colour of music.

With a periodic Hann window w of n samples and a hop of n/3 the squares of the shifted windows add up to 9/8 everywhere,
so the transform analysed and synthesised with w is inverted without any division by an envelope, and a sum of spectra
is the spectrum of the sum: stems that add up in frequency add up in time.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx


class Stft(nn.Module):
    """Short-time Fourier transform scaled so that white noise of variance 1 has coefficients of variance 1.

    n_fft: window in samples, a multiple of 3; the hop is a third of it. frequencies = n_fft // 2 + 1.
    """

    window: Tensor

    def __init__(self, n_fft: int = 3072) -> None:
        super().__init__()
        if n_fft % 3:
            raise ValueError(f"n_fft {n_fft}: must be a multiple of 3")
        self.n_fft, self.hop = n_fft, n_fft // 3
        self.register_buffer("window", torch.hann_window(n_fft, periodic=True), persistent=False)
        self.scale = 1 / math.sqrt(3 / 8 * n_fft)  # sum of squares of a Hann window: 3/8 n

    def frames(self, time: int) -> int:
        """Number of frames that cover `time` samples, each sample by three windows."""
        return math.ceil((time + self.n_fft - self.hop) / self.hop)

    def covered(self, frames: int, time: int) -> int:
        """Number of samples, `time` at the most, behind the first one of a frame that so many frames cover."""
        return min(time, (frames + 1) * self.hop - self.n_fft)

    def forward(self, x: Tensor) -> Tensor:
        """(..., time) real, time >= 1 -> (..., frame, frequency) complex."""
        spectrum: Tensor = _Analysis.apply(x, self)  # type: ignore[no-untyped-call]
        return spectrum

    def inverse(self, spectrum: Tensor, time: int) -> Tensor:
        """(..., frame, frequency) complex -> (..., time) real: the least-squares inverse, exact on true spectra."""
        joined: Tensor = _Synthesis.apply(spectrum, time, self)  # type: ignore[no-untyped-call]
        return joined

    def analyse(self, x: Tensor) -> Tensor:
        """The transform without a gradient."""
        time, before = x.shape[-1], self.n_fft - self.hop
        after = (self.frames(time) - 1) * self.hop + self.n_fft - before - time
        framed = nn.functional.pad(x, (before, after)).unfold(-1, self.n_fft, self.hop)
        spectrum: Tensor = torch.fft.rfft(framed * (self.window * self.scale))
        return spectrum

    def synthesise(self, spectrum: Tensor, time: int) -> Tensor:
        """The inverse without a gradient."""
        framed = torch.fft.irfft(spectrum, n=self.n_fft).mul_(self.window / (self.scale * 9 / 8))
        *lead, count, _ = framed.shape
        thirds = framed.unflatten(-1, (3, self.hop))
        out = framed.new_zeros(*lead, count + 2, self.hop)
        for shift in range(3):
            out[..., shift : shift + count, :] += thirds[..., shift, :]
        before = self.n_fft - self.hop
        joined: Tensor = out.flatten(-2)[..., before : before + time]
        return joined

    def halved(self) -> Tensor:
        """(frequency,): 1/2 where a bin of a real transform stands for two of a complex one, else 1."""
        halves = torch.full((self.n_fft // 2 + 1,), 0.5, device=self.window.device, dtype=self.window.dtype)
        halves[0] = 1
        if self.n_fft % 2 == 0:
            halves[-1] = 1
        return halves


class _Analysis(torch.autograd.Function):
    """Its adjoint is the inverse: with h 1/2 for bins that stand for two, A^T G = 3 A^-1 (h G)."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, stft: Stft) -> Tensor:
        ctx.stft, ctx.time = stft, x.shape[-1]  # type: ignore[attr-defined]
        return stft.analyse(x)

    @staticmethod
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor, None]:
        stft: Stft = ctx.stft  # type: ignore[attr-defined]
        return stft.inverse(grad * (3 * stft.halved()), ctx.time), None  # type: ignore[attr-defined]


class _Synthesis(torch.autograd.Function):
    """The other way round: (A^-1)^T g = A g / 3h."""

    @staticmethod
    def forward(ctx: FunctionCtx, spectrum: Tensor, time: int, stft: Stft) -> Tensor:
        ctx.stft = stft  # type: ignore[attr-defined]
        return stft.synthesise(spectrum, time)

    @staticmethod
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor, None, None]:
        stft: Stft = ctx.stft  # type: ignore[attr-defined]
        return stft(grad) * (1 / (3 * stft.halved())), None, None


def interpolate_db(points_hz: list[float], points_db: list[float], frequencies: Tensor) -> Tensor:
    """Amplitude at `frequencies` (Hz) of a curve in dB at `points_hz`, linear over log-frequency, flat outside."""
    x = torch.tensor(points_hz, dtype=torch.float64).log()
    y = torch.tensor(points_db, dtype=torch.float64)
    at = frequencies.double().clamp(points_hz[0], points_hz[-1]).log()
    right = torch.searchsorted(x, at).clamp(1, len(x) - 1)
    part = (at - x[right - 1]) / (x[right] - x[right - 1])
    return (10 ** ((y[right - 1] + part * (y[right] - y[right - 1])) / 20)).float()


def colour(white: Tensor, rate: int, points_hz: list[float], points_db: list[float]) -> Tensor:
    """White noise (..., time) filtered with zero phase to the given amplitude curve; linear, so sums stay sums."""
    time = white.shape[-1]
    least = time + rate // 10  # the response of the filter has died away by then
    part = 1 << max(least.bit_length() - 4, 0)
    padded = -(-least // part) * part  # 8 to 16 times a power of two: fast, and little more than is needed
    spectrum = torch.fft.rfft(white, n=padded)
    frequencies = torch.fft.rfftfreq(padded, 1 / rate)
    gain = interpolate_db(points_hz, points_db, frequencies).to(white.device)
    coloured: Tensor = torch.fft.irfft(spectrum * gain, n=padded)[..., :time]
    return coloured
