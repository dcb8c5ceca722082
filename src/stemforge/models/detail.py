"""A way past the tokens: what a point of time and frequency, and those around it, say of themselves.

A token describes a whole band of a frame in a few hundred numbers, too few for each partial of a chord. Here two small
convolutions over logarithms of power find local patterns (a ridge, an onset, a gap), and the tokens say, for each stem
and each run of neighbouring groups, what such a pattern means there.
"""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional

from stemforge.models.asked import ALL, chosen

FLOOR = 1e-6
"""Added to powers before their logarithm: what a hidden stem reads as."""
RUN = 16
"""Neighbouring groups that share what the tokens say."""
INNER = 16
"""Maps between the two convolutions."""
SAID = 2
"""Numbers that are said of each group."""
REACH = 7
"""Frames on each side that a pattern depends on."""


class Detail(nn.Module):
    """Local patterns of planes, weighed by tokens. Says 0 until it is trained.

    planes: maps that are read; maps: patterns; sizes: groups of each band; stems: of each, SAID numbers a group.
    """

    def __init__(self, planes: int, maps: int, width: int, sizes: list[int], stems: int) -> None:
        super().__init__()
        self.sizes, self.maps, self.stems = sizes, maps, stems
        self.first = nn.Conv2d(planes, INNER, (3, 5), padding=(1, 2))
        self.second = nn.Conv2d(INNER, maps, (5, 3), padding=(6, 1), dilation=(3, 1))
        self.weigh = nn.ModuleList(nn.Linear(width, stems * SAID * maps * -(-n // RUN)) for n in sizes)
        silence(self.weigh)

    def patterns(self, planes: Tensor) -> list[Tensor]:
        """(item, plane, frame, group) -> of each band (item, frame, run, group of the run, map)."""
        last = planes.contiguous(memory_format=torch.channels_last)  # twice as fast on CPUs
        found = functional.gelu(self.second(functional.gelu(self.first(last))))
        cuts = torch.split(found.permute(0, 2, 3, 1), self.sizes, dim=2)
        padded = (functional.pad(cut, (0, 0, 0, -cut.shape[2] % RUN)) for cut in cuts)
        return [rearrange(cut, "b t (s g) k -> b t s g k", g=RUN) for cut in padded]

    def forward(
        self, planes: Tensor, tokens: Tensor, rows: slice | Tensor = ALL, numbers: int = SAID, before: int = 0
    ) -> Tensor:
        """What is said of each group: (batch, stem, number, frame, group).

        planes: (batch or batch * stem, plane, frame, group), the same for all stems or one each; tokens: (batch, band,
        frame, width); rows: the stems that something is said of; numbers: of SAID, the last ones; before: frames that
        the planes have and the tokens have not, and as many behind or fewer.
        """
        said, at = [], (rows, ALL if numbers == SAID else slice(SAID - numbers, None))
        order = "b t (i o s k) -> (b i) t s o k" if len(planes) > len(tokens) else "b t (i o s k) -> b t s (i o) k"
        for found, weigh, token, size in zip(
            self.patterns(planes), self.weigh, tokens.unbind(1), self.sizes, strict=True
        ):
            spoken = chosen(weigh, token, (self.stems, SAID), at)
            weights = rearrange(spoken, order, o=numbers, s=-(-size // RUN), k=self.maps)
            each = weights @ found[:, before : before + tokens.shape[2]].to(weights.dtype).mT / self.maps
            said.append(rearrange(each, "b t s o g -> b o t (s g)")[..., :size])
        whole = torch.cat(said, dim=-1).float()
        return whole.reshape(len(tokens), -1, numbers, *whole.shape[2:])


class Across(nn.Module):
    """How much of the other channel an estimate takes, for each run of groups. Says 0 until it is trained.

    Noise is drawn for each channel by itself, so what stands in the middle is heard best by their mean, and what is
    panned along its direction: gains of one channel each cannot say that.
    """

    def __init__(self, width: int, sizes: list[int], stems: int) -> None:
        super().__init__()
        self.sizes, self.stems = sizes, stems
        self.weigh = nn.ModuleList(nn.Linear(width, stems * -(-n // RUN)) for n in sizes)
        silence(self.weigh)

    def forward(self, tokens: Tensor) -> Tensor:
        """(batch, band, frame, width) -> (batch, stem, 1, frame, group)."""
        said = []
        for weigh, token, size in zip(self.weigh, tokens.unbind(1), self.sizes, strict=True):
            runs = rearrange(weigh(token).float(), "b t (i s) -> b i 1 t s", i=self.stems)
            said.append(runs.repeat_interleave(RUN, dim=-1)[..., :size])
        return torch.cat(said, dim=-1)


def silence(layer: nn.Module) -> None:
    """Set all weights to 0: it says nothing until it is trained."""
    for weight in layer.parameters():
        nn.init.zeros_(weight)


def divided(bands: list[int], splits: tuple[int, ...]) -> tuple[list[int], list[int]]:
    """Of each token the band that it reads and the number of groups that it speaks of: whole runs, but for a rest.

    bands: groups of each band; splits: into how many parts each is cut, () for none. Raises ValueError where a band is
    too narrow for its parts.
    """
    parents, sizes = [], []
    for band, (groups, parts) in enumerate(zip(bands, splits or (1,) * len(bands), strict=True)):
        runs = [len(part) for part in torch.arange(-(-groups // RUN)).tensor_split(parts)]
        if not all(runs):
            raise ValueError(f"splits {parts}: a band of {groups} groups has {sum(runs)} runs of {RUN} at the most")
        parents += [band] * parts
        sizes += [RUN * count for count in runs[:-1]] + [groups - RUN * sum(runs[:-1])]
    return parents, sizes


def read_levels(readers: nn.ModuleList, levels: Tensor, spans: list[tuple[int, int]], tokens: int) -> Tensor:
    """What the tokens read of the power of each bin of each stem; nothing in the top band, which they read anyhow.

    levels: (batch, stem, channel, frame, group); spans: first and last group of the band that each token below the top
    reads; tokens: of a frame. Returns (batch, token, frame, width).
    """
    cuts = (levels[..., a:b].permute(0, 3, 1, 2, 4).flatten(2) for a, b in spans)
    read = torch.stack([linear(cut) for linear, cut in zip(readers, cuts, strict=True)], dim=1)
    return functional.pad(read, (0, 0, 0, 0, 0, tokens - len(spans)))


def stem_planes(levels: Tensor, mixture: Tensor | None, sigma: Tensor, rows: slice | Tensor = ALL) -> Tensor:
    """What the patterns of a stem are sought in: its power, that of all others, of the mixture, and its noise level.

    levels: (batch, stem, channel, frame, group), a quarter of the logarithm of power + FLOOR; mixture: (batch, plane,
    frame, group), the same of left, right, middle and side, or of one channel; sigma: (batch, stem, frame); rows: of
    the stems that are looked at. Returns (batch * stem, channel + 3, frame, group).
    """
    power = ((4 * levels).exp() - FLOOR).mean(dim=2)
    others = 0.25 * ((power.sum(dim=1, keepdim=True) - power[:, rows]).clamp(min=0) + FLOOR).log()
    middle = 2 * (levels.shape[2] - 1)
    around = torch.zeros_like(others) if mixture is None else mixture[:, middle, None].expand_as(others)
    noise = (sigma[:, rows].clamp(min=1e-4).log() / 4)[..., None].expand_as(others)
    return torch.cat([levels[:, rows], torch.stack([others, around, noise], dim=2)], dim=2).flatten(0, 1)
