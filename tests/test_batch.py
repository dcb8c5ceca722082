"""Many songs at once: lists, templates, shards, reports, locks, parts of songs, and what a killed run leaves behind."""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from shares import Shares, make_checkpoint
from stemforge import checkpoints
from stemforge.cli import ledger, lists
from stemforge.cli.inputs import Item
from stemforge.cli.layout import Layout, check
from stemforge.cli.main import main
from stemforge.cli.separate_request import seconds
from stemforge.errors import InputError, UsageError
from stemforge.models.registry import ARCHITECTURES
from stemforge.tasks import locks
from stemforge.tasks.locks import Lock, LockedError

RATE = 44100
COMMAND = [sys.executable, str(Path(__file__).parent / "shares.py")]


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, with a table of `bands`, the default, and `slow`."""
    monkeypatch.setitem(ARCHITECTURES, "shares", Shares)
    for name, delay in (("slow", 0.2), ("bands", 0)):
        make_checkpoint(tmp_path / "ck" / name, delay=delay)
    entries = [checkpoints.entry_for(tmp_path / "ck" / name, default=name == "bands") for name in ("slow", "bands")]
    (tmp_path / "ck" / "own.toml").write_text("\n".join(entries))
    monkeypatch.setenv("STEMFORGE_CHECKPOINTS", str(tmp_path / "ck" / "own.toml"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    for name in ("STEMFORGE_MODEL", "STEMFORGE_OUT", "STEMFORGE_DEVICE"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path


def song(name: str, seconds: float = 0.2) -> np.ndarray:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    x = (0.2 * np.random.default_rng(len(name)).standard_normal((int(seconds * RATE), 2))).astype(np.float32)
    sf.write(os.fsencode(path), x, RATE, format=path.suffix[1:].upper(), subtype="PCM_16")
    return sf.read(os.fsencode(path), dtype="float32")[0]


def tree(folder: str = "separated") -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in Path(folder).rglob("*") if path.is_file())


def error(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line of a refusal; nothing was written and nothing is on stdout."""
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and err.startswith("stemforge: error: ")
    assert not Path("separated").exists()
    return err


# lists


