"""What `stemforge train` is asked for, beside the config, and what it needs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from stemforge.cli import console
from stemforge.cli.options import choice
from stemforge.errors import UsageError


@dataclass(frozen=True)
class Request:
    """What the command line asks for, beside the config."""

    data: Path
    valid: Path | None
    out: Path
    device: str = "auto"
    devices: int = 1
    num_nodes: int = 1
    stop_after: int | None = None
    progress: str = "auto"
    json: bool = False
    verbosity: int = 0
    compile: bool = False
    wandb: str | None = None


def progress_of(name: str) -> str:
    """The name itself. Raises UsageError when it is none."""
    return choice(name, console.PROGRESS, "--progress") or "auto"


def needed(*modules: str, install: str = "stemforge[train]") -> None:
    """UsageError when one of the modules that only training needs is not installed; `install`: what brings them."""
    from importlib.util import find_spec

    if missing := [name for name in modules if find_spec(name) is None]:
        raise UsageError(f"train: {missing[0]} is not installed. Run `pip install '{install}'`.")
