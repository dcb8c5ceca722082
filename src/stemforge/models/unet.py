"""The one-dimensional U-Net of MSDM, able to hold its published weights.

Names of modules and behaviour are those of `UNet1d` of audio-diffusion-pytorch 0.0.43 as MSDM configures it (Mariani et
al. 2023, https://arxiv.org/abs/2302.02257), so that the weights fit key by key. Two quirks belong to them: the
attention at the bottleneck has no residual path, and kernels of down-sampling are one longer than twice the factor.
Everything is (batch, channel, time).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class UNetSizes:
    """Sizes of a U-Net; the defaults are MSDM's. Level i goes from width * multipliers[i] to ... [i + 1] channels."""

    width: int = 256
    multipliers: tuple[int, ...] = (1, 2, 4, 4, 4, 4, 4)
    factors: tuple[int, ...] = (4, 4, 4, 2, 2, 2)
    num_blocks: tuple[int, ...] = (2, 2, 2, 2, 2, 2)
    attentions: tuple[bool, ...] = (False, False, False, True, True, True)
    heads: int = 8
    head_features: int = 128
    ff_multiplier: int = 2
    patch: int = 16
    groups: int = 8

    def __post_init__(self) -> None:
        levels = {len(self.multipliers) - 1, len(self.factors), len(self.num_blocks), len(self.attentions)}
        if len(levels) != 1:
            raise ValueError("factors, num_blocks and attentions must have one value a level, multipliers one more")

    @property
    def multiple(self) -> int:
        """The time that goes in must be a multiple of this."""
        return self.patch * math.prod(self.factors)


class Waves(nn.Module):
    """A number t as [t, sin(2 pi t w), cos(2 pi t w)] with learned frequencies w. (batch,) -> (batch, 2 count + 1)."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.randn(count))

    def forward(self, t: Tensor) -> Tensor:
        phase = t[:, None] * self.weights * (2 * math.pi)
        return torch.cat([t[:, None], phase.sin(), phase.cos()], dim=-1)


class Norm(nn.Module):
    """Layer normalisation over the last axis with a gain and no bias."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.g = nn.Parameter(torch.ones(features))

    def forward(self, x: Tensor) -> Tensor:
        return functional.layer_norm(x, self.g.shape, self.g)


