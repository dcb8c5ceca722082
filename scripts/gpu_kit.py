"""Pack what a training machine without a network needs into .kit/: wheels, sounds, songs, MMA, validation songs.

    python scripts/slim_assets.py assets assets-slim
    python scripts/gpu_kit.py --assets assets-slim --valid data/valid

The other machine has Python 3.12, torch and torchaudio 2.11, numpy, rich, typer, tensorboard, safetensors and einops,
and gets a copy of this repository with .kit/ in it; there `bash scripts/gpu_train.sh` does the rest. The kit stays
below 60 MiB.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import soundfile

LIMIT = 60 * 2**20
WHEELS = (
    "tinysoundfont==0.3.7",
    "pysfizz==0.1.3",
    "mido==1.3.3",
    "pedalboard==0.9.26",
    "soundfile==0.14.0",
    "cffi",
    "pycparser",
    "soxr",
    "lightning-fabric==2.6.6",
    "lightning-utilities",
)
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_27_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
VALID_SECONDS, VALID_SONGS = 9, 10


def wheels(folder: Path) -> None:
    """cp312 wheels, each by itself: what the other machine already has stays as it is."""
    platforms = [word for p in PLATFORMS for word in ("--platform", p)]
    for name in WHEELS:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
        command += ["--python-version", "3.12", "--implementation", "cp", *platforms, "-d", str(folder), name]
        subprocess.run(command, check=True)


def mma(target: Path) -> None:
    """The files of the Debian package, to be unpacked at the root: MMA only works from its own place."""
    listed = subprocess.run(["dpkg", "-L", "mma"], check=True, capture_output=True, text=True).stdout.split("\n")
    with tarfile.open(target, "w:xz") as tar:
        for name in listed:
            path = Path(name)
            if name and path.is_file() and not {"doc", "man", "info"} & set(path.parts):
                tar.add(path, arcname=name.lstrip("/"))


def validation(source: Path, target: Path) -> None:
    """A short piece of some songs, as OGG Vorbis of high quality: the mixture is the sum of what is decoded."""
    for song in sorted(p for p in source.iterdir() if p.is_dir())[:VALID_SONGS]:
        for stem in sorted(song.glob("*.npy")):
            data = np.load(stem, mmap_mode="r")
            start = max(0, len(data) // 2 - 22050 * VALID_SECONDS)
            place = target / song.name
            place.mkdir(parents=True, exist_ok=True)
            with soundfile.SoundFile(place / f"{stem.stem}.ogg", "w", 44100, 2, compression_level=0.5) as file:
                file.write(data[start : start + 44100 * VALID_SECONDS])


def main() -> None:
    """Make the kit anew and say what is in it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--assets", type=Path, default=Path("assets-slim"))
    parser.add_argument("--valid", type=Path, default=Path("data/valid"))
    parser.add_argument("--out", type=Path, default=Path(".kit"))
    args = parser.parse_args()
    for needed in (args.assets, args.valid):
        if not needed.is_dir():
            raise SystemExit(
                f"gpu_kit: '{needed}' is not there: see docs/data.md for the assets, and render the songs."
            )
    shutil.rmtree(args.out, ignore_errors=True)
    for part in ("wheels", "valid"):
        (args.out / part).mkdir(parents=True)
    shutil.copytree(args.assets, args.out / "assets")
    wheels(args.out / "wheels")
    mma(args.out / "mma.tar.xz")
    validation(args.valid, args.out / "valid")
    sizes = {p.name: sum(f.stat().st_size for f in [p, *p.rglob("*")] if f.is_file()) for p in args.out.iterdir()}
    for name, size in sorted(sizes.items()):
        print(f"{size / 2**20:6.1f} MiB  {name}")
    total = sum(sizes.values())
    print(f"{total / 2**20:6.1f} MiB  of {LIMIT / 2**20:.0f}")
    if total > LIMIT:
        raise SystemExit("gpu_kit: too large; take packs out of the slim assets.")


if __name__ == "__main__":
    main()
