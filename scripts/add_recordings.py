"""Recordings of played instruments under free licences, as songs of one stem for `stemforge train`.

    python scripts/add_recordings.py CLONES OUT [NAME ...]

CLONES holds clones (or unpacked packages), named as they are; `recordings.toml` lists what is taken of which,
docs/data.md whose playing it is and under which licence. Written to OUT/<name>-<number>/<stem>.npy, 44.1 kHz
stereo int16 at the usual level of the stem, with the licence beside it. The trainer puts them beside the stems of
other songs.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import soundfile
import soxr
from clones import entries, files

from stemforge.data import effects, levels
from stemforge.data.score import RATE

LICENCES = ("LICENSE*", "ATTRIBUTION*", "copyright")


def played(path: Path) -> np.ndarray:
    """A recording as (time, 2) at RATE; 20 minutes of it at the most."""
    rate = soundfile.info(path).samplerate
    sound, _ = soundfile.read(path, frames=1200 * rate, dtype="float32", always_2d=True)
    both = sound[:, [0, -1]]
    return np.ascontiguousarray(soxr.resample(both, rate, RATE), np.float32) if rate != RATE else both.copy()


def amplified(rng: np.random.Generator, sound: np.ndarray, stem: str) -> np.ndarray:
    """A dry take through an amplifier and what else a mixing engineer may put on it, in its place."""
    role = str(rng.choice(["power", "lead", "comp"]))
    chain = effects.draw_chain(rng, stem, role, 27, True)
    pan, width = effects.draw_place(rng, stem, False)
    return effects.placed(effects.apply(chain, levels.to_level(sound, -20.0)), pan, width)


def write(folder: Path, stem: str, sound: np.ndarray, licences: list[Path]) -> None:
    """One song of one stem."""
    folder.mkdir(parents=True, exist_ok=True)
    level = levels.to_level(sound, levels.TARGETS[stem])
    level *= np.float32(min(1.0, levels.PEAK / max(np.abs(level).max(), 1e-9)))
    np.save(folder / f"{stem}.npy", np.round(level * 32767).astype(np.int16))
    for path in licences:
        (folder / path.name).write_bytes(path.read_bytes())


def main(clones: Path, out: Path, names: list[str]) -> None:
    """Write the recordings of every entry (or those named) whose clone is there."""
    for name, entry, clone in entries("recordings.toml", clones, names):
        chosen = files(name, entry, clone)
        licences = [
            path for word in ("LICENSE*", "ATTRIBUTION*", "copyright") for path in sorted(clone.glob(f"**/{word}"))
        ]
        rng, count = np.random.default_rng(0), 0
        for path in chosen:
            sound = played(path)
            for _ in range(entry.get("takes", 1)):
                heard = amplified(rng, sound, entry["stem"]) if entry.get("dry") else sound
                write(out / f"{name}-{count:02d}", entry["stem"], heard, licences)
                count += 1
        print(f"{name}: {len(chosen)} recordings, {count} songs of {entry['stem']}")


if __name__ == "__main__":
    if len(sys.argv) < 3:
        raise SystemExit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
