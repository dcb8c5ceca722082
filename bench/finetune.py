"""Does `stemforge train finetune` learn the sounds of one band? Nobody met them: they are made here.

    python bench/finetune.py OUT [--songs 12] [--held 2] [key=value ...]

Makes five instruments by synthesis of its own (OUT/assets), renders songs with `stemforge data render`, all played by
them (OUT/songs), fine-tunes the embedded checkpoint on all but the last two and scores these two before and after:
active SI-SDR improvement in dB, stem by stem. Tells the processor time of the training, all threads together. What is
there already is kept. key=value: changes to the config `finetune`.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

RATE = 44100
SECONDS = 4.0
Wave = NDArray[np.float64]
T: Wave = np.arange(round(SECONDS * RATE)) / RATE


def hertz(key: float) -> float:
    """Of a MIDI key."""
    return float(440.0 * 2 ** ((key - 69) / 12))


def harmonics(f0: float, gain: Callable[[Wave], Wave], pitch: Wave | float = 1.0) -> Wave:
    """Sum of all harmonics of f0 below 15 kHz with amplitudes gain(Hz) / k; pitch: factor over time."""
    cycles = 2 * np.pi * f0 * np.cumsum(np.broadcast_to(pitch, T.shape)) / RATE
    k = np.arange(1, max(2, int(15000 / f0)))
    amplitudes = gain(np.asarray(k * f0, np.float64)) / k
    return np.asarray(sum(a * np.sin(n * cycles + 0.7 * n * n) for n, a in zip(k, amplitudes, strict=True)))


def formants(*places: tuple[float, float]) -> Callable[[Wave], Wave]:
    """Resonances at (Hz, width in Hz) over a quiet floor."""
    return lambda hz: 0.12 + np.asarray(sum(1 / (1 + ((hz - f) / w) ** 2) for f, w in places))


def horn(key: int, rng: np.random.Generator) -> Wave:
    """Bass: a blown pipe with a slow attack and a flutter of breath."""
    wobble = 1 + 0.003 * np.sin(2 * np.pi * 5.3 * T)
    tone = harmonics(hertz(key), formants((230, 90), (480, 120)), wobble) * (1 - np.exp(-T / 0.05))
    return np.asarray(tone * (1 + 0.3 * np.sin(2 * np.pi * 11 * T)) + 0.02 * rng.standard_normal(len(T)))


def bowed(key: int, rng: np.random.Generator) -> Wave:
    """Guitar: a string kept sounding by a magnet, through a wah that opens and closes."""
    wah = 0.5 + 0.5 * np.sin(2 * np.pi * 1.7 * T + rng.uniform(0, 6))
    shut, wide = (harmonics(hertz(key), formants((f, 140), (2.6 * f, 300))) for f in (520, 1500))
    return np.asarray(((1 - wah) * shut + wah * wide) * (1 - np.exp(-T / 0.03)) * np.exp(-T / 6))


def toy(key: int, rng: np.random.Generator) -> Wave:
    """Piano: rods struck in a wooden box, as sines that modulate each other, with a tremolo."""
    f0, index = hertz(key), 3.0 * np.exp(-T / 0.15) + 0.4
    tone = np.sin(2 * np.pi * f0 * T + index * np.sin(2 * np.pi * 3.53 * f0 * T)) * np.exp(-T / 0.9)
    box = rng.standard_normal(len(T)) * np.exp(-T / 0.01)
    return tone * (1 + 0.35 * np.sin(2 * np.pi * 6.1 * T)) + 0.15 * box


def musette(key: int, rng: np.random.Generator) -> Wave:
    """Other: three reeds a few cents apart, bright and nasal."""
    detunes = 2 ** (np.asarray([-17.0, 0.0, 14.0]) / 1200) * rng.uniform(0.9995, 1.0005, 3)
    voice = formants((900, 350), (2900, 500), (5200, 900))
    return np.asarray(sum(harmonics(hertz(key) * d, voice) for d in detunes) * (1 - np.exp(-T / 0.02)))


def machine(key: int, rng: np.random.Generator) -> Wave:
    """Drums: a swept sine for what is low, ringing metal for what is high, coloured noise between."""
    noise = rng.standard_normal(len(T))
    if key in (35, 36):
        return np.sin(2 * np.pi * np.cumsum(43 + 190 * np.exp(-T / 0.03)) / RATE) * np.exp(-T / 0.28)
    if key in (41, 43, 45, 47, 48, 50):
        f0 = 70 + 14 * (key - 41)
        cycles = np.cumsum(f0 * (1 + 1.2 * np.exp(-T / 0.06))) / RATE
        return np.sin(2 * np.pi * cycles + 2 * noise * np.exp(-T / 0.01)) * np.exp(-T / 0.25)
    if key in (37, 38, 39, 40):
        ring = np.sin(2 * np.pi * 331 * T + 4 * np.sin(2 * np.pi * 173 * T))
        rattle = 0.6 * ring + 0.5 * np.diff(noise, prepend=0.0)
        return np.asarray(rattle * np.exp(-T / (0.04 + 0.03 * (key - 37))))
    long = {46: 0.35, 49: 1.1, 57: 1.3, 52: 0.9, 55: 0.7, 51: 0.6, 59: 0.6, 53: 0.8}.get(key, 0.045)
    metal = sum(np.sign(np.sin(2 * np.pi * f * (1 + 0.01 * (key - 42)) * T)) for f in (2057, 3691, 5333, 7211))
    return np.asarray(np.diff(np.asarray(metal), 2, prepend=[0.0, 0.0]) * np.exp(-T / long))


BAND: dict[str, tuple[Callable[[int, np.random.Generator], Wave], range]] = {
    "bass": (horn, range(25, 62, 3)),
    "drums": (machine, range(35, 82)),
    "guitar": (bowed, range(39, 89, 3)),
    "piano": (toy, range(25, 104, 3)),
    "other": (musette, range(37, 97, 3)),
}


def instruments(assets: Path) -> None:
    """One sampled instrument a stem, as maps that `data render` takes."""
    for stem, (play, keys) in BAND.items():
        folder = assets / "sfz" / stem
        folder.mkdir(parents=True, exist_ok=True)
        lines = ["<global> ampeg_release=0.15 amp_veltrack=60" + (" loop_mode=one_shot" if stem == "drums" else "")]
        around = 0 if stem == "drums" else 1
        for key in keys:
            sound = play(key, np.random.default_rng((7, key)))
            sound *= np.minimum(1, np.minimum(T / 0.001, (SECONDS - T) / 0.2)) * 0.6 / np.abs(sound).max()
            soundfile.write(folder / f"{key}.wav", sound.astype(np.float32), RATE, subtype="PCM_16")
            lines.append(f"<region> sample={key}.wav lokey={key - around} hikey={key + around} pitch_keycenter={key}")
        (folder / "band.sfz").write_text("\n".join(lines) + "\n", encoding="utf-8")


def stemforge(*arguments: str | Path) -> str:
    """What a command of stemforge prints on stdout."""
    command = [sys.executable, "-m", "stemforge", *map(str, arguments)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def songs(out: Path, count: int, held: int) -> None:
    """`count` songs in OUT/songs; links to them in OUT/train and, the last `held` of them, in OUT/test."""
    rendered, hours = out / "songs", 0.0
    while len(list(rendered.glob("0*"))) < count:
        hours = max(hours + 0.02, 0.025 * count)
        stemforge("data", "render", "--assets", out / "assets", "--hours", str(hours), "--seed", "11",
                  "--format", "wav", "-j", str(os.cpu_count()), "-q", "-o", rendered)  # fmt: skip
    for k, song in enumerate(sorted(rendered.glob("0*"))[:count]):
        link = out / ("test" if k >= count - held else "train") / song.name
        link.parent.mkdir(exist_ok=True)
        if not link.exists():
            link.symlink_to(song.resolve())


def scores(folder: Path, checkpoint: str | Path) -> dict[str, float]:
    """Active SI-SDR improvement of a checkpoint, by stem and all."""
    found = json.loads(stemforge("evaluate", folder, "--checkpoint", checkpoint, "--json").splitlines()[-1])
    return {name: float(value) for name, value in found["active"].items()}


def row(name: str, values: dict[str, float]) -> str:
    """One line of the table."""
    return f"{name:8}" + "".join(f"{key:>9} {value:5.2f}" for key, value in values.items())


def main() -> None:
    """Read the command line, make what is not there, train, score."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("changes", nargs="*", metavar="key=value")
    parser.add_argument("--songs", type=int, default=12)
    parser.add_argument("--held", type=int, default=2)
    parser.add_argument("--run", default="run", help="name of the run in OUT")
    given = parser.parse_args()
    if not (given.out / "assets").exists():
        instruments(given.out / "assets")
    songs(given.out, given.songs, given.held)
    print(row("before", scores(given.out / "test", "forge")), flush=True)
    since, used = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    stemforge("train", "finetune", *given.changes, "--data", given.out / "train", "-o", given.out / given.run)
    now = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime
    print(row("after", scores(given.out / "test", given.out / given.run)), flush=True)
    print(f"training: {cpu / 60:.1f} CPU minutes, {(time.monotonic() - since) / 60:.1f} minutes")


if __name__ == "__main__":
    main()
