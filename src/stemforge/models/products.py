"""Products of complex spectra and real numbers, with gradients that stay real where they are.

Autograd writes the gradient of a real factor as a complex product of which it keeps the real part, and that of a slice
as a spectrum of zeros: five passes over memory where one is enough. What is here says the same in one.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx


def power(z: Tensor) -> Tensor:
    """|z|^2, real."""
    return _dot(z, z)


def seen_as(z: Tensor, low: int) -> tuple[Tensor, Tensor]:
    """|z|^2, and the real and imaginary parts of the first `low` frequencies, (..., low, 2)."""
    found: tuple[Tensor, Tensor] = _Seen.apply(z, low)  # type: ignore[no-untyped-call]
    return found


def scaled(z: Tensor, gain: Tensor) -> Tensor:
    """z times real gains; each may be broadcast to the other."""
    found: Tensor = _Scaled.apply(z, gain)  # type: ignore[no-untyped-call]
    return found


def mixed(z: Tensor, gains: Tensor, across: Tensor | None, low: Tensor) -> Tensor:
    """g z + flip(a z) over the channels, and `low` added to the first frequencies.

    z: (batch, stem, channel, frame, frequency) complex; gains: real, the same shape; across: real, (batch, stem, 1,
    frame, frequency), None for nothing; low: complex, the first frequencies of z.
    """
    found: Tensor = _Mixed.apply(z, gains, across, low)  # type: ignore[no-untyped-call]
    return found


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """Re(conj(a) b), real."""
    x, y = (torch.view_as_real(part.resolve_conj()) for part in (a, b))
    return (x[..., 0] * y[..., 0]).addcmul_(x[..., 1], y[..., 1])


class _Seen(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, z: Tensor, low: int) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(z)
        ctx.low = low  # type: ignore[attr-defined]
        return _dot(z, z), torch.view_as_real(z[..., :low]).clone()

    @staticmethod
    def backward(ctx: FunctionCtx, of_power: Tensor, of_low: Tensor) -> tuple[Tensor, None]:
        z: Tensor = ctx.saved_tensors[0]  # type: ignore[attr-defined]
        grad = z * (2 * of_power)
        grad[..., : ctx.low] += torch.view_as_complex(of_low.contiguous())  # type: ignore[attr-defined]
        return grad, None


class _Scaled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, z: Tensor, gain: Tensor) -> Tensor:
        ctx.save_for_backward(z, gain)
        return z * gain

    @staticmethod
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
        z, gain = ctx.saved_tensors  # type: ignore[attr-defined]
        needs = ctx.needs_input_grad  # type: ignore[attr-defined]
        of_z = (grad * gain).sum_to_size(z.shape) if needs[0] else None
        return of_z, _dot(z, grad).sum_to_size(gain.shape).to(gain) if needs[1] else None


class _Mixed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, z: Tensor, gains: Tensor, across: Tensor | None, low: Tensor) -> Tensor:
        ctx.save_for_backward(z, gains, across)  # type: ignore[arg-type]
        ctx.low = low.shape[-1]  # type: ignore[attr-defined]
        out = _flipped_sum(z * gains, None if across is None else z * across)
        out[..., : low.shape[-1]] += low
        return out

    @staticmethod
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor | None, ...]:
        z, gains, across = ctx.saved_tensors  # type: ignore[attr-defined]
        needs, count = ctx.needs_input_grad, ctx.low  # type: ignore[attr-defined]
        of_z = of_across = None
        if needs[0]:
            of_z = _flipped_sum(grad * gains, None if across is None else grad * across)
        if across is not None and needs[2]:
            of_across = _dot(z, grad.flip(2)).sum(dim=2, keepdim=True)
        of_gains = _dot(z, grad) if needs[1] else None
        return of_z, of_gains, of_across, grad[..., :count]


def _flipped_sum(a: Tensor, b: Tensor | None) -> Tensor:
    """a + flip(b) over the channels, into a."""
    if b is not None:
        for channel in range(a.shape[2]):
            a[:, :, channel] += b[:, :, -1 - channel]
    return a
