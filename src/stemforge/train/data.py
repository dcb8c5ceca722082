"""Songs on disk and the batches cut from them.

A batch is a pure function of (seed, step): a run that is resumed sees what the uncut run would have seen, with no state
of the loader to save. Stems of one song stay together for every task but separation, where half of the items are
remixed from several songs.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import soundfile
import torch
from numpy.typing import NDArray
from torch import Tensor

from stemforge.errors import InputError

Task = Literal["separate", "denoise", "generate", "impute", "inpaint"]
TASKS: tuple[Task, ...] = ("separate", "denoise", "generate", "impute", "inpaint")
Float = NDArray[np.float32]
LEFT_OUT = 0.35
"""Chance that a separation item loses one or two stems; `other` twice as often as each of the rest."""


@dataclass(frozen=True)
class StemFile:
    """One stem of one song: random access to (time, channel) samples without reading the whole file."""

    path: Path
    frames: int
    offset: int = 0

    @classmethod
    def open(cls, path: Path) -> StemFile:
        """InputError when the file is not sound at all."""
        try:
            if path.suffix != ".npy":
                return cls(path, soundfile.info(str(path)).frames)
            array = np.load(path, mmap_mode="r")
            if array.dtype != np.int16 or array.ndim != 2 or array.shape[1] != 2 or not array.flags.c_contiguous:
                raise ValueError(f"holds {array.dtype} {array.shape}, not int16 (time, 2)")
            return cls(path, len(array), int(array.offset))
        except (OSError, ValueError, soundfile.LibsndfileError) as error:
            raise InputError(f"stem '{path}': cannot be read ({error}). Remove it or render it again.") from error

    def read(self, start: int, out: Float) -> None:
        """Fill out (2, count) from sample `start` on; what lies behind the end is left as it is."""
        count = max(0, min(out.shape[-1], self.frames - start))
        if self.path.suffix == ".npy":
            with self.path.open("rb", buffering=0) as file:
                if hasattr(os, "posix_fadvise"):  # or the system reads megabytes ahead of every crop
                    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
                file.seek(self.offset + 4 * start)
                cut = np.fromfile(file, np.int16, 2 * count).reshape(-1, 2).T
            np.multiply(cut, np.float32(1 / 32768), out=out[:, :count])
            return
        with soundfile.SoundFile(str(self.path)) as file:
            file.seek(min(start, self.frames))
            found = file.read(count, dtype="float32", always_2d=True).T
        out[:, : found.shape[1]] = found[:2]


@dataclass(frozen=True)
class Song:
    """The stems that a song has, by name, and its length in samples."""

    stems: dict[str, StemFile]
    frames: int


def find_songs(folder: Path, names: tuple[str, ...]) -> list[Song]:
    """Every folder under `folder` that holds one file a stem (bass.npy, drums.flac, ...), sorted by path.

    InputError when there is none.
    """
    songs = []
    for place in sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")):
        found = {p.stem.lower(): p for p in sorted(place.iterdir()) if p.suffix in {".npy", ".wav", ".flac", ".ogg"}}
        stems = {name: StemFile.open(found[name]) for name in names if name in found}
        if stems:
            songs.append(Song(stems, max(s.frames for s in stems.values())))
    if not songs:
        raise InputError(
            f"songs '{folder}': no folder with {', '.join(names)} in it. Run `stemforge data render` first."
        )
    return songs


@dataclass(frozen=True)
class Batch:
    """stems: (batch, stem, 2, time), the parts of a mixture; sigma: (batch, stem, 1 or time); hidden: (batch, stem)."""

    task: Task
    stems: Tensor
    sigma: Tensor
    hidden: Tensor
    seed: int

    @property
    def mixture(self) -> Tensor | None:
        """Sum of the stems where the task is given one."""
        return self.stems.sum(dim=1) if self.task in ("separate", "denoise") else None


@dataclass(frozen=True)
class Crops:
    """Draws batches. seconds: length of a crop; shares: how often each of TASKS comes; level_db: RMS of mixtures."""

    songs: list[Song]
    names: tuple[str, ...]
    rate: int
    seconds: float
    batch_size: int
    seed: int
    shares: tuple[float, ...]
    level_db: float

    def batch(self, step: int) -> Batch:
        """The batch of one training step."""
        rng = np.random.default_rng((self.seed, step))
        task = TASKS[rng.choice(len(TASKS), p=np.array(self.shares) / sum(self.shares))]
        count = self.batch_size if task == "separate" else max(1, self.batch_size // 2)
        stems = np.zeros((count, len(self.names), 2, int(self.seconds * self.rate)), np.float32)
        for item in stems:
            if task == "separate":
                self._separation_item(item, rng)
            else:
                self._song_item(item, rng)
            if task in ("separate", "denoise"):
                item *= self._gain(item)
        sigma, hidden = _levels(task, rng, *stems.shape[:2], stems.shape[-1])
        return Batch(task, torch.from_numpy(stems), sigma, hidden, int(rng.integers(2**31)))

    def _gain(self, item: Float) -> np.float32:
        """What brings the mixture to `level_db`, judged by every fourth sample."""
        level = np.sqrt(np.mean(item[..., ::4].sum(axis=0) ** 2))
        return np.float32(10 ** (self.level_db / 20) / max(level, 1e-4))

    def _start(self, song: Song, rng: np.random.Generator) -> int:
        return int(rng.integers(max(1, song.frames - int(self.seconds * self.rate))))

    def _song_item(self, item: Float, rng: np.random.Generator) -> None:
        """Fill item (stem, 2, time) with a crop of one song, all its stems in place."""
        song = self.songs[rng.integers(len(self.songs))]
        start, order = self._start(song, rng), rng.permutation(2)
        for k, name in enumerate(self.names):
            if name in song.stems:
                song.stems[name].read(start, item[k][order[0] :: 1 - 2 * order[0]])

    def _separation_item(self, item: Float, rng: np.random.Generator) -> None:
        """A crop of one song, or of one song a stem, with new levels, colours and widths; some stems are left out."""
        remix = rng.random() < 0.5
        if remix:
            self._remix(item, rng)
        else:
            self._song_item(item, rng)
        reach = 8.0 if remix else 5.0
        for name, stem in zip(self.names, item, strict=True):
            if rng.random() < (0.18 if name == "guitar" else 0.03):
                stem[:] = driven(stem, self.rate, rng)
            if rng.random() < 0.5:
                stem[:] = equalised(stem, self.rate, rng)
            if rng.random() < 0.2:
                stem[:] = widened(stem, rng.uniform(0, 1.5))
            stem *= np.float32(10 ** (rng.uniform(-reach, reach) / 20) * rng.choice((-1.0, 1.0)))
        if rng.random() < LEFT_OUT:
            weights = np.array([2.0 if name == "other" else 1.0 for name in self.names])
            count = min(int(rng.integers(1, 3)), len(item) - 1)
            item[rng.choice(len(item), count, replace=False, p=weights / weights.sum())] = 0

    def _remix(self, item: Float, rng: np.random.Generator) -> None:
        for k, name in enumerate(self.names):
            for _ in range(3):
                song = self.songs[rng.integers(len(self.songs))]
                start = self._start(song, rng)
                if name in song.stems:
                    self._read_varied(song.stems[name], start, item[k], rng)
                    if np.abs(item[k, :, ::16]).max() > 0.01:
                        break

    def _read_varied(self, stem: StemFile, start: int, out: Float, rng: np.random.Generator) -> None:
        """A piece of a stem, now and then as a tape at another speed plays it: other pitch, timbre, tempo."""
        out[:] = 0
        if rng.random() < 0.4:
            piece = np.zeros((2, int(out.shape[-1] * rng.uniform(0.8, 1.25))), np.float32)
            stem.read(start, piece)
            at = np.linspace(0, piece.shape[-1] - 1, out.shape[-1])
            for channel, played in zip(piece, out, strict=True):
                played[:] = np.interp(at, np.arange(len(channel)), channel)
        else:
            stem.read(start, out)


def equalised(x: Float, rate: int, rng: np.random.Generator) -> Float:
    """x (channel, time) through a random smooth equaliser of at most +-9 dB."""
    hz = np.arange(x.shape[-1] // 2 + 1, dtype=np.float32) * np.float32(rate / x.shape[-1])
    points = np.log([40, 120, 350, 1000, 3000, 8000, 16000])
    gain_db = np.interp(np.log(np.maximum(hz, 1)), points, np.clip(rng.normal(0, 3.5, len(points)), -9, 9))
    spectrum = torch.fft.rfft(torch.from_numpy(x)) * torch.from_numpy(10 ** (gain_db / 20)).float()
    out: Float = torch.fft.irfft(spectrum, n=x.shape[-1]).numpy()
    return out


def driven(x: Float, rate: int, rng: np.random.Generator) -> Float:
    """x (channel, time) through an overdriven amplifier and its speaker: tanh, then a low-pass; the level stays."""
    level = np.sqrt(np.mean(x[:, ::4] ** 2)) + 1e-5
    y = torch.from_numpy(np.tanh(x * np.float32(10 ** (rng.uniform(-6, 20) / 20) / level)))
    hz = torch.arange(x.shape[-1] // 2 + 1) * (rate / x.shape[-1])
    spectrum = torch.fft.rfft(y) / (1 + (hz / rng.uniform(3500, 9000)) ** 4)
    out: Float = torch.fft.irfft(spectrum, n=x.shape[-1]).numpy()
    return out * np.float32(level / (np.sqrt(np.mean(out[:, ::4] ** 2)) + 1e-9))


def widened(x: Float, width: float) -> Float:
    """Stereo (2, time) with its side signal scaled by `width`: 0 is mono."""
    middle, side = x.mean(0), (x[0] - x[1]) * np.float32(0.5 * width)
    return np.stack([middle + side, middle - side])


def _levels(task: Task, rng: np.random.Generator, batch: int, stems: int, time: int) -> tuple[Tensor, Tensor]:
    """Noise level of each stem and which stems are hidden, as the task asks."""
    log_sigma = rng.normal(-0.5, 1.5, (batch, 1, 1))
    sigma = np.repeat(np.exp(log_sigma).clip(1e-3, 100), stems, axis=1).astype(np.float32)
    hidden = np.zeros((batch, stems), bool)
    for b in range(batch):
        order = rng.permutation(stems)
        if task == "impute" or (task == "denoise" and rng.random() < 0.3):
            sigma[b, order[: rng.integers(1, stems)]] = 0
        elif task == "generate" and rng.random() < 0.3:
            hidden[b, order[: rng.integers(1, stems)]] = True
    if task == "inpaint":
        sigma = np.repeat(sigma, time, axis=2)
        for b in range(batch):
            start, length = rng.integers(time), rng.integers(time // 8, time // 2)
            known = np.ones(time, bool)
            known[start : start + length] = False
            sigma[b, :, known] = 0
    if task == "separate":
        hidden[:] = True
    return torch.from_numpy(sigma), torch.from_numpy(hidden)
