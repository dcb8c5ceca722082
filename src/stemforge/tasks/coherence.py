"""Coherence: do stems that were made go with those that were given, in time and in harmony?

Two figures of two sounds. `beat`: the F-measure of their beats (librosa's tracker, Ellis 2007), a beat of one being
found when the other has one within ±70 ms, the tolerance of Davies et al. 2009. `chroma`: how the energy of the twelve
pitch classes agrees, as Pearson's correlation in every half second in which both sound.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from stemforge.audio.resample import to_channels, to_rate
from stemforge.tasks.mixtures import Completion, Sum
from stemforge.types import Audio

TOLERANCE_S = 0.07

_RATE, _HOP, _FRAMES = 22050, 1024, 11  # 11 hops of chroma are half a second
_ACTIVE_DB = -45.0
_NO_PITCH = ("drums",)

Values: TypeAlias = "np.ndarray[Any, np.dtype[Any]]"


@dataclass(frozen=True)
class Features:
    """Beats in seconds; chroma (half second, pitch class) and which half seconds sound, None without a pitched stem."""

    beats: Values
    chroma: Values | None
    active: Values | None


@dataclass(frozen=True)
class Coherence:
    """One song, or the mean of several: beat F-measure in [0, 1] and chroma correlation in [-1, 1].

    beat is None when neither sound has a beat, chroma when there is no half second to compare.
    """

    name: str
    beat: float | None
    chroma: float | None


@dataclass(frozen=True)
class CoherenceReport:
    """Given against made stems, song by song and on average, between two rows of comparison.

    real: the given stems with the real ones of their own songs. others: with the real ones of another song each, None
    when there is only one song.
    """

    songs: list[Coherence]
    made: Coherence
    real: Coherence
    others: Coherence | None


def features(pitched: Audio | None, everything: Audio) -> Features:
    """Beats of the whole sound, chroma of the pitched part of it, from any rate and width."""
    import librosa

    beats = librosa.beat.beat_track(y=_mono(everything), sr=_RATE, units="time")[1]
    if pitched is None:
        return Features(np.asarray(beats), None, None)
    wave = _mono(pitched)
    chroma = librosa.feature.chroma_cqt(y=wave, sr=_RATE, hop_length=_HOP, norm=None, tuning=0.0)
    count = min(chroma.shape[1], len(wave) // _HOP) // _FRAMES
    energy = np.square(wave[: count * _FRAMES * _HOP].astype(np.float64)).reshape(count, _FRAMES * _HOP).mean(axis=1)
    pooled = chroma[:, : count * _FRAMES].T.reshape(count, _FRAMES, 12).mean(axis=1)
    return Features(np.asarray(beats), pooled, energy > 10 ** (_ACTIVE_DB / 10))


def beat_f_measure(a: Values, b: Values, tolerance: float = TOLERANCE_S) -> float | None:
    """2 hits / (beats of a + beats of b), each beat (seconds, ascending) being hit once; None when both have none."""
    if not len(a) and not len(b):
        return None
    hits = i = j = 0
    while i < len(a) and j < len(b):
        if abs(a[i] - b[j]) <= tolerance:
            hits, i, j = hits + 1, i + 1, j + 1
        elif a[i] < b[j]:
            i += 1
        else:
            j += 1
    return 2 * hits / (len(a) + len(b))


def chroma_correlation(a: Features, b: Features) -> float | None:
    """Mean over the half seconds in which both sound of the correlation of their pitch classes."""
    if a.chroma is None or b.chroma is None or a.active is None or b.active is None:
        return None
    count = min(len(a.chroma), len(b.chroma))
    both = a.active[:count] & b.active[:count]
    x, y = (side.chroma[:count][both] for side in (a, b) if side.chroma is not None)
    x, y = x - x.mean(axis=1, keepdims=True), y - y.mean(axis=1, keepdims=True)
    scale = np.sqrt(np.square(x).sum(axis=1) * np.square(y).sum(axis=1))
    known = scale > 0
    return float(((x * y).sum(axis=1)[known] / scale[known]).mean()) if known.any() else None


def compare(name: str, a: Features, b: Features) -> Coherence:
    """Both figures of two sounds."""
    return Coherence(name, beat_f_measure(a.beats, b.beats), chroma_correlation(a, b))


def coherence(completions: Sequence[Completion], *, on_song: Callable[[str], None] = lambda _: None) -> CoherenceReport:
    """Given against made stems of every song, one at least, and the two rows of comparison.

    `on_song` is told the name of each song that was heard. Raises InputError when a file cannot be used.
    """
    heard: list[tuple[Features, Features, Features]] = []
    for song in completions:
        heard.append((_of(song.given), _of(song.made), _of(song.real)))
        on_song(song.name)
    given, made, real = zip(*heard, strict=True)
    songs = [compare(song.name, *pair) for song, *pair in zip(completions, given, made, strict=True)]
    own = [compare("", *pair) for pair in zip(given, real, strict=True)]
    shifted = [compare("", *pair) for pair in zip(given, [*real[1:], real[0]], strict=True)]
    others = _mean("other songs", shifted) if len(completions) > 1 else None
    return CoherenceReport(songs, _mean("made", songs), _mean("real", own), others)


def _of(paths: tuple[Path, ...]) -> Features:
    pitched = tuple(path for path in paths if path.stem not in _NO_PITCH)
    everything = Sum("", paths).audio()
    return features(Sum("", pitched).audio() if pitched else None, everything)


def _mean(name: str, found: Sequence[Coherence]) -> Coherence:
    beats = [song.beat for song in found if song.beat is not None]
    chromas = [song.chroma for song in found if song.chroma is not None]
    return Coherence(name, float(np.mean(beats)) if beats else None, float(np.mean(chromas)) if chromas else None)


def _mono(audio: Audio) -> Values:
    """Samples (time,) at the rate of the analysis, followed by silence up to the second that it needs."""
    samples = to_rate(Audio(to_channels(audio.samples, 1), audio.rate), _RATE).samples[0].numpy()
    return np.pad(samples, (0, max(0, _RATE - len(samples))))
