"""How the rules of --vocals were chosen: the mask above 11 kHz, and what becomes of the voice that a mask leaves.

    python bench/vocals_rules.py SONGS VOICES [--pairs SONG:VOICE ...]

SONGS: one folder a song with one file a stem at 44.1 kHz. VOICES: one folder a voice with spoken or sung phrases at
full band, as Debian's hedgewars-data has them (GPL-2; usr/share/games/hedgewars/Data/Sounds/voices). Of each song
11.8 s from 2 s on are taken, and phrases as loud as them. Printed for each pair, and as means over all: signal to
noise of the voice above 11 kHz for each rule, then SI-SDR improvement of vocals and the mean of the other stems for
each way to share out what is left, the first two pairs with `forge` on the whole song too.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import soundfile as sf
import torch
from torch import Tensor

from stemforge import checkpoints
from stemforge.audio.metrics import si_sdr
from stemforge.models.spleeter import Spleeter
from stemforge.separators.network import NetworkSeparator

PAIRS = ["48_techno_movement:Singer", "22_variable_journeys:Default", "18_ride_that_train:Pirate"]
STEMS = ("bass", "drums", "guitar", "piano", "other")
LENGTH, START = 508 * 1024, 2 * 44100
Row = tuple[str, float, float]


def phrases(folder: Path, seed: int) -> Tensor:
    """Phrases in an order drawn by the seed, with pauses, (time,) as float64; each has RMS 1."""
    rng, at, out = np.random.default_rng(seed), 2000, np.zeros(LENGTH)
    paths = sorted(str(path) for path in folder.glob("*.ogg"))
    rng.shuffle(paths)
    for path in paths:
        x, rate = sf.read(path, always_2d=True)
        if rate != 44100 or len(x) < 10000:
            continue
        if at + len(x) > LENGTH:
            break
        mono = x.mean(axis=1)
        out[at : at + len(x)] = mono / np.sqrt((mono**2).mean())
        at += len(x) + int(rng.uniform(1000, 20000))
    return torch.from_numpy(out)


def duet(song: Path, voice: Path, seed: int) -> Tensor:
    """Vocals and the five stems, (stem, channel, time)."""
    stems = [sf.read(song / f"{name}.flac", start=START, frames=LENGTH, always_2d=True)[0].T for name in STEMS]
    rest, sung = torch.from_numpy(np.stack(stems)), phrases(voice, seed)
    level = rest.sum(dim=0).square().mean().sqrt() / sung[sung != 0].square().mean().sqrt()
    return torch.cat([(sung * level).expand(1, 2, -1), rest]).float()


def raising(masks: Tensor, mixture: Tensor, voice: Tensor) -> Iterator[tuple[str, float]]:
    """Signal to noise above the networks' band by each rule; all spectra (channel, frame, frequency)."""
    bins = masks.shape[-1]
    high, power = (mixture[..., bins:], voice[..., bins:]), mixture.abs().square()
    gains = {"none": torch.zeros_like(masks[..., :1]), "mean of all": masks.mean(dim=-1, keepdim=True)}
    for count in (32, 128, 512):
        gains[f"mean of {count}"] = masks[..., -count:].mean(dim=-1, keepdim=True)
        weights = power[..., bins - count : bins]
        shared = (masks[..., -count:] * weights).sum(dim=-1, keepdim=True)
        gains[f"by power of {count}"] = shared / (weights.sum(dim=-1, keepdim=True) + 1e-10)
    best = (high[1] * high[0].conj()).real.sum(dim=-1) / high[0].abs().square().sum(dim=-1).clamp(min=1e-9)
    gains["the best gain"] = best.clamp(0, 1)[..., None]
    for name, gain in gains.items():
        yield name, db(high[1], gain * high[0] - high[1])


def db(signal: Tensor, noise: Tensor) -> float:
    """Energy of one over that of the other."""
    return float(10 * torch.log10(signal.abs().square().sum() / noise.abs().square().sum()))


