"""A small synthesizer: band-limited wavetables with a moving brightness, two-operator FM, and sung vowels.

A table holds one period at several levels of brightness (or at several vowels); a note reads along the period by its
phase and across the levels by its envelope. So a filter sweep or a change of vowel costs two look-ups a sample.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stemforge.data.score import RATE, Part

Wave = NDArray[np.float32]
PERIOD, LEVELS = 2048, 10
FORMANTS: dict[str, tuple[tuple[float, float, float], ...]] = {
    # Hz, bandwidth Hz, gain dB; five formants of a tenor voice, as in the Csound manual's table
    "a": ((650, 80, 0), (1080, 90, -6), (2650, 120, -7), (2900, 130, -8), (3250, 140, -22)),
    "e": ((400, 70, 0), (1700, 80, -14), (2600, 100, -12), (3200, 120, -14), (3580, 120, -20)),
    "i": ((290, 40, 0), (1870, 90, -15), (2800, 100, -18), (3250, 120, -20), (3540, 120, -30)),
    "o": ((400, 70, 0), (800, 80, -10), (2600, 100, -12), (2800, 130, -12), (3000, 135, -26)),
    "u": ((350, 40, 0), (600, 60, -20), (2700, 100, -17), (2900, 120, -14), (3300, 120, -26)),
}


@dataclass(frozen=True)
class Patch:
    """A sound: wave saw, square, pulse, fm or vowel; times in seconds, detune in cents, cutoffs in Hz."""

    wave: str
    voices: int = 1
    detune: float = 0.0
    attack: float = 0.005
    decay: float = 0.4
    sustain: float = 0.7
    release: float = 0.15
    low_cut: float = 300.0
    high_cut: float = 4000.0
    sweep: float = 0.4
    ratio: float = 1.0
    index: float = 2.0
    vibrato: float = 0.0
    size: float = 1.0
    vowels: str = "a"


def draw_patch(rng: np.random.Generator, role: str) -> Patch:
    """A random patch for a role: bass, lead, pad, vowels or comp."""
    slow = role == "pad"
    wave = "vowel" if role == "vowels" else str(rng.choice(["saw", "saw", "square", "pulse", "fm", "fm"]))
    return Patch(
        wave=wave,
        voices=1 if wave in ("fm", "vowel") else int(rng.choice([1, 2, 2, 3])),
        detune=float(rng.uniform(3, 16)),
        attack=float(rng.uniform(*(0.15, 0.8) if slow else (0.04, 0.12) if wave == "vowel" else (0.002, 0.03))),
        decay=float(rng.uniform(0.1, 1.2)),
        sustain=float(rng.uniform(0.5, 0.95) if slow or role == "vowels" else rng.uniform(0.2, 0.9)),
        release=float(rng.uniform(0.3, 1.2) if slow else rng.uniform(0.04, 0.3)),
        low_cut=float(rng.uniform(120, 800)),
        high_cut=float(np.exp(rng.uniform(np.log(900), np.log(11000)))),
        sweep=float(rng.uniform(0.05, 1.0)),
        ratio=float(rng.choice([0.5, 1.0, 1.0, 2.0, 3.0, 3.5, 1.41, 7.0])),
        index=float(rng.uniform(0.5, 5.0)),
        vibrato=float(rng.uniform(0.1, 0.35)) if role == "vowels" else float(rng.choice([0.0, 0.0, 0.1, 0.2])),
        size=float(rng.uniform(0.85, 1.25)),
        vowels="".join(rng.choice(list(FORMANTS), size=4)),
    )  # fmt: skip


def play_patch(rng: np.random.Generator, patch: Patch, part: Part, frames: int) -> NDArray[np.float32]:
    """The part played by the patch: (time, 2), the two sides detuned against each other where there are voices."""
    sound = np.zeros((frames, 2), np.float32)
    tables: dict[int, Wave] = {}
    for note in part.notes:
        start, held = round(note.start * RATE), round(note.length * RATE)
        count = min(held + round(patch.release * RATE), frames - start)
        if count <= 64:
            continue
        volume = _envelope(patch, held, count) * np.float32((note.velocity / 127) ** 1.5)
        pitch = _pitch(rng, patch, part, note.key, start, count)
        if patch.wave == "fm":
            wave = np.repeat(_fm(patch, pitch, held, count)[:, None], 2, axis=1)
        else:
            table = tables.setdefault(note.key, _table(patch, note.key))
            wave = _voices(rng, patch, table, pitch, held, count)
        sound[start : start + count] += wave * volume[:, None]
    return sound


def _envelope(patch: Patch, held: int, count: int) -> Wave:
    times = np.array(
        [0.0, patch.attack, patch.attack + patch.decay, max(held / RATE, patch.attack + patch.decay + 0.001)]
    )
    curve = np.interp(np.arange(count) / RATE, times, [0.0, 1.0, patch.sustain, patch.sustain]).astype(np.float32)
    if held < count:
        curve[held:] = curve[min(held, count - 1)] * np.linspace(1, 0, count - held, dtype=np.float32) ** 2
    else:
        fade = min(64, count)
        curve[-fade:] *= np.linspace(1, 0, fade, dtype=np.float32)
    return curve


def _pitch(rng: np.random.Generator, patch: Patch, part: Part, key: int, start: int, count: int) -> NDArray[np.float64]:
    """Hz for each sample: the key, the part's bends, vibrato that grows, and slow drift of a voice."""
    seconds = np.arange(count) / RATE
    semitones = np.zeros(count)
    if part.bends:
        times, values = zip(*part.bends, strict=True)
        semitones += np.interp(seconds + start / RATE, times, values)
    if patch.vibrato:
        rate = rng.uniform(4.8, 6.2)
        semitones += patch.vibrato * np.sin(2 * np.pi * rate * seconds) * np.clip(seconds / 0.5 - 0.3, 0, 1)
    if patch.wave == "vowel":
        scoop = rng.uniform(0, 1.0)
        semitones -= scoop * np.exp(-seconds / 0.06)
    return np.asarray(440.0 * 2 ** ((key - 69 + semitones) / 12), dtype=np.float64)


