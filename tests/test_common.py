"""--color, --log-file, --version and --list-models: what stands anywhere in a command line."""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path

import pytest

from places import prepared, song
from stemforge import __version__, checkpoints
from stemforge.cli import console
from stemforge.cli.common import hoisted
from stemforge.cli.main import main

RED = "\x1b[1;31merror:\x1b[0m"


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test works in a folder of its own."""
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    return prepared(tmp_path, monkeypatch)


@pytest.mark.parametrize(
    ("line", "front", "values"),
    [
        ("separate a --color never -q", "--color never separate a -q", {"--color": "never"}),
        ("separate --log-file=x a", "--log-file x separate a", {"--log-file": "x"}),
        ("separate -- --color always", "separate -- --color always", {}),
        ("--color always -h", "--color always -h", {"--color": "always"}),
    ],
)
def test_they_stand_anywhere(line: str, front: str, values: dict[str, str]) -> None:
    """Both options are moved before the command, but for what follows --."""
    assert hoisted(line.split()) == (front.split(), values)


@pytest.mark.parametrize(
    ("options", "environment", "colored"),
    [
        ([], {}, False),
        ([], {"FORCE_COLOR": "1"}, True),
        ([], {"FORCE_COLOR": "1", "NO_COLOR": "1"}, False),
        (["--color", "always"], {"NO_COLOR": "1"}, True),
        (["--color=never"], {"FORCE_COLOR": "1"}, False),
    ],
)
def test_colors_of_messages(
    options: list[str],
    environment: dict[str, str],
    colored: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The option comes before NO_COLOR, that before FORCE_COLOR; without any, a pipe gets no colours."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert main(["separate", "gone.wav", *options]) == 4
    err = capsys.readouterr().err
    assert (RED in err) == colored and ("\x1b" in err) == colored and "'gone.wav': no such file" in err
    assert console.colors_from()[1] != "option", "it is over with the command"


def test_colors_of_help_texts(capsys: pytest.CaptureFixture[str]) -> None:
    """Help has escape codes with always, and none with never."""
    assert main(["separate", "--help", "--color", "always"]) == 0
    assert "\x1b[" in capsys.readouterr().out
    assert main(["--color", "never", "separate", "--help"]) == 0
    assert "\x1b" not in capsys.readouterr().out


def test_unknown_colors(capsys: pytest.CaptureFixture[str]) -> None:
    """One line, and exit code 2."""
    assert main(["separate", "--color", "red"]) == 2
    assert capsys.readouterr().err == "stemforge: error: --color red: unknown. Give one of auto, always, never.\n"
    assert main(["separate", "x.wav", "--color"]) == 2 and "--color: needs a value" in capsys.readouterr().err


def test_a_log_has_every_line(capsys: pytest.CaptureFixture[str]) -> None:
    """What was typed, said and returned, with the time, even when it was said quietly; runs are added."""
    song("song.wav")
    assert main(["separate", "song.wav", "gone.wav", "-q", "--log-file", "logs/run.log"]) == 3
    assert main(["--log-file", "logs/run.log", "separate", "song.wav"]) == 0
    lines = Path("logs/run.log").read_text(encoding="utf-8").splitlines()
    assert all(re.match(rf"\d{{4}}-\d\d-\d\d [\d:,]+ {os.getpid()} (INFO|WARNING|ERROR) ", line) for line in lines)
    text = "\n".join(lines)
    assert "INFO command: stemforge separate song.wav gone.wav -q --log-file logs/run.log" in text
    assert "INFO song.wav (0:00) ..." in text and "ERROR 'gone.wav': no such file" in text
    assert "INFO separated/bands/song" in text and "exit code 3" in text and lines[-1].endswith("exit code 0")
    assert "song.wav: already there" in text
    assert capsys.readouterr().out.splitlines() == ["separated/bands/song"] * 2
    handlers = (*console.log.handlers, *logging.getLogger("stemforge").handlers)
    assert not any(isinstance(handler, logging.FileHandler) for handler in handlers if handler.name)


def test_a_log_has_the_place_of_a_bug(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The traceback of what nobody expected goes to the file and not to the terminal."""

    def broken(*arguments: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(checkpoints, "find", broken)
    assert main(["checkpoints", "info", "--log-file", "run.log"]) == 1
    err = capsys.readouterr().err
    assert err == "stemforge: error: unexpected ZeroDivisionError: a bug. See run.log for the place, and report it.\n"
    text = Path("run.log").read_text(encoding="utf-8")
    assert "Traceback (most recent call last):" in text and "in broken" in text and "exit code 1" in text


@pytest.mark.parametrize("name", ["taken/run.log", "."])
def test_a_log_that_cannot_be(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 7 and one line; nothing is done."""
    Path("taken").touch()
    song("song.wav")
    assert main(["separate", "song.wav", "--log-file", name]) == 7
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and f"'{name}': cannot be written" in err and "Choose another --log-file" in err
    assert not Path("separated").exists()


def test_versions(capsys: pytest.CaptureFixture[str]) -> None:
    """The own version on the first line, then those that matter."""
    assert main(["--version"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"stemforge {__version__}"
    assert [line.split()[0] for line in lines[1:4]] == ["python", "torch", "torchaudio"]


def test_list_models_as_of_demucs(capsys: pytest.CaptureFixture[str]) -> None:
    """It prints what `checkpoints list` prints, whatever else is there."""
    assert main(["checkpoints", "list"]) == 0
    expected = capsys.readouterr().out
    assert main(["separate", "--list-models"]) == 0 and capsys.readouterr().out == expected
    assert main(["separate", "-n", "htdemucs", "x.wav", "--list-models"]) == 0 and "bands" in expected
