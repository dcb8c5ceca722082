"""Score folders of separated songs against folders of reference stems.

Both hold one folder a song, each with one audio file a stem: REF/<song>/bass.flac and EST/<song>/bass.wav.
The figures are those of `metrics`, averaged over windows for each stem and then over the stems.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stemforge.audio.io import EXTENSIONS, read
from stemforge.audio.metrics import FIGURES, Gains, Signal, gains, sum_gap_db
from stemforge.errors import InputError, UsageError

MIXTURES = ("mix", "mixture")  # files beside the stems that are not stems

Means = dict[str, dict[str, float]]
"""figure -> stem -> mean gain in dB, and "all", the mean over the stems."""


@dataclass(frozen=True)
class SongScore:
    """One song: for each figure and stem the gains in dB of all windows that count, and how well the stems add up."""

    name: str
    gains: Mapping[str, Gains]
    sum_db: float

    def means(self) -> Means:
        """Figure -> stem or "all" -> mean over this song."""
        return means([self])


def evaluate(
    ref: Path,
    est: Path,
    stems: Sequence[str] | None = None,
    *,
    on_song: Callable[[SongScore], None] = lambda _: None,
    on_failed: Callable[[str, InputError], None] | None = None,
    leave_out: Collection[str] = (),
) -> list[SongScore]:
    """Score every song of `ref` against the folder of the same name in `est`.

    stems: the stems that count and that the mixture is the sum of; default: every stem that `ref` holds.
    A stem without a file in `ref` is silent in that song; a missing estimate is an error, as are other lengths or
    rates. A mono estimate of a stereo stem counts for both channels. `on_song` is called after each song. With
    `on_failed` a song that cannot be scored is told there, by its name, and the others are scored; without, it is
    raised, and what is missing before any work. Songs to `leave_out` do not count.

    Raises InputError for folders or files that are missing or do not match, UsageError for a stem that `ref` lacks.
    """
    songs = list_songs(ref)
    known = list_stems(songs)
    chosen = tuple(stems or known)
    if unknown := [stem for stem in chosen if stem not in known]:
        raise UsageError(f"evaluate '{ref}': no stem {', '.join(unknown)}. It has {', '.join(known)}.")
    songs = [song for song in songs if song.name not in leave_out]
    _check_estimates(songs if on_failed is None else [], est, chosen)
    scores = []
    for song in songs:
        try:
            _check_estimates([song], est, chosen)
            scores.append(_score(song, est / song.name, chosen))
        except InputError as error:
            if on_failed is None:
                raise
            on_failed(song.name, error)
            continue
        on_song(scores[-1])
    return scores


def means(scores: Iterable[SongScore]) -> Means:
    """Pool the windows of all songs: figure -> stem -> mean, and "all" -> mean over the stems. No window, no entry."""
    pooled: dict[str, Gains] = {figure: {} for figure in FIGURES}
    for score in scores:
        for figure, of_stems in score.gains.items():
            for stem, values in of_stems.items():
                pooled[figure].setdefault(stem, []).extend(values)
    result: Means = {}
    for figure, of_stems in pooled.items():
        if per_stem := {stem: float(np.mean(of_stems[stem])) for stem in sorted(of_stems)}:
            result[figure] = per_stem | {"all": float(np.mean(list(per_stem.values())))}
    return result


def list_songs(folder: Path) -> list[Path]:
    """The song folders in `folder`, by name. Raises InputError when there is none."""
    if not folder.is_dir():
        raise InputError(f"read '{folder}': it is not a folder. Give a folder that holds one folder a song.")
    songs = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not songs:
        raise InputError(f"read '{folder}': no song in it. Give a folder that holds one folder a song.")
    return songs


def list_stems(songs: Iterable[Path]) -> tuple[str, ...]:
    """Names of all stems that the song folders hold. Raises InputError when there is none."""
    names = {path.stem for song in songs for path in _sounds(song)} - set(MIXTURES)
    if not names:
        raise InputError("read stems: the song folders hold no audio file. Put one file a stem into each.")
    return tuple(sorted(names))


def find_stem(song: Path, stem: str) -> Path | None:
    """The audio file of a stem in a song folder, or None."""
    return next((path for path in _sounds(song) if path.stem == stem), None)


def _sounds(song: Path) -> list[Path]:
    files = sorted(path for path in song.iterdir() if path.suffix[1:].lower() in {*EXTENSIONS, "npy"})
    return [path for path in files if not path.name.startswith(".")]


def _check_estimates(songs: Sequence[Path], est: Path, stems: Sequence[str]) -> None:
    if not est.is_dir():
        raise InputError(f"read '{est}': it is not a folder. Give the folder that holds the separated songs.")
    if missing := [song.name for song in songs if not (est / song.name).is_dir()]:
        raise InputError(f"evaluate '{est}': no folder for {_few(missing)}. Separate every song of the reference.")
    wanted = [(song.name, stem) for song in songs for stem in stems if find_stem(song, stem)]
    if lacking := [f"{song}/{stem}" for song, stem in wanted if not find_stem(est / song, stem)]:
        raise InputError(f"evaluate '{est}': no file for {_few(lacking)}. Separate these stems, or choose others.")


def _score(ref: Path, est: Path, stems: Sequence[str]) -> SongScore:
    paths = {stem: path for stem in stems if (path := find_stem(ref, stem))}
    if not paths:
        raise InputError(f"evaluate '{ref}': none of {', '.join(stems)} is there. Choose other stems.")
    refs, rate = _read_all(paths)
    ests, est_rate = _read_all({stem: path for stem in stems if (path := find_stem(est, stem))})
    length, width = next(iter(refs.values())).shape
    for what, value, wanted in (("Hz", est_rate, rate), ("samples", len(next(iter(ests.values()))), length)):
        if value != wanted:
            raise InputError(f"evaluate '{est}': {value} {what}, the reference has {wanted}. They must be equal.")
    refs, ests = ({stem: _fit(found.get(stem), length, width, est) for stem in stems} for found in (refs, ests))
    return SongScore(ref.name, gains(refs, ests, rate), sum_gap_db(refs, ests))


def _read_all(paths: Mapping[str, Path]) -> tuple[dict[str, Signal], int]:
    """Stems (time, channel) of equal length and width, and their rate in Hz."""
    found = {stem: read(path) for stem, path in paths.items()}
    rates = {audio.rate for audio in found.values()}
    lengths = {audio.samples.shape[-1] for audio in found.values()}
    folder = next(iter(paths.values())).parent
    if len(rates) > 1 or len(lengths) > 1:
        what = "rates in Hz" if len(rates) > 1 else "lengths in samples"
        values = ", ".join(str(value) for value in sorted(rates if len(rates) > 1 else lengths))
        raise InputError(f"evaluate '{folder}': its stems have different {what} ({values}). They must be equal.")
    width = max(audio.samples.shape[0] for audio in found.values())
    signals = {stem: audio.samples.numpy().T.astype(np.float64) for stem, audio in found.items()}
    length = lengths.pop()
    return {stem: _fit(x, length, width, folder) for stem, x in signals.items()}, rates.pop()


def _fit(x: Signal | None, length: int, width: int, folder: Path) -> Signal:
    """Silence for None, mono repeated for each channel."""
    if x is None:
        return np.zeros((length, width))
    if x.shape[1] not in (1, width):
        raise InputError(f"evaluate '{folder}': {x.shape[1]} channels, the reference has {width}. Fold it down.")
    return np.repeat(x, width, axis=1) if x.shape[1] == 1 else x


def _few(names: Sequence[str], shown: int = 3) -> str:
    rest = len(names) - shown
    return ", ".join(f"'{name}'" for name in names[:shown]) + (f" and {rest} more" if rest > 0 else "")
