"""Recordings of played instruments under free licences, as songs of one stem, or of several, for `stemforge train`.

    python scripts/add_recordings.py CLONES OUT [NAME ...]

CLONES holds clones (or unpacked packages), named as they are; `recordings.toml` lists what is taken of which,
docs/data.md whose playing it is and under which licence. Written to OUT/<name>-<number>/<stem>.npy, 44.1 kHz
stereo int16, with the licence beside it: a song of one stem at the usual level of that stem, for the trainer to put
beside the stems of other songs; one of several with one gain for all.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from clones import entries, files
from numpy.typing import NDArray

from stemforge.audio.io import read
from stemforge.audio.resample import to_channels, to_rate
from stemforge.data import effects, levels
from stemforge.data.score import RATE
from stemforge.types import Audio

LICENCES = ("LICENSE*", "ATTRIBUTION*", "copyright")
LONGEST = 1200
"""Seconds of a recording that are kept."""
Sounds = dict[str, NDArray[np.float32]]
"""Stems (time, 2)."""


def played(path: Path) -> NDArray[np.float32]:
    """A recording as (time, 2) at RATE."""
    sound = read(path)
    sound = Audio(to_channels(sound.samples[:, : LONGEST * sound.rate], 2), sound.rate)
    return np.ascontiguousarray(to_rate(sound, RATE).samples.numpy().T)


def amplified(rng: np.random.Generator, sound: NDArray[np.float32], stem: str) -> NDArray[np.float32]:
    """A dry take through an amplifier and what else a mixing engineer may put on it, in its place."""
    role = str(rng.choice(["power", "lead", "comp"]))
    chain = effects.draw_chain(rng, stem, role, 27, True)
    pan, width = effects.draw_place(rng, stem, False)
    return effects.placed(effects.apply(chain, levels.to_level(sound, -20.0)), pan, width)


def takes(entry: dict[str, Any], paths: list[Path]) -> Iterator[Sounds]:
    """Songs of one stem: each recording, or a dry one as often as the entry says."""
    rng, stem = np.random.default_rng(0), entry["stem"]
    for path in paths:
        sound = played(path)
        for _ in range(entry.get("takes", 1)):
            heard = amplified(rng, sound, stem) if entry.get("dry") else sound
            yield {stem: levels.to_level(heard, levels.TARGETS[stem])}


def songs(entry: dict[str, Any], paths: list[Path]) -> Iterator[Sounds]:
    """Songs in tracks, a folder each: the sum of the tracks of each stem."""
    for folder in sorted({path.parent for path in paths}):
        stems: Sounds = {}
        for path in (path for path in paths if path.parent == folder):
            stem = next(stem for stem, pattern in entry["parts"].items() if re.search(pattern, path.stem))
            track = played(path)
            old = stems.get(stem, np.zeros((0, 2), np.float32))
            total = np.zeros((max(len(old), len(track)), 2), np.float32)
            total[: len(old)] += old
            total[: len(track)] += track
            stems[stem] = total
        length = max(map(len, stems.values()))
        yield {stem: np.pad(sound, ((0, length - len(sound)), (0, 0))) for stem, sound in stems.items()}


def write(folder: Path, stems: Sounds, licences: list[Path]) -> None:
    """One song, with one gain that keeps it below full scale."""
    folder.mkdir(parents=True, exist_ok=True)
    gain = levels.common_gain(stems)
    for stem, sound in stems.items():
        np.save(folder / f"{stem}.npy", np.round(sound * np.float32(gain * 32767)).astype(np.int16))
    for path in licences:
        (folder / path.name).write_bytes(path.read_bytes())


def main(clones: Path, out: Path, names: list[str]) -> None:
    """Write the recordings of every entry (or those named) whose clone is there."""
    for name, entry, clone in entries("recordings.toml", clones, names):
        chosen, count = files(name, entry, clone), 0
        licences = [path for word in LICENCES for path in sorted(clone.glob(f"**/{word}"))]
        for stems in (songs if "parts" in entry else takes)(entry, chosen):
            write(out / f"{name}-{count:02d}", stems, licences)
            count += 1
        print(f"{name}: {len(chosen)} recordings, {count} songs")


if __name__ == "__main__":
    if len(sys.argv) < 3:
        raise SystemExit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
