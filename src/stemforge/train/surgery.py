"""Weights of a network for other stems: what it knows of the stems that stay is kept, new stems get fresh channels.

Or for a single slot: what a network of whole mixtures with prompts begins with.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor

from stemforge.models.detail import FLOOR, RUN
from stemforge.models.forge import Forge
from stemforge.models.forge_config import ForgeConfig


class _Layout(NamedTuple):
    """Where stems lie in a weight: along axis `dim`, as (planes, stem, rest), before `tail` entries of no stem."""

    dim: int
    planes: int
    tail: int


_LAYOUTS = {
    r"read_stems\.\d+\.weight": _Layout(1, 1, 0),
    r"read_state\.weight": _Layout(1, 1, 1),
    r"write_(masks|gains)\.\d+\.(weight|bias)": _Layout(0, 1, 0),
    r"read_levels\.\d+\.weight": _Layout(1, 1, 0),
    r"across\.weigh\.\d+\.(weight|bias)": _Layout(0, 1, 0),
    r"(mixture|stem)_detail\.weigh\.\d+\.(weight|bias)": _Layout(0, 1, 0),
    r"write_ratio\.\d+\.(weight|bias)": _Layout(0, 2, 0),
    r"write_activity\.(weight|bias)": _Layout(0, 1, 0),
}


def grown(network: Forge, like: ForgeConfig) -> Forge:
    """The network with the tokens, trunk, local patterns, look across channels and blocks of its own that `like` has.

    Tokens and blocks are copies, the others say nothing yet, so it says what it said. What it has it keeps.
    """
    network = finer(network, like.splits)
    own = network.config
    wanted = replace(
        own, detail=own.detail or like.detail, across=own.across or like.across, apart=own.apart or like.apart,
        trunk=own.trunk or like.trunk,
    )  # fmt: skip
    if wanted == own:
        return network
    larger, weights = Forge(wanted), network.state_dict()
    twice = {f"made_{key}": weight for key, weight in weights.items() if key.startswith(("blocks.", "norm.", "trunk."))}
    larger.load_state_dict(larger.state_dict() | (twice if wanted.apart else {}) | weights)
    return larger


def finer(network: Forge, splits: tuple[int, ...]) -> Forge:
    """The network with each token cut into several: each hears and thinks what the one did, and speaks of its part.

    What several tokens say together (in the mixers, of activity) is shared among them, so it says what it said.
    """
    own = network.config
    if own.splits or not splits:
        return network
    larger = Forge(replace(own, splits=splits))
    old, weights = network.state_dict(), {}
    for key in larger.state_dict():
        if match := _OF_ONE_TOKEN.match(key):
            layer, token, rest = match.groups()
            was = f"{layer}{larger.parents[int(token)]}{rest}"
            weights[key] = _part(was, old[was], int(token), network, larger)
        else:
            weights[key] = _finer(key, old[key], larger)
    larger.load_state_dict(weights)
    return larger


_OF_ONE_TOKEN = re.compile(
    r"((?:read_mixture|read_stems|read_levels|write_\w+|\w+_detail\.weigh|across\.weigh)\.)(\d+)(\..*)"
)
_SHARED_BY_TOKENS = re.compile(r"write_activity\.weight|(made_)?(blocks\.\d+\.mixer|trunk)\.down\.weight")
_SAID_BY_TOKENS = re.compile(r"(made_)?(blocks\.\d+\.mixer|trunk)\.up\.(weight|bias)")


def _finer(key: str, weight: Tensor, larger: Forge) -> Tensor:
    """A weight of all tokens: rows or columns of each are those of the token that it was cut from."""
    parents, width = torch.tensor(larger.parents), larger.config.width
    if key == "band":
        return weight[parents]
    if _SHARED_BY_TOKENS.fullmatch(key):
        columns = rearrange(weight, "o (n w) -> o n w", w=width)[:, parents]
        return (columns / parents.bincount()[parents][:, None]).flatten(1)
    if _SAID_BY_TOKENS.fullmatch(key):
        return rearrange(weight, "(n w) ... -> n w ...", w=width)[parents].flatten(0, 1)
    return weight


def _part(key: str, weight: Tensor, token: int, network: Forge, larger: Forge) -> Tensor:
    """What one token reads, or its part of what the token said that it was cut from."""
    if key.startswith("read_"):
        return weight
    band = larger.parents[token]
    first = sum(larger.sizes[k] for k in range(token) if larger.parents[k] == band)
    step = 1 if key.startswith("write_") else RUN
    cut = slice(first // step, first // step + -(-larger.sizes[token] // step))
    maps = network.config.detail if "detail" in key else 1
    whole = -(-network.sizes[band] // step)
    return rearrange(weight, "(i s k) ... -> i s k ...", s=whole, k=maps)[:, cut].flatten(0, 2)


def refitted(
    weights: Mapping[str, Tensor], old: tuple[str, ...], new: tuple[str, ...], fresh: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The state of a Forge network with stems `new`.

    What a stem of both says and is told is copied. A stem that is only in `new` speaks with its fresh weights and is
    not listened to yet (zeros, which training moves at once): so without a mixture the estimates of the other stems
    are what they were; with local patterns, which hear the sum of all others, as long as it is hidden. Stems that are
    only in `old` are dropped.

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


def alone(weights: Mapping[str, Tensor], names: tuple[str, ...], name: str, tops: int = 1) -> dict[str, Tensor]:
    """The state of a Forge network of one slot, which says what the network of `names` says of the stem `name`.

    That is, without a mixture and with all other stems hidden. What their power reads as then is constant, and goes
    into the bias. Of two trunks the result has the one that says it. tops: tokens that read the top band.
    """
    made = {key.removeprefix("made_"): weight for key, weight in weights.items() if key.startswith("made_")}
    weights = {key: weight for key, weight in weights.items() if not key.startswith("made_")} | made
    found = {key: _slot(weight, len(names), names.index(name), _layout(key)) for key, weight in weights.items()}
    readers = sum(re.fullmatch(r"read_stems\.\d+\.weight", key) is not None for key in weights)
    for top in (f"read_stems.{token}." for token in range(readers - tops, readers)):
        others = weights[f"{top}weight"].sum(dim=1) - found[f"{top}weight"].sum(dim=1)
        found[f"{top}bias"] = found[f"{top}bias"] + 0.25 * math.log(FLOOR) * others
    return found


def _slot(weight: Tensor, stems: int, index: int, layout: _Layout | None) -> Tensor:
    if layout is None:
        return weight.clone()
    return _back(_by_stem(weight, stems, layout)[:, index : index + 1], weight, layout)


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
