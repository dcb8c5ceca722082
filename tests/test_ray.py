"""`separate --engine ray`: the songs of a folder on two workers, one of which is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from clusters import at_work, s3_server, tiny_checkpoint
from places import prepared, song, tree
from stemforge import storage
from stemforge.cli.main import main

pytest.importorskip("ray", reason="needs stemforge[cluster]")
pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of its own, a short name for the sockets of Ray, and a checkpoint that other processes can load too."""
    prepared(tmp_path, monkeypatch)
    monkeypatch.setenv("STEMFORGE_CHECKPOINTS", str(tiny_checkpoint(tmp_path / "tiny")))
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="r-", ignore_cleanup_errors=True) as folder:
        monkeypatch.setenv("RAY_TMPDIR", folder)
        yield tmp_path


def start(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "stemforge", "separate", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def statuses(report: str) -> dict[str, list[str]]:
    """What a report says of each song."""
    found: dict[str, list[str]] = {}
    for line in Path(report).read_text().splitlines():
        event = json.loads(line)
        found.setdefault(event["input"], []).append(event["status"])
    return found


def test_a_worker_is_killed() -> None:
    """Each song is done once, results are those of a local run, and nothing hidden stays."""
    for n in range(8):
        song(f"songs/{n}.wav", 3)
    process = start("songs", "-o", "out", "--engine", "ray", "--workers", "2", "--report", "r.jsonl")
    deadline = time.monotonic() + 240
    while not (Path("r.jsonl").exists() and Path("r.jsonl").read_text().count("\n") > 1):
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.05)
    while not (workers := at_work(process.pid)):
        assert process.poll() is None
    os.kill(workers[0], signal.SIGKILL)
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    assert statuses("r.jsonl") == {f"songs/{n}.wav": ["ok"] for n in range(8)}
    assert sorted(out.splitlines()) == [f"out/tiny/{n}" for n in range(8)]
    assert main(["separate", "songs", "-o", "here", "-q"]) == 0
    assert tree("out") == tree("here")
    for name in tree("out"):
        if name.endswith(".wav"):
            assert Path("out", name).read_bytes() == Path("here", name).read_bytes()
    assert not list(Path("out").rglob(".*"))


def test_exit_codes() -> None:
    """A bad song among good ones is 3, the same command again does nothing, a bad checkpoint is 5."""
    song("songs/a.wav", 0.3)
    Path("songs/words.wav").write_text("words\n" * 9)
    process = start("songs", "--engine", "ray", "--workers", "1", "--json")
    out, err = process.communicate(timeout=240)
    assert process.returncode == 3 and "'songs/words.wav': not a recognised audio format" in err
    events = [json.loads(line) for line in out.splitlines()]
    assert [event.get("status") for event in events] == ["ok", "failed", None]
    assert events[-1]["ok"] == events[-1]["failed"] == 1
    Path("songs/words.wav").unlink()
    config = Path(os.environ["STEMFORGE_CHECKPOINTS"]).parent / "tiny" / "config.json"
    config.write_text(config.read_text() + " ")
    process = start("songs", "-y", "--engine", "ray", "--workers", "1")
    _, err = process.communicate(timeout=240)
    assert process.returncode == 5 and "config.json' has sha256" in err and "Traceback" not in err


@pytest.mark.filterwarnings("default")
def test_object_storage() -> None:
    """From a bucket to a bucket: a worker fetches each song itself, and sends off its stems."""
    pytest.importorskip("moto.server", reason="needs moto[server]")
    song("a.wav", 0.3)
    with s3_server():
        fsspec.filesystem("s3").mkdir("music")
        for name in ("a", "x/b"):
            storage.put(storage.Url(f"s3://music/songs/{name}.wav"), Path("a.wav"))
        process = start("s3://music/songs", "-o", "s3://music/stems", "--engine", "ray", "--workers", "1")
        out, err = process.communicate(timeout=240)
        found = storage.below(storage.Url("s3://music/stems"))
    assert process.returncode == 0, err
    assert sorted(out.splitlines()) == ["s3://music/stems/tiny/a", "s3://music/stems/tiny/x/b"]
    files = ("bass.wav", "drums.wav", "other.wav", "stemforge.json")
    assert [str(url) for url in found or []] == [f"s3://music/stems/tiny/{n}/{f}" for n in ("a", "x/b") for f in files]
    assert sorted(path.name for path in Path().iterdir()) == ["a.wav"]


def test_stopped() -> None:
    """SIGTERM ends the command and its workers with 143; the same command afterwards finishes what is left."""
    song("song.wav", 60)
    arguments = "song.wav", "--engine", "ray", "--workers", "1"
    process = start(*arguments)
    while not at_work(process.pid):
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.terminate()
    _, err = process.communicate(timeout=240)
    assert process.returncode == 143 and "error: stopped: what was finished is kept" in err
    process = start(*arguments)
    out, err = process.communicate(timeout=240)
    assert (process.returncode, out) == (0, "separated/tiny/song\n"), err
    assert not list(Path("separated").rglob(".*"))
