"""The table of docs/faults.md: every command line gives the exit code and the message that stand beside it."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch

from places import RATE, prepared, song
from shares import make_checkpoint
from stemforge import checkpoints
from stemforge.cli.main import main

PAGE = Path(__file__).parents[1] / "docs" / "faults.md"
ROWS = re.findall(r"^\| .+? \| `(.+?)` \| (\d+) \| (.+?) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files and checkpoints that the page speaks of."""
    prepared(tmp_path, monkeypatch)
    monkeypatch.setenv("PATH", str(tmp_path))
    ck = tmp_path / "ck"
    for name, config in (("broken", {}), ("nan", {"fault": "nan"}), ("evil", {"names": ["../x", "other"]})):
        make_checkpoint(ck / name, **config)
    entries = [checkpoints.entry_for(ck / name, default=name == "bands") for name in ("broken", "nan", "evil", "bands")]
    (ck / "own.toml").write_text("\n".join(entries))
    (ck / "broken" / "config.json").write_text("{}")
    files()
    assert main(["separate", "song.wav", "-o", "done", "-q"]) == 0
    return tmp_path


def files() -> None:
    """What is good and what is not."""
    x = song("song.wav", 1.2)
    for name in ("a/x.wav", "b/x.flac", "songs/one/bass.wav"):
        song(name)
    Path("folder").mkdir()
    for name, contents in (("empty.wav", b""), ("words.wav", b"words\n" * 9), ("song.m4a", b"\0\0\0\x20ftypM4A ")):
        Path(name).write_bytes(contents)
    sf.write("none.wav", np.zeros((0, 2)), RATE)
    sf.write("six.wav", np.zeros((9, 6)), RATE)
    sf.write("nine.wav", np.zeros((9, 9)), RATE)
    shape = x.copy()
    shape[RATE, 0] = np.nan
    sf.write("nan.wav", shape, RATE, subtype="FLOAT")
    for name in ("cut.wav", "cut.flac"):
        sf.write(name, np.tile(x, (3, 1)), RATE)
        os.truncate(name, Path(name).stat().st_size // 2)
    Path("list.txt").write_text("\n")


@pytest.mark.parametrize(("line", "code", "message"), ROWS, ids=[row[0] for row in ROWS])
def test_row(line: str, code: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The last line about it is the message of the page, in which … stands for anything; there is no traceback."""
    if "-d cuda" in line and torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    capsys.readouterr()
    assert main(shlex.split(line)[1:]) == int(code)
    told = [text for text in capsys.readouterr().err.splitlines() if re.match("stemforge: (error|warning)", text)]
    pattern = ".*".join(map(re.escape, message.replace("\\|", "|").strip("` ").split("…")))
    assert len(told) == 1 and re.fullmatch(pattern, told[0]), told
    assert not list(Path().rglob("*.part")) and not list(Path().rglob("*.lock"))


def test_there_are_many() -> None:
    """The page is read as it should be."""
    assert len(ROWS) >= 55
