"""Sounds with captions, for a network of one slot that learns from mixtures alone (GMSDM).

Only finished sound files that a list of captions names are opened: there is no stem in what is found, read or drawn, so
none can be learnt from. The list lies at the top of the folder (or is given itself) and is one of

captions.jsonl  a JSON object a line: file, caption or captions, and where it holds for a part only start and seconds
captions.csv    a table with the columns file, caption and, where wanted, start and seconds
*.tsv           MTG-Jamendo (Bogdanov et al. 2019, https://github.com/MTG/mtg-jamendo-dataset): PATH and TAGS

Names of files are relative to the folder of the list, or to audio/ in it. Several captions are several ways to say it.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor

from stemforge.errors import InputError, OutputError
from stemforge.models.forge import SLOT
from stemforge.train.data import Batch, Song
from stemforge.train.files import Float, Quarantine, StemFile, stem_of
from stemforge.train.jamendo import sentences
from stemforge.train.levels import TASKS, Task, levels_of, sigmas_of

LISTS = ("captions.jsonl", "captions.csv")
PROMPTS = "prompts.safetensors"
QUIETER_DB = 9.0
"""Crops are brought to the level of the network or up to so much below it: parts of a whole are softer than it."""


@dataclass(frozen=True)
class Said:
    """One line of a list: captions of a file, from `start` on for `seconds` (None: to its end)."""

    file: Path
    captions: tuple[str, ...]
    start: float = 0.0
    seconds: float | None = None


@dataclass(frozen=True)
class Passage:
    """A part of a sound (samples at the rate of the network) with its captions; prompts: (width,) of each."""

    first: int
    last: int
    captions: tuple[str, ...]
    prompts: tuple[Tensor, ...] = ()


@dataclass(frozen=True)
class Recording(Song):
    """One sound file, under the name of the only slot, and its passages."""

    passages: tuple[Passage, ...] = ()


def find_recordings(place: Path, rate: int) -> list[Song]:
    """The sounds of a list of captions, sorted by path, as a network of `rate` Hz hears them. place: folder or list.

    Files that cannot be opened go to the quarantine that all share.

    Raises:
        InputError: no list, one that cannot be read, or too many files that cannot.
    """
    source = list_of(place)
    found: dict[Path, list[Said]] = {}
    for said in read_list(source):
        found.setdefault(said.file, []).append(said)
    quarantine, songs = Quarantine(len(found)), list[Song]()
    for path, lines in sorted(found.items()):
        try:
            stem = stem_of((StemFile.open(path),), rate).watched(quarantine)
        except InputError as error:
            quarantine.add(path, str(error.__cause__ or error))
            continue
        passages = [_passage(said, rate, stem.frames) for said in lines]
        kept = tuple(passage for passage in passages if passage.last > passage.first)
        if kept:
            songs.append(Recording({SLOT: stem}, stem.frames, kept))
    if not songs:
        why = next(iter(quarantine.reasons.values()), "no line has a caption and a place in its file")
        raise InputError(f"captions '{source}': no file can be used, the first for: {why}. See docs/text-training.md.")
    quarantine.check()
    return songs


def _passage(said: Said, rate: int, frames: int) -> Passage:
    first = round(said.start * rate)
    last = frames if said.seconds is None else min(frames, first + round(said.seconds * rate))
    return Passage(first, last, said.captions)


def list_of(place: Path) -> Path:
    """The list of captions in a folder, or that is given. Raises InputError where there is none, or several."""
    if place.is_file():
        return place
    named = [place / name for name in LISTS if (place / name).is_file()]
    tables = sorted(place.glob("*.tsv"))
    if named or len(tables) == 1:
        return [*named, *tables][0]
    if tables:
        raise InputError(f"captions '{place}': {len(tables)} lists. Give one of them itself, as '{tables[0]}'.")
    raise InputError(
        f"captions '{place}': no {' or '.join(LISTS)} and no .tsv of MTG-Jamendo. "
        "Run stemforge data caption first, or see docs/text-training.md."
    )


def read_list(source: Path) -> list[Said]:
    """Every line of a list that has a caption. Raises InputError for the first that cannot be understood."""
    readers = {".jsonl": _json_lines, ".csv": _csv_lines, ".tsv": _jamendo_lines}
    if source.suffix.lower() not in readers:
        raise InputError(f"captions '{source}': ends in none of {', '.join(readers)}. Write it as one of them.")
    said: list[Said] = []
    try:
        with source.open(encoding="utf-8", newline="") as file:
            for line in readers[source.suffix.lower()](file):
                said.append(_said(line, source.parent))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        why = f"lacks {error}" if isinstance(error, KeyError) else str(error).partition("\n")[0]
        raise InputError(f"captions '{source}': entry {len(said) + 1}: {why}. See docs/text-training.md.") from None
    return [each for each in said if each.captions]


def _said(line: Mapping[str, object], folder: Path) -> Said:
    texts = line["captions"] if "captions" in line else line["caption"]
    texts = [texts or ""] if isinstance(texts, str | None) else texts
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise ValueError("captions are not texts")
    start, seconds = float(str(line.get("start") or 0)), line.get("seconds")
    tidy = tuple(dict.fromkeys(" ".join(text.split()) for text in texts if text.strip()))
    length = float(str(seconds)) if seconds not in (None, "") else None
    if not start >= 0 or not (length is None or length > 0):
        raise ValueError(f"start {start} and seconds {length} are no part of a file")
    return Said(_placed(folder, str(line["file"])), tidy, start, length)


def _placed(folder: Path, name: str) -> Path:
    """Beside the list or in audio/; MTG-Jamendo's low-quality download says .low.mp3 where the list says .mp3."""
    low = str(Path(name).with_suffix(".low.mp3"))
    places = [root / each for root in (folder, folder / "audio") for each in (name, low)]
    return next((path for path in places if path.is_file()), places[0])


