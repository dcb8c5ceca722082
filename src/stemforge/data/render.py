"""Render songs as Slakh was made: each stem alone, played by random instruments, with effects of its own.

One folder a song: `<stem>.npy|wav|flac` (44.1 kHz stereo int16) for each stem that sounds, and `song.json`.
The mixture of a song is the exact sum of its int16 stems.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from stemforge.data import effects, levels, mma, people, speech
from stemforge.data.catalogue import Catalogue, open_catalogue
from stemforge.data.extras import NEEDED, require
from stemforge.data.forbidden import refuse_forbidden
from stemforge.data.report import write_report
from stemforge.data.score import RATE, STEMS, Part
from stemforge.data.songs import LONGEST, draw_song, song_rng
from stemforge.data.sounds import choose, play
from stemforge.errors import InputError, OutputError, UsageError

FORMATS = ("npy", "wav", "flac")
SPLITS = ("train", "valid")
TAIL = 1.5
"""Seconds after the last note, for what rings on."""
Stems = dict[str, NDArray[np.int16]]


@dataclass(frozen=True)
class Job:
    """What a rendering process needs to know."""

    catalogue: Catalogue
    out: Path
    seed: int
    format: str
    longest: float = LONGEST


def render_song(catalogue: Catalogue, seed: int, index: int, longest: float = LONGEST) -> tuple[Stems, dict[str, Any]]:
    """Song `index` of a seed: its stems as (time, 2) int16 and its ingredients for the manifest.

    Depends on nothing but the assets, the split, the seed and the index.
    """
    rng = song_rng(seed, index, catalogue.split)
    song = draw_song(rng, catalogue, longest)
    frames = round((song.seconds + TAIL) * RATE)
    with tempfile.TemporaryDirectory(prefix="song-", dir=catalogue.work) as folder:
        rows = [_render_part(rng, part, catalogue, frames, Path(folder), len(song.parts)) for part in song.parts]
    stems: dict[str, NDArray[np.float32]] = {}
    for part, (sound, _) in zip(song.parts, rows, strict=True):
        stems[part.stem] = stems[part.stem] + sound if part.stem in stems else sound
    wanted = {stem: levels.draw_level(rng, stem) for stem in STEMS if stem in stems}
    if "drums" in stems and rng.random() < 0.8:
        stems["drums"] = levels.tamed(stems["drums"], float(rng.uniform(13, 20)))
    cuts = {stem: effects.draw_cut(rng) for stem in effects.CUT if stem in stems and "bass" in stems}
    stems |= {stem: effects.without_lows(stems[stem], cut_hz) for stem, cut_hz in cuts.items()}
    stems = {stem: levels.to_level(stems[stem], wanted[stem]) for stem in wanted}
    stems = {stem: _faded(sound) for stem, sound in stems.items() if np.isfinite(levels.active_rms(sound))}
    gain = levels.common_gain(stems)
    whole = {stem: np.round(sound * gain * 32767).astype(np.int16) for stem, sound in stems.items()}
    lines = [(part.stem, line) for part, (_, line) in zip(song.parts, rows, strict=True)]
    made = {
        stem: {
            "level_db": round(wanted[stem], 2),
            "cut_hz": round(cuts.get(stem, 0.0), 1),
            "parts": [line for owner, line in lines if owner == stem],
        }
        for stem in whole
    }
    return whole, {
        "index": index, "seed": seed, "split": catalogue.split, "seconds": round(frames / RATE, 3), "title": song.title,
        "song": song.details, "gain_db": round(20 * math.log10(gain), 2), "stems": made,
    }  # fmt: skip


def _render_part(
    rng: np.random.Generator, part: Part, catalogue: Catalogue, frames: int, folder: Path, count: int
) -> tuple[NDArray[np.float32], dict[str, Any]]:
    """One part with its instrument, effects, place and gain; and its line of the manifest."""
    voice = choose(rng, part, catalogue, folder)
    sound = levels.to_level(play(rng, voice, part, frames), -20.0)
    sampled = voice.map is not None
    chain = effects.draw_chain(rng, part.stem, part.role, voice.program if voice.font else part.program, sampled)
    sound = effects.apply(chain, sound)
    pan, width = effects.draw_place(rng, part.stem, count < 4)
    doubled = part.stem == "guitar" and part.role in ("comp", "power") and rng.random() < 0.2
    sound = _double(rng, sound) if doubled else effects.placed(sound, pan, width)
    gain = float(rng.uniform(-5, 5)) + (3.0 if part.role in ("lead", "vowels") else 0.0)
    row: dict[str, Any] = {
        "name": part.name, "role": part.role, "program": part.program, "voice": voice.label, "notes": len(part.notes),
        "varispeed": round(voice.varispeed, 2), "pan": round(pan, 2), "width": round(width, 2), "doubled": doubled,
        "effects": [[name, {k: round(v, 3) for k, v in settings.items()}] for name, settings in chain],
        **({"people": [person.name for person in voice.people]} if voice.kind == "speech" and voice.people else {}),
    }  # fmt: skip
    return levels.to_level(sound, -20.0 + gain), row


def _double(rng: np.random.Generator, sound: NDArray[np.float32]) -> NDArray[np.float32]:
    """Two takes left and right: the second one a little later and a few cents off."""
    middle = (sound[:, 0] + sound[:, 1]) * np.float32(0.5)
    speed = 1 + rng.uniform(-0.0004, 0.0004)
    late = rng.uniform(0.008, 0.022) * RATE
    drift = 1.5 * np.sin(2 * np.pi * rng.uniform(0.05, 0.2) * np.arange(len(middle)) / RATE) * RATE / 1000
    at = np.clip(np.arange(len(middle)) * speed - late + drift, 0, len(middle) - 1)
    return np.stack([middle, np.interp(at, np.arange(len(middle)), middle)], axis=1).astype(np.float32)


def _faded(sound: NDArray[np.float32]) -> NDArray[np.float32]:
    """The last second fades out, the first hundredth fades in."""
    sound = sound.copy()
    sound[: RATE // 100] *= np.linspace(0, 1, RATE // 100, dtype=np.float32)[:, None]
    sound[-RATE:] *= np.linspace(1, 0, min(RATE, len(sound)), dtype=np.float32)[:, None]
    return sound


def write_song(stems: Stems, row: dict[str, Any], folder: Path, format: str) -> None:
    """Write a song so that its folder is there only when it is complete.

    Errors: OutputError when it cannot be written.
    """
    part = folder.with_name(f".{folder.name}.{os.getpid()}")
    try:
        part.mkdir(parents=True)
        for stem, samples in stems.items():
            path = part / f"{stem}.{format}"
            if format == "npy":
                np.save(path, samples)
            else:
                soundfile.write(path, samples, RATE, subtype="PCM_16")
        (part / "song.json").write_text(json.dumps(row, indent=1) + "\n", encoding="utf-8")
        part.rename(folder)
    except OSError as error:
        shutil.rmtree(part, ignore_errors=True)
        raise OutputError(
            f"cannot write '{folder}': {error.strerror}. Free some space or choose another --out."
        ) from error


_JOB: list[Job] = []


def _start_worker(job: Job) -> None:
    """Ctrl-C is the business of the process that waits for the songs."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _JOB[:] = [job]


