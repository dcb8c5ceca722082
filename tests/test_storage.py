"""Songs from object storage, stems to object storage: in memory here, and on a server that speaks S3."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
import soundfile as sf

from clusters import s3_server
from places import prepared, song, tree
from stemforge import storage
from stemforge.cli.main import main
from stemforge.errors import OutputError
from stemforge.storage import Url, located

STEMS = ("bass", "drums", "other")


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Every test works in a folder of its own, and with storage that is empty."""
    yield prepared(tmp_path, monkeypatch)
    fsspec.filesystem("memory").store.clear()


def put(name: str, seconds: float = 0.2, top: str = "memory://songs") -> None:
    """A song there."""
    song("here.wav", seconds)
    storage.put(Url(f"{top}/{name}"), Path("here.wav"))
    Path("here.wav").unlink()


def there(top: str = "memory://out") -> list[str]:
    """All files below an address."""
    return [str(file.relative_to(Url(top))) for file in storage.below(Url(top))]


def separate(*arguments: str) -> int:
    return main(["separate", *arguments, "--progress", "none"])


def test_addresses() -> None:
    """An address stays one through joins, parents, copies and the loss of a slash; a path is none."""
    url = located(Path("s3://bucket/a b/song.wav"))
    assert str(url) == str(pickle.loads(pickle.dumps(url))) == "s3://bucket/a b/song.wav"
    assert str(url.parent / "x") == "s3://bucket/a b/x" and url.absolute() == url
    assert (url.stem, url.suffix) == ("song", ".wav") and url.relative_to(Url("s3://bucket")).parts[0] == "a b"
    for path in ("song.wav", "/a/song.wav", "C:/song.wav", "a:b/song.wav", "file:///song.wav", "@list"):
        assert not isinstance(located(Path(path)), Url)
    Path("s3:").mkdir()
    Path("s3:/song.wav").touch()
    assert not isinstance(located(Path("s3://song.wav")), Url)


def test_round_trip(capsys: pytest.CaptureFixture[str]) -> None:
    """A tree of songs becomes a tree of stems; results, reports and the next run speak of addresses."""
    for name in ("a.wav", "x/b.flac.wav", ".hidden/c.wav", "words.txt"):
        put(name)
    assert separate("memory://songs", "-o", "memory://out", "--report", "r.jsonl") == 0
    files = [*(f"{name}.wav" for name in STEMS), "stemforge.json"]
    assert there() == [f"bands/{name}/{file}" for name in ("a", "x/b.flac") for file in files]
    assert capsys.readouterr().out == "memory://out/bands/a\nmemory://out/bands/x/b.flac\n"
    line = json.loads(Path("r.jsonl").read_text().splitlines()[0])
    assert (line["input"], line["folder"]) == ("memory://songs/a.wav", "memory://out/bands/a")
    storage.fetch(Url("memory://out/bands/a/bass.wav"), Path("bass.wav"))
    assert sf.info("bass.wav").duration == pytest.approx(0.2)
    assert separate("memory://songs", "-o", "memory://out") == 0
    assert "0 separated, 2 already there" in capsys.readouterr().err
    assert sorted(path.name for path in Path().iterdir()) == ["bass.wav", "r.jsonl"]


def test_same_as_on_a_disk() -> None:
    """Stems and sidecar are those of a local run, but for the time it took; only one side may be far as well."""
    song("songs/a.wav")
    storage.put(Url("memory://songs/a.wav"), Path("songs/a.wav"))
    assert separate("songs", "-o", "here") == separate("memory://songs", "-o", "far") == 0
    assert separate("songs", "-o", "memory://out") == 0
    assert tree("here") == tree("far") == there()
    for name in (f"{stem}.wav" for stem in STEMS):
        storage.fetch(Url(f"memory://out/bands/a/{name}"), Path(name))
        contents = [path.read_bytes() for path in (Path("here/bands/a", name), Path("far/bands/a", name), Path(name))]
        assert contents[0] == contents[1] == contents[2]
    first, second = (json.loads(Path(top, "bands/a/stemforge.json").read_text()) for top in ("here", "far"))
    assert {**first, "elapsed_s": 0} == {**second, "elapsed_s": 0}


def test_what_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    """Other stems are refused; --overwrite replaces them, and takes away what is not of them any more."""
    put("a.wav")
    assert separate("memory://songs/a.wav", "-o", "memory://out") == 0
    capsys.readouterr()
    assert separate("memory://songs/a.wav", "-o", "memory://out", "--overlap", "0.5") == 7
    assert "'memory://out/bands/a': exists, but overlap was 0.25 and is now 0.5" in capsys.readouterr().err
    assert separate("memory://songs/a.wav", "-o", "memory://out", "--stems", "bass", "-y") == 0
    assert there() == ["bands/a/bass.wav", "bands/a/stemforge.json"]
    put("b/mine.wav", top="memory://out/bands")
    put("b.wav")
    assert separate("memory://songs/b.wav", "-o", "memory://out") == 7
    assert "its files were not made by stemforge" in capsys.readouterr().err


