"""How `stemforge evaluate` compares generated songs with real ones: Fréchet distances and coherence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from stemforge.cli import console, score_report
from stemforge.errors import UsageError

if TYPE_CHECKING:
    from stemforge.models.musicnn import MusicNN
    from stemforge.tasks.coherence import Coherence, CoherenceReport
    from stemforge.tasks.fad import Distance, Embedded
    from stemforge.tasks.mixtures import Sum

FAD, SUB_FAD = "FAD-musicnn", "sub-FAD-musicnn"


@dataclass(frozen=True)
class Asked:
    """The options of `stemforge evaluate` that concern generated songs; given and stems as they were typed."""

    fad: bool
    sub_fad: bool
    coherence: bool
    given: str | None
    stems: str | None
    minimum: int
    hop: float
    judge: str
    device: str
    json: bool

    @property
    def chosen(self) -> list[str] | None:
        """Names of --stems, None for all."""
        return _names(self.stems)

    def check(self, est: Path | None, alone: Mapping[str, object]) -> bool:
        """Whether generated songs are to be compared. Raises UsageError when the options do not go together."""
        with_given, any_of_them = self.sub_fad or self.coherence, self.fad or self.sub_fad or self.coherence
        if with_given and not self.given:
            raise UsageError("--sub-fad and --coherence: need to know what was kept. Give --given, as bass,drums.")
        if self.given and not with_given:
            raise UsageError("--given: goes with --sub-fad or --coherence. Add one of them.")
        if not any_of_them:
            return False
        if est is None:
            raise UsageError("EST: is missing. Give the folder of the songs that were generated.")
        if others := [name for name, value in alone.items() if value is not None]:
            raise UsageError(f"{others[0]}: goes with the scores in dB only. Leave it out.")
        return True


def compare(ref: Path, est: Path | None, asked: Asked) -> None:
    """Run what was asked for and print it: tables, or one JSON object for each figure."""
    from stemforge.tasks.mixtures import completions, mixtures

    assert est is not None
    network = _network(asked) if asked.fad or asked.sub_fad else None
    songs = completions(ref, est, _names(asked.given) or [], asked.chosen) if asked.given else []
    with console.Report("plain") as report:
        if network and asked.fad:
            sides = mixtures(ref, asked.chosen), mixtures(est, asked.chosen)
            _show_distance(FAD, _distance(sides, network, asked, report), asked)
        if network and asked.sub_fad:
            summed = [song.original for song in songs], [song.completed for song in songs]
            _show_distance(SUB_FAD, _distance(summed, network, asked, report), asked)
        if asked.coherence:
            from stemforge.tasks.coherence import coherence

            _show_coherence(coherence(songs, on_song=lambda name: report.note(f"{name}: compared")), asked)


def _names(typed: str | None) -> list[str] | None:
    return [name.strip() for name in typed.split(",")] if typed else None


def _network(asked: Asked) -> MusicNN:
    from stemforge import wheels
    from stemforge.devices import choose

    return wheels.musicnn(asked.judge, choose(asked.device))


def _distance(
    sides: tuple[Sequence[Sum], Sequence[Sum]], network: MusicNN, asked: Asked, report: console.Report
) -> Distance:
    from stemforge.tasks.fad import embed, fad

    def heard(side: Sequence[Sum]) -> Embedded:
        def on_song(number: int) -> None:
            report.note(f"{side[number - 1].name}: heard, {number} of {len(side)}")

        return embed((song.audio() for song in side), network, hop=asked.hop, on_song=on_song)

    return fad(heard(sides[0]), heard(sides[1]), minimum=asked.minimum)


def _show_distance(figure: str, found: Distance, asked: Asked) -> None:
    low, high = found.interval or (None, None)
    if asked.json:
        parts = {"distance": found.value, "low": low, "high": high}
        rounded = {name: None if value is None else round(value, 4) for name, value in parts.items()}
        given = {"given": _names(asked.given)} if figure == SUB_FAD else {}
        sizes = {"windows": found.windows, "songs": found.songs}
        console.result_json("fad", figure=figure, judge=asked.judge, **given, **rounded, **sizes)
        return
    header = ["figure", "judge", "distance", "2.5%", "97.5%", "windows REF", "EST", "songs REF", "EST"]
    numbers = ("" if value is None else f"{value:.4g}" for value in (found.value, low, high))
    row = [figure, asked.judge, *numbers, *map(str, (*found.windows, *found.songs))]
    score_report.print_table(f"{figure}: Fréchet distance, lower is nearer", header, [row])


def _show_coherence(found: CoherenceReport, asked: Asked) -> None:
    means = {"made": found.made, "real": found.real, "others": found.others}
    if asked.json:
        for song in found.songs:
            console.result_json("coherence", song=song.name, **_rounded(song))
        console.result_json(
            "coherence-summary",
            given=_names(asked.given),
            songs=len(found.songs),
            **{name: _rounded(mean) if mean else None for name, mean in means.items()},
        )
        return
    titles = {"made": "mean of songs", "real": "real stems", "others": "real stems of other songs"}
    rows = [[song.name, _number(song.beat), _number(song.chroma)] for song in found.songs]
    rows += [[titles[name], _number(mean.beat), _number(mean.chroma)] for name, mean in means.items() if mean]
    score_report.print_table(f"Coherence with {asked.given}", ["song", "beat", "chroma"], rows)


def _rounded(found: Coherence) -> dict[str, float | None]:
    figures = {"beat": found.beat, "chroma": found.chroma}
    return {name: None if value is None else round(value, 4) for name, value in figures.items()}


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