def test_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines end with LF or CRLF, blank ones count for nothing; names between NULs may hold anything."""
    Path("lines").write_bytes(b"\xef\xbb\xbfa b.wav\r\n\n #c.wav\n-\n")
    assert lists.listed(Path("lines")) == [Path("a b.wav"), Path(" #c.wav"), Path("-").absolute()]
    Path("nul").write_bytes(b"two\nlines.wav\0caf\xe9.wav\0")
    assert lists.listed(Path("nul"), null=True) == [Path("two\nlines.wav"), Path(os.fsdecode(b"caf\xe9.wav"))]
    Path("@lines").write_text("")
    assert lists.expanded([Path("@lines"), Path("@nul"), Path("x")], null=True)[0::3] == [Path("@lines"), Path("x")]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ([], 2, "no input: name songs or folders, or give --files-from"),
        (["--files-from", "none.txt"], 4, "'none.txt': cannot be read: No such file"),
        (["@none.txt"], 4, "'none.txt': cannot be read"),
        (["--files-from", "empty.txt"], 4, "'empty.txt': names no song"),
        (["--files-from", "nul.txt"], 4, "holds NUL characters. Give -0"),
        (["-0", "a.wav"], 2, "-0: is for --files-from"),
        (["-", "--files-from", "-"], 2, "stdin is either a song or a list"),
        (["a.wav", "-o", "-"], 2, "only one stem can go to stdout. Give --stems"),
        (["a.wav", "--two-stems", "bass", "-o", "-"], 2, "only one stem can go to stdout"),
        (["a.wav", "b.wav", "--stems", "bass", "-o", "-"], 2, "2 songs, but only one can go to stdout"),
        (["a.wav", "--stems", "bass", "-o", "-", "--json"], 2, "both write to stdout"),
        (["a.wav", "--stems", "bass", "-o", "-", "--filename", "{stem}"], 2, "nothing is there to be named"),
        (["a.wav", "--filename", "../{track}/{stem}.{ext}"], 2, "leads out of --out"),
        (["a.wav", "--filename", "{track}/../../{stem}.{ext}"], 2, "leads out of --out"),
        (["a.wav", "--filename", "/tmp/{track}/{stem}.{ext}"], 2, "leads out of --out"),
        (["a.wav", "--filename", "C:\\{track}\\{stem}.{ext}"], 2, "leads out of --out"),
        (["a.wav", "--filename", "..\\{track}\\{stem}.{ext}"], 2, "leads out of --out"),
        (["a.wav", "--filename", "{track.__class__}/{stem}"], 2, "{track.__class__} is unknown. There are {track}"),
        (["a.wav", "--filename", "{}/{stem}"], 2, "{} is unknown"),
        (["a.wav", "--filename", "{stem!r}"], 2, "is unknown"),
        (["a.wav", "--filename", "{stem:9}"], 2, "is unknown"),
        (["a.wav", "--filename", "{stem"], 2, "expected '}'"),
        (["a.wav", "--filename", "{stem}/"], 2, "every stem needs a name"),
        (["a.wav", "--filename", ""], 2, "every stem needs a name"),
        (["a.wav", "--filename", "{track}.{ext}"], 2, "would both be written to"),
        (["a.wav", "b.wav", "--filename", "all/{stem}.{ext}"], 2, "'a.wav' and 'b.wav': both would be written"),
        (["a.wav", "--filename", "{reldir}x{stem}/.."], 2, "leads out"),
        (["a.wav", "--shard", "0/2"], 2, "--shard 0/2: not a part. Write I/N"),
        (["a.wav", "--shard", "3/2"], 2, "--shard 3/2"),
        (["a.wav", "--shard", "auto"], 2, "SLURM_ARRAY_TASK_ID is not set"),
        (["a.wav", "--start", "soon"], 2, "--start soon: not a time"),
        (["a.wav", "--start", "5", "--end", "5"], 2, "--end 5: is not after --start 5"),
        (["a.wav", "--start", "0.5"], 4, "'a.wav': lasts 0.2 s, nothing is there from 0.5 s on"),
        (["a.wav", "--max-duration", "0.1"], 4, "'a.wav': lasts 0.2 s, more than --max-duration 0.1"),
        (["--retry-failed", "none.jsonl"], 4, "'none.jsonl': cannot be read"),
        (["--retry-failed", "nul.txt"], 4, "'nul.txt': is no report"),
        (["a.wav", "--report", "a.wav/x.jsonl"], 7, "'a.wav/x.jsonl': cannot be written"),
        (["a.wav", "--shifts", "-1"], 2, "--shifts -1: too few"),
        (["a.wav", "--jobs", "0"], 2, "--jobs 0: too few"),
        (["a.wav", "-n", "htdemucs_ft"], 2, "is of demucs, which stemforge cannot run. Leave out -n htdemucs_ft"),
        (["a.wav", "--format", "opus"], 2, "opus at 44100 Hz"),
    ],
)  # fmt: skip
def test_impossible_requests(
    arguments: list[str], code: int, words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line, its exit code, nothing written."""
    for name in list(os.environ):
        if name.startswith("SLURM_"):
            monkeypatch.delenv(name)
    song("a.wav"), song("b.wav")
    Path("empty.txt").write_text("\n\n")
    Path("nul.txt").write_bytes(b"a.wav\0b.wav\0")
    assert main(["separate", *arguments, "-q"]) == code
    assert words in error(capsys)


# templates


