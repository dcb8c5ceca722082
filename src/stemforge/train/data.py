"""Songs on disk and the batches cut from them.

A batch is a pure function of (seed, step): a run that is resumed sees what the uncut run would have seen, with no state
of the loader to save. Stems of one song stay together for every task but separation, where half of the items are
remixed from several songs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import soxr
import torch
from numpy.typing import NDArray
from torch import Tensor

from stemforge.errors import InputError
from stemforge.train import layouts
from stemforge.train.damage import damaged, stood
from stemforge.train.files import Float, Quarantine, Stem, StemFile, stem_of
from stemforge.train.layouts import Wanted
from stemforge.train.levels import MADE, SOUNDS, TASKS, Task, levels_of, sigmas_of

LOUDER = {"vocals": 3.0}
"""By how many dB more than in the songs stems are mixed into separation items: singers stand in front."""

TRIES = 4
"""So many places of the songs are tried for one where two stems play, where stems are made."""


@dataclass(frozen=True)
class Variety:
    """How separation items differ from the songs; the defaults are made for a first training on many songs.

    remix: chance that an item is put together from several songs. left_out: chance that it loses one or two stems,
    `other` twice as often as each of the rest. augment: 0 to 1, scales how often stems are driven, equalised and
    widened and how far their levels move; at 0 crops are as they are on the disk, for all tasks. damaged: chance that
    an item is a mono, loud, clipped, lo-fi or coded copy (`damage`), scaled by augment too.
    """

    remix: float = 0.5
    left_out: float = 0.35
    augment: float = 1.0
    damaged: float = 0.2


@dataclass(frozen=True)
class Song:
    """The stems that a song has, by name, and its length in samples."""

    stems: dict[str, Stem]
    frames: int


def find_songs(folder: Path, wanted: Wanted | tuple[str, ...], rate: int = 0) -> list[Song]:
    """Every song under `folder`, sorted by path, as a network of `rate` Hz hears it; see `layouts` for what is one.

    Files that cannot be opened go to the quarantine that all stems share, and count as silence.

    Raises:
        InputError: there is no song, or too much of it is unreadable.
    """
    wanted = wanted if isinstance(wanted, Wanted) else Wanted(wanted)
    found = [wanted.of(song) for song in layouts.find(folder, wanted)]
    quarantine = Quarantine(sum(len(files) for stems in found for files in stems.values()))
    songs = []
    for stems in found:
        opened = {name: _opened(files, rate, quarantine) for name, files in stems.items()}
        sounding = {name: stem for name, stem in opened.items() if stem is not None}
        if sounding:
            songs.append(Song(sounding, max(stem.frames for stem in sounding.values())))
    if not songs:
        path, reason = next(iter(quarantine.reasons.items()))
        raise InputError(f"songs '{folder}': no file can be read, first '{path}': {reason}")
    quarantine.check()
    return songs


def _opened(files: tuple[Path, ...], rate: int, quarantine: Quarantine) -> Stem | None:
    parts = []
    for path in files:
        try:
            parts.append(StemFile.open(path))
        except InputError as error:
            quarantine.add(path, str(error.__cause__ or error))
    return stem_of(tuple(parts), rate).watched(quarantine) if parts else None


def quarantine_of(songs: list[Song]) -> Quarantine:
    """What could not be read of these songs so far."""
    found = next(stem.quarantine for song in songs for stem in song.stems.values())
    return found if found is not None else Quarantine()


@dataclass(frozen=True)
class Batch:
    """stems: (batch, stem, channel, time), whose sum is the mixture; sigma: (batch, stem, 1 or time); hidden:
    (batch, stem); seed: of the noise; part: (k, n) when these are the items k, k + n, k + 2n, ... of a larger batch;
    prompt: (batch, feature), zeros where an item has none, None where no item has.
    """

    task: Task
    stems: Tensor
    sigma: Tensor
    hidden: Tensor
    seed: int
    part: tuple[int, int] = (0, 1)
    prompt: Tensor | None = None

    @property
    def mixture(self) -> Tensor | None:
        """Sum of the stems where the task is given one."""
        return self.stems.sum(dim=1) if self.task in ("separate", "denoise") else None


def parts_of(batch: Batch, count: int) -> list[Batch]:
    """The batch in `count` parts of equal size, or in as many more as make them equal; at most one an item."""
    items, (first, step) = len(batch.stems), batch.part
    count = next(n for n in range(min(count, items), items + 1) if items % n == 0)
    return [
        replace(
            batch, stems=batch.stems[k::count], sigma=batch.sigma[k::count], hidden=batch.hidden[k::count],
            part=(first + step * k, step * count), prompt=None if batch.prompt is None else batch.prompt[k::count],
        )
        for k in range(count)
    ]  # fmt: skip


class Batches(Protocol):
    """Where a run gets its batches from."""

    @property
    def songs(self) -> list[Song]:
        """The songs that it draws from."""
        ...

    def batch(self, step: int, part: tuple[int, int] = (0, 1)) -> Batch:
        """The batch of one training step, a function of the step, the seed and the files alone; or a part of it."""
        ...


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
    channels: int = 2
    variety: Variety = Variety()

    def batch(self, step: int, part: tuple[int, int] = (0, 1)) -> Batch:
        """The batch of one training step; only the items of `part` are read."""
        rng = np.random.default_rng((self.seed, step))
        task = TASKS[rng.choice(len(TASKS), p=np.array(self.shares) / sum(self.shares))]
        count = self.batch_size if task == "separate" else max(1, self.batch_size // 2)
        mine = range(part[0], count, part[1])
        level, seed = sigmas_of(task, rng, count), int(rng.integers(2**31))
        stems = np.zeros((len(mine), len(self.names), self.channels, int(self.seconds * self.rate)), np.float32)
        levels = []
        for k, item in zip(mine, stems, strict=True):
            own = np.random.default_rng((self.seed, step, 1 + k))
            self._item(item, task, own)
            levels.append(levels_of(task, level[k], own, playing(item), item.shape[-1]))
        sigma, hidden = (torch.from_numpy(np.stack(rows)) for rows in zip(*levels, strict=True))
        return Batch(task, torch.from_numpy(stems), sigma, hidden, seed, part)

    def _item(self, item: Float, task: Task, rng: np.random.Generator) -> None:
        """Fill one item (stem, channel, time)."""
        if task == "separate":
            self._separation_item(item, rng)
        else:
            for _ in range(TRIES):
                self._song_item(item, rng)
                if task not in MADE or playing(item).sum() > 1:
                    break
        if task in ("separate", "denoise"):
            item *= self._gain(item)

    def _gain(self, item: Float) -> np.float32:
        """What brings the mixture to `level_db`, judged by every fourth sample."""
        level = np.sqrt(np.mean(item[..., ::4].sum(axis=0) ** 2))
        return np.float32(10 ** (self.level_db / 20) / max(level, 1e-4))

    def _start(self, song: Song, rng: np.random.Generator) -> int:
        return int(rng.integers(max(1, song.frames - int(self.seconds * self.rate))))

    def _speed(self, rng: np.random.Generator) -> float:
        """Now and then a tape runs slower or faster: other pitch, timbre, tempo; or a band is a little out of tune."""
        chance, amount = rng.random(), self.variety.augment
        if chance < amount * 0.4:
            return float(rng.uniform(0.8, 1.25))
        return float(2 ** (rng.uniform(-0.5, 0.5) / 12)) if chance < amount * 0.65 else 1.0

    def _song_item(self, item: Float, rng: np.random.Generator, speed: float = 1.0) -> None:
        """Fill item (stem, channel, time) with a crop of one song, all its stems in place."""
        song = self.songs[rng.integers(len(self.songs))]
        start, turn = self._start(song, rng), 1 - 2 * int(rng.permutation(2)[0])
        turn = turn if self.variety.augment else 1
        for k, name in enumerate(self.names):
            if name in song.stems:
                read_at(song.stems[name], start, item[k][::turn], speed)

    def _separation_item(self, item: Float, rng: np.random.Generator) -> None:
        """A crop of one song, or of one song a stem, with new levels, colours and widths; some stems are left out."""
        amount = self.variety.augment
        remix = rng.random() < self.variety.remix
        if remix:
            self._remix(item, rng)
        else:
            self._song_item(item, rng, self._speed(rng))
        reach = amount * (8.0 if remix else 5.0)
        for name, stem in zip(self.names, item, strict=True):
            if rng.random() < amount * (0.18 if name == "guitar" else 0.03):
                stem[:] = driven(stem, self.rate, rng)
            if rng.random() < amount * 0.5:
                stem[:] = equalised(stem, self.rate, rng)
            if rng.random() < amount * 0.2 and len(stem) == 2:
                stem[:] = stood(stem[None], rng.uniform(0, 1.5), 0.0)[0]
            level_db, sign = rng.uniform(-reach, reach) + amount * LOUDER.get(name, 0.0), rng.choice((-1.0, 1.0))
            stem *= np.float32(10 ** (level_db / 20) * sign if amount else 1.0)
        if rng.random() < self.variety.left_out:
            weights = np.array([2.0 if name == "other" else 1.0 for name in self.names])
            count = min(int(rng.integers(1, 3)), len(item) - 1)
            item[rng.choice(len(item), count, replace=False, p=weights / weights.sum())] = 0
        if rng.random() < amount * self.variety.damaged:
            item[:] = damaged(item, self.rate, rng)

    def _remix(self, item: Float, rng: np.random.Generator) -> None:
        for k, name in enumerate(self.names):
            for _ in range(3):
                song = self.songs[rng.integers(len(self.songs))]
                start = self._start(song, rng)
                if name in song.stems:
                    read_at(song.stems[name], start, item[k], self._speed(rng))
                    if np.abs(item[k, :, ::16]).max() > 0.01:
                        break


def playing(item: Float) -> NDArray[np.bool_]:
    """Which stems of (stem, channel, time) sound, judged by every fourth sample."""
    return np.asarray(np.square(item[..., ::4]).mean(axis=(1, 2)) > SOUNDS)


def read_at(stem: Stem, start: int, out: Float, speed: float) -> None:
    """A piece of a stem as a tape at `speed` plays it, into out (channel, time)."""
    out[:] = 0
    if speed == 1:
        stem.read(start, out)
        return
    piece = np.zeros((len(out), round(out.shape[-1] * speed)), np.float32)
    stem.read(start, piece)
    played = soxr.resample(piece.T, speed, 1.0).T[:, : out.shape[-1]]
    out[:, : played.shape[-1]] = played


def equalised(x: Float, rate: int, rng: np.random.Generator) -> Float:
    """x (channel, time) through an equaliser of at most +-9 dB: broad, or uneven like another instrument's body."""
    hz = np.arange(x.shape[-1] // 2 + 1, dtype=np.float32) * np.float32(rate / x.shape[-1])
    points = np.linspace(np.log(40), np.log(16000), 7 if rng.random() < 0.5 else 32)
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
