"""Strings, tines and bars by modal synthesis: a new guitar, piano or mallet instrument for every part that asks.

A note is a sum of damped partials. For a string of fundamental f0, stiffness B, struck or plucked at the fraction p of
its length, heard at the fraction q (Fletcher and Rossing, The Physics of Musical Instruments, sections 2.9 and 12.3):

    f_k = k f0 sqrt(1 + B k^2)      a_k = sin(pi k p) sin(pi k q) h(f_k) / k      decay_k = d0 + d1 f_k^2

with h the resonances of a body and the softness of finger, pick or hammer. All sizes are drawn at random within what
real instruments span; the sampler then plays the notes, as it does with recorded packs.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from stemforge.data.score import RATE
from stemforge.data.unpack import BENDS, Map

Float = NDArray[np.float64]
Sound = NDArray[np.float32]
BLOCK = 256
VELOCITIES = (48, 88, 120)
KINDS: dict[str, dict[str, float]] = {
    "guitar": {"nylon": 1.0, "steel": 1.2, "electric": 1.8, "muted": 0.3},
    "piano": {"piano": 2.0, "tine": 1.0, "reed": 0.6, "harpsichord": 0.25, "clavinet": 0.3},
    "other": {"harp": 1.0, "mallets": 1.0, "bells": 0.5, "harpsichord": 0.3},
}
"""Instruments of each stem and how often they come."""
RANGES = {"guitar": (38, 88), "piano": (24, 103), "other": (40, 96)}
BARS = ((1.0, 3.93, 9.2), (1.0, 4.0, 10.1), (1.0, 2.756, 5.404, 8.933), (1.0, 2.0, 3.01, 4.17, 5.43), (1.0, 5.4, 12.2))
"""Ratios of partials: marimba, vibraphone, glockenspiel, bell, lamellaphone."""


@dataclass(frozen=True)
class Build:
    """How an instrument is built. Lengths are fractions of the string, decays are T60 in seconds at 262 Hz."""

    kind: str
    pluck: float
    pickup: float
    soft_hz: float
    slope: float
    stiffness: float
    decay: float
    treble_hz: float
    strings: int
    detune: float
    resonances: tuple[tuple[float, float, float], ...]
    knock: float
    width: float
    ratios: tuple[float, ...] = ()
    bend: float = 0.0


def draw_build(rng: np.random.Generator, stem: str) -> Build:
    """An instrument for the stem: guitar, piano or other."""
    kinds = KINDS[stem]
    weights = np.asarray(list(kinds.values()))
    kind = str(rng.choice(list(kinds), p=weights / weights.sum()))

    def log(low: float, high: float) -> float:
        return float(np.exp(rng.uniform(np.log(low), np.log(high))))

    soft, slope, decay, treble, stiffness = {
        "nylon": (log(500, 1800), 2.0, log(1.0, 3.5), log(900, 2500), log(1e-5, 6e-5)),
        "steel": (log(1200, 5000), 1.5, log(2.0, 7.0), log(1800, 6000), log(3e-5, 2e-4)),
        "electric": (log(1200, 5000), 2.0, log(3.0, 12.0), log(1500, 5000), log(3e-5, 2e-4)),
        "muted": (log(700, 3000), 2.0, log(0.12, 0.6), log(600, 2000), log(3e-5, 2e-4)),
        "piano": (log(500, 2500), 1.8, log(4.0, 14.0), log(1500, 5000), log(1.5e-4, 9e-4)),
        "harpsichord": (log(3000, 9000), 1.0, log(2.0, 6.0), log(2500, 7000), log(1e-5, 1e-4)),
        "clavinet": (log(1500, 6000), 1.5, log(1.0, 5.0), log(1500, 5000), log(2e-5, 2e-4)),
        "harp": (log(500, 2200), 2.0, log(1.5, 5.0), log(1000, 3000), log(1e-5, 5e-5)),
    }.get(kind, (log(700, 5000), 2.0, log(0.3, 3.0) if kind == "mallets" else log(1.5, 8.0), log(1500, 6000), 0.0))
    shapes = BARS[:2] if kind == "mallets" else BARS
    hollow = kind in ("nylon", "steel", "piano", "harpsichord", "harp", "mallets")
    bodies = [(log(90, 5000), float(rng.uniform(1.5, 12)), float(rng.uniform(-10, 12))) for _ in range(9)]
    coil = [(log(1800, 5500), float(rng.uniform(0.8, 3)), float(rng.uniform(0, 9)))]
    return Build(
        kind=kind,
        pluck=float(rng.uniform(0.06, 0.14) if kind == "piano" else rng.uniform(0.07, 0.4)),
        pickup=float(rng.uniform(0.04, 0.3)) if kind in ("electric", "muted", "clavinet") else 0.0,
        soft_hz=soft, slope=slope, stiffness=stiffness, decay=decay, treble_hz=treble,
        strings=int(rng.integers(2, 4)) if kind == "piano" else int(rng.choice([1, 1, 1, 2])) if hollow else 1,
        detune=log(0.2, 2.5) if kind == "piano" else log(0.3, 4.0),
        resonances=tuple(bodies if hollow else coil if kind in ("electric", "muted", "clavinet") else ()),
        knock=log(0.003, 0.08),
        width=float(rng.uniform(0, 0.5)) if hollow else 0.0,
        ratios=shapes[int(rng.integers(len(shapes)))] if kind in ("mallets", "bells") else (),
        bend=float(rng.uniform(0.3, 2.5)) if kind in ("tine", "reed") else 0.0,
    )  # fmt: skip


def partials(rng: np.random.Generator, build: Build, key: int, velocity: int) -> tuple[Float, Float, Float]:
    """Frequencies in Hz, amplitudes and decay rates (1/s) of a note; the module's docstring has the formula."""
    f0 = 440.0 * 2 ** ((key - 69) / 12)
    k: Float = np.arange(1.0, min(90, int(16000 / f0) + 1) + 1)
    if build.kind in ("tine", "reed"):
        hz = f0 * np.asarray([1.0, 6.27, 17.55] if build.kind == "tine" else [1.0, 2.0, 3.0])
        amplitudes = np.asarray([1.0, 0.25, 0.06] if build.kind == "tine" else [1.0, 0.12, 0.05]) * velocity / 127
        rates = np.asarray([1.0, 12.0, 30.0] if build.kind == "tine" else [1.0, 1.5, 2.0])
        hz, amplitudes, rates = (row[: int((hz < 16000).sum())] for row in (hz, amplitudes, rates))
        return hz, amplitudes, rates * 6.91 / (build.decay * (262 / f0) ** 0.5)
    if build.ratios:
        hz = f0 * np.asarray(build.ratios)
        amplitudes = 0.45 ** np.arange(float(len(hz)))
    else:
        hz = k * f0 * np.sqrt(1 + build.stiffness * (f0 / 262) ** 1.2 * k**2)
        amplitudes = np.sin(np.pi * k * build.pluck) / k
        if build.pickup:
            amplitudes = amplitudes * np.sin(np.pi * k * build.pickup * 2 ** ((key - 52) / 60)) * k**0.5
    hard = build.soft_hz * 2 ** ((velocity - 88) / 40) * (f0 / 262) ** 0.35
    amplitudes = amplitudes / (1 + (hz / hard) ** 2) ** (build.slope / 2) * rng.uniform(0.6, 1.4, len(hz))
    for centre, q, gain in build.resonances:
        amplitudes = amplitudes * 10 ** (gain / 20 / (1 + (q * (hz / centre - centre / hz)) ** 2))
    rates = (
        6.91 / build.decay * (f0 / 262) ** 0.6 * (1 + (hz / build.treble_hz) ** 1.5) * rng.uniform(0.7, 1.4, len(hz))
    )
    keep = hz < 18000
    return hz[keep], amplitudes[keep], rates[keep]