@pytest.mark.parametrize(
    ("template", "files"),
    [
        ("{track}/{stem}.{ext}", ["bands/x/bass.wav", "bands/x/stemforge.json"]),
        ("{reldir}/{track}-{stem}.{ext}", ["bands/a/b/x-bass.wav", "bands/a/b/x.stemforge.json"]),
        ("{stem}/{reldir}/{track}.{ext}", ["bands/a~b~x.stemforge.json", "bands/bass/a/b/x.wav"]),
        ("{model}/{seed}/{track}/{track}.{trackext}.{stem}", ["bands/7/x/stemforge.json", "bands/7/x/x.flac.bass"]),
        ("{track}/deep/er/{stem}/s.{ext}", ["bands/x/deep/er/bass/s.wav", "bands/x/deep/er/stemforge.json"]),
    ],
)
def test_templates(template: str, files: list[str]) -> None:
    """Files get the names of the template, are found again, and replaced with their sidecar."""
    song("in/a/b/x.flac")
    command = ["separate", "in", "--stems", "bass", "--seed", "7", "--filename", template, "-q"]
    assert main(command) == 0
    assert tree() == files
    stamp = Path("separated", files[0]).stat().st_mtime_ns
    assert main(command) == 0
    assert Path("separated", files[0]).stat().st_mtime_ns == stamp
    assert main([*command, "--overlap", "0.5"]) == 7
    assert main([*command, "--overlap", "0.5", "--on-exist", "rename"]) == 0
    assert len(tree()) == 4 and sum("x-2" in name for name in tree()) >= 1
    assert main([*command, "--stems", "drums", "-y"]) == 0
    assert len(tree()) == 4 and any("drums" in name for name in tree())


def test_another_template_is_another_result(capsys: pytest.CaptureFixture[str]) -> None:
    """Stems of other names are not what is asked for, and are not left beside new ones."""
    song("x.wav")
    assert main(["separate", "x.wav", "-q"]) == 0
    assert main(["separate", "x.wav", "-q", "--filename", "{reldir}/{track}/{stem}.{ext}"]) == 0
    named = ["separate", "x.wav", "-q", "--filename", "{track}/{track} {stem}.{ext}"]
    assert main(named) == 7
    assert 'filename was null and is now "{track}/{track} {stem}.{ext}"' in capsys.readouterr().err
    assert main([*named, "-y"]) == 0
    assert tree("separated/bands/x") == ["stemforge.json", "x bass.wav", "x drums.wav", "x other.wav"]


def test_stem_over_song(capsys: pytest.CaptureFixture[str]) -> None:
    """A stem is never written over a song of the run."""
    song("bands/bass.wav")
    assert main(["separate", "bands/bass.wav", "-o", ".", "--filename", "{stem}.{ext}", "-y"]) == 2
    assert "is a song, and a stem would be written there" in capsys.readouterr().err


def test_names_cannot_lead_out() -> None:
    """Whatever a song or a stem is called, its file is below the folder."""
    layout = Layout(Path("out"), "../m", 0, "{reldir}/{track}/{stem}.{ext}")
    for stem in ("../../x", "..", "/x", "a\\b"):
        path = layout.path(Item(Path("x.wav"), Path("a/b")), stem, "wav")
        assert ".." not in path.parts[2:] and path.parts[:1] == ("out",) and len(path.parts) == 6, path
    with pytest.raises(UsageError, match="both would be written"):
        check(Layout(Path("out"), "m", 0, "{track}{stem}"), [Item(Path(n), Path(n)) for n in ("ab", "a")],
              ("c", "bc"), "wav")  # fmt: skip


# shards


def test_shards_share_everything_out() -> None:
    """Each song is in one shard, whatever the order of the arguments."""
    items = [Item(Path(f"{n}.wav"), Path(str(n))) for n in range(10)]
    parts = [lists.part_of(items, n, 3) for n in (1, 2, 3)]
    assert sorted(item.path.name for part in parts for item in part) == sorted(item.path.name for item in items)
    assert [len(part) for part in parts] == [4, 3, 3]
    assert lists.part_of(items[::-1], 2, 3) == parts[1]


def slurm(**values: int) -> dict[str, str]:
    return {f"SLURM_ARRAY_TASK_{name}": str(value) for name, value in values.items()}


