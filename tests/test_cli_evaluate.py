"""`stemforge evaluate` as it is typed: a table, lines, JSON, CSV, and one line for what is wrong."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from stemforge import checkpoints
from stemforge.cli import score_report
from stemforge.cli.evaluate import evaluate
from stemforge.cli.main import main
from stemforge.errors import OutputError, UsageError
from test_evaluate import HZ, Thirds, leaky, tone, write


@pytest.fixture
def folders(tmp_path: Path) -> tuple[str, str]:
    """REF and EST with two songs, 20 dB better than the mixture."""
    for song in ("first", "[second] (live)"):
        write(tmp_path / "ref" / song, {stem: tone(stem) for stem in HZ})
        write(tmp_path / "est" / song, leaky(0.1))
    return str(tmp_path / "ref"), str(tmp_path / "est")


def run(*arguments: str, fails: bool = False):
    app = typer.Typer()
    app.command()(evaluate)
    result = CliRunner().invoke(app, arguments)
    if fails:
        return result.exception
    assert result.exit_code == 0, result.output
    return result


def test_lines(folders: tuple[str, str]) -> None:
    """Away from a terminal there are tab-separated lines without escapes, with all songs and their mean and median."""
    lines = [line.split("\t") for line in run(*folders).stdout.splitlines()]
    assert [line[0] for line in lines[:5]] == ["song", "[second] (live)", "first", "mean of songs", "median of songs"]
    assert lines[0][1:] == ["bass", "drums", "other", "active", "stereo", "treble", "msdm", "sum_db"]
    assert lines[3][4] == "20.00"
    assert ["active", "20.00", "20.00", "20.00", "20.00"] in lines


def test_table_on_a_terminal(folders: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal a table shows names as they are, brackets included."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "160")
    shown = run(*folders).stdout
    assert "[second] (live)" in shown
    assert "━" in shown


def test_json(folders: tuple[str, str]) -> None:
    """--json prints one object for each song and a summary, and nothing else."""
    first, second, summary = map(json.loads, run(*folders, "--json").stdout.splitlines())
    assert (first["event"], first["song"], second["song"]) == ("song", "[second] (live)", "first")
    assert (summary["event"], summary["schema"], summary["songs"]) == ("summary", 1, 2)
    assert summary["active"] == pytest.approx({**dict.fromkeys(HZ, 20), "all": 20}, abs=0.01)
    assert summary["sum_db"] == pytest.approx(-13.98, abs=0.01)


def test_csv(folders: tuple[str, str], tmp_path: Path) -> None:
    """--csv holds one line for each song, figure and stem, with how many windows stand behind it."""
    run(*folders, "--csv", str(tmp_path / "scores.csv"))
    with (tmp_path / "scores.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    found = [row for row in rows if (row["song"], row["figure"], row["stem"]) == ("first", "active", "drums")]
    assert [(row["windows"], float(row["db"])) for row in found] == [("2", pytest.approx(20, abs=0.01))]
    assert len([row for row in rows if row["figure"] == "sum_db"]) == 2
    assert not list(tmp_path.glob("*.part"))


def test_csv_that_cannot_be_written(folders: tuple[str, str], tmp_path: Path) -> None:
    """A CSV in a folder that is not there is an OutputError after the figures were shown."""
    error = run(*folders, "--csv", str(tmp_path / "nowhere" / "scores.csv"), fails=True)
    assert isinstance(error, OutputError)


def test_checkpoint_is_scored_without_est(folders: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Without EST the checkpoint separates the sums, with the steps and passes that were asked for."""
    asked = {}

    def load(name: str | None, device: str, **options: object) -> Thirds:
        asked.update(name=name, device=device, **options)
        return Thirds()

    monkeypatch.setattr(checkpoints, "load", load)
    result = run(folders[0], "--json", "--checkpoint", "some", "--steps", "3", "--passes", "2", "-d", "cpu")
    assert asked == {"name": "some", "device": "cpu", "steps": 3, "passes": 2, "whole": False}
    summary = json.loads(result.stdout.splitlines()[-1])
    assert summary["active"]["all"] == pytest.approx(0, abs=0.01)
    assert "separated first" in result.stderr


def test_a_bad_song_does_not_stop_the_others(
    folders: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is told, the others are scored, exit code 3; when none can be, 4 and no table."""
    ref, est = (Path(folder) for folder in folders)
    (est / "first" / "drums.wav").write_text("words")
    write(ref / "third", {stem: tone(stem) for stem in HZ})
    scores = str(tmp_path / "scores.csv")
    assert main(["evaluate", *folders, "--json", "--csv", scores]) == 3
    out, err = capsys.readouterr()
    found = [json.loads(line) for line in out.splitlines()]
    assert [(event["event"], event.get("song")) for event in found] == [
        ("song", "[second] (live)"), ("failed", "first"), ("failed", "third"), ("summary", None)]  # fmt: skip
    assert found[1]["error"]["code"] == 4 and found[-1]["songs"] == 1 and found[-1]["failed"] == 2
    assert "drums.wav': not a recognised audio format" in err and "no folder for 'third'" in err
    assert "first" not in Path(scores).read_text()
    for song in est.iterdir():
        (song / "bass.wav").unlink()
    assert main(["evaluate", *folders]) == 4
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 3


def test_est_and_checkpoint_exclude_each_other(folders: tuple[str, str]) -> None:
    """A checkpoint cannot be scored with estimates that are already there."""
    assert isinstance(run(*folders, "--checkpoint", "forge", fails=True), UsageError)


def test_silent_figures_are_left_empty(capsys: pytest.CaptureFixture[str]) -> None:
    """Songs in which nothing counts give empty cells, not numbers."""
    from stemforge.tasks.evaluate import SongScore

    score_report.print_report([SongScore("hush", {"active": {}, "stereo": {}, "treble": {}, "msdm": {}}, 0.0)])
    assert capsys.readouterr().out.splitlines()[1] == "hush\t\t\t\t\t0.00"
