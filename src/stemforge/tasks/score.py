"""Score a separator on reference stems: add the stems of each song up, take the sum apart again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from stemforge.audio.io import read
from stemforge.audio.writer import write
from stemforge.errors import InputError
from stemforge.tasks.evaluate import find_stem, list_songs, list_stems
from stemforge.tasks.separate import separate
from stemforge.types import Audio, Separator


def sum_of_stems(song: Path) -> Audio:
    """The mixture of a song folder: the sum of all its stems. Raises InputError as `sum_of_files` does."""
    return sum_of_files([path for stem in list_stems([song]) if (path := find_stem(song, stem))])


def sum_of_files(paths: Sequence[Path]) -> Audio:
    """Stems of one song, added up, mono ones in the middle. Raises InputError when they differ in rate or length."""
    stems = [read(path) for path in paths]
    width = max(stem.samples.shape[0] for stem in stems)
    rate, length = stems[0].rate, stems[0].samples.shape[-1]
    total = torch.zeros(width, length)
    for path, stem in zip(paths, stems, strict=True):
        if (stem.rate, stem.samples.shape[-1]) != (rate, length) or stem.samples.shape[0] not in (1, width):
            raise InputError(f"add up '{path}': its rate, length or channels differ from the other stems of the song.")
        total += stem.samples
    return Audio(total, rate)


def separate_sums(
    ref: Path,
    est: Path,
    separator: Separator,
    *,
    on_song: Callable[[str], None] = lambda _: None,
    on_failed: Callable[[str, InputError], None] | None = None,
) -> None:
    """Separate the sum of every song of `ref` and write est/<song>/<stem>.wav, float32, ready for `evaluate(ref, est)`.

    `on_song` is called with the name of each song that is done, `on_failed` with one that cannot be added up; without
    it that is raised. Raises InputError as `sum_of_stems` does, OutputError.
    """
    for song in list_songs(ref):
        try:
            mixture = sum_of_stems(song)
        except InputError as error:
            if on_failed is None:
                raise
            on_failed(song.name, error)
            continue
        write(separate(mixture, separator), est / song.name)
        on_song(song.name)
