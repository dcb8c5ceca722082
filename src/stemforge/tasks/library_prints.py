"""Prints of songs in files; those of a library are kept in the user's cache, so that it is listened to once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from stemforge import wheels
from stemforge.audio.feed import Feed
from stemforge.errors import CheckpointError
from stemforge.remembered import recalled, remember
from stemforge.tasks.edit_files import Files, open_stems
from stemforge.tasks.impute_files import frames_in, known_to
from stemforge.tasks.library import HOP_S, OVERLAPS, hop_of, prints

if TYPE_CHECKING:
    from stemforge.models.registry import Joint

Listen = Callable[[Path, Sequence[str]], dict[str, Tensor]]
BLOCK_S = 30.0
"""Seconds of which prints are taken at once."""
KIND = f"1-{HOP_S}-{OVERLAPS}"
"""Of what is kept; changes with what a print is."""


def prints_of(network: Joint, song: Files) -> dict[str, Tensor]:
    """Prints (frame, semitone) of each stem, at the rate of the network."""
    size = hop_of(network.rate) * round(BLOCK_S * network.rate / hop_of(network.rate))
    feed, left, rows = Feed(known_to(network, song, song.stream(again=True))), frames_in(song, network), []
    while left:
        rows.append(feed.take(min(size, left)))
        left -= rows[-1].shape[-1]
        rows[-1] = torch.stack([prints(stem, network.rate) for stem in rows[-1]])
    return dict(zip(song.names, torch.cat(rows, dim=1), strict=True))


def listener(network: Joint) -> Listen:
    """What gives the prints of the named stems that a song folder has, in the precision in which they are kept.

    They are taken of files that are new or have changed, and come from the cache otherwise.
    """

    def listen(song: Path, names: Sequence[str]) -> dict[str, Tensor]:
        stems = open_stems(song, names)
        places = _places(network, stems)
        known = {name: rows for name, path in places.items() if (rows := _recalled(path)) is not None}
        fresh = [k for k, name in enumerate(stems.names) if name not in known]
        if fresh:
            files = replace(stems, names=tuple(stems.names[k] for k in fresh),
                            sources=tuple(stems.sources[k] for k in fresh))  # fmt: skip
            known |= {name: rows.to(torch.bfloat16) for name, rows in prints_of(network, files).items()}
            for name in files.names if places else ():
                remember(places[name], known[name].view(torch.int16).numpy())
        return {name: known[name].float() for name in stems.names}

    return listen


def _places(network: Joint, stems: Files) -> dict[str, Path]:
    """Where the prints of each stem are kept; none without a cache.

    They go with the file as it is now, and with the length of the longest stem of its song.
    """
    with suppress(CheckpointError, OSError):
        folder, found = wheels.cache() / "prints", {}
        for name, source in zip(stems.names, stems.sources, strict=True):
            state = source.path.stat()
            told = (KIND, source.path.absolute(), state.st_size, state.st_mtime_ns, stems.rate, stems.channels,
                    stems.frames, network.rate, network.channels)  # fmt: skip
            digest = hashlib.sha256("\n".join(map(str, told)).encode()).hexdigest()
            found[name] = folder / digest[:2] / f"{digest}.npy"
        return found
    return {}


def _recalled(path: Path) -> Tensor | None:
    rows = recalled(path)
    if rows is None or rows.ndim != 2 or rows.dtype != np.int16:
        return None
    return torch.from_numpy(rows).view(torch.bfloat16)
