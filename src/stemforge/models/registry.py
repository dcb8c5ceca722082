"""Architectures by name: the allow-list of what a checkpoint may ask to be built.

A checkpoint names its architecture, never an import path. Each builder takes the `config` of the checkpoint and imports
its network only when called.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from stemforge.errors import UsageError

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


class Network(Protocol):
    """What a separator needs of a network, which is also a torch.nn.Module."""

    names: tuple[str, ...]
    rate: int
    channels: int
    segment: float

    def separate(self, mixture: Tensor, *, steps: int = 1, generator: torch.Generator | None = None) -> Tensor:
        """Mixture (batch, channel, time) -> stems (batch, stem, channel, time), float32, summing to the mixture.

        `rate` is in Hz, `segment` is the length in seconds that it was trained on; any time >= 1 is taken.
        `generator` is on the CPU, so that noise does not depend on the device.
        """
        ...


class Joint(Protocol):
    """What a diffusion sampler needs of a network, which is also a torch.nn.Module: a model of all stems at once."""

    names: tuple[str, ...]
    rate: int
    channels: int
    segment: float
    conditional: bool
    """Whether `mixture`, `hidden` and noise levels by stem and time are understood."""

    def denoise(
        self,
        x: Tensor,
        sigma: Tensor,
        *,
        mixture: Tensor | None = None,
        hidden: Tensor | None = None,
        prompt: Tensor | None = None,
    ) -> Tensor:
        """E[stems | x = stems + sigma * noise, what is given], the shape of x: (batch, stem, channel, time).

        mixture: (batch, channel, time); hidden: (batch, stem) bool, the stems of which x says nothing; prompt: (batch,
        feature). Networks that were not trained with one of them ignore it.
        """
        ...

    def noise(self, like: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Noise of sigma 1 as this network was trained with, in the shape of `like`; drawn on the CPU."""
        ...


def _forge(config: dict[str, Any]) -> nn.Module:
    from stemforge.models.forge import Forge

    return Forge.from_config(config)


def _sketch(config: dict[str, Any]) -> nn.Module:
    from stemforge.models.sketch import Sketch

    return Sketch.from_config(config)


def _msdm(config: dict[str, Any]) -> nn.Module:
    from stemforge.models.msdm import Msdm

    return Msdm.from_config(config)


def _isdm(config: dict[str, Any]) -> nn.Module:
    from stemforge.models.msdm import Isdm

    return Isdm.from_config(config)


def _glow(config: dict[str, Any]) -> nn.Module:
    from stemforge.models.glow import Flows

    return Flows.from_config(config)


def _spleeter(config: dict[str, Any]) -> nn.Module:
    from stemforge.models.spleeter import Spleeter

    return Spleeter.from_config(config)


def _htdemucs(config: dict[str, Any]) -> nn.Module:
    from stemforge.models.demucs import HtDemucs

    return HtDemucs(config)


def _peer(config: dict[str, Any]) -> nn.Module:
    from stemforge.models.peers import Peer

    return Peer.from_config(config)


ARCHITECTURES: dict[str, Callable[[dict[str, Any]], nn.Module]] = {
    "forge": _forge,
    "sketch": _sketch,
    "msdm-unet": _msdm,
    "isdm-unet": _isdm,
    "spleeter": _spleeter,
    "htdemucs": _htdemucs,
    "glow": _glow,
    "conv-tasnet": _peer,
    "hdemucs": _peer,
}


def refuse_sketches(network: object, name: str) -> None:
    """Raises UsageError for a network of codes where one of sound is needed."""
    if hasattr(network, "decode") and network.config.text:  # type: ignore[attr-defined]
        raise UsageError(f"checkpoint '{name}': makes music of prompts. Give --prompt TEXT, or --stem TEXT.")
    if hasattr(network, "decode"):
        raise UsageError(
            f"checkpoint '{name}': makes sketches of stems, no sound. Give it to generate or impute as --sketch."
        )


def facts(network: Network) -> dict[str, object]:
    """What the table of a checkpoint says of its network: rate and channels are those of the sound."""
    draws = hasattr(network, "decode")
    made = ["separate", *(["generate", "impute"] if hasattr(network, "denoise") else [])]
    if draws:
        made = ["prompts" if network.config.text else "sketch"]  # type: ignore[attr-defined]
    return {
        "sample_rate": network.config.sound_rate if draws else network.rate,  # type: ignore[attr-defined]
        "channels": 1 if draws else network.channels,
        "stems": list(network.names),
        "segment": float(network.segment),
        "tasks": made,
    }


LARGEST = 1 << 24
"""No number in a config is beyond it."""


def build(architecture: str, config: dict[str, Any], most: int) -> nn.Module:
    """The network of a config that may be anybody's, refused before it fills the memory.

    Args:
        architecture: one of ARCHITECTURES.
        config: its arguments.
        most: how many numbers its weights have.

    Raises:
        ValueError: it would have more parameters than that, or a number in the config is absurd.
        TypeError, KeyError, RuntimeError: as the architecture does.
    """
    from torch.nn.modules import module as hooks

    _check_numbers(config)
    count = 0

    def on_tensor(owner: nn.Module, name: str, tensor: Tensor | None) -> None:
        nonlocal count
        count += 0 if tensor is None else tensor.numel()
        if count > most + LARGEST:
            raise ValueError(f"it asks for more than {count:.1e} numbers, its weights hold {most}")

    handles = (
        hooks.register_module_parameter_registration_hook(on_tensor),
        hooks.register_module_buffer_registration_hook(on_tensor),
    )
    try:
        return ARCHITECTURES[architecture](config)
    finally:
        for handle in handles:
            handle.remove()


def _check_numbers(config: object) -> None:
    """Raises ValueError for a number that no network has."""
    if isinstance(config, dict):
        config = list(config.values())
    if isinstance(config, list):
        for value in config:
            _check_numbers(value)
    elif isinstance(config, int | float) and not abs(config) <= LARGEST:
        raise ValueError(f"{config:.3g} is in it")
