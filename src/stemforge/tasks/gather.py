"""The stems of one song from a folder: one file a stem, named after it."""

from __future__ import annotations

import logging
from pathlib import Path

import torch
from torch import Tensor

from stemforge.audio.io import EXTENSIONS, read
from stemforge.audio.resample import to_channels, to_rate
from stemforge.errors import InputError
from stemforge.types import Audio, Stems

log = logging.getLogger("stemforge")


def stem_files(folder: Path) -> dict[str, Path]:
    """Sound files of a folder by their names in lower case, without endings; of two with one name the first."""
    files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    sounds = [path for path in files if path.suffix[1:].lower() in EXTENSIONS]
    return {path.stem.lower(): path for path in reversed(sounds)}


def read_stems(folder: Path, names: tuple[str, ...]) -> Stems:
    """The named stems of a folder, as long as the longest (with a warning), with the channels of the widest.

    Raises:
        InputError: a stem has no file or cannot be read, or their rates differ.
    """
    found = stem_files(folder)
    missing = [name for name in names if name not in found]
    if missing:
        there = ", ".join(sorted(found)) or "no sound file at all"
        raise InputError(
            f"'{folder}': there is no {' and no '.join(f'{name}.wav' for name in missing)} in it, but {there}. "
            "Name what is there, or give a song."
        )
    sounds = {name: read(found[name]) for name in names}
    rates = {sound.rate for sound in sounds.values()}
    if len(rates) > 1:
        listed = ", ".join(f"{name} {sound.rate} Hz" for name, sound in sounds.items())
        raise InputError(f"'{folder}': stems of one song have one rate, these have {listed}. Convert them to one.")
    channels = max(sound.samples.shape[0] for sound in sounds.values())
    time = max(sound.samples.shape[-1] for sound in sounds.values())
    if len({sound.samples.shape[-1] for sound in sounds.values()}) > 1:
        lasts = ", ".join(f"{name} {sound.seconds:.3f} s" for name, sound in sounds.items())
        log.warning("'%s': stems of one song, but they last %s; the shorter ones end in silence.", folder, lasts)
    padded = [_padded(to_channels(sound.samples, channels), time) for sound in sounds.values()]
    return Stems(names, torch.stack(padded), rates.pop())


def _padded(samples: Tensor, time: int) -> Tensor:
    return torch.nn.functional.pad(samples, (0, time - samples.shape[-1]))


def adapted(stems: Stems, rate: int, channels: int, time: int | None = None) -> Stems:
    """The same stems at another rate in Hz, with 1 or 2 channels, cut or padded to `time` samples if it is given."""
    rows = [to_rate(Audio(to_channels(stem, channels), stems.rate), rate).samples for stem in stems.samples]
    samples = torch.stack(rows)
    if time is not None:
        samples = _padded(samples[..., :time], time)
    return Stems(stems.names, samples, rate)