def test_slurm_arrays() -> None:
    """Arrays count from any number, with any step; those with gaps are refused."""
    assert lists.shard("auto", slurm(ID=0, COUNT=4, MIN=0, MAX=3)) == (1, 4)
    assert lists.shard("auto", slurm(ID=10, COUNT=10, MIN=1, MAX=10)) == (10, 10)
    assert lists.shard("auto", slurm(ID=4, COUNT=3, MIN=0, MAX=4, STEP=2)) == (3, 3)
    for values in ({"ID": 3, "COUNT": 3, "MIN": 1, "MAX": 7}, {"ID": 9, "COUNT": 4, "MIN": 0, "MAX": 3}):
        with pytest.raises(UsageError, match="has gaps"):
            lists.shard("auto", slurm(**values))
    with pytest.raises(UsageError, match="TASK_MIN is not set"):
        lists.shard("auto", slurm(ID=3, COUNT=3))


# reports


def test_report(capsys: pytest.CaptureFixture[str]) -> None:
    """One line a song with what --json says; a torn line is no harm; only what failed last is tried again."""
    song("in/a.wav")
    Path("in/b.wav").write_text("words")
    Path("log").mkdir()
    Path("log/r.jsonl").write_text('{"schema": 1, "event": "so')
    command = ["--report", "log/r.jsonl", "--json"]
    assert main(["separate", "in", *command]) == 3
    shown = capsys.readouterr().out.splitlines()
    lines = Path("log/r.jsonl").read_text().splitlines()
    assert lines[1:] == shown[:2] and json.loads(lines[1])["error"]["code"] == 4
    assert [item.path for item in ledger.failed_in(Path("log/r.jsonl"))] == [Path("in/b.wav")]
    song("in/b.wav")
    assert main(["separate", "--retry-failed", "log/r.jsonl", *command]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[0])["input"] == "in/b.wav"
    assert ledger.failed_in(Path("log/r.jsonl")) == []


def test_report_of_strange_names() -> None:
    """A track in a report cannot lead out, bytes that are no text survive; a failed folder is looked into again."""
    name = os.fsdecode(b"caf\xe9.wav")
    line = {"input": name, "status": "failed", "track": f"../..//{name[:-4]}"}
    Path("r").write_text(json.dumps(line) + "\n")
    (item,) = ledger.failed_in(Path("r"))
    assert item.path == Path(name) and item.track == Path("__", "__", name[:-4])
    Path("empty").mkdir()
    assert main(["separate", "empty", "--report", "e.jsonl"]) == 4
    song("empty/a/new.wav")
    assert main(["separate", "--retry-failed", "e.jsonl"]) == 0
    assert tree()[0] == "bands/a/new/bass.wav"


# parts of songs


@pytest.mark.parametrize("ending", ["wav", "flac", "mp3"])
def test_part_of_a_song(ending: str) -> None:
    """From --start to --end is what there is between them, sample by sample, and nothing else counts."""
    ramp = np.tile(np.arange(-0.5, 0.5, 1 / RATE)[:, None], (8, 2))
    sf.write(f"x.{ending}", ramp, RATE)
    whole = sf.read(f"x.{ending}", dtype="float32")[0]
    assert main(["separate", f"x.{ending}", "--start", "0:05.25", "--end", "6.5s", "-q"]) == 0
    folder = Path("separated/bands/x")
    found = sum(sf.read(path, dtype="float32")[0] for path in folder.glob("*.wav"))
    assert found.shape == (1.25 * RATE, 2)
    assert np.abs(found - whole[int(5.25 * RATE) : int(6.5 * RATE)]).max() < 1e-6
    settings = json.loads((folder / "stemforge.json").read_text())["recipe"]["settings"]
    assert (settings["start"], settings["end"]) == (5.25, 6.5)
    assert main(["separate", f"x.{ending}", "-q"]) == 7


def test_times() -> None:
    """Seconds, minutes and hours in the ways that people write them."""
    assert [seconds(text, "--start") for text in ("75", "75.5s", "1:15", "0:01:15.5", "1m15", "0")] == [
        75, 75.5, 75, 75.5, 75, 0]  # fmt: skip
    for text in ("", "-1", "1:", "nan", "1e3", "1:2:3:4"):
        with pytest.raises(UsageError, match="not a time"):
            seconds(text, "--start")