def _render_to_disk(index: int) -> dict[str, Any]:
    """Render one song in a worker; a song that is already there is only read."""
    job = _JOB[0]
    folder = job.out / f"{index:06d}"
    if (folder / "song.json").is_file():
        row: dict[str, Any] = json.loads((folder / "song.json").read_text(encoding="utf-8"))
        if (row["seed"], row["split"]) == (job.seed, job.catalogue.split):
            return row
        raise OutputError(f"'{folder}' is of another seed or split: choose an empty folder for --out.")
    stems, row = render_song(job.catalogue, job.seed, index, job.longest)
    row["active"] = {stem: levels.active_seconds(samples).astype(int).tolist() for stem, samples in stems.items()}
    row["loudness_db"] = {
        stem: round(levels.active_rms(samples / np.float32(32768)), 2) for stem, samples in stems.items()
    }
    write_song(stems, row, folder, job.format)
    return row


def render(
    assets: Path,
    out: Path,
    hours: float,
    seed: int = 0,
    jobs: int = 1,
    split: str = "train",
    format: str = "flac",
    longest: float = LONGEST,
    on_song: Callable[[dict[str, Any], float], None] = lambda row, hours: None,
    on_notice: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Render songs until they last `hours` together; returns the report that it also writes.

    on_song gets each song's manifest row and the hours so far; on_notice gets lines for the user.
    Songs that are already in `out` (same seed and split) are kept.
    Errors: UsageError for impossible values; InputError for missing packages or assets, and for forbidden ones;
    OutputError when the result cannot be written.
    """
    _check(hours, jobs, split, format, assets)
    refuse_forbidden(assets)
    for line in _notices(assets):
        on_notice(line)
    try:
        out.mkdir(parents=True, exist_ok=True)
        for unfinished in out.glob(".[0-9]*.[0-9]*"):
            shutil.rmtree(unfinished, ignore_errors=True)
    except OSError as error:
        raise OutputError(f"cannot write to '{out}': {error.strerror}. Choose another --out.") from error
    with tempfile.TemporaryDirectory(prefix="stemforge-render-") as work:
        job = Job(open_catalogue(assets, split, Path(work)), out, seed, format, longest)
        rows: list[dict[str, Any]] = []
        for row in _rendered(job, jobs, hours):
            rows.append(row)
            on_song(row, sum(r["seconds"] for r in rows) / 3600)
    for extra in sorted(out.glob("[0-9]*/song.json")):
        if int(extra.parent.name) >= len(rows):
            shutil.rmtree(extra.parent)
    return write_report(rows, out)


def _check(hours: float, jobs: int, split: str, format: str, assets: Path) -> None:
    if hours <= 0 or jobs < 1:
        raise UsageError(f"--hours {hours} and --jobs {jobs}: hours must be above 0 and jobs at least 1.")
    if split not in SPLITS or format not in FORMATS:
        raise UsageError(
            f"--split {split} --format {format}: splits are {', '.join(SPLITS)}, formats {', '.join(FORMATS)}."
        )
    fonts = [*assets.glob("fonts/*.sf2"), *assets.glob("fonts/*.sf3")]
    for name in (*NEEDED, *(["tinysoundfont"] if fonts else [])):
        require(name)
    if not assets.is_dir():
        raise InputError(f"no assets in '{assets}': the folder does not exist. docs/data.md says how to fill it.")


def _notices(assets: Path) -> Iterator[str]:
    if not mma.available():
        yield "mma is not installed (apt install mma): all bands are our own players, which is less varied."
    if not speech.available():
        without = "less of it" if people.find(assets / "voices") else "no song will hold speech"
        yield f"espeak-ng is not installed (apt install espeak-ng): {without}."


def _rendered(job: Job, jobs: int, hours: float) -> Iterator[dict[str, Any]]:
    """Manifest rows in the order of their songs until they last `hours`; a few songs run ahead in other processes."""
    if jobs == 1:
        _JOB[:] = [job]
        yield from _until(hours, map(_render_to_disk, iter(range(10**9))))
        return
    with ProcessPoolExecutor(jobs, get_context("spawn"), _start_worker, (job,)) as pool:
        yield from _until(hours, _ahead(pool, jobs))


def _ahead(pool: ProcessPoolExecutor, jobs: int) -> Iterator[dict[str, Any]]:
    waiting: list[Future[dict[str, Any]]] = [pool.submit(_render_to_disk, index) for index in range(2 * jobs)]
    index = len(waiting)
    try:
        while True:
            row = waiting.pop(0).result()
            waiting.append(pool.submit(_render_to_disk, index))
            index += 1
            yield row
    finally:
        for future in waiting:
            future.cancel()


def _until(hours: float, rows: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    seconds = 0.0
    for row in rows:
        seconds += row["seconds"]
        yield row
        if seconds >= hours * 3600:
            return
