"""Many songs at once: lists, templates, shards, reports, parts of songs, stdin."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from places import RATE, error, prepared, song, tree
from shares import make_checkpoint
from stemforge.cli import ledger, lists
from stemforge.cli.inputs import Item
from stemforge.cli.layout import Layout, check
from stemforge.cli.main import main
from stemforge.cli.options import region_of, seconds
from stemforge.errors import InputError, UsageError


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test works in a folder of its own."""
    return prepared(tmp_path, monkeypatch)


# lists


def test_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines end with LF or CRLF, blank ones count for nothing; names between NULs may hold anything."""
    Path("lines").write_bytes(b"\xef\xbb\xbfa b.wav\r\n\n #c.wav\n-\n")
    assert lists.listed(Path("lines")) == [Path("a b.wav"), Path(" #c.wav"), Path("-").absolute()]
    Path("nul").write_bytes(b"two\nlines.wav\0caf\xe9.wav\0")
    assert lists.listed(Path("nul"), null=True) == [Path("two\nlines.wav"), Path(os.fsdecode(b"caf\xe9.wav"))]
    Path("@lines").write_text("")
    assert lists.expanded([Path("@lines"), Path("@nul"), Path("x")], null=True)[0::3] == [Path("@lines"), Path("x")]


def test_patterns(capsys: pytest.CaptureFixture[str]) -> None:
    """Patterns that no shell has replaced mean what they match; a file with such a name is meant itself."""
    for name in ("[a].wav", "a.wav", "in/b.wav", "in/x/c.wav", "d.txt"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text("")
    assert lists.expanded([Path("[a].wav")]) == [Path("[a].wav")]
    assert lists.expanded([Path("*.wav"), Path("in/**/*.wav")]) == [
        Path("[a].wav"), Path("a.wav"), Path("in/b.wav"), Path("in/x/c.wav")]  # fmt: skip
    assert main(["separate", "*.mp3", "-q"]) == 4
    assert "'*.mp3': no such file. No file matches the pattern" in error(capsys)


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
    texts = ("75", "75.5s", "1:15", "0:01:15.5", "1m15", "1h1m1s", "2m", ".5")
    assert [seconds(text, "--start") for text in texts] == [75, 75.5, 75, 75.5, 75, 3661, 120, 0.5]
    for text in ("", "-1", "1:", "nan", "1e3", "1:2:3:4", "1m2:3", "m", "s"):
        with pytest.raises(UsageError, match="not a time"):
            seconds(text, "--start")


def test_regions() -> None:
    """Two times with a colon between them, in the same ways, as long as it is clear which colon that is."""
    end = float("inf")
    for text, region in {"30:34.5": (30, 34.5), "1m10:1m20": (70, 80), "1:10:1:20": (70, 80), ":5": (0, 5),
                         "5:": (5, end), "1:10:": (70, end), ":1:10": (0, 70), ":": (0, end)}.items():  # fmt: skip
        assert region_of(text) == region
    for text in ("", "5", "1:10:20", "1:2:3:4:5", "5:5", "-1:5", "a:b"):
        with pytest.raises(UsageError, match="not a part of a song"):
            region_of(text)


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


def test_tags() -> None:
    """Title and artist of the song are in its stems."""
    with sf.SoundFile("y.wav", "w", RATE, 1) as file:
        file.title, file.artist = "Ça", "[x]"
        file.write(np.zeros(9))
    assert main(["separate", "y.wav", "--flac", "-q"]) == 0
    with sf.SoundFile("separated/bands/y/drums.flac") as file:
        assert (file.title, file.artist) == ("Ça (drums)", "[x]")


def test_loudness(capsys: pytest.CaptureFixture[str]) -> None:
    """The stems add up to the song at that loudness, as far as the format allows; what has none stays."""
    x = song("x.wav", 2)
    Path("short").mkdir()
    song("short/y.wav", 0.3)
    for options, limited in ((["--loudness", "-30"], False), (["--loudness", "-3", "--int16"], True)):
        assert main(["separate", "x.wav", "--json", "-y", *options]) == 0
        event = json.loads(capsys.readouterr().out.splitlines()[0])
        found = sum(sf.read(path)[0] for path in Path("separated/bands/x").glob("*.wav"))
        assert np.abs(found - event["gain"] * x).max() < (2e-4 if limited else 1e-6)
        wanted = 10 ** ((float(options[1]) - event["lufs"]) / 20)
        assert event["gain"] < wanted if limited else abs(event["gain"] / wanted - 1) < 1e-3
    assert main(["separate", "x.wav", "-q", "--int16"]) == 7 and "loudness was -3.0" in capsys.readouterr().err
    assert main(["separate", "short", "--loudness", "-14"]) == 0
    assert "is silent or shorter than 0.4 s" in capsys.readouterr().err
    assert main(["separate", "x.wav", "--loudness", "3"]) == 2


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
