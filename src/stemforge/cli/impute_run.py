"""The work of `stemforge impute`: read what is kept, make the rest, write both."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from stemforge import checkpoints
from stemforge.audio.io import probe
from stemforge.cli import impute_from, lists, prompted, sketches
from stemforge.cli.inputs import check_writable, track_name
from stemforge.cli.options import listed, region_of, sampling_of
from stemforge.cli.synthesis import NO_SKETCH, Rows, Session
from stemforge.cli.synthesis_batch import Batch
from stemforge.errors import InputError, UsageError
from stemforge.inference.settings import default
from stemforge.separators.folded import FoldedSeparator
from stemforge.tasks.edit_files import Files
from stemforge.tasks.files import separate_file
from stemforge.tasks.gather import stem_files
from stemforge.tasks.impute import METHODS, Wish, windows_in
from stemforge.tasks.impute_files import accompanied, frames_in, gain_for, names_of, open_given, sketched
from stemforge.tasks.library_files import Found
from stemforge.tasks.regions import checked
from stemforge.tasks.separate import Selection
from stemforge.types import Separator


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

    def told(self, given: Files) -> dict[str, list[list[float]]]:
        """The regions as a sidecar has them: an end that was left out is that of the song."""
        end = given.frames / given.rate
        return {name: [[start, min(stop, end)] for start, stop in regions] for name, regions in self.regions.items()}


def run(options: dict[str, Any]) -> int:
    """Impute as many times as is asked for; the exit code. Raises StemforgeError."""
    if options["method"] not in ("auto", *METHODS):
        raise UsageError(f"--method {options['method']}: unknown. Give {' or '.join(METHODS)}.")
    prompted.refuse(options, "--keep-mix and --add")
    impute_from.check(options)
    session = Session.begin(options if options["library"] is None else {**options, "sketch": NO_SKETCH})
    if options["library"] is None:
        sketches.check(session, "--from LIBRARY or ")
    plan = _plan(options)
    session.check_stems((*plan.read, *(plan.fill or ())))
    source: Path = options["source"]
    name = track_name(source.absolute().name if source.is_dir() else source.stem)
    seeds = range(session.seed, session.seed + options["num_samples"])
    top = options["out"] / session.checkpoint.name
    places = [top / (name if len(seeds) == 1 else f"{name}-{seed}") for seed in seeds]
    check_writable(options["out"])
    library = impute_from.described(options)
    batch = Batch(
        session,
        lambda: _sources(source, plan),
        source.absolute().name,
        lambda seed: {**library, "sketch": sketches.stamp(session)},
    )
    with ExitStack() as stack:
        given = cache(lambda: _given(session, source, plan, stack))
        lenders = cache(lambda: impute_from.lenders(session, given()[0], plan.fill, but=name))
        stack.enter_context(session.report)
        return batch.run(
            dict(zip(seeds, places, strict=True)),
            lambda seed, folder: _one(session, *given(), plan, lenders(), seed, folder),
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


def _given(session: Session, source: Path, plan: Plan, stack: ExitStack) -> tuple[Files, float]:
    """The stems that are there, of a folder or of a song that is taken apart first, and what is done to their level."""
    network, folder = session.network, source
    if not source.is_dir():
        song, options = probe(source), session.options
        session.report.song(f"{source.name}: taking it apart first", song.seconds)
        folder = Path(stack.enter_context(lists.temporary()))
        separator: Separator = checkpoints.build(session.checkpoint, options["device"], segment=options["segment"])
        folds = {name: into for name, into in session.checkpoint.folds.items() if name not in plan.read}
        separator = FoldedSeparator(separator, folds)
        separate_file(song, folder, separator, selection=Selection(plan.read), on_block=session.report.advance)
    given = open_given(folder, plan.read)
    for regions in plan.regions.values():
        checked(regions, given.rate, given.frames)
    return given, gain_for(given, network)


def _one(
    session: Session, given: Files, gain: float, plan: Plan, lenders: list[Found], seed: int, folder: Path
) -> None:
    """One set of new stems, beside the kept ones."""
    begun, network, options = time.monotonic(), session.network, session.options
    method = options["method"]
    if method == "auto":
        method = "condition" if network.conditional else "replace"
    wish = Wish(plan.fill, plan.regions, method, options["segment"], seed)
    made = wish.names(network, given.names)
    loan = impute_from.loan(session, given, made, lenders, seed)
    told = method == "condition"
    sketcher = sketches.sketcher(session, made, given.names, task="sketched" if told else "replace")
    sampling = sampling_of(default("impute" if told else "replace", network.conditional), options)
    sampling = sampling if loan is None else sampling.begun(loan.strength)
    sampling = sampling if sketcher is None else sketcher.refining
    steps = sampling.steps * windows_in(network, given.frames / given.rate, wish.segment)
    if sketcher is not None:
        steps += sketcher.steps(frames_in(given, network), beside=True)
    session.report.task(folder.name, steps)

    def on_step(done: int, total: int) -> None:
        session.report.advance(1)

    drawn = None if sketcher is None else sketched(sketcher, network, given, gain, wish, on_step)
    blocks = accompanied(
        network,
        given,
        gain,
        sampling,
        wish,
        begun=drawn if loan is None else loan.blocks,
        device=session.device,
        on_step=on_step,
    )
    names = names_of(given, network, wish)
    written = session.write(folder, Rows(names, given.rate, given.channels, given.frames, blocks), mix=options["mix"])
    recipe = {"task": "impute", "input": options["source"].absolute().name, "seed": seed, "keep": list(plan.keep),
              "fill": list(made), "regions": plan.told(given), "method": method,
              "sampling": asdict(sampling), **({} if loan is None else {"from": loan.told}),
              **sketches.told(session, sketcher)}  # fmt: skip
    session.finish(folder, written, recipe, begun, rate=given.rate, channels=given.channels)
