"""`stemforge separate` and `checkpoints` as they are typed: every option changes what it says, and nothing else."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from shares import Shares, make_checkpoint
from stemforge import checkpoints
from stemforge.cli.console import clock, one_line
from stemforge.cli.inputs import gather, track_name
from stemforge.cli.layout import Layout, check
from stemforge.cli.main import main
from stemforge.errors import UsageError
from stemforge.models.registry import ARCHITECTURES

RATE = 44100


def song(path: Path, seconds: float = 0.8, channels: int = 2, rate: int = RATE, level: float = 0.2) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    x = level * np.random.default_rng(len(path.name)).standard_normal((int(seconds * rate), channels))
    sf.write(os.fsencode(path), x, rate, format="FLAC" if path.suffix == ".flac" else "WAV", subtype="PCM_16")
    return path


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, with a table of one checkpoint, `bands`, which is the default."""
    monkeypatch.setitem(ARCHITECTURES, "shares", Shares)
    make_checkpoint(tmp_path / "ck" / "bands")
    (tmp_path / "ck" / "own.toml").write_text(checkpoints.entry_for(tmp_path / "ck" / "bands", default=True))
    monkeypatch.setenv("STEMFORGE_CHECKPOINTS", str(tmp_path / "ck" / "own.toml"))
    for name in ("STEMFORGE_MODEL", "STEMFORGE_OUT", "STEMFORGE_DEVICE"):
        monkeypatch.delenv(name, raising=False)
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    return work


def tree(folder: Path) -> list[str]:
    """All files below a folder but sidecars."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != "stemforge.json")
    return sorted(str(path.relative_to(folder)) for path in files)


def events(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


def test_one_song(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The plain command writes separated/<checkpoint>/<track>/<stem>.wav; stdout has the folder and nothing else."""
    song(Path("song.wav"))
    assert main(["separate", "song.wav", "-d", "cpu"]) == 0
    assert tree(Path("separated")) == [f"bands/song/{name}.wav" for name in ("bass", "drums", "other")]
    out, err = capsys.readouterr()
    assert out == "separated/bands/song\n"
    assert "song.wav (0:01) ..." in err and "\x1b" not in err
    sidecar = json.loads(Path("separated/bands/song/stemforge.json").read_text())
    assert sidecar["schema"] == 1 and sidecar["frames"] == int(0.8 * RATE)
    assert sidecar["recipe"]["input"]["name"] == "song.wav" and sidecar["leftover_db"] < -100


def test_same_command_same_bytes(place: Path) -> None:
    """Into two empty folders the audio is the same bit by bit, and the sidecars but for the time taken."""
    song(Path("song.wav"))
    sidecars = []
    for out in ("a", "b"):
        assert main(["separate", "song.wav", "-o", out, "--steps", "2", "--seed", "3", "-q"]) == 0
        sidecars.append(json.loads(Path(out, "bands/song/stemforge.json").read_text()) | {"elapsed_s": 0})
    for file in tree(Path("a")):
        assert Path("a", file).read_bytes() == Path("b", file).read_bytes()
    assert sidecars[0] == sidecars[1]


