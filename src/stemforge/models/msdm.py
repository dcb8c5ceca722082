"""MSDM and ISDM: the published diffusion models of bass, drums, guitar and piano, mono at 22.05 kHz.

MSDM (Mariani et al. 2023, https://arxiv.org/abs/2302.02257) is one U-Net whose channels are the stems; ISDM, its weakly
supervised rival, is one single-channel U-Net a stem. Both model stems without a mixture: a sampler brings the mixture
in through a likelihood.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from stemforge.models.denoisers import edm, one_level
from stemforge.models.unet import UNet, UNetSizes
from stemforge.types import Denoise

LIMIT = 1.0
"""Clean samples are within full scale: the published models were trained and sampled under this clamp."""


@dataclass(frozen=True)
class MsdmConfig(UNetSizes):
    """What shapes an MSDM or ISDM. rate in Hz; samples: of one segment; sigma_data: standard deviation of a stem."""

    names: tuple[str, ...] = ("bass", "drums", "guitar", "piano")
    rate: int = 22050
    samples: int = 262144
    sigma_data: float = 0.2


class _Unconditional(nn.Module, ABC):
    """What MSDM and ISDM have in common: everything around the U-Nets."""

    architecture: ClassVar[str]
    conditional = False
    independent = False
    channels = 1

    def __init__(self, config: MsdmConfig | None = None) -> None:
        super().__init__()
        self.config = c = config or MsdmConfig()
        self.names, self.rate, self.multiple = c.names, c.rate, c.multiple
        self.segment = c.samples / c.rate

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Build from the table of a config.json (lists become tuples); TypeError on unknown keys."""
        values: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in config.items() if k != "architecture"
        }
        return cls(MsdmConfig(**values))

    def to_config(self) -> dict[str, Any]:
        """The table that `from_config` reads."""
        return {"architecture": self.architecture, **asdict(self.config)}

    def noise(self, like: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """White noise of sigma 1, drawn on the CPU. like: (..., time)."""
        return torch.randn(like.shape, generator=generator).to(like)

    def denoise(
        self,
        x: Tensor,
        sigma: Tensor | float,
        *,
        mixture: Tensor | None = None,
        hidden: Tensor | None = None,
        prompt: Tensor | None = None,
    ) -> Tensor:
        """E[stems | x], within [-1, 1]. x: (batch, stem, 1, time) = stems + sigma * noise, any time >= 1.

        sigma: one level for all, or (batch, 1, 1, 1). `mixture`, `hidden` and `prompt` tell this network nothing; they
        are taken because other networks have them. Time is filled up with zeros to a whole number of frames.

        Raises:
            ValueError: x has other stems or channels, or sigma differs within an item.
        """
        if x.dim() != 4 or x.shape[1:3] != (len(self.names), 1):
            raise ValueError(f"x of shape {tuple(x.shape)}: must be (batch, {len(self.names)}, 1, time)")
        padded = functional.pad(x[:, :, 0], (0, -x.shape[-1] % self.multiple))
        return self._evaluate(padded, one_level(sigma, padded))[:, :, None, : x.shape[-1]]

    @abstractmethod
    def _evaluate(self, x: Tensor, sigma: Tensor) -> Tensor:
        """D(x; sigma) of (batch, stem, time)."""

    def _denoiser(self, net: nn.Module) -> Denoise:
        """The network in the precision of its weights, whatever that of the state is."""

        def predict(x: Tensor, time: Tensor) -> Tensor:
            weight = next(net.parameters())
            output: Tensor = net(x.to(weight.dtype), time.to(weight.dtype))
            return output.to(x.dtype)

        return edm(predict, self.config.sigma_data, LIMIT)


class Msdm(_Unconditional):
    """The joint model p(all stems): one U-Net, `net`, with one channel a stem."""

    architecture = "msdm-unet"

    def __init__(self, config: MsdmConfig | None = None) -> None:
        super().__init__(config)
        self.net = UNet(len(self.names), self.config)

    def _evaluate(self, x: Tensor, sigma: Tensor) -> Tensor:
        return self._denoiser(self.net)(x, sigma)


class Isdm(_Unconditional):
    """Independent models p(stem): one U-Net a stem, `nets`, in the order of the names."""

    architecture = "isdm-unet"
    independent = True

    def __init__(self, config: MsdmConfig | None = None) -> None:
        super().__init__(config)
        self.nets = nn.ModuleList(UNet(1, self.config) for _ in self.names)

    def _evaluate(self, x: Tensor, sigma: Tensor) -> Tensor:
        return torch.cat([self._denoiser(net)(x[:, [i]], sigma) for i, net in enumerate(self.nets)], dim=1)
