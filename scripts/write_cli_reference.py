"""Write docs/cli.md from the commands themselves.

python scripts/write_cli_reference.py
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from stemforge.cli.main import app

PAGE = Path(__file__).parents[1] / "docs" / "cli.md"
INTRODUCTION = """# Commands

Written by `make docs` from the commands themselves; do not edit. Results go to stdout, everything else to stderr.

| exit code | meaning |
|---|---|
| 0 | everything is done, or was done already |
| 1 | unexpected error, a bug |
| 2 | impossible request: unknown option, stem or checkpoint, options that exclude each other |
| 3 | some inputs failed, the others are done |
| 4 | all inputs failed: missing, unreadable, empty, not usable |
| 5 | the checkpoint cannot be had, or its sha256 does not match |
| 6 | the device is not there, or is out of memory |
| 7 | the output cannot be written |
| 8 | training cannot go on: its loss or its weights are not finite |
| 130, 143 | interrupted; finished stems are kept |
"""


def reference() -> str:
    """The whole page."""
    return INTRODUCTION + "".join(f"\n{section}" for section in _sections("stemforge", typer.main.get_command(app)))


def _sections(name: str, command: Any) -> Iterator[str]:  # noqa: ANN401 (the classes of typer's click are private)
    """One section for each command, a group before its members."""
    lines = [f"## `{name}`\n", inspect.cleandoc(command.help or "").replace("\f", "") + "\n"]
    shown = [param for param in command.params if not getattr(param, "hidden", False)]
    if shown:
        lines += ["| option | default | meaning |", "|---|---|---|", *map(_row, shown), ""]
    yield "\n".join(lines)
    for member in sorted(getattr(command, "commands", {})):
        yield from _sections(f"{name} {member}", command.commands[member])


def _row(param: Any) -> str:  # noqa: ANN401
    names = ", ".join(f"`{opt}`" for opt in (*param.opts, *param.secondary_opts))
    if param.param_type_name == "argument":
        name = param.metavar or param.name.upper() + ("..." if param.nargs == -1 else "")
        names = f"`{name}`" if param.required else f"`[{name}]`"
    unset = param.default is None or param.default is False or callable(param.default)
    default = "" if unset else f"`{_plain(param.default)}`"
    return f"| {names} | {default} | {(param.help or '').replace('|', chr(92) + '|')} |"


def _plain(value: object) -> str:
    return str(getattr(value, "value", value))


if __name__ == "__main__":
    PAGE.write_text(reference(), encoding="utf-8")
