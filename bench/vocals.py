"""A voice in a song: the cascade of --vocals and its two stages alone, with real speech at several levels.

    python bench/vocals.py SONGS SPEECH [--levels -6 0 6] [--seconds 12] [--first N] [--voice-with spleeter-2stem]
        [--checkpoint forge] [--csv FILE]

SONGS: one folder a song with one file a stem, without a voice. SPEECH: a folder of recorded speech, for example the
prompts of Debian's asterisk-core-sounds-en-g722 (Allison Smith, CC-BY-SA-3.0; 16 kHz) or -en-wav (the same at 8 kHz):

    apt-get download asterisk-core-sounds-en-g722 && dpkg-deb -x asterisk-core-sounds-en-g722*.deb speech

Rendered speech is made by `espeak-ng -w speech/1.wav -f text.txt`. Raw g722 and gsm are read by ffmpeg. Of each song
the middle `--seconds` are cut out. Phrases drawn by the number of the song follow each other with pauses, in the
middle of the stereo picture, at `--levels` dB of active RMS against the rest of the song. Three ways take the sum
apart: `cascade`; `voice`, the first stage alone, whose accompaniment is all there is for the other stems; `forge`,
the second alone, whose `other` is all there is for the vocals.

Printed for each level and way: active SI-SDR improvement in dB (docs/scores.md) of vocals and of each other stem, the
mean of the others, the worst sum of stems against the mixture in dB, and seconds of processor time for a second of
sound.
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from stemforge import checkpoints
from stemforge.audio.io import EXTENSIONS, read
from stemforge.audio.metrics import active_gains, sum_gap_db
from stemforge.audio.resample import to_channels, to_rate
from stemforge.devices import keep_memory
from stemforge.tasks.cascade import VOICE, Cascade
from stemforge.tasks.evaluate import find_stem, list_songs, list_stems
from stemforge.tasks.separate import separate
from stemforge.types import Audio, Separator

RATE = 44100
RAW = {".g722", ".gsm"}
Row = dict[str, float | str]


def phrases(folder: Path) -> list[Path]:
    """Files of speech of more than a word or two, by name."""
    found = (path for path in sorted(folder.rglob("*")) if path.suffix[1:].lower() in EXTENSIONS or path.suffix in RAW)
    return [path for path in found if path.stat().st_size > (4000 if path.suffix == ".gsm" else 16000)]


def spoken(path: Path) -> Tensor:
    """One phrase, (time,) at RATE, of active RMS 1."""
    if path.suffix in RAW:
        command = ["ffmpeg", "-nostdin", "-v", "error", "-i", str(path), "-f", "f32le", "-ac", "1", "-ar", str(RATE)]
        raw = subprocess.run([*command, "-"], check=True, capture_output=True).stdout
        sound = torch.from_numpy(np.frombuffer(raw, np.float32).copy())
    else:
        sound = to_rate(read(path), RATE).samples.mean(dim=0)
    return sound / active_rms(sound[None]).clamp(min=1e-6)


def active_rms(x: Tensor) -> Tensor:
    """RMS over those frames of 100 ms of x (channel, time) that are within 40 dB of the loudest."""
    size = RATE // 10
    frames = x[..., : x.shape[-1] // size * size].reshape(x.shape[0], -1, size).square().mean(dim=(0, 2))
    return frames[frames > 1e-4 * frames.max()].mean().sqrt()


def voice(files: list[Path], length: int, seed: int) -> Tensor:
    """Phrases one after another with pauses of 0.1 to 0.6 s, (2, length)."""
    rng = np.random.default_rng(seed)
    out, at = torch.zeros(length), int(rng.uniform(0, 0.3 * RATE))
    while at < length:
        phrase = spoken(files[rng.integers(len(files))])[: length - at]
        out[at : at + len(phrase)] = phrase
        at += len(phrase) + int(rng.uniform(0.1, 0.6) * RATE)
    return out.repeat(2, 1)


def middle(song: Path, seconds: float) -> dict[str, Tensor]:
    """The middle of each stem of a song, (2, time) at RATE."""
    length, found = round(seconds * RATE), {}
    for stem in list_stems([song]):
        if path := find_stem(song, stem):
            sound = to_channels(to_rate(read(path), RATE).samples, 2)
            start = max(0, (sound.shape[-1] - length) // 2)
            found[stem] = sound[:, start : start + length]
    return found


def estimates(way: str, separator: Separator, mixture: Tensor, names: list[str]) -> tuple[dict[str, Tensor], float]:
    """An estimate for each name, and how far all stems together are from the mixture in dB."""
    stems = separate(Audio(mixture, RATE), separator)
    found = {name: stems[name].samples for name in stems.names}
    gap = sum_gap_db({"": mixture.double().numpy()}, {k: v.double().numpy() for k, v in found.items()})
    if way == "voice":
        found = {VOICE: found[VOICE]}
    rest = mixture - found[VOICE] if VOICE in found else found["other"]
    return {name: found.get(name, rest) for name in names}, gap


def measured(
    ways: dict[str, Separator], songs: list[Path], files: list[Path], level: float, seconds: float
) -> list[Row]:
    """One row a way, over all songs."""
    names = [VOICE, *ways["forge"].names]
    gains: dict[str, dict[str, list[float]]] = {way: defaultdict(list) for way in ways}
    for number, song in enumerate(songs):
        stems = middle(song, seconds)
        rest = torch.stack(list(stems.values())).sum(dim=0)
        stems[VOICE] = voice(files, rest.shape[-1], number) * active_rms(rest) * 10 ** (level / 20)
        refs = {name: stems[name].mean(dim=0).double().numpy() for name in names if name in stems}
        for way, separator in ways.items():
            begun = time.process_time()
            found, gap = estimates(way, separator, rest + stems[VOICE], names)
            gains[way]["time"].append((time.process_time() - begun) / seconds)
            gains[way]["sum"].append(gap)
            ests = {name: found[name].mean(dim=0).double().numpy() for name in refs}
            for name, values in active_gains(refs, ests, RATE).items():
                gains[way][name] += values
    return [row(level, way, gains[way], names) for way in ways]


def row(level: float, way: str, found: dict[str, list[float]], names: list[str]) -> Row:
    """Means over all windows; printed at once."""
    mean = {name: float(np.mean(found[name])) if found[name] else float("nan") for name in names}
    others = float(np.nanmean([mean[name] for name in names if name != VOICE]))
    made: Row = {"level": level, "way": way, **mean, "others": others, "sum": max(found["sum"])}
    made["time"] = float(np.mean(found["time"]))
    print("  ".join(f"{k} {v:6.2f}" if isinstance(v, float) else f"{v:8}" for k, v in made.items()), flush=True)
    return made


def main() -> None:
    """Read the command line, measure every level, print and write the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("songs", type=Path)
    parser.add_argument("speech", type=Path)
    parser.add_argument("--levels", type=float, nargs="+", default=[-6.0, 0.0, 6.0])
    parser.add_argument("--seconds", type=float, default=12.0)
    parser.add_argument("--first", type=int, help="so many songs only")
    parser.add_argument("--voice-with", default="spleeter-2stem")
    parser.add_argument("--checkpoint")
    parser.add_argument("--csv", type=Path)
    args = parser.parse_args()
    keep_memory()
    first, second = checkpoints.load(args.voice_with, whole=True), checkpoints.load(args.checkpoint, whole=True)
    ways: dict[str, Separator] = {"cascade": Cascade(first, second), "voice": first, "forge": second}
    files, songs = phrases(args.speech), list_songs(args.songs)[: args.first]
    rows = [found for level in args.levels for found in measured(ways, songs, files, level, args.seconds)]
    if args.csv:
        with args.csv.open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main()
