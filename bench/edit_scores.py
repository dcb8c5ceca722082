"""How near edits come to what they were to be: scores of the pieces that edits.py has made, one line a row."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NamedTuple

import librosa
import numpy as np
import torch
from synthesis import at_level
from torch import Tensor

from stemforge import embedders, wheels
from stemforge.audio.io import read
from stemforge.models.embedders import Ear
from stemforge.tasks.coherence import beat_f_measure, features
from stemforge.tasks.fad import embed, fad, realism
from stemforge.types import Audio

GAP = (2.0, 4.0)
"""Seconds of the 6 that are made anew."""
GIVEN = 2.4
"""Seconds of the 6 that a continuation has."""
END = (GIVEN, 6.0)
"""And those that it makes."""


def likely(ear: Ear, sound: Tensor, rate: int, tag: str) -> Tensor:
    """Logits of a tag, (batch,)."""
    logits = ear.hear(sound, rate).logits
    assert logits is not None
    return logits[:, ear.tags.index(tag)]


def mel_distance(a: Tensor, b: Tensor, rate: int) -> float:
    """Mean over window sizes of the L1 distance of log-mel spectra, as VampNet has it."""
    found = []
    for size, bands in ((2048, 150), (512, 80)):
        x, y = (
            librosa.feature.melspectrogram(y=s.mean(0).numpy(), sr=rate, n_fft=size, hop_length=size // 4, n_mels=bands)
            for s in (a, b)
        )
        found.append(np.abs(np.log10(x.clip(1e-5) ** 2) - np.log10(y.clip(1e-5) ** 2)).mean())
    return float(np.mean(found))


def beats(sound: Tensor, rate: int) -> np.ndarray:
    """Seconds of the beats."""
    return features(None, Audio(sound, rate)).beats


def agreed(a: np.ndarray, b: np.ndarray, start: float, stop: float) -> float | None:
    """F-measure of beats in a part of a sound."""
    return beat_f_measure(*(x[(x > start) & (x < stop)] for x in (a, b)))


def beats_agree(a: Tensor, b: Tensor, rate: int, start: float, stop: float) -> float | None:
    """F-measure of the beats of two sounds in a part of them."""
    return agreed(beats(a, rate), beats(b, rate), start, stop)


def chroma(sound: Tensor, rate: int) -> np.ndarray:
    """Mean energy of the twelve pitch classes."""
    return librosa.feature.chroma_cqt(y=sound.mean(0).numpy(), sr=rate, norm=None, tuning=0.0).mean(axis=1)


def correlated(x: np.ndarray, y: np.ndarray) -> float:
    """Of two chromas."""
    return float(np.corrcoef(x + 1e-9 * np.arange(12), y)[0, 1])


def chroma_agree(a: Tensor, b: Tensor, rate: int) -> float:
    """Correlation of the mean pitch classes of two sounds."""
    return correlated(chroma(a, rate), chroma(b, rate))


def pieces_of(folder: Path) -> list[tuple[str, Audio]]:
    """Names and sounds of a row."""
    return [(path.stem, read(path)) for path in sorted(folder.glob("*.wav"))]


def score(args: argparse.Namespace) -> None:
    """One line a row, of the pieces that are there."""
    scores = {"transition": _score_way, "restyle": _score_wish, "tags": _score_tags}
    scores.get(args.task, _score_gap)(args)


def _score_gap(args: argparse.Namespace) -> None:
    gap = GAP if args.task == "inpaint" else END
    real = dict(pieces_of(args.out / "real"))
    rate = next(iter(real.values())).rate
    originals = {name.split("-")[0]: _original(x, gap) for name, x in real.items()}
    level = float(np.mean([float(x.samples.square().mean()) for x in real.values()]) ** 0.5)
    network = wheels.musicnn("MSD")
    window = slice(*(round(s * rate) for s in ((1.5, 4.5) if args.task == "inpaint" else (3.0, 6.0))))
    held = [read(path) for path in sorted(args.reference.rglob("*.wav"))] if args.reference else list(real.values())
    reference = embed(at_level([x.samples for x in held], held[0].rate, level), network, hop=1.5)
    print(f"{'row':28} pieces  FAD   mel  beats chroma   ({len(reference.rows)} reference windows)")
    rows = args.rows.split(",") if args.rows else [path.name for path in args.out.iterdir() if path.is_dir()]
    for folder in sorted(args.out / row for row in rows):
        found = pieces_of(folder)
        cut = [x.samples[:, window] for _, x in found]
        distance = float("nan")
        if len(cut) > 1:
            distance = fad(reference, embed(at_level(cut, rate, level), network), minimum=2, resamples=0).value
        mels, rhythms, chromas = [], [], []
        for name, x in found:
            original = originals[name.split("-")[0]]
            first, last = (round(s * rate) for s in gap)
            mels.append(mel_distance(x.samples[:, first:last], original.samples[:, first:last], rate))
            rhythm = agreed(beats(x.samples, rate), original.beats, gap[0] - 0.1, gap[1] + 0.1)
            rhythms += [] if rhythm is None else [rhythm]
            chromas.append(correlated(chroma(x.samples[:, first:last], rate), original.around))
        numbers = f"{np.mean(mels):5.2f} {np.mean(rhythms):6.3f} {np.mean(chromas):6.3f}"
        print(f"{folder.name:28} {len(found):6d} {distance:5.1f} {numbers}", flush=True)


class Original(NamedTuple):
    """What a piece was made from: samples (channel, time), its beats, the chroma around what is made anew."""

    samples: Tensor
    beats: np.ndarray
    around: np.ndarray


def _original(x: Audio, gap: tuple[float, float]) -> Original:
    first, last = (round(s * x.rate) for s in gap)
    around = torch.cat([x.samples[:, :first], x.samples[:, last:]], dim=-1)
    return Original(x.samples, beats(x.samples, x.rate), chroma(around, x.rate))


PLACES = np.linspace(2.0, 9.0, 8)
"""Where windows of 3 s begin over the middle of a transition."""


def _score_way(args: argparse.Namespace) -> None:
    """Over the middle the distance to the song before rises and that to the song after falls; how real the middle is.

    Realism is that of the plain cross-fade of the same pair times the ratio that is printed, in musicnn's space against
    the windows of --reference, or of the songs themselves.
    """
    ear, network = embedders.load("MSD"), wheels.musicnn("MSD")
    songs = sorted(args.reference.rglob("*.wav")) if args.reference else sorted((args.out / "real").glob("*.wav"))
    reference = embed([read(path) for path in songs], network, hop=1.5).rows
    rows = {name: dict(pieces_of(args.out / name)) for name in ("transition", "crossfade", "before", "after")}
    for row in ("transition", "crossfade"):
        found = [_along(ear, x, rows["before"][name], rows["after"][name]) for name, x in rows[row].items()]
        for measure in found[0]:
            to_a, to_b = np.mean([way[measure] for way in found], axis=0)
            print(f"{row:12} {len(found)} pairs, {measure}: Spearman to A {to_a:.2f}, to B {to_b:.2f}", flush=True)
    ratios = []
    for name in rows["transition"]:
        made, plain = (
            realism(embed([Audio(x.samples[:, 3 * x.rate : 11 * x.rate], x.rate)], network).rows, reference).mean()
            for x in (rows["transition"][name], rows["crossfade"][name])
        )
        ratios.append(made / plain)
    print(f"realism against that of the cross-fade: {np.mean(ratios):.3f} (against {len(reference)} windows)")


def _along(ear: Ear, x: Audio, before: Audio, after: Audio) -> dict[str, tuple[float, float]]:
    """How steadily a transition leaves one song and nears the other, by three measures of distance.

    MSD against the end of A and the beginning of B; MSD, and log-mel, against what the song itself has at that time,
    log-mel in units of how far apart the songs are there, which has nothing to do with the way from one to the other.
    """
    ends = _heard(ear, x, 0.0, 3.0), _heard(ear, x, 11.0, 14.0)
    heard = [[_heard(ear, sound, at, at + 3) for at in PLACES] for sound in (x, before, after)]
    cuts = [[s.samples[:, round(at * s.rate) : round((at + 3) * s.rate)] for at in PLACES] for s in (x, before, after)]
    apart = [mel_distance(a, b, x.rate) for a, b in zip(*cuts[1:], strict=True)]
    found: dict[str, list[float]] = {"MSD, ends": [], "MSD": [], "log-mel": []}
    for song in (0, 1):
        found["MSD, ends"].append(rising([float((w - ends[song]).norm()) for w in heard[0]]))
        pairs = zip(heard[0], heard[1 + song], strict=True)
        found["MSD"].append(rising([float((w - s).norm()) for w, s in pairs]))
        pairs = zip(cuts[0], cuts[1 + song], strict=True)
        shares = [mel_distance(w, s, x.rate) / d for (w, s), d in zip(pairs, apart, strict=True)]
        found["log-mel"].append(rising(shares))
    return {measure: (to[0], to[1]) for measure, to in found.items()}


def rising(values: list[float]) -> float:
    """Spearman's correlation with the order of the values."""
    return float(np.corrcoef(np.arange(len(values)), np.argsort(np.argsort(values)))[0, 1])