def test_sidecar_of_before_is_recognised() -> None:
    """Options that change nothing leave no trace, so that what older versions made counts as done."""
    song("x.wav")
    assert main(["separate", "x.wav", "-q"]) == 0
    settings = json.loads(Path("separated/bands/x/stemforge.json").read_text())["recipe"]["settings"]
    assert sorted(settings) == ["clip_mode", "format", "other_method", "overlap", "precision", "sanitize", "seed",
                                "segment", "stems", "steps", "two_stems"]  # fmt: skip


def test_shifts() -> None:
    """More shifts change samples and the settings; the stems still add up."""
    x = song("x.wav", 1.5)
    assert main(["separate", "x.wav", "-q", "-o", "a"]) == 0
    assert main(["separate", "x.wav", "-q", "-o", "b", "--shifts", "3", "--jobs", "3"]) == 0
    a, b = ({p.stem: sf.read(p, dtype="float32")[0] for p in Path(out, "bands/x").glob("*.wav")} for out in "ab")
    assert 1e-6 < np.abs(a["bass"] - b["bass"]).max() < 0.2
    assert np.abs(sum(b.values()) - x).max() < 1e-6 and len(b["bass"]) == len(x)
    assert json.loads(Path("b/bands/x/stemforge.json").read_text())["recipe"]["settings"]["shifts"] == 3


# stdin and stdout


def test_stdin(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], place: Path) -> None:
    """A flac from stdin is separated under the name stdin; what is no sound is refused by that name."""
    song("x.flac")
    for contents, code in ((Path("x.flac").read_bytes(), 0), (b"words\n", 4), (b"", 4)):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(contents)))
        assert main(["separate", "-", "-o", f"out{code}"]) == code
        assert not list(place.glob("stemforge-*"))
    assert json.loads(Path("out0/bands/stdin/stemforge.json").read_text())["recipe"]["input"]["name"] == "-"
    err = capsys.readouterr().err
    assert "'-': not a recognised audio format" in err and "'-': empty file" in err and str(place) not in err


def test_temporary_folders_of_killed_runs_go(place: Path) -> None:
    """The next run that needs one removes them; those of living processes stay."""
    for process in (os.getppid(), 99999999):
        (place / f"stemforge-{process}-x").mkdir()
    with lists.temporary() as folder:
        assert Path(folder).parent == place
    assert [path.name for path in place.glob("stemforge-*")] == [f"stemforge-{os.getppid()}-x"]


# locks


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