class ChannelNorm(nn.Module):
    """The same over the channels of (batch, channel, time)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.g = nn.Parameter(torch.ones(1, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        gain = self.g.flatten()
        return functional.layer_norm(x.transpose(1, 2), gain.shape, gain).transpose(1, 2)


class ConvBlock(nn.Module):
    """Group normalisation, optional scale and shift (batch, channel, 1), SiLU, convolution."""

    def __init__(self, inputs: int, outputs: int, groups: int) -> None:
        super().__init__()
        self.groupnorm = nn.GroupNorm(groups, inputs)
        self.project = nn.Conv1d(inputs, outputs, 3, padding=1)

    def forward(self, x: Tensor, scale: Tensor | None = None, shift: Tensor | None = None) -> Tensor:
        x = self.groupnorm(x)
        if scale is not None and shift is not None:
            x = x * (scale + 1) + shift
        out: Tensor = self.project(functional.silu(x))
        return out


class ResnetBlock(nn.Module):
    """Two convolutions, the second one modulated by the mapping of the noise level, around a straight path."""

    def __init__(self, inputs: int, outputs: int, mapping: int, groups: int) -> None:
        super().__init__()
        self.block1 = ConvBlock(inputs, outputs, groups)
        modulate = nn.Sequential(nn.SiLU(), nn.Linear(mapping, 2 * outputs))
        self.to_scale_shift = nn.ModuleDict({"to_scale_shift": modulate})
        self.block2 = ConvBlock(outputs, outputs, groups)
        self.to_out = nn.Conv1d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor, mapping: Tensor) -> Tensor:
        scale, shift = self.to_scale_shift["to_scale_shift"](mapping)[..., None].chunk(2, dim=1)
        out: Tensor = self.block2(self.block1(x), scale, shift) + self.to_out(x)
        return out


class AttentionOut(nn.Module):
    """Softmax attention over (batch, time, head * feature), and the way back to the width."""

    def __init__(self, width: int, heads: int, features: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_out = nn.Sequential(nn.Linear(heads * features, width, bias=False), Norm(width))

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (rearrange(part, "b t (h d) -> b h t d", h=self.heads) for part in (q, k, v))
        out: Tensor = self.to_out(rearrange(functional.scaled_dot_product_attention(q, k, v), "b h t d -> b t (h d)"))
        return out


class SelfAttention(nn.Module):
    """(batch, time, width) -> the same, without positions and without a residual path."""

    def __init__(self, width: int, heads: int, features: int) -> None:
        super().__init__()
        self.norm = Norm(width)
        self.to_q = nn.Linear(width, heads * features, bias=False)
        self.to_kv = nn.Linear(width, 2 * heads * features, bias=False)
        self.attention = AttentionOut(width, heads, features)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(x)
        out: Tensor = self.attention(self.to_q(x), *self.to_kv(x).chunk(2, dim=-1))
        return out


class Attention(nn.Module):
    """`SelfAttention` on (batch, channel, time)."""

    def __init__(self, width: int, sizes: UNetSizes) -> None:
        super().__init__()
        self.fn = SelfAttention(width, sizes.heads, sizes.head_features)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fn(x.transpose(1, 2)).transpose(1, 2)
        return out


class Transformer(nn.Module):
    """Attention and a pointwise network, each around a straight path."""

    def __init__(self, width: int, sizes: UNetSizes) -> None:
        super().__init__()
        self.attention = Attention(width, sizes)
        middle = width * sizes.ff_multiplier
        self.feed_forward = nn.Sequential(
            ChannelNorm(width),
            nn.Conv1d(width, middle, 1, bias=False),
            nn.GELU(),
            ChannelNorm(middle),
            nn.Conv1d(middle, width, 1, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(x)
        out: Tensor = x + self.feed_forward(x)
        return out


class Patch(nn.Module):
    """A residual block at full rate, then `patch` neighbours in time become channels."""

    def __init__(self, inputs: int, sizes: UNetSizes) -> None:
        super().__init__()
        self.patch = sizes.patch
        self.block = ResnetBlock(inputs, sizes.width // sizes.patch, 4 * sizes.width, min(sizes.patch, inputs))

    def forward(self, x: Tensor, mapping: Tensor) -> Tensor:
        out: Tensor = rearrange(self.block(x, mapping), "b c (t p) -> b (c p) t", p=self.patch)
        return out


class Unpatch(nn.Module):
    """The way back of `Patch`."""

    def __init__(self, outputs: int, sizes: UNetSizes) -> None:
        super().__init__()
        self.patch = sizes.patch
        self.block = ResnetBlock(sizes.width // sizes.patch, outputs, 4 * sizes.width, min(sizes.patch, outputs))

    def forward(self, x: Tensor, mapping: Tensor) -> Tensor:
        out: Tensor = self.block(rearrange(x, "b (c p) t -> b c (t p)", p=self.patch), mapping)
        return out


class Listed(nn.Module):
    """One block where the published names have a list of blocks."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.module_list = nn.ModuleList([block])

    def forward(self, x: Tensor, mapping: Tensor) -> Tensor:
        for block in self.module_list:
            x = block(x, mapping)
        return x