def test_stopped_upload(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A song whose upload broke off fails; the next run finishes it and leaves no mark."""
    put("a.wav")
    true_put = storage.put

    def broken(url: Url, file: Path | None = None) -> None:
        if url.name == "other.wav":
            raise OutputError(f"'{url}': cannot be written: no network. Check the address and who may write.")
        true_put(url, file)

    with monkeypatch.context() as patch:
        patch.setattr(storage, "put", broken)
        assert separate("memory://songs", "-o", "memory://out") == 7
    assert "'memory://out/bands/a/other.wav': cannot be written: no network" in capsys.readouterr().err
    assert there() == [f"bands/a/{name}" for name in (".stemforge.json.upload.part", "bass.wav", "drums.wav")]
    assert separate("memory://songs", "-o", "memory://out") == 0
    assert there() == [f"bands/a/{name}" for name in ("bass.wav", "drums.wav", "other.wav", "stemforge.json")]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["memory://songs/gone.wav"], 4, "'memory://songs/gone.wav': nothing is there. Check"),
        (["nowhere://songs/a.wav"], 2, "'nowhere://songs/a.wav': Protocol not known: nowhere. For s3:// run"),
        (["memory://songs", "--dry-run"], 2, "--dry-run: would have to fetch every song"),
        (["memory://songs", "-o", "memory://out", "--filename", "{track}.{stem}"], 2, "--filename with --out memory:"),
        (["memory://songs", "-o", "memory://out", "--on-exist", "rename"], 2, "--on-exist rename with --out memory:"),
        (["memory://songs", "-o", "nowhere://out"], 2, "'nowhere://out/.stemforge.json.upload.part': Protocol not"),
        (["a.wav", "--workers", "2"], 2, "--workers 2: is for --engine ray. Give that too"),
        (["a.wav", "--engine", "spark"], 2, "--engine spark: unknown. Give one of local, ray"),
    ],
)
def test_impossible_requests(arguments: list[str], code: int, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    """One line, its exit code."""
    put("a.wav")
    assert separate(*arguments) == code
    out, err = capsys.readouterr()
    assert words in err and err.count("\n") == 1 and out == ""


def test_without_ray(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """One line says what to install."""
    monkeypatch.setattr("stemforge.cli.separate_request.find_spec", lambda name: None)
    assert separate("a.wav", "--engine", "ray") == 2
    assert "--engine ray: Ray is not installed. Run `pip install 'stemforge[cluster]'`." in capsys.readouterr().err


def test_bad_song(capsys: pytest.CaptureFixture[str]) -> None:
    """A file that is no sound is told under its address; the others are done, and --retry-failed knows it."""
    put("a.wav")
    Path("words").write_text("words\n" * 9)
    storage.put(Url("memory://songs/words.wav"), Path("words"))
    assert separate("memory://songs", "-o", "out", "--report", "r.jsonl", "-j", "2") == 3
    assert "'memory://songs/words.wav': not a recognised audio format" in capsys.readouterr().err
    put("words.wav")
    assert separate("--retry-failed", "r.jsonl", "-o", "out") == 0
    assert {path.name for path in Path("out/bands").iterdir()} == {"a", "words"}


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_s3(capsys: pytest.CaptureFixture[str]) -> None:
    """From a bucket to a bucket of a server that speaks S3; a bucket that is not there is told before any work."""
    pytest.importorskip("moto.server", reason="needs moto[server]")
    pytest.importorskip("s3fs", reason="needs stemforge[cluster]")
    with s3_server():
        fsspec.filesystem("s3").mkdir("music")
        put("a b.wav", top="s3://music/songs")
        put("x/c.wav", top="s3://music/songs")
        assert separate("s3://music/songs", "-o", "s3://music/stems") == 0
        assert capsys.readouterr().out == "s3://music/stems/bands/a b\ns3://music/stems/bands/x/c\n"
        files = [*(f"{name}.wav" for name in STEMS), "stemforge.json"]
        assert there("s3://music/stems") == [f"bands/{name}/{file}" for name in ("a b", "x/c") for file in files]
        assert separate("s3://music/songs", "-o", "s3://music/stems") == 0
        assert "0 separated, 2 already there" in capsys.readouterr().err
        assert separate("s3://music/songs", "-o", "s3://music/stems", "--stems", "bass", "-y") == 0
        assert len(there("s3://music/stems")) == 4
        assert separate("s3://music/songs", "-o", "s3://nowhere/stems") == 7
        assert "'s3://nowhere/stems/.stemforge.json.upload.part': cannot be written" in capsys.readouterr().err
        assert separate("s3://music/gone.wav") == 4
