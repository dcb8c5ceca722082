"""An accompaniment for stems in files: read, computed and handed on block by block, whatever their length."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator
from itertools import tee
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from stemforge.audio.feed import Feed, lasting
from stemforge.audio.resample import resampled, to_channels
from stemforge.errors import InputError
from stemforge.inference.samplers import OnStep, quiet
from stemforge.inference.settings import Sampling
from stemforge.tasks.edit_files import Files, open_stems
from stemforge.tasks.gather import stem_files
from stemforge.tasks.impute import Song, Wish, impute_blocks
from stemforge.tasks.levels import gain_over
from stemforge.tasks.sketched import Sketcher

if TYPE_CHECKING:
    from stemforge.models.registry import Joint

log = logging.getLogger("stemforge")


def open_given(folder: Path, names: tuple[str, ...]) -> Files:
    """The named stems of a folder, as long as the longest (with a warning), with the channels of the widest.

    Raises:
        InputError: a stem has no file or cannot be read, or their rates differ.
    """
    found = stem_files(folder)
    if missing := [name for name in names if name not in found]:
        there = ", ".join(sorted(found)) or "no sound file at all"
        raise InputError(
            f"'{folder}': there is no {' and no '.join(f'{name}.wav' for name in missing)} in it, but {there}. "
            "Name what is there, or give a song."
        )
    given = open_stems(folder, names)
    if len({source.frames for source in given.sources}) > 1:
        lasts = ", ".join(f"{n} {source.seconds:.3f} s" for n, source in zip(given.names, given.sources, strict=True))
        log.warning("'%s': stems of one song, but they last %s; the shorter ones end in silence.", folder, lasts)
    return given


def gain_for(given: Files, network: Joint) -> float:
    """What brings the stems to the level that the network knows; reads them once."""
    return gain_over(known_to(network, given, given.stream()), given.names, network.rate)


def accompanied(
    network: Joint,
    given: Files,
    gain: float,
    sampling: Sampling,
    wish: Wish,
    *,
    begun: Iterable[Tensor] | None = None,
    device: torch.device | str = "cpu",
    on_step: OnStep = quiet,
) -> Iterator[Tensor]:
    """Given and new stems, blocks (stem, channel, time) in the order of `names_of`, at the rate and width of the given.

    Given stems have the samples that they had; outside of its regions a stem keeps them too. begun: see `Song`.
    Raises as `impute_blocks` and reading do.
    """
    rate, channels, frames = given.rate, given.channels, given.frames
    heard, kept = tee(given.stream(again=True))
    song = Song(known_to(network, given, heard), given.names, frames_in(given, network), gain, begun)
    made = impute_blocks(network, song, sampling, wish, device=device, on_step=on_step)
    names = wish.names(network, given.names)
    lead = (len(names), channels)
    wide = (to_channels(block, channels) for block in made)
    back = lasting(resampled(wide, network.rate, rate), max(1, round(song.frames * rate / network.rate)), lead)
    old, at = Feed(kept), 0
    for new in lasting(back, frames, lead):
        yield _joined(old.take(new.shape[-1]), new, given, names, wish, at)
        at += new.shape[-1]


def sketched(
    sketcher: Sketcher, network: Joint, given: Files, gain: float, wish: Wish, on_step: OnStep = quiet
) -> Iterator[Tensor]:
    """What is drawn for the new stems: the `begun` of `accompanied`. Raises as `impute_blocks` and reading do."""
    blocks = known_to(network, given, given.stream(again=True))
    song = Song(blocks, given.names, frames_in(given, network), gain)
    return sketcher.impute(song, wish.names(network, given.names), wish, network.channels, on_step=on_step)


def names_of(given: Files, network: Joint, wish: Wish) -> tuple[str, ...]:
    """Names of the stems that come out: the given ones, then those that are new."""
    return tuple(dict.fromkeys((*given.names, *wish.names(network, given.names))))


def known_to(network: Joint, given: Files, rows: Iterable[Tensor]) -> Iterator[Tensor]:
    """The given stems at the rate and width of the network."""
    wide = (to_channels(block, network.channels) for block in rows)
    lead = (len(given.names), network.channels)
    return lasting(resampled(wide, given.rate, network.rate), frames_in(given, network), lead)


def frames_in(given: Files, network: Joint) -> int:
    return max(1, round(given.frames * network.rate / given.rate))


def _joined(old: Tensor, new: Tensor, given: Files, names: tuple[str, ...], wish: Wish, at: int) -> Tensor:
    """Given stems, of which the regions are replaced, and new ones; the blocks begin with the sample `at`."""
    rows = dict(zip(given.names, old, strict=True))
    for name, row in zip(names, new, strict=True):
        if name not in wish.regions:
            rows[name] = row
            continue
        rows[name] = rows[name].clone()
        for start, stop in wish.regions[name]:
            end = given.frames if math.isinf(stop) else round(stop * given.rate)
            part = slice(max(0, round(start * given.rate) - at), max(0, end - at))
            rows[name][..., part] = row[..., part]
    return torch.stack(list(rows.values()))
