"""Shell pipelines as people write them: every line of docs/pipelines.md, in bash."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from forked import Shell
from shares import Shares, make_checkpoint
from stemforge import checkpoints
from stemforge.models.registry import ARCHITECTURES

PAGE = Path(__file__).parents[1] / "docs" / "pipelines.md"
RATE = 44100
NAMES = ("bass", "drums", "other")
SOUND = (".wav", ".flac", ".mp3")

pytestmark = pytest.mark.skipif(os.name != "posix" or not shutil.which("bash"), reason="pipelines of bash")


@pytest.fixture(scope="module")
def shell() -> Iterator[Shell]:
    with Shell() as shell:
        yield shell


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of one checkpoint, `forge`, which is the default."""
    folder = tmp_path_factory.mktemp("ck")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ARCHITECTURES, "shares", Shares)
        make_checkpoint(folder / "forge")
        (folder / "own.toml").write_text(checkpoints.entry_for(folder / "forge", default=True))
    return folder / "own.toml"


@pytest.fixture(autouse=True)
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table: Path) -> Path:
    """A folder with songs, a list of some, and a program for the queue of a cluster."""
    monkeypatch.chdir(tmp_path)
    for name in ("STEMFORGE_MODEL", "STEMFORGE_OUT", "STEMFORGE_DEVICE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("STEMFORGE_CHECKPOINTS", str(table))
    monkeypatch.setenv("STEMFORGE_CACHE", str(tmp_path / "cache"))
    for name in ("song.wav", "one.flac", "two 2.flac", "album/a b.wav", "album/x/c.wav", "album/d.flac"):
        song(Path(name))
    Path("album.txt").write_text("one.flac\r\n\ntwo 2.flac\n")
    return tmp_path


def song(path: Path, seconds: float = 0.3) -> None:
    path.parent.mkdir(exist_ok=True)
    x = 0.2 * np.random.default_rng(len(path.name)).standard_normal((int(seconds * RATE), 2))
    sf.write(path, x, RATE, subtype="PCM_16")


def tree(folder: str = "separated") -> set[str]:
    """The folders and files of stems: paths with the stems left out, which must all be there."""
    files = [str(path.relative_to(folder)) for path in Path(folder).rglob("*.*") if path.suffix in SOUND]
    kept = re.compile(rf"\b({'|'.join(NAMES)})\b")
    return {kept.sub("*", file) for file in files}


def lines() -> list[str]:
    """The lines of the page's shell blocks, without their comments."""
    blocks = re.findall(r"```sh\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    found = [re.sub(r"\s+#.*", "", line) for block in blocks for line in block.splitlines()]
    return [line for line in found if line]


def line(*words: str) -> str:
    """The one line of the page with these words."""
    (found,) = (line for line in lines() if all(word in line for word in words))
    return found


ALBUM = {"forge/a b/*.wav", "forge/x/c/*.wav", "forge/d/*.wav"}


@pytest.mark.parametrize(
    ("words", "files"),
    [
        (["separate album/"], ALBUM),
        (["album/*.flac"], {"forge/d/*.flac"}),
        (["find . "], {"forge/song/*.wav", "forge/a b/*.wav", "forge/c/*.wav"}),
        (["ls "], {"forge/one/*.wav", "forge/two 2/*.wav"}),
        (["-j 4"], {"forge/a b/*.mp3", "forge/x/c/*.mp3", "forge/d/*.mp3"}),
        (["@album.txt"], {"forge/one/*.wav", "forge/two 2/*.wav"}),
        (["for f in"], {"forge/one/*.wav", "forge/two 2/*.wav"}),
        (["- -o stems"], {"forge/stdin/*.wav"}),
        (["{stem}/"], {"forge/*/a b.wav", "forge/*/x/c.wav", "forge/*/d.wav"}),
        (["--shard 1/2"], ALBUM),
        (["separate album/ & "], ALBUM),
        (["xargs"], {"forge/a b/*.wav", "forge/c/*.wav"}),
        (["parallel"], {"forge/a b/*.wav"}),
        (["--report"], ALBUM),
        (["doctor"], ALBUM),
        (["--json"], ALBUM),
        (["--max-duration"], ALBUM),
        (["--start"], None),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_lines(shell: Shell, words: list[str], files: set[str] | None) -> None:
    """Each does what it says; none leaves anything hidden or temporary behind."""
    text = lines()[0] if words == ["separate album/"] else line(*words)
    if words[0] == "parallel" and not shutil.which("parallel"):
        text = text.replace("parallel -X", "xargs_instead").replace(":::", "")
        text = f'xargs_instead() {{ "$@"; }}; {text}'
    if "--json" in text:
        text += " || true"  # grep finds no failure
    Path("tmp").mkdir()
    done = shell.run(text, TMPDIR=str(Path("tmp").absolute()))
    if files is None:
        assert done.returncode == 4 and b"lasts 0.3 s, nothing is there from 30 s on" in done.stderr
        return
    assert done.returncode == 0, done.stderr
    assert b"error" not in done.stderr and b"Traceback" not in done.stderr
    assert tree("stems" if "-o stems" in text else "separated") == files
    assert not list(Path().rglob(".*")) and not list(Path("tmp").iterdir())


def test_beside_the_songs(shell: Shell) -> None:
    """Stems that lie beside their songs are not taken for songs by the next run."""
    for _ in range(2):
        done = shell.run(line("-o ."))
        assert done.returncode == 0, done.stderr
    beside = sorted(path.name for path in Path("x").iterdir())
    assert beside == [*(f"c.forge.{name}.wav" for name in NAMES), "c.stemforge.json"]
    assert b"0 separated, 3 already there" in done.stderr


def test_stdout(shell: Shell) -> None:
    """One stem goes to stdout as a whole file and nothing else does."""
    assert shell.run("stemforge separate song.wav -q").returncode == 0
    wanted = Path("separated/forge/song/drums.wav").read_bytes()
    assert shell.run(line("> drums.wav")).returncode == 0
    assert Path("drums.wav").read_bytes() == wanted
    done = shell.run(line("> drums.flac").replace("> drums.flac", ""))
    assert done.returncode == 0
    assert np.abs(sf.read(io.BytesIO(done.stdout))[0] - sf.read(io.BytesIO(wanted))[0]).max() < 2**-22
    assert not Path("-").exists()


@pytest.mark.skipif(not shutil.which("sox"), reason="needs sox")
def test_sox(shell: Shell) -> None:
    """Another program reads the stem from the pipe."""
    assert shell.run(line("sox")).returncode == 0
    assert sf.info("low.wav").samplerate == 22050


def test_reader_that_goes_away(shell: Shell) -> None:
    """A reader that wants no more ends it quietly."""
    done = shell.run("stemforge separate song.wav --stems bass -o - -q | head -c 10 | wc -c")
    assert done.stdout.strip() == b"10" and done.stderr == b""


def test_slurm(shell: Shell) -> None:
    """The tasks of an array do all songs, each once."""
    wrapped = re.search(r"--wrap '(.*)'", line("sbatch"))[1]
    for task in (0, 1, 2, 7):
        done = shell.run(
            wrapped, SLURM_ARRAY_TASK_ID=str(task), SLURM_ARRAY_TASK_COUNT="8", SLURM_ARRAY_TASK_MIN="0",
            SLURM_ARRAY_TASK_MAX="7",
        )  # fmt: skip
        assert done.returncode == 0
        assert len(done.stdout.splitlines()) == (task < 3)
    assert tree() == ALBUM


def test_lines_of_clusters(shell: Shell) -> None:
    """The recipes of docs/cluster.md for Slurm, a queue in its place, and GNU parallel do all songs."""
    page = (PAGE.parent / "cluster.md").read_text(encoding="utf-8")
    array, alone = re.search(r"--wrap '(.*)'", page)[1], re.search(r"^SLURM_ARRAY.*", page, re.M)[0]
    spread = re.search(r"^parallel .*txt", page, re.M)[0]
    Path("songs.txt").write_text("one.flac\ntwo 2.flac\nsong.wav\n")
    task = {f"SLURM_ARRAY_TASK_{name}": value for name, value in (("COUNT", "2"), ("MIN", "0"), ("MAX", "1"))}
    done = shell.run(array, SLURM_ARRAY_TASK_ID="0", **task)
    assert done.returncode == 0 and done.stdout == b"stems/forge/one\nstems/forge/two 2\n"
    assert Path("r-0.jsonl").read_text().count("ok") == 2
    done = shell.run(alone)
    assert done.returncode == 0 and done.stdout == b"stems/forge/song\n"
    if shutil.which("parallel"):
        shutil.rmtree("stems")
        done = shell.run(spread.replace("-N 100", "-N 2"))
        assert done.returncode == 0, done.stderr
        assert tree("stems") == {"forge/one/*.wav", "forge/two 2/*.wav", "forge/song/*.wav"}
        assert sorted(path.name for path in Path().glob("r-?.jsonl")) == ["r-0.jsonl", "r-1.jsonl", "r-2.jsonl"]


def test_failures_are_retried(shell: Shell) -> None:
    """The second line does what failed in the first, where it would have gone, and leaves the rest alone."""
    shutil.move("album/x/c.wav", "c.wav")
    Path("album/x/c.wav").write_text("words")
    first = shell.run(line("--report").removesuffix(" || true"))
    assert first.returncode == 3
    shutil.move("c.wav", "album/x/c.wav")
    again = shell.run(line("--retry-failed") + " --report report.jsonl")
    assert again.returncode == 0 and again.stdout == b"separated/forge/x/c\n"
    events = [json.loads(text) for text in Path("report.jsonl").read_text().splitlines()]
    assert [event["status"] for event in events] == ["failed", "ok", "ok", "ok"]
    last = shell.run(line("--retry-failed"))
    assert last.returncode == 0 and b"nothing to do" in last.stderr


DEMUCS = {
    "song.wav": {"*.wav"},
    "-o out song.wav": {"*.wav"},
    "--two-stems=drums song.wav": {"*.wav", "no_*.wav"},
    "--two-stems=vocals song.wav": (5, "Run stemforge checkpoints pull spleeter-2stem."),
    "-n htdemucs_ft song.wav": (2, "is of demucs, which stemforge cannot run. Leave out -n htdemucs_ft"),
    "--mp3 --mp3-bitrate 320 song.wav": {"*.mp3"},
    "--flac song.wav": {"*.flac"},
    "-d cpu song.wav": {"*.wav"},
    "--segment 10 --overlap 0.1 song.wav": {"*.wav"},
    "--shifts 2 -j 2 album/d.flac song.wav": {"*.wav"},
}


@pytest.mark.parametrize("arguments", DEMUCS)
def test_command_lines_of_demucs(shell: Shell, arguments: str) -> None:
    """They run with stemforge in the place of demucs, or say in one line what to type."""
    done = shell.run(f"stemforge separate {arguments}")
    expected = DEMUCS[arguments]
    if isinstance(expected, tuple):
        code, said = expected
        assert done.returncode == code and said in done.stderr.decode().splitlines()[-1]
        return
    assert done.returncode == 0, done.stderr
    folder = Path("out" if "-o " in arguments else "separated", "forge", "song")
    found = {re.sub(rf"({'|'.join(NAMES)})", "*", path.name) for path in folder.iterdir() if path.suffix != ".json"}
    assert found == expected


def test_the_page_lists_them() -> None:
    """The table of the page has the same ten lines."""
    shown = re.findall(r"\| `separate (.*?)`", PAGE.read_text(encoding="utf-8"))
    assert len(shown) == len(DEMUCS) == 10
    options = [[word for word in text.split() if word[0] == "-"] for text in DEMUCS]
    assert [[word for word in text.split() if word[0] == "-"] for text in shown] == options