def _json_lines(file: Iterator[str]) -> Iterator[Mapping[str, object]]:
    yield from (json.loads(line) for line in file if line.strip())


def _csv_lines(file: Iterator[str]) -> Iterator[Mapping[str, object]]:
    yield from ({str(key).strip().lower(): value for key, value in row.items()} for row in csv.DictReader(file))


def _jamendo_lines(file: Iterator[str]) -> Iterator[Mapping[str, object]]:
    head = next(file, "").rstrip("\r\n").split("\t")
    path, tags = head.index("PATH"), head.index("TAGS")
    for line in file:
        fields = line.rstrip("\r\n").split("\t")
        if len(fields) > tags:
            yield {"file": fields[path], "captions": list(sentences(fields[tags:]))}


def texts_of(songs: list[Song]) -> list[str]:
    """Every caption once, in the order in which they come."""
    found = (said for song in songs if isinstance(song, Recording) for each in song.passages for said in each.captions)
    return list(dict.fromkeys(found))


def keep_prompts(place: Path, encoder: str, texts: list[str], rows: Tensor) -> None:
    """Write embeddings (text, width) beside a list of captions: the next run reads them, and needs no encoder.

    Raises OutputError where nothing can be written.
    """
    path = list_of(place).with_name(PROMPTS)
    part = path.with_name(f".{PROMPTS}.{os.getpid()}")
    try:
        part.write_bytes(to_bytes({"prompts": rows.contiguous()}, {"encoder": encoder, "texts": json.dumps(texts)}))
        part.replace(path)
    except OSError as error:
        raise OutputError(f"prompts '{path}': cannot be written: {error.strerror}. Free some space.") from None


def kept_prompts(place: Path, encoder: str) -> dict[str, Tensor]:
    """Embeddings (width,) by caption that lie beside a list; none where there are none, or those of another encoder.

    Raises InputError for a damaged file.
    """
    path = list_of(place).with_name(PROMPTS)
    if not path.is_file():
        return {}
    try:
        with safe_open(path, framework="pt") as file:
            about, rows = file.metadata() or {}, file.get_tensor("prompts")
        texts = json.loads(about.get("texts", "[]"))
        return dict(zip(texts, rows, strict=True)) if about.get("encoder") == encoder else {}
    except (OSError, ValueError, SafetensorError) as error:
        raise InputError(f"prompts '{path}': cannot be read ({error}). Remove it, or make it again.") from None


