"""`--jobs`: songs are read and written beside the network, and nothing else is different."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch
from torch import Tensor

from places import RATE, prepared, song, tree
from stemforge.audio.ahead import DEPTH, Ahead
from stemforge.audio.writer import StemWriter
from stemforge.cli.main import main
from stemforge.errors import SpaceError


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test works in a folder of its own."""
    return prepared(tmp_path, monkeypatch)


def numbers(upto: int, taken: list[int]) -> Iterator[Tensor]:
    for n in range(upto):
        taken.append(n)
        yield torch.tensor([float(n)])


def test_blocks_are_read_ahead_and_no_further() -> None:
    """All blocks come in order; at most DEPTH wait, and one more is in the hand of the reader."""
    taken: list[int] = []
    ahead = Ahead(numbers(50, taken))
    found = []
    for block in ahead:
        found.append(int(block))
        assert len(taken) <= len(found) + DEPTH + 1
    assert found == list(range(50))
    ahead.close()


def test_errors_come_where_their_block_would_have_been() -> None:
    """What the source raises is raised after the blocks before it; a reader that is closed early ends."""

    def broken() -> Iterator[Tensor]:
        yield torch.zeros(1)
        raise SpaceError("no")

    found = iter(Ahead(broken()))
    next(found)
    with pytest.raises(SpaceError, match="no"):
        next(found)
    ahead = Ahead(numbers(10**9, []))
    ahead.close()
    assert not [thread for thread in threading.enumerate() if thread.name == ahead.thread]


def folder() -> None:
    """Songs of several formats, a warning, a damaged one and one that is no sound."""
    for name in ("a.flac", "d.wav", "f.aiff"):
        x = song(f"in/{name}", 0.7)
    sf.write("in/b.mp3", x, RATE)
    sf.write("in/c.wav", np.full((RATE, 2), 30.0), RATE, subtype="FLOAT")
    Path("in/e.wav").write_text("words")
    song("in/g.flac", 4)
    with Path("in/g.flac").open("rb+") as file:
        file.truncate(Path("in/g.flac").stat().st_size // 2)


def events(text: str) -> list[dict]:
    """The lines of --json without times and the folder."""
    lines = [json.loads(line) for line in text.splitlines()]
    return [{k: v for k, v in line.items() if k not in ("elapsed_s", "folder")} for line in lines]


@pytest.mark.parametrize("options", [["--flac"], ["--mp3"], [], ["--loudness", "-20", "--shifts", "2"]])
def test_the_same_comes_out(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Files, lines and their order, warnings, exit code: all as with one job."""
    folder()
    seen, made, codes = [], [], []
    for out, jobs in (("one", "1"), ("three", "3")):
        codes.append(main(["separate", "in", "-o", out, "-j", jobs, "--json", *options]))
        seen.append(events(capsys.readouterr().out))
        made.append({name: Path(out, name).read_bytes() for name in tree(out) if not name.endswith("json")})
        assert main(["separate", "in/a.flac", "in/d.wav", "-o", out, *options, "-q"]) == 0
        capsys.readouterr()
    assert codes == [3, 3] and seen[0] == seen[1] and made[0] == made[1] and made[0]
    (loud,) = [event for event in seen[1] if event.get("input") == "in/c.wav"]
    assert "peak is 30 times full scale" in loud["warnings"][0] and len(loud["warnings"]) == 1
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("reader")]


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_song_is_computed_while_another_is_written(jobs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With two jobs the network works on the next song before the last one has its name; with one it does not."""
    for n in range(3):
        song(f"in/{n}.wav", 1)
    finish, write = StemWriter.finish, StemWriter.write
    begun, beside = threading.Event(), []

    def slow(self, *args, **kwargs):
        begun.clear()
        beside.append(begun.wait(20 if jobs == 2 and len(beside) < 2 else 0.1))
        return finish(self, *args, **kwargs)

    def noted(self, stems):
        begun.set()
        write(self, stems)

    monkeypatch.setattr(StemWriter, "finish", slow)
    monkeypatch.setattr(StemWriter, "write", noted)
    assert main(["separate", "in", "-j", str(jobs), "-q"]) == 0
    assert beside == [jobs == 2, jobs == 2, False]


def full(self: StemWriter, *args: object, **kwargs: object) -> None:
    raise SpaceError(f"'{self.folder}': no space left on the disk.")


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_full_disk_stops_the_run(jobs: str, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    """One song is told as failed, none of the others is kept half, exit code 7."""
    for n in range(4):
        song(f"in/{n}.wav", 1)
    finish = StemWriter.finish
    monkeypatch.setattr(
        StemWriter, "finish", lambda self, **how: full(self) if self.folder.name == "1" else finish(self, **how)
    )
    assert main(["separate", "in", "-j", jobs, "--report", "r.jsonl"]) == 7
    assert [json.loads(line)["status"] for line in Path("r.jsonl").read_text().splitlines()] == ["ok", "failed"]
    assert {name.split("/")[1] for name in tree()} == {"0"} and not list(Path("separated").rglob(".*"))
    assert "stopped; 1 finished songs are kept" in capsys.readouterr().err


@pytest.mark.parametrize("where", ["write", "finish"])
def test_interrupted(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while one song is computed and one written: nothing half-written stays, no lock, exit code 130."""
    for n in range(3):
        song(f"in/{n}.wav", 1)
    kept = getattr(StemWriter, where)

    def interrupted(self, *args, **kwargs):
        if self.folder.name == "1" and threading.current_thread() is threading.main_thread():
            raise KeyboardInterrupt
        return kept(self, *args, **kwargs)

    monkeypatch.setattr(StemWriter, where, interrupted)
    assert main(["separate", "in", "-j", "2" if where == "write" else "1", "-q"]) == 130
    assert {name.split("/")[1] for name in tree()} <= {"0"} and not list(Path("separated").rglob(".*"))


def test_fail_fast(capsys: pytest.CaptureFixture[str]) -> None:
    """The first failure ends the run, whatever is read ahead."""
    folder()
    for jobs in ("1", "2"):
        assert main(["separate", "in", "-j", jobs, "--fail-fast", "-o", jobs]) == 4
        assert not Path(jobs).exists()
        assert "0 separated" in capsys.readouterr().err
