"""Weights of a network for other stems: what it knows of the stems that stay is kept, new stems get fresh channels.

Or for a single slot that holds all of them: the beginning of a network that hears mixtures and prompts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor


class _Layout(NamedTuple):
    """Where stems lie in a weight: along axis `dim`, as (planes, stem, rest), before `tail` entries of no stem.

    added: in a slot that holds the sum of stems it is the sum of theirs, not the mean.
    """

    dim: int
    planes: int
    tail: int
    added: bool = False


_LAYOUTS = {
    r"read_stems\.\d+\.weight": _Layout(1, 1, 0),
    r"read_state\.weight": _Layout(1, 1, 1, added=True),
    r"write_(masks|gains)\.\d+\.(weight|bias)": _Layout(0, 1, 0),
    r"write_ratio\.\d+\.(weight|bias)": _Layout(0, 2, 0, added=True),
    r"write_activity\.(weight|bias)": _Layout(0, 1, 0),
}


def refitted(
    weights: Mapping[str, Tensor], old: tuple[str, ...], new: tuple[str, ...], fresh: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The state of a Forge network with stems `new`.

    What a stem of both says and is told is copied. A stem that is only in `new` speaks with its fresh weights and is
    not listened to yet (zeros, which training moves at once): so without a mixture the estimates of the other stems
    are what they were. Stems that are only in `old` are dropped.

    Args:
        weights: of the network with stems `old`.
        old: its stems, in order.
        new: stems of the result, in order.
        fresh: drawn weights of a network with stems `new` and otherwise the same config.

    Raises:
        ValueError: the two networks differ in more than their stems.
    """
    if weights.keys() != fresh.keys():
        raise ValueError("the networks have different layers")
    return {key: _one(key, weights[key], old, new, drawn) for key, drawn in fresh.items()}


def merged(weights: Mapping[str, Tensor], stems: int) -> dict[str, Tensor]:
    """The state of a Forge network with one slot for the sum of `stems` stems, from one with a slot each.

    The trunk stays. Where stems are read as waves, and in their gains, the slot is the mean of theirs; what is told of
    their noise levels, read of their power above the low bins, or added to them, is summed up. So, but for that power
    and the gates, the estimate of the slot is the sum of theirs when each slot holds an equal part of the sound.
    """
    readers = [key for key in weights if re.fullmatch(r"read_stems\.\d+\.weight", key)]
    top = f"read_stems.{len(readers) - 1}.weight"
    return {key: _in_one(weight, stems, _layout(key), key == top) for key, weight in weights.items()}


def _in_one(weight: Tensor, stems: int, layout: _Layout | None, power: bool) -> Tensor:
    if layout is None:
        return weight.clone()
    parts = _by_stem(weight, stems, layout)
    whole = parts.sum(1, keepdim=True) if power or layout.added else parts.mean(1, keepdim=True)
    return _back(whole, weight, layout)


def _layout(key: str) -> _Layout | None:
    return next((layout for pattern, layout in _LAYOUTS.items() if re.fullmatch(pattern, key)), None)


def _one(key: str, was: Tensor, old: tuple[str, ...], new: tuple[str, ...], drawn: Tensor) -> Tensor:
    layout = _layout(key)
    if layout is None:
        if was.shape != drawn.shape:
            raise ValueError(f"{key} has shape {tuple(was.shape)}, not {tuple(drawn.shape)}")
        return was.clone()
    before, after = _by_stem(was, len(old), layout), _by_stem(drawn, len(new), layout)
    if before.shape[2:] != after.shape[2:]:
        raise ValueError(f"{key} has {tuple(before.shape[2:])} weights a stem, not {tuple(after.shape[2:])}")
    result = torch.zeros_like(after) if layout.dim == 1 else after.clone()
    for k, name in enumerate(new):
        if name in old:
            result[:, k] = before[:, old.index(name)]
    return _back(result, was, layout)


def _back(parts: Tensor, was: Tensor, layout: _Layout) -> Tensor:
    """The weight again, of `parts` as `_by_stem` gives them and of the tail of `was`."""
    flat = parts.flatten(0, 2)
    if layout.tail:
        flat = torch.cat([flat, was.movedim(layout.dim, 0)[-layout.tail :]])
    return flat.movedim(0, layout.dim).contiguous()


def _by_stem(weight: Tensor, stems: int, layout: _Layout) -> Tensor:
    """(planes, stem, rest, others)."""
    moved = weight.movedim(layout.dim, 0)
    body = moved[: len(moved) - layout.tail]
    return body.reshape(layout.planes, stems, -1, *body.shape[1:])