@pytest.mark.skipif(os.name != "posix", reason="signals of posix")
def test_kill_and_again(place: Path) -> None:
    """Killed in a song or between two, the same command ends with what an undisturbed one makes, and nothing hidden."""
    for n in range(3):
        song(f"in/{n}.wav", 1.2)
    command = ["separate", "in", "-n", "slow", "--flac", "--report", "r.jsonl"]
    assert main([*command, "-o", "calm"]) == 0
    for moment in (lambda: list(Path("out").rglob(".drums*")), lambda: list(Path("out").rglob("1/.*.part"))):
        process = subprocess.Popen(
            [*COMMAND, *command, "-o", "out"], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 60
        while not moment() and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert list(Path("out").rglob(".stemforge.lock"))
    assert main([*command, "-o", "out"]) == 0
    assert tree("out") == tree("calm") and len(tree("out")) == 12
    for name in tree("out"):
        if name.endswith(".flac"):
            assert Path("out", name).read_bytes() == Path("calm", name).read_bytes()


# ffmpeg

FFMPEG = """#!{python} -S
import sys, struct
arguments = sys.argv[1:]
open("asked", "a").write("\\0".join(arguments) + "\\n")
path = arguments[arguments.index("-i") + 1]
assert path.startswith("file:") and "-nostdin" in arguments and arguments[-1] == "pipe:1"
contents = open(path[5:], "rb").read()
if contents.startswith(b"SILENT"):
    sys.exit("Stream map '0:a:0' matches no streams.")
if contents.startswith(b"BAD"):
    sys.exit(path + ": Invalid data found when processing input")
print("  Duration: 00:00:01.00, start: 0.000000, bitrate: 128 kb/s", file=sys.stderr)
sound = contents[8:8 + 8 * 64] if "-frames:a" in arguments else contents[8:]
out = sys.stdout.buffer
out.write(b"RIFF\\xff\\xff\\xff\\xffWAVELIST" + struct.pack("<I", 3) + b"abc\\0")
out.write(b"fmt " + struct.pack("<IHHIIHH", 16, 3, 2, 44100, 352800, 8, 32) + b"data\\xff\\xff\\xff\\xff")
out.write(sound)
if contents.startswith(b"TORN") and "-frames:a" not in arguments:
    out.flush()
    sys.exit("Error while decoding stream")
"""


@pytest.fixture
def ffmpeg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program `ffmpeg` that knows one format: eight letters, then float stereo samples."""
    program = tmp_path / "bin" / "ffmpeg"
    program.parent.mkdir()
    program.write_text(FFMPEG.format(python=sys.executable))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent))


def foreign(name: str, kind: bytes = b"SOUND", frames: int = RATE) -> np.ndarray:
    x = (0.2 * np.random.default_rng(3).standard_normal((frames, 2))).astype("<f4")
    Path(name).parent.mkdir(exist_ok=True)
    Path(name).write_bytes(kind.ljust(8) + x.tobytes())
    return x


@pytest.mark.skipif(os.name != "posix", reason="a script as a program")
def test_ffmpeg(ffmpeg: None, capsys: pytest.CaptureFixture[str]) -> None:
    """What only ffmpeg reads is separated with all its frames, whatever its name; a part of it as well."""
    name = "in/-i $(touch x); 'a\".M4A"
    x = foreign(name, frames=RATE + 321)
    foreign("in/film.mkv")
    assert main(["separate", "in"]) == 0
    (folder,) = Path("separated/bands").iterdir()
    assert np.abs(sum(sf.read(path, dtype="float32")[0] for path in folder.glob("*.wav")) - x).max() < 1e-6
    assert main(["separate", name, "--start", "0.5", "--end", "0.75", "-o", "part", "-q"]) == 0
    found = sum(sf.read(path, dtype="float32")[0] for path in Path("part/bands", folder.name).glob("*.wav"))
    assert np.abs(found - x[RATE // 2 : RATE * 3 // 4]).max() < 1e-6
    assert not Path("x").exists() and "says" not in capsys.readouterr().err
    assert all("\0-protocol_whitelist\0file,pipe\0" in line for line in Path("asked").read_text().splitlines())


@pytest.mark.skipif(os.name != "posix", reason="a script as a program")
@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (b"SILENT", "has no audio stream"),
        (b"BAD", "ffmpeg cannot read it: Invalid data found when processing input. Convert"),
        (b"TORN", "ffmpeg cannot read it: Error while decoding stream. Convert"),
    ],
)
def test_ffmpeg_fails(ffmpeg: None, kind: bytes, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What ffmpeg says comes on one line, and nothing half-written stays."""
    foreign("x.mp4", kind)
    assert main(["separate", "x.mp4", "-q"]) == 4
    assert words in error(capsys)


def test_without_ffmpeg(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its absence is told with what to do; the other songs are done."""
    monkeypatch.setenv("PATH", str(tmp_path))
    foreign("in/x.m4a")
    song("in/y.wav")
    assert main(["separate", "in"]) == 3
    assert "'in/x.m4a': needs ffmpeg to read .m4a. Install ffmpeg, or convert it" in capsys.readouterr().err


def test_stems_of_a_strange_checkpoint_stay_in_the_folder(capsys: pytest.CaptureFixture[str]) -> None:
    """Stem names that would lead out of the folder are refused, and nothing is written."""
    make_checkpoint(Path("evil"), names=["../../../owned", "other"])
    song("x.wav")
    assert main(["separate", "x.wav", "-n", "evil", "-q"]) == 7
    assert "cannot be the name of a file" in error(capsys)


def test_a_list_that_cannot_be(tmp_path: Path) -> None:
    """A folder is no list."""
    with pytest.raises(InputError, match="cannot be read"):
        lists.listed(tmp_path)
