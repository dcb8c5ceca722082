"""Score a separator on reference stems: add the stems of each song up, take the sum apart again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from stemforge.audio.io import read
from stemforge.errors import InputError
from stemforge.tasks.evaluate import find_stem, list_songs, list_stems
from stemforge.types import Audio


def sum_of_stems(song: Path) -> Audio:
    """The mixture of a song folder: the sum of all its stems, mono ones in the middle.

    Raises InputError when the stems differ in rate or length.
    """
    paths = [path for stem in list_stems([song]) if (path := find_stem(song, stem))]
    stems = [read(path) for path in paths]
    width = max(stem.samples.shape[0] for stem in stems)
    rate, length = stems[0].rate, stems[0].samples.shape[-1]
    total = torch.zeros(width, length)
    for path, stem in zip(paths, stems, strict=True):
        if (stem.rate, stem.samples.shape[-1]) != (rate, length) or stem.samples.shape[0] not in (1, width):
            raise InputError(f"add up '{path}': its rate, length or channels differ from the other stems of the song.")
        total += stem.samples
    return Audio(total, rate)


def separate_sums(ref: Path, est: Path, separate: Callable[[Audio, Path], None]) -> None:
    """Call `separate(mixture, folder)`, which writes the stems into `folder`, for the sum of every song of `ref`.

    The folders are est/<song>, made here, so that `evaluate(ref, est)` can follow.
    """
    for song in list_songs(ref):
        folder = est / song.name
        folder.mkdir(parents=True, exist_ok=True)
        separate(sum_of_stems(song), folder)
