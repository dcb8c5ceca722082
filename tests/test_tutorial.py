"""The first day of docs/training.md: its commands, as they are written there, lead from stems to a separation."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
import torch

from songs import put, tone
from stemforge import devices
from stemforge.cli.main import main
from tiny import TINY, tiny_default

PAGE = Path(__file__).parents[1] / "docs" / "training.md"
FEW = ["steps=4", "validate_every=2", "excerpts=1", "seconds=0.5", "precision=32-true"]
STEMS = ("vocals", "drums", "bass", "other")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with songs of 9 s, where the checkpoint `forge` is a tiny one without vocals."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("STEMFORGE_MODEL", raising=False)
    monkeypatch.setattr(devices, "keep_memory", lambda: None)
    for split, count in (("train", 2), ("valid", 1)):
        for k in range(count):
            for j, name in enumerate(STEMS):
                put(tmp_path / "songs" / split / f"Song {k}" / f"{name}.wav", tone(60 + 170 * j + 10 * k, 9.0))
    put(tmp_path / "song.wav", sum(tone(60 + 170 * j, 9.0) for j in range(4)))
    tiny_default(tmp_path, monkeypatch)
    return tmp_path


def commands() -> list[list[str]]:
    """The lines in ```sh blocks, without the name of the program."""
    blocks = re.findall(r"```sh\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    lines = [shlex.split(line) for block in blocks for line in block.splitlines()]
    assert all(line[0] == "stemforge" for line in lines)
    return [line[1:] for line in lines]


def test_first_day(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each command succeeds, with fewer steps and on the CPU; in the end there are four stems of a song."""
    said = []
    for words in commands():
        training = words[0] == "train" and "--plot" not in words
        more = [*FEW, "-d", "cpu"] if training else ["-d", "cpu"] if words[0] in ("evaluate", "separate") else []
        assert main([*words, *more]) == 0, (words, capsys.readouterr().err)
        said.append((words[0], capsys.readouterr()))
    assert [word for word, _ in said] == ["data", "data", "train", "train", "evaluate", "separate"]
    assert "2 songs (plain)" in said[0][1].out and "valid vocals" in said[2][1].err
    assert (place / "runs" / "mine" / "curves.png").stat().st_size > 10_000
    config = json.loads((place / "runs" / "mine" / "best" / "config.json").read_text())
    assert tuple(config["names"]) == STEMS and config["rate"] == TINY["rate"]
    found = {path.stem for path in (place / "separated").rglob("*.wav")}
    assert found == set(STEMS)
    assert torch.load(place / "runs" / "mine" / "state.pt", weights_only=True)["index"] == 4
