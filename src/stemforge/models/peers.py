"""Conv-TasNet and Hybrid Demucs as torchaudio defines them, to be trained beside `forge` on the same songs.

Luo and Mesgarani 2019, https://arxiv.org/abs/1809.07454; Défossez 2021, https://arxiv.org/abs/2111.03600. Ours are only
the level at which they hear a song and the last step: what the stems leave over of the mixture is shared equally
(Wisdom et al. 2019, https://arxiv.org/abs/1811.08521, with equal weights). Conv-TasNet hears one channel at a time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torchaudio.models
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional

CONV_TASNET, HDEMUCS = "conv-tasnet", "hdemucs"
KINDS = (CONV_TASNET, HDEMUCS)
SHORTEST_S = 1.0
"""Seconds that a network is given at least: its layers take away half of the time again and again."""


@dataclass(frozen=True)
class PeerConfig:
    """architecture: of KINDS; segment: seconds; level_db: RMS at which mixtures are heard; arguments: of the class."""

    architecture: str
    names: tuple[str, ...] = ("bass", "drums", "guitar", "piano", "other")
    rate: int = 44100
    channels: int = 2
    segment: float = 6.0
    level_db: float = -20.0
    arguments: Mapping[str, Any] = field(default_factory=dict)


class Peer(nn.Module):
    """A network of `registry.Network` around one of torchaudio.

    Raises:
        ValueError: the architecture is none of KINDS. TypeError: it has no such argument.
    """

    def __init__(self, config: PeerConfig) -> None:
        super().__init__()
        self.config, self.names, self.rate = config, config.names, config.rate
        self.channels, self.segment = config.channels, config.segment
        if config.architecture == CONV_TASNET:
            self.net: nn.Module = torchaudio.models.ConvTasNet(num_sources=len(self.names), **config.arguments)
        elif config.architecture == HDEMUCS:
            self.net = torchaudio.models.HDemucs(list(self.names), config.channels, **config.arguments)
        else:
            raise ValueError(f"{config.architecture} is none of {', '.join(KINDS)}")

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Peer:
        """Build from the table of a config.json; TypeError on unknown keys."""
        return cls(PeerConfig(**{**config, "names": tuple(config.get("names", PeerConfig.names))}))

    def to_config(self) -> dict[str, Any]:
        """The table that `from_config` reads."""
        return asdict(self.config)

    def forward(self, mixture: Tensor) -> Tensor:
        """Mixture (batch, channel, time) at `level_db` -> stems (batch, stem, channel, time) that add up to it."""
        time, shortest = mixture.shape[-1], round(SHORTEST_S * self.rate)
        heard = functional.pad(mixture, (0, max(0, shortest - time)))
        if self.config.architecture == CONV_TASNET:
            each = self.net(rearrange(heard, "b c t -> (b c) 1 t"))
            stems: Tensor = rearrange(each, "(b c) i t -> b i c t", c=self.channels)
        else:
            stems = self.net(heard)
        stems = stems[..., :time]
        rest = mixture - stems.sum(dim=1)
        return stems + rest[:, None] / len(self.names)

    def separate(self, mixture: Tensor, *, steps: int = 1, generator: object = None) -> Tensor:
        """Mixture (batch, channel, time), any level -> stems (batch, stem, channel, time). steps change nothing."""
        level = mixture.square().mean(dim=(1, 2), keepdim=True).sqrt()
        gain = 10 ** (self.config.level_db / 20) / level.clamp(min=1e-4)
        stems: Tensor = self(mixture * gain).float() / gain[:, None]
        return stems