def sharing(
    vocals: Tensor, found: Tensor, masks: Tensor, net: Spleeter, whole: Tensor | None
) -> Iterator[tuple[str, Tensor]]:
    """Six stems (stem, channel, time) by each way to share out what the first stage has left."""
    time = found.shape[-1]
    inverse: Callable[[Tensor], Tensor] = lambda spectrum: net.inverse(spectrum, time)  # noqa: E731
    voice, stems = net.stft(vocals), net.stft(found)
    left = stems.sum(dim=0)
    yield "as the second stage does", torch.cat([vocals[None], found])
    for name, share in (
        ("other by the mask", masks),
        ("other by power", masks * masks * left.abs() ** 2 / (masks * left.abs() ** 2 + stems[4].abs() ** 2 + 1e-9)),
    ):
        moved = inverse(share * stems[4])
        yield name, torch.stack([vocals + moved, *found[:4], found[4] - moved])
    for part in (0.25, 0.5):
        four = inverse((1 + part * (1 / (1 - masks).clamp(min=0.5) - 1)) * stems[:4])
        more = (four - found[:4]).sum(dim=0)
        yield f"four raised by {part}, from other", torch.cat([vocals[None], four, (found[4] - more)[None]])
        yield f"four raised by {part}, from vocals", torch.cat([(vocals - more)[None], four, found[4:]])
    for power in (1, 2):
        sizes = torch.cat([voice[None], stems]).abs() ** power
        yield f"by magnitudes ** {power}", inverse(sizes / (sizes.sum(dim=0) + 1e-12) * (voice + left))
    if whole is not None:
        for part in (0.25, 0.5):
            four = (1 - part) * found[:4] + part * whole[:4]
            rest = found.sum(dim=0) - four.sum(dim=0)
            yield f"mean with {part} of the whole", torch.cat([vocals[None], four, rest[None]])
        yield "second stage alone", torch.cat([whole[4:], whole])


def gains(estimates: Tensor, stems: Tensor) -> tuple[float, float]:
    """Improvement in SI-SDR of vocals, and the mean of that of the other stems that are not silent."""
    mixture = stems.sum(dim=0).double().flatten().numpy()
    pairs = [
        (e.double().flatten().numpy(), s.double().flatten().numpy()) for e, s in zip(estimates, stems, strict=True)
    ]
    found = [si_sdr(e, s) - si_sdr(mixture, s) if s.any() else np.nan for e, s in pairs]
    return found[0], float(np.nanmean(found[1:]))


@torch.no_grad()
def main() -> None:
    """Read the command line, print all rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("songs", type=Path)
    parser.add_argument("voices", type=Path)
    parser.add_argument("--pairs", nargs="+", default=PAIRS)
    args = parser.parse_args()
    net = checkpoints.network_of(checkpoints.find("spleeter-2stem"))
    second = checkpoints.load("forge")
    assert isinstance(net, Spleeter) and isinstance(second, NetworkSeparator)
    above, shared = defaultdict(list), defaultdict(list)
    for number, pair in enumerate(args.pairs):
        song, _, voice = pair.partition(":")
        stems = duet(args.songs / song, args.voices / voice, number)
        mixture = stems.sum(dim=0)
        spectrum = net.stft(mixture)
        masks = net.masks(spectrum[None, ..., : net.config.bins].abs())[:, :1]
        for name, value in raising(masks[0, 0], spectrum, net.stft(stems[0])):
            above[name].append(value)
        whole_masks = net.raised(masks)[0, 0]
        vocals = net.inverse(whole_masks * spectrum, mixture.shape[-1])
        found = torch.cat(list(second.stream([mixture - vocals])), dim=-1)
        alone = torch.cat(list(second.stream([mixture])), dim=-1) if number < 2 else None
        for name, estimates in sharing(vocals, found, whole_masks, net, alone):
            shared[name].append(gains(estimates, stems))
    for name, values in above.items():
        print(f"above 11 kHz: {name:18}", *(f"{value:6.1f}" for value in values), f"mean {np.mean(values):6.1f}")
    for name, pairs in shared.items():
        each = "  ".join(f"{vocals:5.1f} {others:5.1f}" for vocals, others in pairs)
        print(f"{name:32} {each}   mean of {len(pairs)}: vocals %.1f, others %.1f" % tuple(np.mean(pairs, axis=0)))


if __name__ == "__main__":
    main()
