"""Hybrid Transformer Demucs, out of the package demucs (the extra `demucs`), as one of our networks.

Rouard et al. 2023, https://arxiv.org/abs/2211.08553. demucs publishes a safetensors file that says of itself of which
class it is and with what arguments that is built. Only HTDemucs is built here, whatever class a file names.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from stemforge.errors import CheckpointError, UsageError

KLASS = "demucs.htdemucs.HTDemucs"
_REST = "other"


def config_of(path: Path) -> dict[str, Any]:
    """Arguments of the network in a safetensors file of demucs, as our config has them.

    Raises:
        CheckpointError: it is no file of an HTDemucs, or one with quantized weights.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            said = file.metadata() or {}
        args, kwargs = json.loads(said["args"]), json.loads(said["kwargs"])
    except (OSError, SafetensorError, ValueError, KeyError):
        raise CheckpointError(
            f"'{path}': does not say of what network it is. Give a safetensors file of demucs."
        ) from None
    if said.get("klass") != KLASS or "structure" in said:
        kind = "quantized" if "structure" in said else said.get("klass")
        raise CheckpointError(f"'{path}': is {kind}, and only {KLASS} can be run. Give htdemucs.")
    return {"architecture": "htdemucs", "args": args, "kwargs": kwargs}


class HtDemucs(nn.Module):
    """A network of `registry.Network` around `demucs.htdemucs.HTDemucs`; weights have the names that they have there.

    Args:
        config: `args` and `kwargs` of the class, as JSON has them.

    Raises:
        CheckpointError: the package demucs is not installed.
    """

    architecture = "htdemucs"

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        try:
            from demucs.htdemucs import HTDemucs
        except ImportError as error:
            raise CheckpointError(
                f"architecture 'htdemucs': needs the package demucs: {error}. Run pip install 'stemforge[demucs]'."
            ) from None
        known = inspect.signature(HTDemucs).parameters
        kwargs = {key: _plain(value) for key, value in config["kwargs"].items() if key in known}
        self.net = HTDemucs(*_plain(config["args"]), **kwargs)
        self.names, self.rate = tuple(self.net.sources), int(self.net.samplerate)
        self.channels, self.segment = int(self.net.audio_channels), float(self.net.segment)

    def separate(self, mixture: Tensor, *, steps: int = 1, generator: torch.Generator | None = None) -> Tensor:
        """Mixture (batch, channel, time), at most a segment -> stems (batch, stem, channel, time) that add up to it.

        Levels are made equal as in demucs, window by window. What the stems leave over goes into `other`, or into the
        last one. More steps change nothing.

        Raises:
            UsageError: the window is longer than the network was trained for.
        """
        if mixture.shape[-1] > round(self.segment * self.rate):
            raise UsageError(f"this checkpoint takes windows of at most {self.segment:g} s. Leave --segment out.")
        mono = mixture.mean(dim=1, keepdim=True)
        level = mono.std(dim=-1, keepdim=True, unbiased=False)
        even = (mixture - mono.mean(dim=-1, keepdim=True)) / level.clamp(min=1e-8)
        stems: Tensor = self.net(even) * level[:, None]
        rest = self.names.index(_REST) if _REST in self.names else len(self.names) - 1
        stems[:, rest] += mixture - stems.sum(dim=1)
        return stems

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]  # noqa: ANN401
        """That of the network inside."""
        found: dict[str, Any] = self.net.state_dict(*args, **kwargs)
        return found

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:  # noqa: ANN401
        """Into the network inside."""
        return self.net.load_state_dict(state_dict, strict=strict, assign=assign)


def _plain(value: Any) -> Any:  # noqa: ANN401 (whatever JSON holds)
    """JSON of demucs as Python: fractions are objects there."""
    if isinstance(value, dict) and value.get("_type") == "fraction":
        return Fraction(value["numerator"], value["denominator"])
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else value