def _score_wish(args: argparse.Namespace) -> None:
    """Distance to the reference for the judge that did not guide, against that of the original."""
    ear = embedders.load("MSD")
    sounds = {row: dict(pieces_of(args.out / row)) for row in ("original", "reference", "plain", "restyled")}
    for row in ("plain", "restyled"):
        falls, beats, chromas = [], [], []
        for name, x in sounds[row].items():
            song = sounds["original"][name].samples
            ends = sounds["reference"][name], sounds["original"][name], x
            goal, before, now = (_heard(ear, s, 0.0, 6.0) for s in ends)
            falls.append(1 - float((now - goal).norm() / (before - goal).norm()))
            halves, rate = song.chunk(2, dim=-1), x.rate
            kept, usual = beats_agree(x.samples, song, rate, 0, 6), beats_agree(halves[0], halves[1], rate, 0, 3)
            beats += [kept / usual] if kept is not None and usual else []
            chromas.append(chroma_agree(x.samples, song, rate) / chroma_agree(halves[0], halves[1], rate))
        print(f"{row:10} {len(falls)} pieces, MSD distance falls by {100 * np.mean(falls):.1f}%")
        print(f"  agreement against that of halves: beats {np.mean(beats):.2f}, chroma {np.mean(chromas):.2f}")


@torch.no_grad()
def _score_tags(args: argparse.Namespace) -> None:
    """Likelihood of each tag before and after, for the guide and for the judge that did not guide."""
    rows = {row: dict(pieces_of(args.out / row)) for row in ("original", "tagged")}
    for name in ("MTT", "MSD"):
        ear, found = embedders.load(name), []
        for piece, now in rows["tagged"].items():
            tag = piece.partition("-")[0].rstrip("0123456789")
            pair = (rows["original"][piece], now)
            found.append([float(likely(ear, x.samples[None], x.rate, tag).sigmoid()) for x in pair])
        before, after = np.array(found).T
        rose = int((after > before).sum())
        print(f"{name}: {before.mean():.3f} -> {after.mean():.3f}, higher in {rose} of {len(found)}", flush=True)


def _heard(ear: Ear, sound: Audio, start: float, stop: float) -> Tensor:
    with torch.no_grad():
        part = sound.samples[None, :, round(start * sound.rate) : round(stop * sound.rate)]
        return ear.hear(part, sound.rate).embedding[0]
