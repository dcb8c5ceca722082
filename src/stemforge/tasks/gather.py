"""The stems of one song from a folder: one file a stem, named after it."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from stemforge.audio.io import EXTENSIONS
from stemforge.audio.resample import to_channels, to_rate
from stemforge.types import Audio, Stems


def stem_files(folder: Path) -> dict[str, Path]:
    """Sound files of a folder by their names in lower case, without endings; of two with one name the first."""
    files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    sounds = [path for path in files if path.suffix[1:].lower() in EXTENSIONS]
    return {path.stem.lower(): path for path in reversed(sounds)}


def _padded(samples: Tensor, time: int) -> Tensor:
    return torch.nn.functional.pad(samples, (0, time - samples.shape[-1]))


def adapted(stems: Stems, rate: int, channels: int, time: int | None = None) -> Stems:
    """The same stems at another rate in Hz, with 1 or 2 channels, cut or padded to `time` samples if it is given."""
    rows = [to_rate(Audio(to_channels(stem, channels), stems.rate), rate).samples for stem in stems.samples]
    samples = torch.stack(rows)
    if time is not None:
        samples = _padded(samples[..., :time], time)
    return Stems(stems.names, samples, rate)
