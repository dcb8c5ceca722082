"""Two processes, one folder: locks, and what a killed run leaves behind."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from forked import Commands
from places import prepared, song, tree
from stemforge.cli.main import main
from stemforge.tasks import locks
from stemforge.tasks.locks import Lock, LockedError, clear


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test works in a folder of its own."""
    return prepared(tmp_path, monkeypatch)


def test_lock_keeps_others_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """While one holds the lock another passes over the song; afterwards there is no trace of it."""
    song("x.wav")
    folder = Path("separated/bands/x")
    with Lock(folder / ".stemforge.lock").acquire():
        assert main(["separate", "x.wav"]) == 0
        assert f"x.wav: process {os.getpid()} is separating it" in capsys.readouterr().err
        with pytest.raises(LockedError):
            Lock(folder / ".stemforge.lock").acquire()
        assert [path.name for path in folder.iterdir()] == [".stemforge.lock"]
    assert not Path("separated").exists()
    assert main(["separate", "x.wav"]) == 0
    assert len(tree()) == 4


@pytest.mark.parametrize(
    ("change", "age", "lives"),
    [
        ({}, 0, True),
        ({"pid": 99999999}, 0, False),
        ({"begun": "1"}, 0, False),
        ({"host": "elsewhere"}, 0, True),
        ({"host": "elsewhere"}, locks.DEAD_AFTER + 9, False),
        (None, 0, True),
        (None, locks.BEAT + 9, False),
    ],
)
def test_stale_locks(change: dict | None, age: float, lives: bool) -> None:
    """The lock of a dead process is taken over; of another machine, when it was not touched for long."""
    own = {"host": socket.gethostname(), "pid": os.getppid(), "begun": locks._begun(os.getppid())}
    path = Path(".x.lock")
    path.write_text(json.dumps(own | change) if change is not None else "")
    os.utime(path, (time.time() - age,) * 2)
    if lives:
        with pytest.raises(LockedError):
            Lock(path).acquire()
        assert path.exists()
    else:
        with Lock(path).acquire():
            assert json.loads(path.read_text())["pid"] == os.getpid()
        assert not path.exists()
    assert not list(Path().glob(".*.part"))


def test_folders_that_cannot_be(capsys: pytest.CaptureFixture[str]) -> None:
    """A file, or a link to nowhere, where a song's folder has to be: told, and nothing else is touched."""
    song("a.wav"), song("b.wav")
    Path("out/bands").mkdir(parents=True)
    Path("out/bands/a").write_text("mine")
    Path("out/bands/b").symlink_to("nowhere")
    assert main(["separate", "a.wav", "b.wav", "-o", "out", "-q"]) == 7
    err = capsys.readouterr().err
    assert "'out/bands/a': cannot be written" in err and "'out/bands/b': cannot be written" in err
    assert tree("out") == ["bands/a"] and Path("out/bands/a").read_text() == "mine"


def test_lock_is_touched_and_lost_locks_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    """The owner touches its lock; a lock that another process took over is not removed."""
    monkeypatch.setattr(locks, "BEAT", 0.01)
    path = Path(".x.lock")
    with Lock(path).acquire():
        os.utime(path, (0, 0))
        deadline = time.monotonic() + 20
        while path.stat().st_mtime < 1e9 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert path.stat().st_mtime > 1e9
        path.write_text('{"token": "of another"}')
    assert path.exists()


def made(folder: str) -> dict[str, bytes | dict]:
    """All files of a folder: the bytes of sound, the contents of sidecars but for times."""
    files = {name: Path(folder, name) for name in tree(folder)}
    return {
        name: json.loads(path.read_text()) | {"elapsed_s": 0} if path.suffix == ".json" else path.read_bytes()
        for name, path in files.items()
    }


