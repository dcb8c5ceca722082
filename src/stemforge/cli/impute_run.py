"""The work of `stemforge impute`: read what is kept, make the rest, write both."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch

from stemforge import checkpoints
from stemforge.audio.io import read
from stemforge.cli.inputs import check_writable, track_name
from stemforge.cli.options import listed, region_of, sampling_of
from stemforge.cli.synthesis import Session
from stemforge.cli.synthesis_batch import Batch
from stemforge.errors import InputError, UsageError
from stemforge.inference.settings import default
from stemforge.tasks.gather import adapted, read_stems, stem_files
from stemforge.tasks.impute import METHODS, impute, windows_in
from stemforge.tasks.regions import checked
from stemforge.tasks.separate import separate
from stemforge.types import Stems


@dataclass(frozen=True)
class Plan:
    """What is kept, what is filled, and where."""

    keep: tuple[str, ...]
    fill: tuple[str, ...] | None
    regions: dict[str, list[tuple[float, float]]]

    @property
    def read(self) -> tuple[str, ...]:
        """Stems that must be there: those kept, and those that are filled in parts."""
        return tuple(dict.fromkeys((*self.keep, *self.regions)))


def run(options: dict[str, Any]) -> int:
    """Impute as many times as is asked for; the exit code. Raises StemforgeError."""
    if options["method"] not in ("auto", *METHODS):
        raise UsageError(f"--method {options['method']}: unknown. Give {' or '.join(METHODS)}.")
    session = Session.begin(options)
    plan = _plan(options)
    session.check_stems((*plan.read, *(plan.fill or ())))
    source: Path = options["source"]
    name = track_name(source.absolute().name if source.is_dir() else source.stem)
    seeds = range(session.seed, session.seed + options["num_samples"])
    top = options["out"] / session.checkpoint.name
    places = [top / (name if len(seeds) == 1 else f"{name}-{seed}") for seed in seeds]
    check_writable(options["out"])
    given = cache(lambda: _given(session, source, plan))
    batch = Batch(session, lambda: _sources(source, plan), source.absolute().name)
    with session.report:
        return batch.run(
            dict(zip(seeds, places, strict=True)),
            lambda seed, folder: _one(session, given(), plan, seed, folder, source),
        )


def _plan(options: dict[str, Any]) -> Plan:
    keep, fill = listed(options["keep"], "--keep") or (), listed(options["fill"], "--fill")
    if both := sorted(set(keep) & set(fill or ())):
        raise UsageError(f"--keep and --fill: both name {both[0]}. Name it in one of them.")
    regions: dict[str, list[tuple[float, float]]] = {}
    for text in options["region"] or []:
        stem, sign, part = text.partition("=")
        if not sign:
            raise UsageError(f"--region {text}: names no stem. Write STEM=FROM:TO, as drums=30:34.")
        regions.setdefault(stem.strip(), []).append(region_of(part))
    if not keep and not regions:
        raise UsageError("nothing is kept: give --keep bass,drums, or --region STEM=FROM:TO. See impute --help.")
    return Plan(keep, fill, regions)


def _sources(source: Path, plan: Plan) -> dict[str, Path]:
    """The files that are read. Raises InputError when the input is not there or lacks a stem that is kept."""
    if not source.exists():
        raise InputError(f"'{source}': no such file or folder. Check the spelling.")
    if not source.is_dir():
        return {"song": source}
    found = stem_files(source)
    if missing := [name for name in plan.read if name not in found]:
        there = ", ".join(sorted(found)) or "no sound file"
        raise InputError(f"'{source}': has no {' and no '.join(missing)}, but {there}. Keep what is there.")
    return {name: found[name] for name in plan.read}


def _given(session: Session, source: Path, plan: Plan) -> Stems:
    """The stems that are there: from a folder, or of a song that is taken apart first."""
    if source.is_dir():
        return read_stems(source, plan.read)
    session.report.note(f"{source.name}: taking it apart first")
    found = separate(read(source), checkpoints.build(session.checkpoint, session.options["device"]))
    return Stems(plan.read, torch.stack([found[name].samples for name in plan.read]), found.rate)


def _one(session: Session, given: Stems, plan: Plan, seed: int, folder: Path, source: Path) -> None:
    """One set of new stems, beside the kept ones."""
    begun, network, frames = time.monotonic(), session.network, given.samples.shape[-1]
    for regions in plan.regions.values():
        checked(regions, given.rate, frames)
    method = session.options["method"]
    if method == "auto":
        method = "condition" if network.conditional else "replace"
    sampling = sampling_of(
        default("impute" if method == "condition" else "replace", network.conditional), session.options
    )
    session.report.task(folder.name, sampling.steps * windows_in(network, frames / given.rate))
    made = impute(
        network,
        adapted(given, network.rate, network.channels),
        sampling,
        fill=plan.fill,
        regions=plan.regions,
        method=method,
        seed=seed,
        device=session.device,
        on_step=lambda done, total: session.report.advance(1),
    )
    channels, length = given.samples.shape[1:]
    whole = _joined(given, adapted(made, given.rate, channels, length), plan)
    written = session.write(folder, whole, mix=session.options["mix"])
    recipe = {"task": "impute", "input": source.absolute().name, "seed": seed, "keep": list(plan.keep),
              "fill": list(made.names), "regions": {k: [list(r) for r in v] for k, v in plan.regions.items()},
              "method": method, "sampling": asdict(sampling)}  # fmt: skip
    session.finish(folder, written, recipe, begun, rate=given.rate, channels=channels)


def _joined(given: Stems, made: Stems, plan: Plan) -> Stems:
    """Kept stems with the samples that they had; outside of its regions a stem keeps them too."""
    rows = {name: given[name].samples for name in given.names}
    for name in made.names:
        new = made[name].samples
        if name in plan.regions:
            merged = rows[name].clone()
            for start, stop in plan.regions[name]:
                last = new.shape[-1] if stop == float("inf") else round(stop * given.rate)
                merged[..., round(start * given.rate) : last] = new[..., round(start * given.rate) : last]
            new = merged
        rows[name] = new
    return Stems(tuple(rows), torch.stack(list(rows.values())), given.rate)