class Down(nn.Module):
    """Fewer frames, then residual blocks and maybe a transformer; each of their outputs is kept for the way up."""

    def __init__(self, level: int, sizes: UNetSizes) -> None:
        super().__init__()
        inputs, outputs = (sizes.width * m for m in sizes.multipliers[level : level + 2])
        factor = sizes.factors[level]
        self.downsample = nn.Conv1d(inputs, outputs, 2 * factor + 1, factor, factor)
        blocks = (ResnetBlock(outputs, outputs, 4 * sizes.width, sizes.groups) for _ in range(sizes.num_blocks[level]))
        self.blocks = nn.ModuleList(blocks)
        self.transformer = Transformer(outputs, sizes) if sizes.attentions[level] else None

    def forward(self, x: Tensor, mapping: Tensor) -> list[Tensor]:
        kept = [self.downsample(x)]
        for block in self.blocks:
            kept.append(block(kept[-1], mapping))
        if self.transformer is not None:
            kept.append(self.transformer(kept[-1]))
        return kept[1:]


class Up(nn.Module):
    """Residual blocks, each of which is shown what was kept on the way down; maybe a transformer; more frames."""

    def __init__(self, level: int, sizes: UNetSizes) -> None:
        super().__init__()
        outputs, inputs = (sizes.width * m for m in sizes.multipliers[level : level + 2])
        factor, count = sizes.factors[level], sizes.num_blocks[level] + sizes.attentions[level]
        blocks = (ResnetBlock(2 * inputs, inputs, 4 * sizes.width, sizes.groups) for _ in range(count))
        self.blocks = nn.ModuleList(blocks)
        self.transformer = Transformer(inputs, sizes) if sizes.attentions[level] else None
        odd = factor % 2
        self.upsample = nn.ConvTranspose1d(inputs, outputs, 2 * factor, factor, factor // 2 + odd, odd)

    def forward(self, x: Tensor, mapping: Tensor, kept: list[Tensor]) -> Tensor:
        for block, skip in zip(self.blocks, reversed(kept), strict=True):
            x = block(torch.cat([x, skip * 2**-0.5], dim=1), mapping)
        out: Tensor = self.upsample(x if self.transformer is None else self.transformer(x))
        return out


class Bottleneck(nn.Module):
    """Two residual blocks with attention between them, which has no straight path."""

    def __init__(self, sizes: UNetSizes) -> None:
        super().__init__()
        width, mapping = sizes.width * sizes.multipliers[-1], 4 * sizes.width
        self.pre_block = ResnetBlock(width, width, mapping, sizes.groups)
        self.attention = Attention(width, sizes)
        self.post_block = ResnetBlock(width, width, mapping, sizes.groups)

    def forward(self, x: Tensor, mapping: Tensor) -> Tensor:
        out: Tensor = self.post_block(self.attention(self.pre_block(x, mapping)), mapping)
        return out


class UNet(nn.Module):
    """The network F of MSDM; channels are stems."""

    def __init__(self, stems: int, sizes: UNetSizes) -> None:
        super().__init__()
        mapping, count = 4 * sizes.width, len(sizes.factors)
        waves = nn.Sequential(Waves(sizes.width // 2), nn.Linear(sizes.width // 2 * 2 + 1, mapping))
        self.to_time = nn.Sequential(waves, nn.GELU())
        self.to_mapping = nn.Sequential(nn.Linear(mapping, mapping), nn.GELU(), nn.Linear(mapping, mapping), nn.GELU())
        self.to_in = Listed(Patch(stems, sizes))
        self.downsamples = nn.ModuleList(Down(level, sizes) for level in range(count))
        self.bottleneck = Bottleneck(sizes)
        self.upsamples = nn.ModuleList(Up(level, sizes) for level in reversed(range(count)))
        self.to_out = Listed(Unpatch(stems, sizes))

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """x: (batch, stem, time), a multiple of `sizes.multiple` long; time: (batch,); returns the shape of x."""
        mapping = self.to_mapping(self.to_time(time))
        x = patched = self.to_in(x, mapping)
        levels = []
        for down in self.downsamples:
            levels.append(down(x, mapping))
            x = levels[-1][-1]
        x = self.bottleneck(x, mapping)
        for up in self.upsamples:
            x = up(x, mapping, levels.pop())
        out: Tensor = self.to_out(x + patched, mapping)
        return out
