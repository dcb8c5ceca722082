"""Layers of the band-token network: attention and convolution along time, a low-rank mixer across bands."""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx
from torch.nn import functional

STRIDE, TRUNK_WIDTH, TRUNK_KERNEL = 4, 320, 7
"""Frames of a token of the trunk, its width, and the taps of its convolutions."""


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
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor, Tensor | None]:
        x, taps = ctx.saved_tensors  # type: ignore[attr-defined]
        if not ctx.needs_input_grad[1]:  # type: ignore[attr-defined]
            return _shifted_sum(grad, taps.flip(0)), None
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


def attend(q: Tensor, k: Tensor, v: Tensor, seen: Tensor | None = None) -> Tensor:
    """Attention over the frames of (batch, head, frame, width); on a CPU plain products, ten times as fast.

    seen: (frame, frame) bool, which frames each of them attends to; None: all.
    """
    if q.is_cuda:
        return functional.scaled_dot_product_attention(q, k, v, seen)
    alike = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
    if seen is not None:
        alike = alike.masked_fill(~seen, -torch.inf)
    mixed: Tensor = alike.softmax(dim=-1) @ v
    return mixed


def near(places: int, reach: int, device: torch.device) -> Tensor:
    """(place, place) bool: which are less than `reach` from each other."""
    at = torch.arange(places, device=device)
    return (at[:, None] - at).abs() < reach


class Attention(nn.Module):
    """Multi-head attention over all places of a row. (row, place, width) -> same. ordered: places have a position.

    reach: in rows of more than twice as many places, each attends to those that are nearer than that, in a sliding
    window (Beltagy et al. 2020, https://arxiv.org/abs/2004.05150): as many as in rows of 2 reach, the length of those
    that a network was trained on. None: all of them. It is no weight, and may be set at any time.
    """

    reach: int | None = None

    def __init__(self, width: int, heads: int, *, ordered: bool) -> None:
        super().__init__()
        self.heads, self.ordered = heads, ordered
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Residual branch included."""
        rows, places, width = x.shape
        qkv = self.qkv(self.norm(x)).view(rows, places, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        seen = near(places, self.reach, x.device) if self.reach and places > 2 * self.reach else None
        mixed = attend(rotary(q), rotary(k), v, seen) if self.ordered else attend(q, k, v, seen)
        added: Tensor = self.out(mixed.transpose(1, 2).reshape(rows, places, width))
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


class BandAttention(Attention):
    """Attention over all bands of one frame. (batch, band, frame, width) -> same."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__(width, heads, ordered=False)

    def forward(self, x: Tensor) -> Tensor:
        """Residual branch included."""
        mixed = super().forward(rearrange(x, "b n t w -> (b t) n w"))
        return rearrange(mixed, "(b t) n w -> b n t w", b=len(x))


class Trunk(nn.Module):
    """What several frames have in common: one wider token for all bands of STRIDE frames. Says 0 until it is trained.

    (batch, band, frame, width) -> same.
    """

    def __init__(self, layers: int, width: int, heads: int, bands: int) -> None:
        super().__init__()
        self.norm, wide = nn.LayerNorm(width), TRUNK_WIDTH
        self.down = nn.Linear(bands * width, wide)
        self.layers = nn.ModuleList(
            nn.Sequential(Attention(wide, heads, ordered=True), ConvMlp(wide, 2 * wide, TRUNK_KERNEL))
            for _ in range(layers)
        )
        self.up = nn.Linear(wide, bands * width)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Residual branch included."""
        bands, frames = x.shape[1:3]
        joined = rearrange(self.norm(x), "b n t w -> b (n w) t")
        slow = self.down(functional.avg_pool1d(joined, STRIDE, ceil_mode=True).mT)
        for layer in self.layers:
            slow = layer(slow)
        said = rearrange(self.up(slow), "b t (n w) -> b n t w", n=bands)
        added: Tensor = said.repeat_interleave(STRIDE, dim=2)[:, :, :frames]
        return x + added


class Block(nn.Module):
    """Attention along time, gated convolution along time, mixer across bands. (batch, band, frame, width) -> same.

    rank: of the mixer; 0: bands attend to each other.
    """

    def __init__(self, width: int, heads: int, hidden: int, kernel: int, bands: int, rank: int) -> None:
        super().__init__()
        self.attention = Attention(width, heads, ordered=True)
        self.mlp = ConvMlp(width, hidden, kernel)
        self.mixer = BandMixer(width, bands, rank) if rank else BandAttention(width, heads)

    def forward(self, x: Tensor) -> Tensor:
        """Residual branches included."""
        folded = self.mlp(self.attention(x.flatten(0, 1)))
        mixed: Tensor = self.mixer(folded.view_as(x))
        return mixed


def stack(layers: int, *shape: int) -> nn.ModuleList:
    """So many blocks. shape: the arguments of `Block`."""
    return nn.ModuleList(Block(*shape) for _ in range(layers))


def through(x: Tensor, blocks: nn.ModuleList, norm: nn.LayerNorm, trunk: nn.Module | None = None) -> Tensor:
    """(batch, band, frame, width) through all blocks and the norm that ends them; half way through the trunk."""
    for k, block in enumerate(blocks):
        x = block(x if trunk is None or k != len(blocks) // 2 else trunk(x))
    ended: Tensor = norm(x)
    return ended
