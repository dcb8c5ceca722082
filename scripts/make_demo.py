"""Play the example song, "Low Tide": examples/demo.flac, and with --stems its five stems.

    python scripts/make_demo.py --assets ASSETS [--out examples/demo.flac] [--stems FOLDER]

ASSETS holds `sfz/` (the packs pastabass, black-and-green-guitars and muldjordkit) and `salamander/` (the samples
A0v6.ogg ... C8v14.ogg of the npm packages @audio-samples/piano-velocity6, -velocity10 and -velocity14).
Needs the [data] extra. The same assets give the same file.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import soundfile as sf
import soxr
from numpy.typing import NDArray
from pysfizz import _sfizz

Signal = NDArray[np.float64]
Note = tuple[float, float, int, int]
"""Start in beats, length in beats, MIDI key, velocity."""

RATE, BLOCK = 44100, 64
BEAT = 60 / 100  # seconds
BARS, TAIL = 9, 1.6  # bars of four beats; seconds that ring on
LENGTH = int((BARS * 4 * BEAT + TAIL) * RATE)
RNG = np.random.default_rng(20)

# Dadd9 | A/C# | Bm7 | Gmaj9 | D/F# | Gmaj9 | Em9 | A7sus4 A7 | Dadd9
BASS_KEYS = (38, 37, 35, 31, 42, 43, 40, 33, 38)
GUITAR_CHORDS = (
    (50, 57, 62, 64, 66, 69),
    (49, 57, 61, 64, 69, 71),
    (47, 54, 57, 62, 66, 69),
    (43, 50, 57, 59, 62, 66),
    (42, 50, 57, 62, 66, 69),
    (43, 50, 57, 62, 66, 69),
    (40, 52, 55, 59, 62, 66),
    (45, 52, 57, 62, 64, 67),
    (50, 57, 62, 64, 66, 69),
)
PIANO_CHORDS = (
    (54, 57, 61, 64),
    (52, 57, 61, 64),
    (54, 57, 62, 66),
    (54, 59, 62, 69),
    (57, 62, 66, 69),
    (57, 62, 66, 71),
    (55, 59, 62, 66),
    (55, 59, 62, 64),
    (57, 62, 64, 66),
)
MELODY = (
    ((0, 1.5, 78), (1.5, 0.5, 76), (2, 1, 74), (3, 1, 69)),
    ((0, 1, 73), (1, 0.5, 74), (1.5, 1.5, 76), (3, 1, 71)),
    ((0, 1.5, 74), (1.5, 0.5, 73), (2, 0.5, 71), (2.5, 1.5, 66)),
    ((0, 0.5, 69), (0.5, 0.5, 71), (1, 1, 74), (2, 2, 78)),
    ((0, 1, 81), (1, 0.5, 78), (1.5, 1, 76), (2.5, 0.5, 74), (3, 1, 76)),
    ((0, 1.5, 78), (1.5, 0.5, 79), (2, 1, 78), (3, 1, 74)),
    ((0, 1, 71), (1, 1, 74), (2, 0.5, 76), (2.5, 0.5, 78), (3, 1, 79)),
    ((0, 1.5, 76), (1.5, 0.5, 74), (2, 1, 76), (3, 0.5, 71), (3.5, 0.5, 73)),
    ((0, 3.5, 74),),
)
KICK, STICK, SNARE, HAT, OPEN_HAT, CRASH, RIDE, TOMS = 36, 37, 38, 42, 46, 49, 51, (48, 45, 41)


def bass() -> list[Note]:
    """Root, an octave or fifth on the way, and a step towards the next root."""
    notes: list[Note] = []
    for bar, (key, following) in enumerate(zip(BASS_KEYS, (*BASS_KEYS[1:], None), strict=True)):
        start = 4 * bar
        if following is None:
            return [*notes, (start, 4, key, 96)]
        step = following - 1 if following > key else following + 2
        notes += [(start, 1.4, key, 100), (start + 1.5, 0.5, key, 84), (start + 2, 0.9, key + 7, 90)]
        notes += [(start + 3, 0.45, key + 12 if key < 40 else key, 82), (start + 3.5, 0.5, step, 92)]
    return notes


def drums() -> list[Note]:
    """A slow backbeat: ride in the second half, toms before bar 5 and before the end."""
    notes: list[Note] = [(0, 1, CRASH, 70)]
    for bar in range(BARS - 1):
        start, last = 4 * bar, bar in (3, 7)
        notes += [(start, 0.5, KICK, 104), (start + 1.5, 0.5, KICK, 78), (start + 2.5, 0.5, KICK, 92)]
        notes += [(start + 1, 0.5, SNARE, 100), (start + (2.75 if last else 3), 0.5, SNARE, 70 if last else 102)]
        cymbal = HAT if bar < 4 else RIDE
        beats = np.arange(0, 3 if last else 4, 0.5)
        notes += [(start + b, 0.5, cymbal, 84 if b % 1 == 0 else 62) for b in beats]
        if last:
            fill = (SNARE, SNARE, TOMS[0], TOMS[0], TOMS[1], TOMS[2])
            notes += [(start + 3 + i / 6, 0.2, key, 80 + 5 * i) for i, key in enumerate(fill)]
        elif bar % 2:
            notes.append((start + 3.5, 0.5, OPEN_HAT, 70))
        if bar == 4:
            notes.append((start, 1, CRASH, 96))
    end = 4 * (BARS - 1)
    return [*notes, (end, 4, CRASH, 92), (end, 1, KICK, 104)]


def guitar() -> list[Note]:
    """Arpeggio in eighths that rings through each bar; the last chord is strummed."""
    notes: list[Note] = []
    for bar, chord in enumerate(GUITAR_CHORDS):
        if bar == BARS - 1:
            return [*notes, *((4 * bar + 0.04 * i, 4, key, 92) for i, key in enumerate(chord))]
        for i, string in enumerate((0, 2, 3, 4, 5, 4, 3, 2)):
            notes.append((4 * bar + i / 2, 4 - i / 2, chord[string], 96 if i in (0, 4) else 80))
    return notes


def piano() -> list[Note]:
    """Chords off the beat, fuller in the second half."""
    notes: list[Note] = []
    for bar, chord in enumerate(PIANO_CHORDS):
        hits = ((0, 1.4), (1.5, 1), (2.5, 1.4)) if bar < 4 else ((0, 0.9), (1, 0.45), (1.5, 1), (2.5, 0.5), (3, 0.9))
        if bar == BARS - 1:
            hits = ((0, 4),)
        top = chord[-1] + 12 - (0 if bar < 4 else 12)
        for at, length in hits:
            notes += [(4 * bar + at, length, key, 72 if at % 1 else 88) for key in (*chord[:-1], top)]
        notes.append((4 * bar + 3.5, 0.5, chord[-1] + 12, 70))
    return notes


def lead() -> list[Note]:
    """The tune."""
    return [(4 * bar + at, length, key, 96) for bar, line in enumerate(MELODY) for at, length, key in line]


def human(notes: list[Note], spread: float = 0.006) -> list[tuple[float, float, int, int]]:
    """Notes in seconds, a few milliseconds and some velocity off."""
    return [
        (max(0.0, at * BEAT + RNG.normal(0, spread)), length * BEAT, key, int(np.clip(vel + RNG.normal(0, 5), 20, 127)))
        for at, length, key, vel in notes
    ]


def play_sfz(path: Path, notes: list[Note]) -> Signal:
    """(time, 2): the notes played by an SFZ instrument."""
    synth = _sfizz.Synth(RATE, BLOCK)
    synth.enable_freewheeling()
    if not synth.load_sfz_file(str(path)):
        raise SystemExit(f"make_demo: cannot load {path}")
    events = [(at, 1, key, vel) for at, _, key, vel in notes] + [
        (at + length, 0, key, 0) for at, length, key, _ in notes
    ]
    events.sort()
    blocks, position = [], 0
    for start in range(0, LENGTH, BLOCK):
        while position < len(events) and events[position][0] * RATE < start + BLOCK:
            _, on, key, vel = events[position]
            synth.note_on(0, key, vel) if on else synth.note_off(0, key, 0)
            position += 1
        blocks.append(np.stack(synth.render_block(), axis=1))
    return np.concatenate(blocks)[:LENGTH].astype(np.float64)


def play_piano(folder: Path, notes: list[Note]) -> Signal:
    """(time, 2): Salamander samples, recorded every third key, tuned to the notes between."""
    out = np.zeros((LENGTH, 2))
    names = {9: "A", 0: "C", 3: "D#", 6: "F#"}
    for at, length, key, vel in notes:
        nearest = min((k for k in range(key - 1, key + 2) if k % 12 in names), key=lambda k: abs(k - key))
        layer = 6 if vel < 66 else 10 if vel < 96 else 14
        x, rate = sf.read(folder / f"{names[nearest % 12]}{nearest // 12 - 1}v{layer}.ogg", always_2d=True)
        x = soxr.resample(x, rate * 2 ** ((key - nearest) / 12), RATE)
        start = int(at * RATE)
        x = x[: LENGTH - start] * (vel / 100) ** 2
        release = np.clip(1 - (np.arange(len(x)) / RATE - length) / 0.25, 0, 1)
        out[start : start + len(x)] += x * release[:, None] ** 2
    return out


def play_lead(notes: list[Note]) -> Signal:
    """(time, 2): a soft reed, six harmonics with vibrato and breath, a little wider than mono."""
    out = np.zeros((LENGTH, 2))
    for at, length, key, vel in notes:
        t = np.arange(int((length + 0.12) * RATE)) / RATE
        vibrato = 0.006 * np.clip((t - 0.25) / 0.4, 0, 1) * np.sin(2 * np.pi * 5.2 * t)
        envelope = np.minimum(t / 0.04, 1) * np.clip((length + 0.12 - t) / 0.15, 0, 1) * (0.8 + 0.2 * np.exp(-3 * t))
        start = int(at * RATE)
        for channel, cents in enumerate((-3, 3)):
            hz = 440 * 2 ** ((key - 69 + cents / 100) / 12) * (1 + vibrato)
            phase = 2 * np.pi * np.cumsum(hz) / RATE
            tone = sum(a * np.sin(n * phase) for n, a in enumerate((1, 0.35, 0.3, 0.12, 0.1, 0.05), start=1))
            breath = np.convolve(RNG.standard_normal(len(t)), (0.25, 0.5, 0.25), "same") * 0.012
            x = ((tone + breath) * envelope * vel / 100)[: LENGTH - start]
            out[start : start + len(x), channel] += x
    return out


def room(x: Signal, seconds: float, wet: float) -> Signal:
    """A decaying diffuse tail, different left and right, after 12 ms."""
    n = int(seconds * RATE)
    decay = np.exp(-6.9 * np.arange(n) / n)[:, None] * RNG.standard_normal((n, 2))
    kernel = np.cumsum(decay - decay.mean(axis=0), axis=0) * 0.3 + decay * 0.4  # darker than white
    kernel = np.concatenate([np.zeros((int(0.012 * RATE), 2)), kernel / np.sqrt((kernel**2).sum(axis=0))])
    size = 1 << (len(x) + len(kernel)).bit_length()
    tail = np.fft.irfft(np.fft.rfft(x, size, axis=0) * np.fft.rfft(kernel, size, axis=0), axis=0)[: len(x)]
    return x + wet * tail


def place(x: Signal, level_db: float, pan: float) -> Signal:
    """Bring the RMS to `level_db` dBFS and lean to one side, pan in [-1, 1]."""
    angle = (pan + 1) * np.pi / 4
    gain = 10 ** (level_db / 20) / np.sqrt(np.mean(x**2))
    return x * gain * np.sqrt(2) * np.array([np.cos(angle), np.sin(angle)])


def perform(assets: Path) -> dict[str, Signal]:
    """Stem -> (time, 2), full scale 1, with the fade at the end."""
    sfz = assets / "sfz"
    stems = {
        "bass": place(play_sfz(sfz / "pastabass/fetuccine.sfz", human(bass())), -23, 0.0),
        "drums": place(room(play_sfz(sfz / "muldjordkit/muldjordkit.sfz", human(drums(), 0.003)), 0.5, 0.12), -23, 0.0),
        "guitar": place(
            room(play_sfz(sfz / "black-and-green-guitars/green_twang.sfz", human(guitar())), 1.2, 0.2), -25, -0.45
        ),
        "piano": place(room(play_piano(assets / "salamander", human(piano())), 1.0, 0.12), -25, 0.4),
        "other": place(room(play_lead(human(lead(), 0.01)), 1.4, 0.3), -25, 0.05),
    }
    fade = np.clip((LENGTH - np.arange(LENGTH)) / (1.5 * RATE), 0, 1)[:, None]
    stems = {stem: x * fade for stem, x in stems.items()}
    peak = max(np.abs(sum(stems.values())).max(), *(np.abs(x).max() for x in stems.values()))
    return {stem: x * min(1.0, 0.9 / peak) for stem, x in stems.items()}


def main() -> None:
    """Write the song, and its stems where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--assets", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("examples/demo.flac"))
    parser.add_argument("--stems", type=Path)
    args = parser.parse_args()
    stems = perform(args.assets)
    sf.write(args.out, sum(stems.values()), RATE, subtype="PCM_16")
    if args.stems:
        args.stems.mkdir(parents=True, exist_ok=True)
        for stem, x in stems.items():
            sf.write(args.stems / f"{stem}.flac", x, RATE, subtype="PCM_24")


if __name__ == "__main__":
    main()
