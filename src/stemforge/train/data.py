"""Songs on disk and the batches cut from them.

A batch is a pure function of (seed, step): a run that is resumed sees what the uncut run would have seen, with no state of
the loader to save. Stems of one song stay together for every task but separation, where half of the items are remixed from
several songs.
"""

from __future__ import annotations

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


@dataclass(frozen=True)
class StemFile:
    """One stem of one song: random access to (time, channel) samples without reading the whole file."""

    path: Path
    frames: int

    @classmethod
    def open(cls, path: Path) -> StemFile:
        """InputError when the file is not sound at all."""
        try:
            frames = len(np.load(path, mmap_mode="r")) if path.suffix == ".npy" else soundfile.info(str(path)).frames
        except (OSError, ValueError, soundfile.LibsndfileError) as error:
            raise InputError(f"stem '{path}': cannot be read ({error}). Remove it or render it again.") from error
        return cls(path, frames)

    def read(self, start: int, count: int) -> Float:
        """(2, count) float32; zeros behind the end."""
        if self.path.suffix == ".npy":
            cut = np.load(self.path, mmap_mode="r")[start : start + count]
            found = np.asarray(cut, dtype=np.float32).reshape(len(cut), -1) / 32768
        else:
            with soundfile.SoundFile(str(self.path)) as file:
                file.seek(min(start, self.frames))
                found = file.read(count, dtype="float32", always_2d=True)
        out = np.zeros((2, count), np.float32)
        out[:, : len(found)] = found.T[:2]
        return out


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
        raise InputError(f"songs '{folder}': no folder with {', '.join(names)} in it. Run `stemforge data render` first.")
    return songs


@dataclass(frozen=True)
class Batch:
    """stems: (batch, stem, 2, time), all summing to the mixture; sigma: (batch, stem, 1 or time); hidden: (batch, stem)."""

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
    """Draws batches from songs. seconds: length of a crop; shares: how often each of TASKS comes; level_db: RMS of mixtures."""

    songs: list[Song]
    names: tuple[str, ...]
    rate: int
    seconds: float
    batch_size: int
    seed: int
    shares: tuple[float, ...] = (0.7, 0.1, 0.08, 0.07, 0.05)
    level_db: float = -20.0

    def batch(self, step: int) -> Batch:
        """The batch of one training step."""
        rng = np.random.default_rng((self.seed, step))
        task = TASKS[rng.choice(len(TASKS), p=np.array(self.shares) / sum(self.shares))]
        count = self.batch_size if task == "separate" else max(1, self.batch_size // 2)
        item = self._separation_item if task == "separate" else self._song_item
        stems = torch.from_numpy(np.stack([item(rng) for _ in range(count)]))
        if task in ("separate", "denoise"):
            stems = self._levelled(stems)
        sigma, hidden = _levels(task, rng, stems.shape[0], len(self.names), stems.shape[-1])
        return Batch(task, stems, sigma, hidden, int(rng.integers(2**31)))

    def _levelled(self, stems: Tensor) -> Tensor:
        level = stems.sum(dim=1).square().mean(dim=(1, 2)).sqrt().clamp(min=1e-4)
        return stems * (10 ** (self.level_db / 20) / level)[:, None, None, None]

    def _song_item(self, rng: np.random.Generator) -> Float:
        """A crop of one song, all its stems in place."""
        length = int(self.seconds * self.rate)
        song = self.songs[rng.integers(len(self.songs))]
        start = int(rng.integers(max(1, song.frames - length)))
        silent = np.zeros((2, length), np.float32)
        item = np.stack([song.stems[n].read(start, length) if n in song.stems else silent for n in self.names])
        return item[:, ::-1].copy() if rng.random() < 0.5 else item

    def _separation_item(self, rng: np.random.Generator) -> Float:
        """A crop of one song or of one song a stem, with new levels, colours, widths, and now and then stems left out."""
        remix = rng.random() < 0.5
        item = self._remixed(rng) if remix else self._song_item(rng)
        reach = 8.0 if remix else 5.0
        for k in range(len(item)):
            item[k] *= 10 ** (rng.uniform(-reach, reach) / 20) * rng.choice((-1.0, 1.0))
            if rng.random() < 0.3:
                item[k] = equalised(item[k], self.rate, rng)
            if rng.random() < 0.2:
                item[k] = widened(item[k], rng.uniform(0, 1.5))
        if rng.random() < 0.25:
            item[rng.permutation(len(item))[: rng.integers(1, 3)]] = 0
        return item

    def _remixed(self, rng: np.random.Generator) -> Float:
        length = int(self.seconds * self.rate)
        item = np.zeros((len(self.names), 2, length), np.float32)
        for k, name in enumerate(self.names):
            for _ in range(3):
                song = self.songs[rng.integers(len(self.songs))]
                start = int(rng.integers(max(1, song.frames - length)))
                if name in song.stems:
                    item[k] = song.stems[name].read(start, length)
                    if np.abs(item[k]).max() > 0.01:
                        break
        return item


def equalised(x: Float, rate: int, rng: np.random.Generator) -> Float:
    """x (channel, time) through a random smooth equaliser of at most +-9 dB."""
    hz = np.fft.rfftfreq(x.shape[-1], 1 / rate)
    points = np.log([40, 120, 350, 1000, 3000, 8000, 16000])
    gain_db = np.interp(np.log(np.maximum(hz, 1)), points, np.clip(rng.normal(0, 3.5, len(points)), -9, 9))
    return np.fft.irfft(np.fft.rfft(x) * 10 ** (gain_db / 20), n=x.shape[-1]).astype(np.float32)


def widened(x: Float, width: float) -> Float:
    """Stereo (2, time) with its side signal scaled by `width`: 0 is mono."""
    middle, side = x.mean(0), (x[0] - x[1]) * (0.5 * width)
    return np.stack([middle + side, middle - side]).astype(np.float32)


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
