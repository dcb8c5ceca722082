"""`stemforge data check`: what is there is counted, what is odd is noted, what is damaged sets the exit code."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from songs import msdm, musdb, put, slakh, tone
from stemforge.cli.main import main
from stemforge.train.check import check
from stemforge.train.layouts import Wanted

TWO = Wanted(("bass", "drums"))


def only(folder: Path, wanted: Wanted = TWO):
    """The report of the only song."""
    count, songs = check(folder, wanted, 8000)
    assert count == 1
    return next(songs)


def lines(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, list[dict]]:
    code = main(["data", "check", "--json", "--quiet", *arguments])
    return code, [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_counts(tmp_path, capsys):
    """Songs, hours of each stem, and stems that songs lack; everything in order is exit code 0."""
    code, found = lines(capsys, str(msdm(tmp_path)), "--stems", "bass,piano,vocals")
    assert code == 0 and [row["event"] for row in found] == ["song", "song", "summary"]
    assert [row["missing"] for row in found[:2]] == [["vocals"], ["piano", "vocals"]]
    summary = found[-1]
    assert (summary["songs"], summary["layouts"], summary["sample_rates"]) == (2, ["plain"], [8000])
    assert {name: row["songs"] for name, row in summary["stems"].items()} == {"bass": 2, "piano": 1, "vocals": 0}
    assert summary["stems"]["bass"]["hours"] == pytest.approx(2 / 3600, abs=1e-4)


def test_sounding_seconds_and_peak(tmp_path):
    """A stem that rests half of the time sounds half of the time; arrays count as well."""
    samples = np.concatenate([tone(100, 2.0), tone(100, 2.0) * 0])
    put(tmp_path / "song" / "bass.flac", samples)
    np.save(tmp_path / "song" / "drums.npy", (32767 * samples).astype(np.int16))
    for file in only(tmp_path).files:
        assert (file.seconds, file.sounding) == (4.0, 2.0) and file.peak == pytest.approx(0.1, abs=1e-3)


def test_oddities_are_noted(tmp_path):
    """Silence, other lengths and other rates can be trained on, and are told."""
    put(tmp_path / "song" / "bass.wav", tone(100, 3.0))
    put(tmp_path / "song" / "drums.wav", 0 * tone(100, 2.0, 16000), 16000)
    song = only(tmp_path)
    assert not song.errors and song.usable
    assert song.notes == (
        "drums.wav is silent",
        "drums.wav is 1.0 s shorter than the longest",
        "rates differ: 8000, 16000 Hz",
    )


def test_damage_is_an_error(tmp_path, capsys):
    """Files that are no sound, cut short or not finite are named; 3 when some are in order, 4 when none is."""
    song = tmp_path / "song"
    put(song / "bass.wav", tone(100, 2.0))
    samples = tone(100, 2.0)
    samples[5000] = np.inf
    soundfile.write(song / "drums.wav", samples, 8000, subtype="FLOAT")
    code, found = lines(capsys, str(tmp_path))
    assert code == 3 and found[-1]["damaged"] == 1 and found[0]["status"] == "failed"
    assert "non-finite samples at 0.6 s" in next(f["error"] for f in found[0]["files"] if f["stem"] == "drums")
    whole = (song / "bass.wav").read_bytes()
    (song / "bass.wav").write_bytes(whole[: len(whole) // 2])
    assert any("cut short" in error for error in only(tmp_path).errors)
    assert lines(capsys, str(tmp_path))[0] == 4


def test_nothing_there(tmp_path, capsys):
    """A folder without songs is one line and exit code 4."""
    assert main(["data", "check", str(tmp_path)]) == 4
    assert capsys.readouterr().err.startswith(f"stemforge: error: songs '{tmp_path}': no folder with bass")


def test_text(tmp_path, capsys):
    """Without --json there is a table of stems, and a line for each song with findings."""
    musdb(tmp_path)
    slakh(tmp_path / "more")
    put(tmp_path / "A - Song" / "piano.wav", 0 * tone(100))
    assert main(["data", "check", str(tmp_path)]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == f"{tmp_path}: 2 songs (plain and slakh), 0.00 h, 8000 Hz"
    assert said[1].split("\t") == ["stem", "songs", "without", "hours", "hours sounding"]
    assert said[-1] == "A - Song: piano.wav is silent"
    assert len(said) == 8
