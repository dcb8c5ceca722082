"""Captioned mixtures: who plays when, what is written, and that no stem is."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile

from renders import rendered, song_row
from stemforge.cli.main import main
from stemforge.data.mixtures import FADE_IN, FADE_OUT, Tally, Wish, arranged, mix_songs
from stemforge.data.score import RATE
from stemforge.errors import InputError, UsageError


@pytest.mark.parametrize("solo", [0.0, 0.05, 0.2])
def test_single_instruments_are_as_rare_as_asked(solo: float) -> None:
    """At no point are there more than the share, even where many sections of the songs have one instrument."""
    tally, single, count = Tally(), 0, 0
    for index in range(60):
        row = song_row(index, seconds=120)
        if index % 3 == 0:
            row["active"] |= {name: [0] * 120 for name in ("drums", "guitar", "piano")}
        for section in arranged(row, Wish(solo=solo), tally):
            assert not section.captions or section.heard
            count += bool(section.captions)
            single += bool(section.captions) and len(section.heard) == 1
            assert single <= solo * count
    assert (tally.sections, tally.single) == (count, single) and count > 300
    assert single >= 0.8 * solo * count
    assert 0.4 < tally.whole / count < 0.75 and {2, 3, 4} <= set(tally.sizes)


def test_sections_are_whole_bars_and_fill_the_song() -> None:
    """They lie end to end, and as many bars of a known tempo come nearest to the wish."""
    row = song_row(0, seconds=60)
    row["song"] |= {"tempo": 100.0, "beats": 3}
    sections = arranged(row, Wish(section=10), Tally())
    assert sections[0].start == 0 and sections[-1].start + sections[-1].seconds == 60
    for before, after in pairwise(sections):
        assert after.start == pytest.approx(before.start + before.seconds)
        assert (before.seconds / 1.8) == pytest.approx(6)


def test_a_mixture_is_the_sum_of_those_who_play(tmp_path: Path) -> None:
    """Inside every section, away from the slopes at its ends; and a silent stem leaves nothing."""
    folder = rendered(tmp_path / "renders", 1, seconds=8)[0]
    report = mix_songs(tmp_path / "renders", tmp_path / "out", Wish(section=2, whole=0.3), "wav")
    row = json.loads((folder / "song.json").read_text())
    sections = arranged(row, Wish(section=2, whole=0.3), Tally())
    found = soundfile.read(tmp_path / "out" / "audio" / f"{folder.name}.wav")[0]
    assert found.shape == (8 * RATE, 2) and any(len(section.stems) < 4 for section in sections)
    stems = {name: np.load(folder / f"{name}.npy") / 32768 for name in row["stems"]}
    for section in sections:
        first, last = round(section.start * RATE) + FADE_IN, round((section.start + section.seconds) * RATE) - FADE_OUT
        wanted = sum(stems[name][first:last] for name in section.stems)
        assert np.abs(found[first:last] - wanted).max() < 1e-4
    assert np.abs(np.diff(found, axis=0)).max() < 0.05
    assert report["sections"] == len(sections) and sum(report["share_by_stems_heard"].values()) == pytest.approx(
        1, 1e-3
    )


def test_no_stem_is_written(tmp_path: Path) -> None:
    """One file a song, a list and a report; each line names a mixture, a time and its captions; a second run agrees."""
    rendered(tmp_path / "renders", 2, seconds=6)
    for name in ("a", "b"):
        assert (
            main(["data", "caption", str(tmp_path / "renders"), "-o", str(tmp_path / name), "--section", "2", "-q"])
            == 0
        )
    files = {str(path.relative_to(tmp_path / "a")) for path in (tmp_path / "a").rglob("*") if path.is_file()}
    assert files == {"audio/000000.flac", "audio/000001.flac", "captions.jsonl", "report.json"}
    assert all((tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes() for file in files)
    lines = [json.loads(line) for line in (tmp_path / "a" / "captions.jsonl").read_text().splitlines()]
    assert len(lines) >= 5 and all(line["file"] in files and len(set(line["captions"])) >= 1 for line in lines)
    assert json.loads((tmp_path / "a" / "report.json").read_text())["share_single_instrument"] <= 0.05


def test_what_cannot_be_mixed_is_said(tmp_path: Path) -> None:
    """Impossible shares, no songs, a stem that is gone, a song.json of something else."""
    renders, out = tmp_path / "renders", tmp_path / "out"
    folder = rendered(renders, 1, seconds=2)[0]
    for wish, format in ((Wish(solo=1.5), "wav"), (Wish(captions=0), "wav"), (Wish(), "mp3")):
        with pytest.raises(UsageError, match="--"):
            mix_songs(renders, out, wish, format)
    with pytest.raises(InputError, match=r"no song\.json"):
        mix_songs(out, out)
    (folder / "bass.npy").unlink()
    with pytest.raises(InputError, match=r"bass.*no such file"):
        mix_songs(renders, out)
    (folder / "song.json").write_text("{}")
    with pytest.raises(InputError, match=r"song\.json.*cannot be read"):
        mix_songs(renders, out)
