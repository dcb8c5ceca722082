"""Layers of the band-token network: attention and convolution along time, a low-rank mixer across bands."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx
from torch.nn import functional


def rotary(x: Tensor, base: float = 10000.0) -> Tensor:
    """Rotary position embedding (Su et al. 2021, RoFormer, eq. 34). x: (batch, head, frame, even width)."""
    half = x.shape[-1] // 2
    speed = base ** (-torch.arange(half, device=x.device) / half)
    angle = torch.arange(x.shape[-2], device=x.device)[:, None] * speed
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    a, b = x[..., :half], x[..., half:]
    return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1)


class _TimeConv(torch.autograd.Function):
    """Depth-wise convolution as shifted products: faster on CPUs than a grouped conv1d, forward and back."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, taps: Tensor) -> Tensor:
        ctx.save_for_backward(x, taps)
        return _shifted_sum(x, taps)

    @staticmethod
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor, Tensor]:
        x, taps = ctx.saved_tensors  # type: ignore[attr-defined]
        reach, frames = len(taps) // 2, x.shape[1]
        padded = functional.pad(x, (0, 0, reach, reach))
        each = [(padded[:, k : k + frames] * grad).sum((0, 1)) for k in range(len(taps))]
        return _shifted_sum(grad, taps.flip(0)), torch.stack(each)


def _shifted_sum(x: Tensor, taps: Tensor) -> Tensor:
    reach, frames = len(taps) // 2, x.shape[1]
    padded = functional.pad(x, (0, 0, reach, reach))
    out = padded[:, :frames] * taps[0]
    for k in range(1, len(taps)):
        out.addcmul_(padded[:, k : k + frames], taps[k])
    return out


def time_conv(x: Tensor, taps: Tensor) -> Tensor:
    """Depth-wise convolution over frames, zero padded. x: (batch, frame, width), taps: (odd kernel, width)."""
    out: Tensor = _TimeConv.apply(x, taps.to(x.dtype))  # type: ignore[no-untyped-call]
    return out


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention over the frames of (batch, head, frame, width); on a CPU plain products, ten times as fast."""
    if q.is_cuda:
        return functional.scaled_dot_product_attention(q, k, v)
    mixed: Tensor = (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(dim=-1) @ v
    return mixed


class TimeAttention(nn.Module):
    """Multi-head attention over all frames of one band. (batch, frame, width) -> same."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Residual branch included."""
        batch, frames, width = x.shape
        qkv = self.qkv(self.norm(x)).view(batch, frames, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = attend(rotary(q), rotary(k), v)
        added: Tensor = self.out(mixed.transpose(1, 2).reshape(batch, frames, width))
        return x + added


class ConvMlp(nn.Module):
    """A gated MLP whose gate sees neighbouring frames by a depth-wise convolution. (batch, frame, width) -> same."""

    def __init__(self, width: int, hidden: int, kernel: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, 2 * hidden)
        self.taps = nn.Parameter(torch.zeros(kernel, hidden))
        nn.init.trunc_normal_(self.taps, std=kernel**-0.5)
        self.down = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """Residual branch included."""
        value, gate = self.up(self.norm(x)).chunk(2, dim=-1)
        around = time_conv(gate, self.taps)
        added: Tensor = self.down(value * functional.silu(around))
        return x + added


class BandMixer(nn.Module):
    """All bands of a frame meet in one low-rank layer. (batch, band, frame, width) -> same."""

    def __init__(self, width: int, bands: int, rank: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.down = nn.Linear(bands * width, rank)
        self.up = nn.Linear(rank, bands * width)

    def forward(self, x: Tensor) -> Tensor:
        """Residual branch included."""
        batch, bands, frames, width = x.shape
        joined = self.norm(x).transpose(1, 2).reshape(batch, frames, bands * width)
        mixed: Tensor = self.up(functional.gelu(self.down(joined)))
        return x + mixed.view(batch, frames, bands, width).transpose(1, 2)


class Block(nn.Module):
    """Attention along time, gated convolution along time, mixer across bands. (batch, band, frame, width) -> same."""

    def __init__(self, width: int, heads: int, hidden: int, kernel: int, bands: int, rank: int) -> None:
        super().__init__()
        self.attention = TimeAttention(width, heads)
        self.mlp = ConvMlp(width, hidden, kernel)
        self.mixer = BandMixer(width, bands, rank)

    def forward(self, x: Tensor) -> Tensor:
        """Residual branches included."""
        folded = self.mlp(self.attention(x.flatten(0, 1)))
        mixed: Tensor = self.mixer(folded.view_as(x))
        return mixed


def stack(layers: int, *shape: int) -> nn.ModuleList:
    """So many blocks. shape: the arguments of `Block`."""
    return nn.ModuleList(Block(*shape) for _ in range(layers))


def through(x: Tensor, blocks: nn.ModuleList, norm: nn.LayerNorm) -> Tensor:
    """(batch, band, frame, width) through all blocks and the norm that ends them."""
    for block in blocks:
        x = block(x)
    ended: Tensor = norm(x)
    return ended
