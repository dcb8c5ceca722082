"""Every command line in the documents is one that the program takes: command, options, and so many words."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from stemforge.cli.common import hoisted
from stemforge.cli.main import app

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
ELSEWHERE = {"vary", "ab2"}
"""Of docs/extending.md, which adds them first."""


def typed(text: str) -> Iterator[str]:
    """What follows `stemforge` in blocks of commands, up to the next pipe, redirection or comment."""
    for kind, block in re.findall(r"^```(\w*)\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        if kind in ("", "sh", "bash", "console"):
            joined = re.sub(r"\\\n\s*", " ", block)
            for line in joined.splitlines():
                for found in re.finditer(r"(?:^|[\s;|&'(]|\.venv/bin/)stemforge ((?:[a-z-][^|;>#&]*)?)", line):
                    yield re.split(r"\s(?:2?>|\|)", found[1])[0].strip().rstrip("')")


def command_of(words: list[str]) -> tuple[Any, list[str]]:
    """The command that is named, and what follows."""
    command = typer.main.get_command(app)
    while words and words[0] in getattr(command, "commands", {}):
        command, words = command.commands[words[0]], words[1:]
    return command, words


LINES = [
    (page.relative_to(ROOT).as_posix(), line) for page in PAGES for line in typed(page.read_text(encoding="utf-8"))
]


def test_there_are_lines() -> None:
    """The blocks are found, in most pages."""
    assert len(LINES) > 80 and len({page for page, _ in LINES}) > 10


@pytest.mark.parametrize("page", sorted({page for page, _ in LINES}))
def test_options_exist(page: str) -> None:
    """Each word that begins with - is an option of that command, or a value of the one before it."""
    for line in (line for name, line in LINES if name == page):
        try:
            words, _ = hoisted(shlex.split(line))
        except ValueError:  # a quotation that ends behind a pipe
            words = line.replace('"', " ").replace("'", " ").split()
        while words and words[0] in ("--color", "--log-file"):
            words = words[2:]
        command, rest = command_of(words)
        if ELSEWHERE & set(rest):
            continue
        assert not hasattr(command, "commands") or not rest or rest[0].startswith("-"), line
        known = {name for param in command.params for name in (*param.opts, *param.secondary_opts)}
        known |= {"-h", "--help", "--install-completion", "--show-completion"}
        for word in rest:
            if re.match(r"--?[a-zA-Z]", word):
                name = word.split("=")[0]
                assert name in known or (name[:2] in known and not name.startswith("--")), (line, name)
