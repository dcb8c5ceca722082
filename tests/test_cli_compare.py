"""`stemforge evaluate` for generated songs: distances and coherence as lines and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from stemforge import wheels
from stemforge.cli.main import main
from test_cli_evaluate import run
from test_musicnn import small

RATE = 16000
FADES = {"bass": 2, "drums": 8, "guitar": 30}


def write(folder: Path, seed: int, names: Iterable[str] = FADES) -> None:
    """A song of 4 s, noise in each stem, pulsating twice a second."""
    folder.mkdir(parents=True)
    rng, pulse = np.random.default_rng(seed), np.arange(4 * RATE) / RATE % 0.5
    for stem in names:
        wave = 0.2 * rng.normal(size=4 * RATE) * np.exp(-FADES[stem] * pulse)
        sf.write(folder / f"{stem}.wav", wave, RATE, subtype="FLOAT")


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """Three songs, and a guitar made for each; the network is a small one."""
    for seed, song in enumerate(("a", "b", "[c] live")):
        write(tmp_path / "ref" / song, seed)
        write(tmp_path / "est" / song, 10 + seed, ("guitar",))
    network = small()
    network.dense_norm.weight.data.mul_(100)
    monkeypatch.setattr(wheels, "musicnn", lambda judge, device: network)
    return str(tmp_path / "ref"), str(tmp_path / "est")


def test_distances(folders: tuple[str, str]) -> None:
    """A line with figure, judge, distance, interval, windows and songs; progress goes to stderr."""
    result = run(*folders, "--fad", "--sub-fad", "--given", "bass,drums", "--windows-min", "9", "-d", "cpu")
    header, whole, _, part = (line.split("\t") for line in result.stdout.splitlines())
    assert header[:5] == ["figure", "judge", "distance", "2.5%", "97.5%"]
    assert whole[:2] == ["FAD-musicnn", "MSD"] and part[:2] == ["sub-FAD-musicnn", "MSD"]
    assert whole[5:] == part[5:] == ["9", "9", "3", "3"]
    for row in (whole, part):
        assert float(row[3]) <= float(row[2]) <= float(row[4])
    assert 0 < float(part[2]) < float(whole[2]), "given stems bring the sums nearer"
    assert "stemforge: [c] live: heard, 1 of 3" in result.stderr


def test_distances_as_json(folders: tuple[str, str]) -> None:
    """The same as objects; sub-FAD says what was given, and a set is at no distance from itself."""
    ref = folders[0]
    options = ("--windows-min", "6", "--windows-hop", "1", "--judge", "MTT", "-d", "cpu", "--json")
    whole, part = map(json.loads, run(ref, ref, "--fad", "--sub-fad", "--given", "bass", *options).stdout.splitlines())
    assert whole["schema"] == 1 and (whole["event"], whole["figure"], whole["judge"]) == ("fad", "FAD-musicnn", "MTT")
    assert whole["distance"] == part["distance"] == 0 and (whole["windows"], whole["songs"]) == ([6, 6], [3, 3])
    assert (part["figure"], part["given"]) == ("sub-FAD-musicnn", ["bass"]) and "given" not in whole


def test_chosen_stems(folders: tuple[str, str]) -> None:
    """With --stems only those are added up."""
    found = run(*folders, "--fad", "--stems", "guitar", "--windows-min", "2", "-d", "cpu", "--json")
    all_stems = run(*folders, "--fad", "--windows-min", "2", "-d", "cpu", "--json")
    assert json.loads(found.stdout)["distance"] < json.loads(all_stems.stdout)["distance"]


def test_coherence(folders: tuple[str, str]) -> None:
    """One row a song, then the means of what was made, of real stems, and of real stems of other songs."""
    lines = [line.split("\t") for line in run(*folders, "--coherence", "--given", "bass,drums").stdout.splitlines()]
    assert lines[0] == ["song", "beat", "chroma"]
    names = ["[c] live", "a", "b", "mean of songs", "real stems", "real stems of other songs"]
    assert [line[0] for line in lines[1:]] == names
    assert all(0 <= float(beat or 0) <= 1 and -1 <= float(chroma) <= 1 for _, beat, chroma in lines[1:])


def test_coherence_as_json(folders: tuple[str, str]) -> None:
    """One object a song and a summary."""
    given = ("--coherence", "--given", "bass,drums", "--json")
    *songs, summary = map(json.loads, run(*folders, *given).stdout.splitlines())
    assert [song["song"] for song in songs] == ["[c] live", "a", "b"]
    assert (summary["event"], summary["given"], summary["songs"]) == ("coherence-summary", ["bass", "drums"], 3)
    assert set(summary["made"]) == set(summary["real"]) == set(summary["others"]) == {"beat", "chroma"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("REF", "EST", "--fad"), "300 are needed"),
        (("REF", "--fad"), "EST: is missing"),
        (("REF", "EST", "--sub-fad"), "Give --given"),
        (("REF", "EST", "--coherence"), "Give --given"),
        (("REF", "EST", "--given", "bass"), "--given: goes with --sub-fad or --coherence"),
        (("REF", "EST", "--fad", "--csv", "x.csv"), "--csv: goes with the scores in dB only"),
        (("REF", "EST", "--fad", "--checkpoint", "forge"), "--checkpoint: goes with the scores in dB only"),
        (("REF", "EST", "--coherence", "--given", "vocals"), "no stem vocals"),
    ],
)
def test_what_cannot_be(
    folders: tuple[str, str], capsys: pytest.CaptureFixture[str], options: tuple[str, ...], message: str
) -> None:
    """Options that do not go together, and too few windows, are exit code 2 with one line."""
    places = dict(zip(("REF", "EST"), folders, strict=True))
    assert main(["evaluate", *(places.get(option, option) for option in options), "-d", "cpu"]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("stemforge: error: ") and message in error


def test_musicnn_that_was_not_pulled(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the weights it is exit code 5 with the command that gets them."""
    monkeypatch.setenv("STEMFORGE_CACHE", str(tmp_path))
    assert main(["evaluate", str(tmp_path), str(tmp_path), "--fad", "-d", "cpu"]) == 5
    assert "Run stemforge checkpoints pull musicnn." in capsys.readouterr().err