def embedded(songs: list[Song], prompts: Mapping[str, Tensor]) -> list[Song]:
    """The same sounds, with the embedding (width,) of each caption. KeyError for one that has none."""

    def told(passage: Passage) -> Passage:
        return replace(passage, prompts=tuple(prompts[said] for said in passage.captions))

    return [
        replace(song, passages=tuple(told(each) for each in song.passages)) if isinstance(song, Recording) else song
        for song in songs
    ]


class Shape(NamedTuple):
    """rate: Hz; level_db: RMS of finished music; width: numbers of a prompt."""

    rate: int
    channels: int
    level_db: float
    width: int


@dataclass(frozen=True)
class CaptionedCrops:
    """Draws batches: crops of passages, each passage as often as any other, with one of its captions each.

    shape: of what a network hears; seconds: length of a crop; shares: how often each of TASKS comes; dropout: chance
    that an item has no caption (a prompt of zeros); quieter: whether levels vary, up to QUIETER_DB.

    In the task with a mixture, denoise, an item has two sounds, of which the second is no more than what the first is
    heard among: a crop of any passage, with a caption that nobody is told.
    """

    songs: list[Song]
    shape: Shape
    seconds: float
    batch_size: int
    seed: int
    shares: tuple[float, ...]
    dropout: float
    quieter: bool = True

    def batch(self, step: int, part: tuple[int, int] = (0, 1)) -> Batch:
        """The batch of one training step, a function of the step, the seed and the files alone; or a part of it."""
        rng = np.random.default_rng((self.seed, step))
        shape, length = self.shape, int(self.seconds * self.shape.rate)
        task = TASKS[rng.choice(len(TASKS), p=np.array(self.shares) / sum(self.shares))]
        mine = range(part[0], self.batch_size, part[1])
        made: Task = "generate" if task == "denoise" else task
        level, seed = sigmas_of(made, rng, self.batch_size), int(rng.integers(2**31))
        sound = np.zeros((len(mine), 1 + (task == "denoise"), shape.channels, length), np.float32)
        prompts, levels = torch.zeros(len(mine), shape.width), []
        for row, (k, item) in enumerate(zip(mine, sound, strict=True)):
            own = np.random.default_rng((self.seed, step, 1 + k))
            self._item(item[0], prompts[row], own)
            if task == "denoise":
                self._item(item[1], torch.zeros(shape.width), own)
            levels.append(levels_of(made, level[k], own, np.ones(1, bool), length))
        sigma, hidden = (torch.from_numpy(np.stack(rows)) for rows in zip(*levels, strict=True))
        return Batch(task, torch.from_numpy(sound), sigma, hidden, seed, part, prompt=prompts)

    def _item(self, out: Float, prompt: Tensor, rng: np.random.Generator) -> None:
        """Fill a sound (channel, time) and its prompt (width,)."""
        song, passage = self._places[rng.integers(len(self._places))]
        spare = max(1, passage.last - passage.first - out.shape[-1])
        start = passage.first + int(rng.integers(spare))
        song.stems[SLOT].read(start, out[:: 1 - 2 * int(rng.integers(2)), : max(0, passage.last - start)])
        level = np.sqrt(np.mean(out[:, ::4] ** 2))
        quieter_db = rng.uniform(0, QUIETER_DB) if self.quieter else 0.0
        out *= np.float32(10 ** ((self.shape.level_db - quieter_db) / 20) / max(level, 1e-2))
        chosen = int(rng.integers(len(passage.captions)))
        if rng.random() >= self.dropout and passage.prompts:
            prompt.copy_(passage.prompts[chosen])

    @cached_property
    def _places(self) -> list[tuple[Song, Passage]]:
        return [(song, passage) for song in self.songs if isinstance(song, Recording) for passage in song.passages]
