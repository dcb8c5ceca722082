"""A folder of songs in stems to borrow from: what in it is like a song, and the blocks that it lends."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from stemforge.audio.feed import Feed
from stemforge.audio.resample import to_channels, to_rate
from stemforge.audio.windows import ramp
from stemforge.errors import InputError
from stemforge.tasks.edit_files import Files, open_stems
from stemforge.tasks.gather import stem_files
from stemforge.tasks.impute_files import frames_in, known_to
from stemforge.tasks.library import Match, aligned, balance_of, balanced, hop_of, level_for, matched, parts_of, prints
from stemforge.tasks.library_prints import listener, prints_of
from stemforge.types import Audio

if TYPE_CHECKING:
    from stemforge.models.registry import Joint

log = logging.getLogger("stemforge")
FADE_S = 0.05
"""Seconds in which one part passes into the next."""


@dataclass(frozen=True)
class Found:
    """A song of the collection, and where it is like the kept stems.

    usual: the balance of the missing stems and the kept ones, the median of the songs of the collection.
    """

    song: Path
    match: Match
    usual: float


def songs_in(library: Path, but: str) -> list[Path]:
    """The song folders of a collection, or the collection itself if it holds sound files; none called `but`.

    Raises:
        InputError: there is none.
    """
    if not library.is_dir():
        raise InputError(f"'{library}': no such folder. Give one that holds one folder a song, with a file a stem.")
    inner = (path for path in library.iterdir() if path.is_dir() and not path.name.startswith("."))
    folders = [library] if stem_files(library) else sorted(inner)
    songs = [folder for folder in folders if folder.absolute().name != but and stem_files(folder)]
    if not songs:
        raise InputError(f"'{library}': no other song in stems in it. Give a folder that holds one folder a song.")
    return songs


def ranked(
    network: Joint,
    given: Files,
    fill: Sequence[str],
    songs: Sequence[Path],
    on_song: Callable[[int], None] = lambda done: None,
) -> list[Found]:
    """The songs that are like the given stems and have something to fill in, the one that is most alike first.

    A song that cannot be read is left out with a warning. on_song: called with the number of songs done.

    Raises:
        InputError: no song will do.
    """
    keep, found = given.names, list[tuple[Path, Match]]()
    kept = torch.stack(list(prints_of(network, given).values())).sum(dim=0)
    listen = listener(network)
    for done, song in enumerate(songs, 1):
        try:
            match = matched(kept, listen(song, (*keep, *fill)), keep, fill)
        except InputError as error:
            log.warning("%s It is left out.", error)
            match = None
        found += [(song, match)] if match is not None else []
        on_song(done)
    if not found:
        raise InputError(
            f"{len(songs)} songs to borrow from: none has one of {', '.join(keep)} and one of {', '.join(fill)}, and "
            "lasts as long as what is kept. Give more or longer songs."
        )
    usual = median(match.balance for _, match in found)
    return [Found(song, match, usual) for song, match in sorted(found, key=lambda each: -each[1].alike)]


def borrowed(network: Joint, given: Files, found: Found, fill: Sequence[str]) -> Iterator[Tensor]:
    """What a song lends: blocks (stem, channel, time) as long as what is given, at its level, known to the network.

    A stem that the song lacks is silent.
    """
    rate, hop = network.rate, hop_of(network.rate)
    feed, frames = Feed(known_to(network, given, given.stream(again=True))), frames_in(given, network)
    sizes = [len(part) * hop for part in parts_of(torch.zeros(frames // hop, 1))]
    sizes[-1] += frames - sum(sizes)
    fade, song = round(FADE_S * rate), open_stems(found.song, (*given.names, *fill))
    tail = torch.zeros(len(fill), network.channels, 0)
    for place, size in zip(found.match.places, sizes, strict=True):
        heard = _heard(network, song, found.match, place * hop - hop, size + fade + 2 * hop)
        part = _lent(feed.take(size).sum(dim=0), heard, given.names, fill, found.usual, rate)
        over = min(tail.shape[-1], part.shape[-1])
        part[..., :over] = tail[..., :over] + ramp(over).to(part) * (part[..., :over] - tail[..., :over])
        yield part[..., :size]
        tail = part[..., size:]


def _heard(network: Joint, song: Files, match: Match, first: int, count: int) -> dict[str, Tensor]:
    """Stems of a song (channel, time) from a sample on, as it is played; silence before its beginning."""
    speed = match.speed * song.rate / network.rate
    start, stop = round(first * speed), round((first + count) * speed) + 1
    rows = song.read(max(0, start), max(0, stop))
    rows = torch.nn.functional.pad(rows, (max(0, -start), 0))
    as_played = round(song.rate * match.speed)
    sounds = [to_rate(Audio(to_channels(row, network.channels), as_played), network.rate).samples for row in rows]
    return {name: sound[..., :count] for name, sound in zip(song.names, sounds, strict=True)}


def _lent(
    kept: Tensor, heard: dict[str, Tensor], keep: Sequence[str], fill: Sequence[str], usual: float, rate: int
) -> Tensor:
    """The missing stems (stem, channel, time) in step with a part of what is kept (channel, time), a fade longer."""
    beside = torch.stack([heard[name] for name in keep if name in heard]).sum(dim=0)
    count, size = kept.shape[-1], beside.shape[-1] - 2 * hop_of(rate)
    at = aligned(kept, beside[:, : count + 2 * hop_of(rate)], rate)
    silence, beside = torch.zeros_like(beside), beside[:, at : at + count]
    lent = torch.stack([heard.get(name, silence)[:, at : at + size] for name in fill])
    missing = torch.stack([prints(stem[:, :count], rate) for stem in lent])
    return level_for(kept, beside) * balanced(balance_of(prints(beside, rate), missing), usual) * lent
