"""Embedders by name: musicnn out of its wheel, CLAP and PaSST as checkpoints, ready to be heard with gradients."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from stemforge import checkpoints, wheels
from stemforge.errors import CheckpointError, UsageError
from stemforge.models import embedders
from stemforge.models.embedders import Ear

if TYPE_CHECKING:
    import torch
    from torch import nn


def load(name: str, device: str | torch.device = "cpu") -> Ear:
    """The embedder of that name.

    Args:
        name: MTT or MSD of musicnn, or a checkpoint whose config names the architecture clap or passt: a name of
            checkpoints.toml, a folder, or hf://org/repo@revision.
        device: a torch device.

    Raises:
        UsageError: there is none of that name.
        CheckpointError: it was not pulled, is damaged or no embedder, or its package is not installed.
    """
    short = name.removeprefix("musicnn-")
    if short in wheels.MUSICNN_MODELS:
        return embedders.of_musicnn(wheels.musicnn(short, device))
    try:
        found = checkpoints.fetch(checkpoints.find(name))
    except UsageError as error:
        known = ", ".join(wheels.MUSICNN_MODELS)
        raise UsageError(f"embedder '{name}': unknown. Give {known}, or a checkpoint of CLAP or PaSST.") from error
    checkpoints.verify(found)
    config = _config(found)
    architecture = str(config.get("architecture", config.get("model_type")))
    if architecture not in embedders.ARCHITECTURES:
        listed = ", ".join(embedders.ARCHITECTURES)
        raise CheckpointError(f"embedder '{name}': architecture '{architecture}' is not one of {listed}. Name another.")
    network, ear_of = embedders.ARCHITECTURES[architecture](dict(config))
    _fill(network, found)
    return ear_of(network.eval().requires_grad_(False).to(device))


def _config(found: checkpoints.Checkpoint) -> Mapping[str, Any]:
    path = found.folder / checkpoints.CONFIG
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"embedder '{found.name}': '{path}' cannot be read: {error}. Copy it again.") from None
    return config if isinstance(config, dict) else {}


def _fill(network: nn.Module, found: checkpoints.Checkpoint) -> None:
    """All that the network has comes from the file; the file may have more, as the decoder of another task."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = found.folder / checkpoints.WEIGHTS
    try:
        missing = network.load_state_dict(load_file(path), strict=False).missing_keys
    except (OSError, SafetensorError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(f"embedder '{found.name}': '{path}' does not fit: {reason}. Copy it again.") from None
    if missing:
        raise CheckpointError(f"embedder '{found.name}': '{path}' lacks {missing[0]}. Copy config and weights again.")
