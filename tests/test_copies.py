"""The embedded checkpoint takes a song apart in much the same way in mono, out of balance or as an MP3."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor

from stemforge import checkpoints
from stemforge.audio.io import read
from stemforge.audio.metrics import si_sdr
from stemforge.tasks.separate import separate
from stemforge.train.damage import coded, stood
from stemforge.types import Audio, Separator

DEMO = Path(__file__).parents[1] / "examples" / "demo.flac"
PLAYED = ("bass", "drums", "piano")
"""Stems of the demo that are loud in its first seconds."""


@pytest.fixture(scope="module")
def separator() -> Separator:
    return checkpoints.load("forge", passes=1)


@pytest.fixture(scope="module")
def song() -> Tensor:
    """(2, time), six seconds."""
    return read(DEMO).samples[:, 44100 : 7 * 44100]


@pytest.fixture(scope="module")
def stems(separator: Separator, song: Tensor) -> dict[str, Tensor]:
    return apart(song, separator)


def apart(mixture: Tensor, separator: Separator) -> dict[str, Tensor]:
    found = separate(Audio(mixture, 44100), separator)
    return {name: found[name].samples for name in PLAYED}


def alike(a: Tensor, b: Tensor) -> float:
    """SI-SDR in dB over both channels."""
    return si_sdr(a.flatten().double().numpy(), b.flatten().double().numpy())


@pytest.mark.parametrize(("width", "balance_db"), [(0, 0), (0.4, 0), (1, -8), (1, 8)])
def test_channels_hardly_matter(width, balance_db, separator, song, stems) -> None:
    """A mono copy, a narrow one and one that is louder at one side come out as the stems do, copied alike."""
    copied = partial(stood, width=width, balance_db=balance_db)
    found = apart(torch.from_numpy(copied(song[None].numpy())[0]), separator)
    near = {name: alike(found[name], torch.from_numpy(copied(stems[name][None].numpy())[0])) for name in PLAYED}
    assert all(db > 5 for db in near.values()), near


def test_a_coded_song_is_taken_apart_as_the_song_is(separator, song, stems) -> None:
    """MP3 with 82 kbit/s."""
    found = apart(torch.from_numpy(coded(song[None].numpy(), 44100, True, 0.85)[0]), separator)
    near = {name: alike(found[name], stems[name]) for name in PLAYED}
    assert all(db > 5 for db in near.values()), near