def damped(hz: Float, weights: NDArray[np.complex128], rates: Float, count: int) -> Float:
    """sum_k Re(w_k z_k^n), n = 0 .. count - 1, z_k = exp((2 pi i f_k - r_k) / rate), as one matrix product."""
    step = (2j * np.pi * hz - rates) / RATE
    fine = np.exp(np.arange(BLOCK)[:, None] * step).astype(np.complex64)
    coarse = (weights[:, None] * np.exp(step[:, None] * BLOCK * np.arange(-(-count // BLOCK)))).astype(np.complex64)
    return np.asarray((fine @ coarse).T.reshape(-1)[:count].real, np.float64)


def note(rng: np.random.Generator, build: Build, key: int, velocity: int, seconds: float) -> Sound:
    """One note (time, 2), rung out or faded at `seconds`; louder with velocity, peak below 1."""
    count = round(seconds * RATE)
    hz, amplitudes, rates = partials(rng, build, key, velocity)
    sides = np.zeros((count, 2))
    for string in range(build.strings):
        tuned = hz * 2 ** (build.detune * (string - (build.strings - 1) / 2) / 1200)
        phase = np.exp(1j * (rng.uniform(0, 0.4, len(hz)) - np.pi / 2))
        speed = rates * (1.0 if string == 0 else rng.uniform(0.4, 1.2))
        lean = build.width * rng.uniform(-1, 1, len(hz))
        for side, sign in enumerate((-1, 1) if build.width else (0,)):
            sides[:, side] += damped(tuned, amplitudes * (1 + sign * lean) * phase, speed, count)
    if not build.width:
        sides[:, 1] = sides[:, 0]
    if build.bend:
        sides = np.tanh(build.bend * sides + 0.3 * build.bend * sides**2)
    knock = rng.standard_normal(count // 8) * np.exp(-np.arange(count // 8) / (RATE * 0.006))
    size = np.abs(sides).max() + 1e-9
    sides[: len(knock)] += (build.knock * size * np.convolve(knock, np.ones(12) / 4, "same"))[:, None]
    sides[-RATE // 10 :] *= np.linspace(1, 0, RATE // 10)[:, None]
    sides[:32] *= np.linspace(0, 1, 32)[:, None]
    return np.asarray(sides / size * 0.7 * (velocity / 127) ** 1.3, np.float32)


def modelled_map(rng: np.random.Generator, stem: str, folder: Path) -> Map:
    """A drawn instrument as a map in `folder`: a note every third key, three velocities."""
    build = draw_build(rng, stem)
    low, high = RANGES[stem]
    release = float(rng.uniform(0.05, 0.4)) if build.kind != "bells" else 1.5
    lines = [f"<control> hint_ram_based=1\n<global> ampeg_release={release:.3f} amp_veltrack=25 {BENDS}"]
    folder.mkdir(parents=True, exist_ok=True)
    for key in range(low + 1, high, 3):
        seconds = float(np.clip(1.2 * build.decay * (262 / (440.0 * 2 ** ((key - 69) / 12))) ** 0.6, 0.3, 5.0))
        edges = [1, *((a + b) // 2 for a, b in pairwise(VELOCITIES)), 128]
        for i, velocity in enumerate(VELOCITIES):
            name = f"{key}-{velocity}.wav"
            soundfile.write(folder / name, note(rng, build, key, velocity, seconds), RATE, subtype="PCM_16")
            lines.append(
                f"<region> sample={name} lokey={key - 1} hikey={key + 1} pitch_keycenter={key} "
                f"lovel={edges[i]} hivel={edges[i + 1] - 1}"
            )
    path = folder / "map.sfz"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return Map(stem, f"modelled {build.kind}", path, low, high)
