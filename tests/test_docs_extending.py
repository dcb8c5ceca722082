"""docs/extending.md: each example is written where the page says, and then works as the page says."""

from __future__ import annotations
import __future__

import os
import re
import shlex
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

from songs import put, tone
from stemforge import checkpoints, devices
from stemforge.cli import edit, edit_run
from stemforge.cli.main import main
from stemforge.inference import samplers
from stemforge.models import registry
from stemforge.train.config import TrainConfig
from stemforge.train.saving import save
from stemforge.train.trainer import start
from tiny import TINY

TEXT = (Path(__file__).parents[1] / "docs" / "extending.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## (A\w? \w+)\n(.*?)(?=^## |\Z)", TEXT, re.DOTALL | re.MULTILINE))
FEW = ["steps=2", "validate_every=2", "excerpts=1", "seconds=0.5", "batch_size=1", "precision=32-true"]
SMALL_FLOW = ["network.blocks=1", "network.hidden=4", "network.layers=1"]
STEMS = ("bass", "drums", "violin", "cello", "other")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a song, songs as stems, takes, and a tiny `forge`; what examples change is put back."""
    monkeypatch.chdir(tmp_path)
    for name in ("STEMFORGE_MODEL", "STEMFORGE_OUT", "STEMFORGE_DEVICE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(devices, "keep_memory", lambda: None)
    put(Path("song.wav"), tone(300, 2.0), 8000)
    for k, name in enumerate(STEMS):
        for folder in ("train/A", "train/B", "valid/C"):
            put(Path("songs", folder, f"{name}.wav"), tone(70 + 150 * k, 8.5), 8000)
    put(Path("takes/one.wav"), tone(220, 2.0), 8000)
    save(start(TrainConfig(network=TINY)), tmp_path / "tiny")
    (tmp_path / "table.toml").write_text(checkpoints.entry_for(tmp_path / "tiny", name="forge", default=True))
    monkeypatch.setenv("STEMFORGE_CHECKPOINTS", str(tmp_path / "table.toml"))
    touched = (vars(samplers), vars(registry), vars(edit), vars(edit_run), samplers.SAMPLERS, registry.ARCHITECTURES,
               edit_run.TASKS, sys.modules)  # fmt: skip
    before, commands = [dict(table) for table in touched], list(edit.app.registered_commands)
    yield tmp_path
    for table, kept in zip(touched, before, strict=True):
        for name in table.keys() - kept.keys():
            del table[name]
    edit.app.registered_commands[:] = commands


def written(code: str) -> None:
    """Put code at the end of the file of the package that its first line names, as far as Python can tell."""
    dotted = code.split("\n", 1)[0].removeprefix("# src/").removesuffix(".py").replace("/", ".")
    try:
        module = import_module(dotted)
    except ModuleNotFoundError:
        module = sys.modules[dotted] = ModuleType(dotted)
    exec(compile(code, dotted, "exec", __future__.annotations.compiler_flag, dont_inherit=True), vars(module))


def typed(line: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """One command line, with what a shell makes of `NAME=value` before it and `> file` behind it."""
    words = shlex.split(line)
    with monkeypatch.context() as patch:
        while "=" in words[0]:
            name, value = words.pop(0).split("=", 1)
            patch.setenv(name, os.path.abspath(value))  # noqa: PTH100
        to = words[words.index(">") + 1] if ">" in words else None
        arguments = words[1 : words.index(">")] if to else words[1:]
        more = [*FEW, *(SMALL_FLOW if "flow" in arguments else []), "-d", "cpu"] if arguments[0] == "train" else []
        more += ["--steps", "2"] if arguments[0] == "edit" else []
        assert words[0] == "stemforge" and main([*arguments, *more]) == 0, (line, capsys.readouterr().err)
    out = capsys.readouterr().out
    if to:
        Path(to).write_text(out)


def test_the_table_lists_the_examples() -> None:
    """Each row leads to a section with code in it."""
    linked = re.findall(r"^\| \[\w+\]\(#([\w-]+)\)", TEXT, re.MULTILINE)
    assert sorted(linked) == sorted(title.lower().replace(" ", "-") for title in SECTIONS) and len(linked) == 5
    assert all("```" in section for section in SECTIONS.values())


@pytest.mark.parametrize(
    "title", [pytest.param(title, marks=[pytest.mark.slow] if title == "A stem" else []) for title in SECTIONS]
)
def test_example(title: str, place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Its blocks, in their order: files of the package, Python as typed, commands as typed."""
    names: dict = {}
    for kind, code in re.findall(r"```(python|sh)\n(.*?)```", SECTIONS[title], re.DOTALL):
        if kind == "sh":
            for line in code.splitlines():
                typed(line, capsys, monkeypatch)
        elif code.startswith("# src/"):
            written(code)
        else:
            exec(compile(code, title, "exec", dont_inherit=True), names)
    if title == "A checkpoint":
        assert sorted(path.stem for path in Path("separated/low-and-high/song").glob("*.wav")) == ["low", "other"]
    if title == "A stem":
        found = {path.stem for path in Path("separated/strings/song").glob("*.wav")}
        assert found == {"bass", "drums", "strings", "other"} and Path("runs/cello/model.safetensors").exists()
    if title == "An edit":
        assert Path("edited/forge/vary/song/mix.wav").exists()


def test_a_new_sampler_is_tested_as_the_others(place: Path) -> None:
    """The example of a sampler converges at the order that its row says."""
    import test_samplers

    written(re.search(r"```python\n(# src/.*?)```", SECTIONS["A sampler"], re.DOTALL)[1])
    test_samplers.test_deterministic_samplers_converge_at_their_order("ab2")
