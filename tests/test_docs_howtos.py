"""README, docs/editing.md, report.md and sampling.md: their commands, as typed, and their lines of Python, run."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

import stemforge
from songs import put, tone
from stemforge import devices
from stemforge.cli.main import main
from tiny import TINY, tiny_default

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
STEMS = ("bass", "drums", "guitar", "piano", "other")
FEW = ["steps=1", "validate_every=1", "excerpts=1", "seconds=0.5", "batch_size=1", "precision=32-true", "-d", "cpu"]
SAMPLED = ("generate", "impute", "edit")
PULLED = ("restyle", "--vocals", "pull")
"""What needs weights that have to be pulled first; tests of their own have stand-ins."""
ELSEWHERE = ("evaluate", "ui")
"""Run by tests of their own: one needs true stems, the other serves until it is stopped (test_ui.py)."""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Songs, folders of stems, and a tiny `forge` with its five stems."""
    monkeypatch.chdir(tmp_path)
    for name in ("STEMFORGE_MODEL", "STEMFORGE_OUT", "STEMFORGE_DEVICE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(devices, "keep_memory", lambda: None)
    rate = 8000
    whole = sum(tone(70 + 170 * k, 76.0, rate) for k in range(5))
    for name in ("song.wav", "song.mp3", "album/one.flac"):
        put(Path(name), whole, rate)
    for name, seconds in (("a.wav", 12.0), ("b.wav", 11.0), ("examples/demo.flac", 3.0)):
        put(Path(name), tone(200, seconds, rate), rate)
    for folder in (".", "song", "songs/train/A", "songs/valid/B"):
        for k, name in enumerate(STEMS):
            put(Path(folder, f"{name}.wav"), tone(70 + 170 * k, 5.0, rate), rate)
    tiny_default(tmp_path, monkeypatch, STEMS)
    return tmp_path


def blocks(page: str, kind: str) -> list[str]:
    """The code of a page."""
    return re.findall(rf"```{kind}\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize(("page", "kind"), [("README.md", ""), ("docs/editing.md", "sh"), ("docs/report.md", "sh")])
def test_commands(page: str, kind: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each line does what it says, with fewer steps; a result that is there already is made anew."""
    done = 0
    for line in (line for block in blocks(page, kind) for line in block.splitlines()):
        words = shlex.split(line, comments=True)
        while words and words[0] in ("time", ".venv/bin/stemforge"):
            words = ["stemforge", *words[1:]] if words[0].endswith("stemforge") else words[1:]
        if not words or words[0] != "stemforge" or set(PULLED) & set(words) or words[1] in ELSEWHERE:
            continue
        more = ["--steps", "1"] if words[1] in SAMPLED else FEW if words[1] == "train" else []
        if words[1] != "train" and "--on-exist" not in words:
            more.append("-y")
        assert main([*words[1:], *more]) == 0, (line, capsys.readouterr().err)
        done += 1
    assert done >= 4


@pytest.mark.parametrize("page", ["docs/editing.md", "docs/sampling.md", "docs/report.md"])
def test_python(page: str, place: Path) -> None:
    """The lines run as they stand, given the stems that they speak of."""
    put(Path("song.wav"), tone(300, 4.5), TINY["rate"])
    rows = stemforge.separate(stemforge.read("song.wav"), stemforge.load()).samples
    names: dict = {"stems": stemforge.Stems(STEMS, rows, TINY["rate"])}
    if page == "docs/report.md":
        assert main(["separate", "song.wav"]) == 0
    for code in blocks(page, "python"):
        shorter = code.replace("30 * 44100", "3 * 8000").replace("34 * 44100", "4 * 8000").replace("12.0,", "2.0,")
        exec(compile(shorter, page, "exec", dont_inherit=True), names)
