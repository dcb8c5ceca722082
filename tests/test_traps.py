"""What other tools of this kind do wrong: each of these has to stay impossible here."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch

import stemforge
from places import prepared, song, tree
from shares import Shares
from stemforge.cli import edit, evaluate, generate, impute, separate
from stemforge.cli.main import main
from stemforge.separators.network import NetworkSeparator
from stemforge.separators.shifted import ShiftedSeparator
from stemforge.tasks.separate import separate as separated
from stemforge.types import Audio

SOURCES = {path: path.read_text(encoding="utf-8") for path in Path(stemforge.__file__).parent.rglob("*.py")}
COMMANDS = [separate.separate, generate.generate, impute.impute, evaluate.evaluate,
            *(command.callback for command in edit.app.registered_commands)]  # fmt: skip


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test works in a folder of its own."""
    return prepared(tmp_path, monkeypatch)


@pytest.mark.parametrize(
    "words",
    [
        r"CUDA_VISIBLE_DEVICES",  # set for the whole process
        r"shell=True",
        r"filterwarnings\(\s*[\"']ignore[\"']\s*\)",  # of everything
        r"except (Exception|BaseException)?:\s*(pass|continue)",  # a fallback that nobody sees
        r"weights_only=False|pickle\.load",
        r"\beval\(|\bexec\(|\bos\.system\(",
    ],
)
def test_nowhere_in_the_package(words: str) -> None:
    """No line of the package does it; `.eval()` of a network is meant otherwise."""
    found = [path.name for path, text in SOURCES.items() if re.search(words, text.replace(".eval(", "."))]
    assert found == []


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.__name__)
def test_flags_can_be_switched(command) -> None:
    """No flag takes a word that would count as true, and one that is on by default can be switched off."""
    for name, parameter in inspect.signature(command, eval_str=True).parameters.items():
        if isinstance(parameter.default, bool):
            (option,) = parameter.annotation.__metadata__
            names = [option.default, *(option.param_decls or ())]
            assert not parameter.default or any("/--no-" in text for text in names if isinstance(text, str)), name


def test_arguments_are_not_changed() -> None:
    """A mixture that was given to the library is afterwards what it was."""
    x = torch.randn(2, 44100, generator=torch.Generator().manual_seed(0))
    before = x.clone()
    for separator in (NetworkSeparator(Shares({})), ShiftedSeparator(NetworkSeparator(Shares({})), 3)):
        stems = separated(Audio(x, 44100), separator)
        stems.samples.zero_()
        assert torch.equal(x, before)


def test_level_is_not_changed(capsys: pytest.CaptureFixture[str]) -> None:
    """Quiet and loud songs keep their level, and a song of eleven minutes is not cropped by a default."""
    for gain in (1e-3, 1.0, 3.0):
        x = song("x.wav", 0.5) * gain
        sf.write("x.wav", x, 44100, subtype="FLOAT")
        assert main(["separate", "x.wav", "-q", "-y"]) == 0
        stems = sum(sf.read(path, dtype="float32")[0] for path in Path("separated/bands/x").glob("*.wav"))
        assert np.abs(stems - x).max() < 1e-6 * max(gain, 1)
    sf.write("long.wav", np.zeros((660 * 100, 1)), 100, subtype="PCM_16")
    assert main(["separate", "long.wav", "-q"]) == 0
    assert sf.info("separated/bands/long/bass.wav").frames == 66000


def test_silence_and_single_samples() -> None:
    """Digital silence gives silent stems of its length, and so does a single sample: nothing is divided by nothing."""
    for name, frames in (("silence", 30000), ("one", 1)):
        sf.write(f"{name}.wav", np.zeros((frames, 2)), 44100)
        assert main(["separate", f"{name}.wav", "-q", "--loudness", "-14"]) == 0
        for stem in Path("separated/bands", name).glob("*.wav"):
            found = sf.read(stem)[0]
            assert found.shape == (frames, 2) and not found.any()


def test_nothing_is_written_elsewhere(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stems are below the working folder; neither the folder for temporary files nor the home gets anything."""
    home, temporary = place / "home", place / "temporary"
    home.mkdir(), temporary.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("TMPDIR", str(temporary))
    song("x.wav")
    assert main(["separate", "x.wav", "-q"]) == 0
    assert not list(home.iterdir()) and not list(temporary.iterdir()) and len(tree()) == 4
