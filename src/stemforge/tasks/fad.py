"""FAD-musicnn: how far a set of songs is from another one, as the Fréchet distance of their embeddings.

Kilgour et al. 2019 (https://arxiv.org/abs/1812.08466) with the layer before the logits of musicnn in place of VGGish:
200 numbers for every 3 s of 16 kHz mono. Figures of other embeddings are not comparable, hence the name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch

from stemforge.audio.resample import to_channels, to_rate
from stemforge.errors import UsageError
from stemforge.models.musicnn import RATE, SEGMENT_S, MusicNN
from stemforge.types import Audio

MINIMUM, HOP_S, RESAMPLES = 300, 0.5, 500

Rows: TypeAlias = "np.ndarray[Any, np.dtype[np.float64]]"


@dataclass(frozen=True)
class Embedded:
    """A set of songs: rows (window, feature), float64, and song (window,), the number of the song of each."""

    rows: Rows
    song: np.ndarray[Any, np.dtype[np.int64]]

    @property
    def songs(self) -> int:
        """How many songs there are."""
        return len(np.unique(self.song))


@dataclass(frozen=True)
class Distance:
    """A Fréchet distance, its 95% interval (None with a single song on a side), windows and songs of both sides."""

    value: float
    interval: tuple[float, float] | None
    windows: tuple[int, int]
    songs: tuple[int, int]


def embed(
    songs: Iterable[Audio],
    network: MusicNN,
    *,
    hop: float = HOP_S,
    on_song: Callable[[int], None] = lambda _: None,
) -> Embedded:
    """The penultimate layer of musicnn for windows of 3 s that start every `hop` seconds, folded to mono.

    A song shorter than 3 s has no window. `on_song` is told the number of each song that is done, from 1.
    Raises UsageError when hop is not above 0.
    """
    if not hop > 0:
        raise UsageError(f"hop {hop}: must be above 0 s. Try {HOP_S}.")
    device = network.out.weight.device
    length, step = round(SEGMENT_S * RATE), max(1, round(hop * RATE))
    rows, numbers = [], []
    for number, song in enumerate(songs, 1):
        wave = to_rate(Audio(to_channels(song.samples, 1), song.rate), RATE).samples[0].to(device)
        for start in range(0, len(wave) - length + 1, step):
            with torch.no_grad():
                rows.append(network(wave[None, start : start + length]).penultimate[0].double().cpu().numpy())
            numbers.append(number)
        on_song(number)
    width = network.dense.out_features
    return Embedded(np.array(rows, np.float64).reshape(-1, width), np.array(numbers, np.int64))


def frechet(a: Rows, b: Rows) -> float:
    """Fréchet distance of the Gaussians with the means and covariances of two sets of rows, at least 2 in each.

    |mean_a - mean_b|² + tr(A + B - 2 (AB)^½), in double precision. With A = R'R and B = S'S the eigenvalues of AB are
    the squared singular values of RS', so that no root of a rounding error is ever taken.
    """
    r, s = (np.linalg.qr(rows - rows.mean(axis=0), mode="r") / np.sqrt(len(rows) - 1) for rows in (a, b))
    offset = a.mean(axis=0) - b.mean(axis=0)
    overlap = np.linalg.svd(r @ s.T, compute_uv=False).sum()
    return float(max(0.0, offset @ offset + np.square(r).sum() + np.square(s).sum() - 2 * overlap))


def fad(ref: Embedded, est: Embedded, *, minimum: int = MINIMUM, resamples: int = RESAMPLES, seed: int = 0) -> Distance:
    """Distance of two sets of songs with its 95% interval.

    The interval is a bootstrap over songs, since windows of one song resemble each other: 2.5% to 97.5% of the
    distances of sets drawn with replacement. Drawing repeats songs, which raises every distance alike, so the
    distances are first shifted to have the figure itself as their mean. Zero is the least that a bound can be.

    Raises:
        UsageError: a side has fewer than `minimum` windows, or than the 2 that a covariance needs.
    """
    for name, side in (("reference", ref), ("estimate", est)):
        if len(side.rows) < max(2, minimum):
            raise UsageError(
                f"FAD-musicnn: the {name} has {len(side.rows)} windows of 3 s, {max(2, minimum)} are needed. "
                "Give more or longer songs, or a shorter hop."
            )
    value = frechet(ref.rows, est.rows)
    interval = None
    if min(ref.songs, est.songs) > 1 and resamples:
        rng = np.random.default_rng(seed)
        drawn = np.array([frechet(_drawn(ref, rng), _drawn(est, rng)) for _ in range(resamples)])
        low, high = np.quantile(drawn - drawn.mean() + value, (0.025, 0.975)).clip(0)
        interval = float(low), float(high)
    return Distance(value, interval, (len(ref.rows), len(est.rows)), (ref.songs, est.songs))


def realism(rows: Rows, reference: Rows, nearest: int = 3) -> Rows:
    """How realistic each of some rows is, (window,): 1 and more where it lies among what is real.

    Kynkäänniemi et al. 2019 (https://arxiv.org/abs/1904.06991, eq. 3): the largest quotient of a reference row's
    distance to its own k-th neighbour and its distance to the row. As there, the half of the reference rows with the
    widest neighbourhoods, which are outliers, is left out.

    Args:
        rows: (window, feature).
        reference: more than `nearest` of them.
        nearest: k.

    Raises:
        UsageError: there are too few reference rows.
    """
    if len(reference) <= nearest:
        raise UsageError(f"realism: {len(reference)} reference windows, more than {nearest} are needed. Give more.")
    among = np.sort(_apart(reference, reference), axis=1)[:, nearest]
    kept = among <= np.median(among)
    found: Rows = (among[kept] / np.maximum(_apart(rows, reference[kept]), 1e-12)).max(axis=1)
    return found


def _apart(a: Rows, b: Rows) -> Rows:
    """Distance of every row of a to every row of b."""
    found: Rows = torch.cdist(
        torch.from_numpy(a), torch.from_numpy(b), compute_mode="donot_use_mm_for_euclid_dist"
    ).numpy()
    return found


def _drawn(side: Embedded, rng: np.random.Generator) -> Rows:
    """The windows of as many songs as there are, drawn with replacement."""
    songs = np.unique(side.song)
    return np.concatenate([side.rows[side.song == song] for song in rng.choice(songs, len(songs))])