@pytest.mark.skipif(os.name != "posix", reason="processes of posix")
@pytest.mark.parametrize("template", ["{reldir}/{track}/{stem}.{ext}", "{reldir}/{track} {stem}.{ext}"])
def test_processes_share_a_folder(template: str) -> None:
    """Three at once make every song exactly once, also where songs share a folder, and one report whole."""
    for n in range(6):
        song(f"in/{n}.wav", 0.4)
    command = ["separate", "in", "--filename", template, "--flac", "--report", "r.jsonl"]
    with Commands() as commands:
        processes = [commands.start(*command) for _ in range(3)]
        assert [commands.wait(process) for process in processes] == [0, 0, 0]
    events = [json.loads(line) for line in Path("r.jsonl").read_text().splitlines()]
    assert len(events) == 18
    done = sorted(event["input"] for event in events if event["status"] == "ok")
    assert done == [f"in/{n}.wav" for n in range(6)]
    assert len(tree()) == 24 and not [name for name in tree() if "/." in name]


def test_the_lock_of_a_living_process_is_not_cleared() -> None:
    """Of a finished song, too: somebody may be making its page."""
    path = Path(".x.lock")
    with Lock(path).acquire():
        clear(path)
        assert path.exists()
    clear(path)
    assert not path.exists()


@pytest.mark.skipif(os.name != "posix", reason="processes of posix")
def test_the_lock_of_a_finished_song_goes_too() -> None:
    """A process that is killed between its last file and its lock leaves a lock that the next run takes away."""
    song("in/0.wav", 0.4)
    with Commands() as commands:
        assert commands.run("separate", "in", "-q").returncode == 0
        before = made("separated")
        lock = next(Path("separated").rglob("stemforge.json")).with_name(".stemforge.lock")
        gone = {"host": socket.gethostname(), "pid": 2**22 - 1, "begun": "1", "token": "x"}
        lock.write_text(json.dumps(gone))
        assert commands.run("separate", "in", "-q").returncode == 0
    assert made("separated") == before


@pytest.mark.skipif(os.name != "posix", reason="signals of posix")
@pytest.mark.parametrize(("songs", "kills"), [(4, 5), pytest.param(30, 50, marks=pytest.mark.slow)])
def test_kill_and_again(songs: int, kills: int) -> None:
    """Killed at any moment, the same command ends with what an undisturbed one makes, and nothing hidden is left.

    Every other run writes beside the computation. `pytest -rP` shows the table of the kills.
    """
    for n in range(songs):
        song(f"in/{n % 3}/{n:02d}.wav", 0.3 + 0.1 * (n % 4))
    command = ["separate", "in", "--int16", "-q"]
    chance = np.random.default_rng(0)
    moments = chance.permutation(kills)
    print("kill  jobs  died  songs done  files hidden  again: code  bytes equal")
    with Commands() as commands:
        assert commands.run(*command, "-o", "calm").returncode == 0
        calm, cut = made("calm"), 0
        for number, moment in enumerate(moments):
            jobs = str(1 + number % 2)
            process = commands.start(*command, "-o", "out", "-j", jobs)
            deadline, count = time.monotonic() + 60, len(calm) * moment // kills
            while len(list(Path("out").rglob("*.*"))) < count and time.monotonic() < deadline:
                time.sleep(0.001)
            time.sleep(0.01 * chance.random())
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
            died = commands.wait(process) == -signal.SIGKILL
            done, hidden = (len(list(Path("out").rglob(what))) for what in ("stemforge.json", ".*"))
            code = commands.run(*command, "-o", "out", "-j", jobs).returncode
            again = made("out")
            other = {
                name: (calm.get(name), again.get(name))
                for name in calm.keys() | again
                if calm.get(name) != again.get(name)
            }
            print(f"{number + 1:4}  {jobs:>4}  {died!s:>5}  {done:9}  {hidden:12}  {code:11}  {not other!s:>11}")
            assert code == 0 and not other, {name: str(pair)[:300] for name, pair in other.items()}
            cut += died
            shutil.rmtree("out")
    assert cut >= kills // 2 and len(calm) == 4 * songs


def test_a_signal_while_the_lock_begins_to_be_kept_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is there before the thread that touches it runs; on a busy machine that takes a while."""
    path = Path("separated/bands/x/.stemforge.lock")

    def interrupted(thread: object) -> None:
        assert path.exists()
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(locks.threading.Thread, "start", interrupted)
        with pytest.raises(KeyboardInterrupt):
            Lock(path).acquire()
    assert not Path("separated").exists()
    with Lock(path).acquire():
        assert path.exists()