def _table(patch: Patch, key: int) -> Wave:
    """One period at LEVELS levels, dark to bright, or along the patch's vowels: (LEVELS, PERIOD)."""
    pitch = 440.0 * 2 ** ((key - 69) / 12)
    number = np.arange(1, PERIOD // 2 + 1)
    hertz = np.asarray(number * pitch, np.float64)
    base = {"saw": 1 / number, "square": (number % 2) / number, "pulse": np.sin(np.pi * number * 0.23) / number,
            "vowel": 1 / number}[patch.wave]  # fmt: skip
    base = base * (hertz < 18000)
    rows = []
    for level in range(LEVELS):
        if patch.wave == "vowel":
            gains = _formant_gains(patch, hertz, level / (LEVELS - 1))
        else:
            cut = patch.low_cut * (patch.high_cut / patch.low_cut) ** (level / (LEVELS - 1))
            gains = 1 / np.sqrt(1 + (hertz / max(cut, pitch)) ** 4)
        spectrum = np.concatenate([[0], -0.5j * base * gains * PERIOD])
        row = np.fft.irfft(spectrum, PERIOD)
        rows.append(row / (np.sqrt(np.mean(row**2)) + 1e-9) if patch.wave == "vowel" else row)
    return np.asarray(rows, dtype=np.float32)


def _formant_gains(patch: Patch, hertz: NDArray[np.float64], place: float) -> NDArray[np.float64]:
    """Gains of the harmonics for a point between two vowels of the patch."""
    position = place * (len(patch.vowels) - 1)
    first = min(int(position), len(patch.vowels) - 2)
    weight = position - first
    here, there = FORMANTS[patch.vowels[first]], FORMANTS[patch.vowels[first + 1]]
    gains = np.full(len(hertz), 10 ** (-40 / 20))
    for (f0, w0, g0), (f1, w1, g1) in zip(here, there, strict=True):
        centre = patch.size * (f0 + weight * (f1 - f0))
        width = (w0 + weight * (w1 - w0)) * 1.5
        gains += 10 ** ((g0 + weight * (g1 - g0)) / 20) / (1 + ((hertz - centre) / width) ** 2)
    return gains


def _voices(
    rng: np.random.Generator, patch: Patch, table: Wave, pitch: NDArray[np.float64], held: int, count: int
) -> Wave:
    level = _levels(rng, patch, count)
    row = level.astype(np.int64)
    weight = (level - row).astype(np.float32)
    wave = np.zeros((count, 2), np.float32)
    cycles = np.cumsum(pitch) / RATE
    for voice in range(patch.voices):
        cents = patch.detune * (voice - (patch.voices - 1) / 2)
        phase = cycles * 2 ** (cents / 1200) + rng.random()
        at = ((phase % 1.0) * PERIOD).astype(np.int64) % PERIOD
        tone = table[row, at] * (1 - weight) + table[row + 1, at] * weight
        pan = 0.5 if patch.voices == 1 else voice / (patch.voices - 1) * 0.6 + 0.2
        wave[:, 0] += tone * np.float32(np.sqrt(1 - pan))
        wave[:, 1] += tone * np.float32(np.sqrt(pan))
    return wave


def _levels(rng: np.random.Generator, patch: Patch, count: int) -> NDArray[np.float64]:
    """Where in the table a note is at each sample: 0 to LEVELS - 1 (exclusive)."""
    seconds = np.arange(count) / RATE
    if patch.wave == "vowel":
        start, stop = rng.random(2)
        place = start + (stop - start) * np.clip(seconds / 0.25, 0, 1)
    else:
        place = (
            np.exp(-seconds / patch.sweep) * 0.9 + 0.1 if patch.attack < 0.1 else np.clip(seconds / patch.sweep, 0, 1)
        )
    return np.asarray(np.clip(place, 0, 1) * (LEVELS - 1.001), np.float64)


def _fm(patch: Patch, pitch: NDArray[np.float64], held: int, count: int) -> Wave:
    cycles = np.cumsum(pitch) / RATE * 2 * np.pi
    index = patch.index * (0.25 + 0.75 * np.exp(-np.arange(count) / RATE / patch.sweep))
    return np.sin(cycles + index * np.sin(patch.ratio * cycles)).astype(np.float32)
