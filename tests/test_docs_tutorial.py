"""docs/tutorial.md: the commands of the first hour, typed one after the other in a new folder, lead to what it says."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from songs import put, tone
from stemforge import devices
from stemforge.cli.main import main
from tiny import tiny_default

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
STEMS = ("bass", "drums", "guitar", "piano", "other")
FEW = ["steps=2", "validate_every=1", "excerpts=1", "seconds=0.5", "batch_size=1", "precision=32-true", "-d", "cpu"]
QUICK = ("impute", "generate", "edit")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with an example song of 11 s, where `forge` is a tiny network with its five stems."""
    monkeypatch.chdir(tmp_path)
    for name in ("STEMFORGE_MODEL", "STEMFORGE_OUT", "STEMFORGE_DEVICE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(devices, "keep_memory", lambda: None)
    put(Path("examples/demo.flac"), sum(tone(70 + 170 * k, 11.0) for k in range(5)))
    tiny_default(tmp_path, monkeypatch, STEMS)
    return tmp_path


def lines() -> list[str]:
    """What is typed in ```sh blocks."""
    return [line for block in re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL) for line in block.splitlines()]


@pytest.mark.slow
def test_first_hour(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every command succeeds, with fewer steps, and the folders that are named are there."""
    for line in lines():
        words = shlex.split(line)
        if words[0] != "stemforge":
            subprocess.run(words, check=True)
            continue
        more = FEW if words[1] == "train" and "--plot" not in words else ["--steps", "2"] if words[1] in QUICK else []
        assert main([*words[1:], *more]) == 0, (line, capsys.readouterr().err)
    found = {path.parent.as_posix() for path in Path().rglob("stemforge.json")}
    assert {"stems/forge/demo", "karaoke/forge/demo", "imputed/forge/demo", "generated/forge/seed-4"} <= found
    assert {"edited/forge/regenerate/demo-0", "edited/forge/regenerate/demo-1", "better/best/demo"} <= found
    stems = {path.name for path in Path("stems/forge/demo").iterdir()}
    assert stems == {*(f"{name}.wav" for name in STEMS), "report.html", "stemforge.json"}
    assert Path("imputed/forge/demo/mix.wav").exists() and Path("karaoke/forge/demo/no_drums.mp3").exists()
    assert Path("edited/forge/regenerate/demo.html").exists() and Path("runs/mine/curves.png").exists()


def test_what_is_typed_before_there_is_a_program() -> None:
    """The other blocks ask for targets of the Makefile and extras of the package that exist."""
    others = "".join(re.findall(r"```\n(.*?)```", re.sub(r"```sh\n.*?```", "", TEXT, flags=re.DOTALL), re.DOTALL))
    makefile, project = ((ROOT / name).read_text(encoding="utf-8") for name in ("Makefile", "pyproject.toml"))
    targets, extras = re.findall(r"^make ([\w-]+)", others, re.MULTILINE), re.findall(r"\.\[(\w+)\]", others)
    assert targets and all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)
    assert extras and all(re.search(rf"^{extra} = \[", project, re.MULTILINE) for extra in extras)
