"""Weights of a file into a network: all of them and no others."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from stemforge.errors import CheckpointError


def read(path: Path, say: str) -> dict[str, Tensor]:
    """The tensors of a safetensors file, those of lower precision as float32.

    Raises:
        CheckpointError: it is none; `say` names the checkpoint.
    """
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{say}: '{path}' is no safetensors file: {error}. Copy it again.") from None
    return {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}


def fill(network: nn.Module, weights: dict[str, Tensor], say: str) -> None:
    """Load weights, all and no others. Raises CheckpointError with the first three differences."""
    expected = network.state_dict()
    differences = [f"{name} is missing" for name in expected.keys() - weights.keys()]
    differences += [f"{name} is unknown" for name in weights.keys() - expected.keys()]
    differences += [
        f"{name} is {tuple(weights[name].shape)}, not {tuple(expected[name].shape)}"
        for name in expected.keys() & weights.keys()
        if weights[name].shape != expected[name].shape
    ]
    if differences:
        more = f" and {len(differences) - 3} more" if len(differences) > 3 else ""
        raise CheckpointError(
            f"{say}: config and weights disagree: {'; '.join(sorted(differences)[:3])}{more}. "
            "Copy both from one source."
        )
    network.load_state_dict(weights)