def test_folder_keeps_its_tree(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder is walked, endings in any case; hidden files, other files and finished stems are passed over."""
    for name in ("in/a/01.wav", "in/b/01.WAV", "in/c.flac", "in/.hidden.wav", "in/.git/x.wav"):
        song(Path(name))
    Path("in/cover.jpg").write_text("")
    assert main(["separate", "in", "-o", "in/out", "--stems", "bass", "-v"]) == 0
    assert tree(Path("in/out")) == [f"bands/{track}/bass.wav" for track in ("a/01", "b/01", "c")]
    assert "1 files with other endings ignored" in capsys.readouterr().err
    assert main(["separate", "in", "-o", "in/out", "--stems", "bass"]) == 0
    assert "0 separated, 3 already there, 0 failed" in capsys.readouterr().err
    assert main(["separate", "in", "-o", "flat", "--stems", "bass", "--no-recursive", "--ext", "FLAC,.wav"]) == 0
    assert tree(Path("flat")) == ["bands/c/bass.wav"]


def test_links_that_loop(place: Path) -> None:
    """A link to a folder above is entered once."""
    song(Path("in/a.wav"))
    Path("in/loop").symlink_to(Path("in").absolute())
    found = gather([Path("in")], Path("out"), frozenset({"wav"}))
    assert [item.track for item in found.items] == [Path("a")]


@pytest.mark.parametrize(
    ("options", "files"),
    [
        (["--flac"], ["bass.flac", "drums.flac", "other.flac"]),
        (["--format", "ogg", "--stems", "drums"], ["drums.ogg"]),
        (["--mp3", "--stems", "other, bass"], ["bass.mp3", "other.mp3"]),
        (["--two-stems", "drums"], ["drums.wav", "no_drums.wav"]),
        (["--two-stems", "drums", "--other-method", "none"], ["drums.wav"]),
    ],
)
def test_what_is_written(place: Path, options: list[str], files: list[str]) -> None:
    """Formats and choices of stems change the files."""
    song(Path("song.wav"))
    assert main(["separate", "song.wav", *options, "-q"]) == 0
    assert tree(Path("separated/bands/song")) == files


@pytest.mark.parametrize(
    ("options", "subtype"),
    [([], "FLOAT"), (["--float32"], "FLOAT"), (["--int16"], "PCM_16"), (["--int24"], "PCM_24"), (["--flac"], "PCM_24")],
)
def test_depth(place: Path, options: list[str], subtype: str) -> None:
    """Depths change the subtype; float32 for wav and 24 bits for flac are the defaults."""
    song(Path("song.wav"))
    assert main(["separate", "song.wav", *options, "--stems", "bass", "-q"]) == 0
    assert sf.info(next(Path("separated/bands/song").glob("bass.*"))).subtype == subtype


@pytest.mark.parametrize(
    "options",
    [
        ["--segment", "0.3"],
        ["--overlap", "0.5"],
        ["--steps", "2"],
        ["--steps", "2", "--seed", "9"],
        ["--clip-mode", "clamp"],
    ],
)
def test_options_change_the_sound(place: Path, options: list[str]) -> None:
    """Each of these options changes samples."""
    song(Path("song.wav"), level=0.9)
    base = ["--steps", "2"] if "--seed" in options else []
    assert main(["separate", "song.wav", "-o", "a", "-q", *base]) == 0
    assert main(["separate", "song.wav", "-o", "b", "-q", *options]) == 0
    a, b = (Path(out, "bands/song/other.wav").read_bytes() for out in "ab")
    assert a != b


def test_one_gain_is_told(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Integers that would clip are turned down by one gain, which is told and is in the JSON."""
    song(Path("song.wav"), level=1.5)
    assert main(["separate", "song.wav", "--int16", "--json"]) == 0
    out, err = capsys.readouterr()
    assert "one gain of" in err
    assert events(out)[0]["gain"] < 1 and events(out)[0]["clipped"]


def test_json(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One object a song and a summary last: what was done, skipped and failed."""
    song(Path("a.wav"), channels=1, rate=48000)
    assert main(["separate", "a.wav", "none.wav", "--json"]) == 3
    failed, done, summary = events(capsys.readouterr().out)
    assert (failed["status"], failed["error"]["code"]) == ("failed", 4)
    assert (done["status"], done["folder"], done["rate"], done["channels"]) == ("ok", "separated/bands/a", 48000, 1)
    assert done["outputs"] == {name: f"{name}.wav" for name in ("bass", "drums", "other")}
    assert (
        done["checkpoint_sha256"]
        == json.loads(Path("separated/bands/a/stemforge.json").read_text())["recipe"]["checkpoint"]["sha256"]
    )
    assert (summary["event"], summary["ok"], summary["failed"], summary["exit_code"]) == ("summary", 1, 1, 3)
    assert {event["schema"] for event in (failed, done, summary)} == {1}
    assert main(["separate", "a.wav", "--json"]) == 0
    assert events(capsys.readouterr().out)[0]["status"] == "skipped"


def test_stems_that_are_there(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same is skipped, other settings are refused by name, and each --on-exist does what it says."""
    song(Path("song.wav"))
    folder = Path("separated/bands/song")
    command = ["separate", "song.wav"]
    assert main(command) == 0
    stamp = (folder / "bass.wav").stat().st_mtime_ns
    assert main(command) == 0 and "already there" in capsys.readouterr().err
    assert main([*command, "--overlap", "0.5"]) == 7
    assert "overlap was 0.25 and is now 0.5" in capsys.readouterr().err
    assert main([*command, "--overlap", "0.5", "--on-exist", "skip"]) == 0
    assert main([*command, "--on-exist", "error"]) == 7
    assert (folder / "bass.wav").stat().st_mtime_ns == stamp
    assert main([*command, "--overlap", "0.5", "--on-exist", "rename"]) == 0
    assert Path("separated/bands/song-2/bass.wav").exists()
    assert main([*command, "--flac", "-y"]) == 0
    assert tree(folder) == ["bass.flac", "drums.flac", "other.flac"]
    assert main([*command, "--flac"]) == 0


def test_files_of_others_are_not_overwritten(place: Path) -> None:
    """A folder with sound that has no sidecar is left alone."""
    song(Path("song.wav"))
    song(Path("separated/bands/song/bass.wav"))
    before = Path("separated/bands/song/bass.wav").read_bytes()
    assert main(["separate", "song.wav"]) == 7
    assert Path("separated/bands/song/bass.wav").read_bytes() == before


def test_after_a_kill(place: Path) -> None:
    """What a killed run left half-written is swept away, and the song is done anew."""
    song(Path("song.wav"))
    folder = Path("separated/bands/song")
    song(folder / "bass.wav")
    for name in (".drums.99999999.part", ".stemforge.json.99999999.part"):
        (folder / name).write_text("")
    assert main(["separate", "song.wav"]) == 0
    assert tree(folder) == ["bass.wav", "drums.wav", "other.wav"]
    assert sf.info(folder / "bass.wav").subtype == "FLOAT"


def test_dry_run(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Says what would be written, or is there already, or is in the way, and writes nothing."""
    song(Path("song.wav"))
    assert main(["separate", "song.wav", "--two-stems", "bass", "--dry-run"]) == 0
    assert capsys.readouterr().out == "song.wav (0:01) -> separated/bands/song: bass.wav, no_bass.wav\n"
    assert not Path("separated").exists()
    assert main(["separate", "song.wav", "-q"]) == 0
    before = {path: path.stat().st_mtime_ns for path in Path("separated").rglob("*")}
    capsys.readouterr()
    assert main(["separate", "song.wav", "--dry-run"]) == 0 and "already there" in capsys.readouterr().err
    assert main(["separate", "song.wav", "--dry-run", "--overlap", "0.5"]) == 7
    assert main(["separate", "song.wav", "--dry-run", "--overlap", "0.5", "-y"]) == 0
    assert {path: path.stat().st_mtime_ns for path in Path("separated").rglob("*")} == before


def test_environment(place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Checkpoint, folder and device can come from the environment; options win."""
    make_checkpoint(Path("other"))
    song(Path("song.wav"))
    monkeypatch.setenv("STEMFORGE_MODEL", str(Path("other").absolute()))
    monkeypatch.setenv("STEMFORGE_OUT", "elsewhere")
    monkeypatch.setenv("STEMFORGE_DEVICE", "cpu")
    assert main(["separate", "song.wav"]) == 0
    assert capsys.readouterr().out == "elsewhere/other/song\n"
    assert main(["separate", "song.wav", "-n", "bands", "-o", "here"]) == 0
    assert capsys.readouterr().out == "here/bands/song\n"


def test_names_are_literal(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Brackets, emoji, CJK, a leading dash, a line end or a last dot in a name work and are shown as they are."""
    names = ["[bold] song.wav", "(x) 'y' \"z\".wav", "音楽 🎵.wav", "-dash.wav", "two\nlines.wav", "dot..wav"]
    for name in names:
        song(Path(name), seconds=0.05)
    assert main(["separate", "--stems", "bass", "--", *names]) == 0
    out, err = capsys.readouterr()
    tracks = ["[bold] song", "(x) 'y' _z_", "音楽 🎵", "-dash", "two_lines", "dot_"]
    assert out.splitlines() == [f"separated/bands/{track}" for track in tracks]
    assert "[bold] song.wav (0:00)" in err and "two\\nlines.wav" in err
    sidecar = json.loads(Path("separated/bands/two_lines/stemforge.json").read_text())
    assert sidecar["recipe"]["input"]["name"] == "two\nlines.wav"


@pytest.mark.skipif(sys.platform != "linux", reason="names are text there")
def test_name_that_is_no_text(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Bytes that are no text in a name: separated, and the JSON is valid."""
    name = os.fsdecode(b"caf\xe9.wav")
    song(Path(name), seconds=0.05)
    assert main(["separate", name, "--stems", "bass", "--json"]) == 0
    assert events(capfd.readouterr().out)[0]["status"] == "ok"
    assert [os.fsencode(path.name) for path in Path("separated/bands").iterdir()] == [b"caf\xe9"]
    assert main(["separate", name, "--stems", "bass"]) == 0


def test_fail_fast(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With --fail-fast nothing is begun after a failure; without it the rest is done."""
    song(Path("a.wav"))
    assert main(["separate", "none.wav", "a.wav", "--fail-fast"]) == 4
    assert not Path("separated").exists()
    assert main(["separate", "none.wav", "a.wav"]) == 3


def test_quiet_and_progress(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Quiet says nothing but errors; `none` leaves the lines out, `bar` draws on stderr only."""
    song(Path("a.wav"))
    assert main(["separate", "a.wav", "-q"]) == 0
    assert capsys.readouterr().err == ""
    assert main(["separate", "a.wav", "-y", "--progress", "none"]) == 0
    assert "..." not in capsys.readouterr().err
    song(Path("[b].wav"))
    assert main(["separate", "a.wav", "[b].wav", "-y", "--progress", "bar"]) == 0
    out, err = capsys.readouterr()
    assert out == "separated/bands/a\nseparated/bands/[b]\n"
    assert "[b].wav" in err


def test_checkpoints_commands(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """list, info, path, verify and entry say what there is."""
    folder = tmp_path / "ck" / "bands"
    assert main(["checkpoints", "list"]) == 0
    assert "* bands: bass, drums, other" in capsys.readouterr().out
    assert main(["checkpoints", "list", "--json", "--stem", "bass"]) == 0
    assert "bands" in [event["name"] for event in events(capsys.readouterr().out)]
    assert main(["checkpoints", "list", "--stem", "kazoo"]) == 0
    assert capsys.readouterr().out == ""
    assert main(["checkpoints", "path", "bands"]) == 0
    assert capsys.readouterr().out == f"{folder}\n"
    assert main(["checkpoints", "info"]) == 0
    assert "architecture: shares" in capsys.readouterr().out
    assert main(["checkpoints", "info", "--json"]) == 0
    assert events(capsys.readouterr().out)[0]["sample_rate"] == 44100
    assert main(["checkpoints", "verify", "bands"]) == 0
    assert "model.safetensors: matches" in capsys.readouterr().out
    assert main(["checkpoints", "verify", str(folder)]) == 0
    assert "not pinned" in capsys.readouterr().out
    assert main(["checkpoints", "entry", str(folder), "--name", "x", "--license", "MIT"]) == 0
    assert capsys.readouterr().out.startswith("[x]\n")
    (folder / "config.json").write_text("{}")
    assert main(["checkpoints", "verify"]) == 5


def test_collisions_are_found_before_work(place: Path) -> None:
    """Two songs for one folder are both named; the same song twice is once."""
    layout = Layout(Path("out"), "bands", 0)
    found = gather([Path("a/x.wav"), Path("b/x.flac")], Path("out"), frozenset())
    with pytest.raises(UsageError, match=r"'a/x\.wav' and 'b/x\.flac': both would be written to 'out/bands/x'"):
        check(layout, found.items, None, "wav")
    assert len(gather([Path("a/x.wav"), Path("a/x.wav")], Path("out"), frozenset()).items) == 1


@pytest.mark.parametrize(
    ("name", "track"), [("a b", "a b"), ("what?", "what_"), ("end. ", "end__"), ("a/b\\c", "a_b_c"), ("..", "__")]
)
def test_track_names(name: str, track: str) -> None:
    """What some system does not allow becomes an underscore."""
    assert track_name(name) == track


def test_small_texts() -> None:
    """Times read as on a clock, control characters as escapes."""
    assert [clock(seconds) for seconds in (0, 61, 3661)] == ["0:00", "1:01", "1:01:01"]
    assert one_line("a\nb\x1b[0m é [x]") == "a\\nb\\x1b[0m é [x]"
