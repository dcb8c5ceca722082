"""A tiny separator for tests: every stem gets a fixed band of the spectrum, or nothing but what it is told to do wrong.

`python tests/shares.py ...` is the `stemforge` command with this network among the architectures.
"""

from __future__ import annotations

import json
import time as time_module
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from stemforge.models.registry import ARCHITECTURES


class Shares(nn.Module):
    """Bands of equal width in the spectrum, the last one the rest; noise that sums to zero for every further step."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        self.names = tuple(config.get("names", ("bass", "drums", "other")))
        self.rate, self.channels = config.get("rate", 44100), config.get("channels", 2)
        self.segment = config.get("segment", 0.5)
        self.fault, self.delay, self.calls = config.get("fault"), config.get("delay", 0), 0
        self.gains = nn.Parameter(torch.ones(len(self.names)))

    def separate(self, mixture: Tensor, *, steps: int = 1, generator: torch.Generator | None = None) -> Tensor:
        self.calls += 1
        time_module.sleep(self.delay)
        count, time = len(self.names), mixture.shape[-1]
        spectrum = torch.fft.rfft(mixture, n=max(time, 2))
        band = (torch.arange(spectrum.shape[-1]) * 8 * count // spectrum.shape[-1]).clamp(max=count - 1)
        stems = [torch.fft.irfft(spectrum * (band == i), n=max(time, 2))[..., :time] for i in range(count - 1)]
        if steps > 1:
            stems[0] = stems[0] + 0.01 * steps * torch.randn(stems[0].shape, generator=generator)
        if self.fault == "nan" and self.calls == 2:
            stems[0] = stems[0] * float("nan")
        stems = [stem * gain for stem, gain in zip(stems, self.gains, strict=False)]
        return torch.stack([*stems, mixture - torch.stack(stems).sum(dim=0)], dim=1)


def make_checkpoint(folder: Path, **config: Any) -> Path:
    """A folder with model.safetensors, half precision, and config.json."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {"architecture": "shares", **config}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    save_file({name: value.half() for name, value in Shares(config).state_dict().items()}, folder / "model.safetensors")
    return folder


if __name__ == "__main__":
    from stemforge.cli.main import run

    ARCHITECTURES["shares"] = Shares
    run()
