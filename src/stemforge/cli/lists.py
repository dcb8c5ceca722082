"""Songs that are named elsewhere than on the command line: in lists and on stdin; and a part of them for one task."""

from __future__ import annotations

import glob
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO

from stemforge.audio.writer import output_errors
from stemforge.cli.inputs import Item
from stemforge.errors import InputError, UsageError
from stemforge.tasks.locks import runs

STDIN = Path("-")
_BOM = b"\xef\xbb\xbf"


def listed(source: Path, *, null: bool = False) -> list[Path]:
    """The paths in a list, one a line, or with a NUL after each; `-` is stdin.

    Raises:
        InputError: the list cannot be read, or is empty.
        UsageError: stdin is a terminal.
    """
    if source == STDIN:
        contents = stdin("--files-from -").read()
    else:
        try:
            contents = source.read_bytes()
        except OSError as error:
            raise InputError(f"'{source}': cannot be read: {error.strerror}. Check the name of the list.") from None
    if null:
        lines = contents.split(b"\0")
    elif b"\0" in contents:
        raise InputError(f"'{source}': holds NUL characters. Give -0 if they end the names.")
    else:
        lines = [line.rstrip(b"\r") for line in contents.removeprefix(_BOM).split(b"\n")]
    paths = [Path(os.fsdecode(line)) for line in lines if line]
    if not paths:
        raise InputError(f"'{source}': names no song. Check what writes the list.")
    return [path.absolute() if path == STDIN else path for path in paths]


def expanded(arguments: Iterable[Path], *, null: bool = False) -> list[Path]:
    """The arguments with `@list` replaced by what the file `list` names, and patterns by what matches them.

    A file that is called like that is meant itself; a pattern that nothing matches stays, and is told as missing.
    """
    found: list[Path] = []
    for path in arguments:
        name = str(path)
        if name.startswith("@") and not path.exists():
            found += listed(Path(name[1:]), null=null)
        elif glob.has_magic(name) and not path.exists():
            matches = sorted(glob.glob(name, recursive=True))  # noqa: PTH207 (pathlib takes no absolute patterns)
            found += [Path(match) for match in matches] or [path]
        else:
            found.append(path)
    return found


def stdin(option: str) -> IO[bytes]:
    """Standard input as bytes. Raises UsageError when it is a terminal."""
    if sys.stdin is None or sys.stdin.isatty():
        raise UsageError(f"{option}: stdin is a terminal. Write into a pipe, or give the name of a file.")
    return sys.stdin.buffer


def spooled(folder: Path) -> Path:
    """All of stdin in a file of a folder."""
    path = folder / "stdin"
    with output_errors(folder), path.open("wb") as file:
        shutil.copyfileobj(stdin("-"), file)
    return path


def temporary() -> tempfile.TemporaryDirectory[str]:
    """A folder for this run; those of runs that were killed are removed first."""
    top = Path(tempfile.gettempdir())
    for path in top.glob("stemforge-*-*"):
        process = path.name.split("-")[1]
        if process.isdecimal() and not runs(int(process)) and _is_ours(path):
            shutil.rmtree(path, ignore_errors=True)
    return tempfile.TemporaryDirectory(prefix=f"stemforge-{os.getpid()}-", ignore_cleanup_errors=True)


def _is_ours(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink() and (os.name != "posix" or path.stat().st_uid == os.getuid())


def shard(text: str, environment: Mapping[str, str] = os.environ) -> tuple[int, int]:
    """(I, N) of `I/N`, 1 <= I <= N, or of the task of a Slurm array for `auto`. Raises UsageError."""
    if text == "auto":
        return _slurm(environment)
    which, _, count = text.partition("/")
    if not (which.isdecimal() and count.isdecimal() and 1 <= int(which) <= int(count)):
        raise UsageError(f"--shard {text}: not a part. Write I/N with I from 1 to N, as 3/8, or auto in a Slurm array.")
    return int(which), int(count)


def _slurm(environment: Mapping[str, str]) -> tuple[int, int]:
    names = [f"SLURM_ARRAY_TASK_{name}" for name in ("ID", "COUNT", "MIN", "MAX")]
    missing = [name for name in names if not environment.get(name, "").isdecimal()]
    if missing:
        raise UsageError(f"--shard auto: {missing[0]} is not set. Run it in a Slurm job array, or write --shard I/N.")
    task, count, least, most = (int(environment[name]) for name in names)
    step = int(environment.get("SLURM_ARRAY_TASK_STEP") or 1)
    if (most - least) // step + 1 != count or (task - least) % step or not least <= task <= most:
        raise UsageError(f"--shard auto: the array has gaps, task {task} has no place in it. Write --shard I/N.")
    return (task - least) // step + 1, count


def part_of(items: list[Item], which: int, count: int) -> list[Item]:
    """Every `count`-th song from number `which` (1 is first) on, in the order of their paths: the same everywhere."""
    return sorted(items, key=lambda item: os.fsencode(item.path))[which - 1 :: count]
