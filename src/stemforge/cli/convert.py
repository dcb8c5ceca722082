"""`stemforge checkpoints convert`: published checkpoints to a folder that stemforge loads."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stemforge.errors import UsageError


def convert(
    to: Annotated[Path, typer.Option(help="Folder to make; must not be there yet.")],
    file: Annotated[Path | None, typer.Argument(help="Checkpoint of a joint model.")] = None,
    stem: Annotated[
        list[str] | None, typer.Option(metavar="NAME=FILE", help="Checkpoint of one stem. Once for each stem.")
    ] = None,
    names: Annotated[
        str | None,
        typer.Option(help="Stems of a joint model in the order of its channels. Default: bass,drums,guitar,piano."),
    ] = None,
    allow_pickle: Annotated[
        bool, typer.Option("--allow-pickle", help="Open the files although they are pickles; nothing in them is run.")
    ] = False,
) -> None:
    """Convert official MSDM or ISDM checkpoints to safetensors; print the folder."""
    from stemforge import convert as library
    from stemforge.cli import console

    if (file is None) == (not stem) or (names is not None and stem):
        raise UsageError("convert takes either one FILE, with --names, or --stem NAME=FILE for each stem.")
    chosen = library.STEMS if names is None else tuple(name.strip() for name in names.split(","))
    source = file or _by_stem(stem or [])
    console.result(str(library.convert(source, to, names=chosen, allow_pickle=allow_pickle)))


def _by_stem(given: list[str]) -> dict[str, Path]:
    """NAME=FILE texts as a table."""
    files: dict[str, Path] = {}
    for text in given:
        name, equals, path = text.partition("=")
        if not (name and equals and path) or name in files:
            raise UsageError(f"--stem {text}: must be NAME=FILE, once for each stem, as in --stem bass=bass.ckpt.")
        files[name] = Path(path)
    return files
