"""Copy an assets folder with smaller files, for a machine without a network.

    python scripts/slim_assets.py assets slim

It keeps what training songs use, whole instruments only: fonts, MIDI songs, four SFZ maps, two velocity sets of the
piano (mono, 7 s), the one-shots that drum kits are drawn from, one Hydrogen kit. Samples become smaller OGG Vorbis.
"""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import numpy as np
import soundfile

from stemforge.data.unpack import ONE_SHOTS, PITCHED

MAPS = ("linguine", "rubner_pizz", "green_twang", "muldjordkit")
QUALITY = 0.9  # 0 best, 1 smallest


def encode(source: Path, target: Path, seconds: float = 60.0, mono: bool = False) -> None:
    """One sample as OGG Vorbis."""
    samples, rate = soundfile.read(source, dtype="float32", always_2d=True)
    samples = samples[: round(seconds * rate)]
    if len(samples) == round(seconds * rate):
        samples[-rate // 2 :] *= np.linspace(1, 0, rate // 2, dtype=np.float32)[:, None]
    samples = samples.mean(axis=1, keepdims=True) if mono else samples
    target.parent.mkdir(parents=True, exist_ok=True)
    with soundfile.SoundFile(
        target, "w", rate, samples.shape[1], format="OGG", subtype="VORBIS", compression_level=QUALITY
    ) as file:
        for start in range(0, len(samples), 65536):
            file.write(samples[start : start + 65536])


def main() -> None:
    """Write the copy and say how large it is."""
    source, target = Path(sys.argv[1]), Path(sys.argv[2])
    shutil.rmtree(target, ignore_errors=True)
    for part in ("fonts", "midi"):
        shutil.copytree(source / part, target / part)
    for path in sorted(source.glob("sfz/*/*.sfz")):
        if path.stem in MAPS:
            text = path.read_text(encoding="utf-8")
            for name in sorted(set(re.findall(r"sample=(\S+)", text))):
                encode(path.parent / name, target / "sfz" / path.parent.name / name)
            shutil.copy2(path, target / "sfz" / path.parent.name / path.name)
            for licence in path.parent.glob("LICENSE*"):
                shutil.copy2(licence, target / "sfz" / path.parent.name / licence.name)
    piano = source / "samples" / "salamander"
    for path in sorted([*piano.glob("*v6.ogg"), *piano.glob("*v10.ogg")]):
        encode(path, target / "samples" / "salamander" / path.name, seconds=7.0, mono=True)
    shots = source / "samples" / "sonic-pi"
    names = [*PITCHED, *(pattern for patterns in ONE_SHOTS.values() for pattern in patterns)]
    for path in sorted({path for name in names for path in shots.glob(f"{name}.flac")}):
        encode(path, target / "samples" / "sonic-pi" / f"{path.stem}.ogg")
    if (source / "drumkits" / "Audiophob").is_dir():
        shutil.copytree(source / "drumkits" / "Audiophob", target / "drumkits" / "Audiophob")
    for path in sorted(target.iterdir()):
        print(f"{sum(f.stat().st_size for f in path.rglob('*') if f.is_file()) / 2**20:6.1f} MiB  {path.name}")


if __name__ == "__main__":
    main()
