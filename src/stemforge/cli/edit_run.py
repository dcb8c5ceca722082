"""The work of `stemforge edit`: read around the regions, make them anew, copy the rest."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from stemforge import checkpoints
from stemforge.cli import console, edit_wish, pages, sketches
from stemforge.cli.inputs import check_writable, track_name
from stemforge.cli.options import listed, region_of, sampling_of
from stemforge.cli.synthesis import NO_SKETCH, Session
from stemforge.cli.synthesis_batch import Batch
from stemforge.errors import InputError, UsageError
from stemforge.report import edits
from stemforge.report.page import html, write_page
from stemforge.report.songs import listed as list_page
from stemforge.separators.network import NetworkSeparator
from stemforge.tasks.edit import METHODS, Way, way_for
from stemforge.tasks.edit_files import MIX, Files, Joined, Patch, Patches, Piece, open_song, open_stems, write
from stemforge.tasks.edit_song import LONGEST_S, MEMORY_S, Job, Part, Scene, Tail, begins, changes, scene_of, steps_in
from stemforge.tasks.files import Place
from stemforge.tasks.gather import stem_files
from stemforge.tasks.regions import Region, checked
from stemforge.tasks.separate import separate
from stemforge.types import Audio, Stems

FADE = 0.05
"""Seconds on both sides of a region in which old and new are cross-faded."""
AHEAD = 6.0
"""Seconds of the end of a song that are heard when it is continued."""


_NOT_SETTINGS = ("after", "reference", "report_html")  # files, whose bytes count, and what is written beside the result


@dataclass(frozen=True)
class Edit:
    """One request: the job, what the sidecar says of it, and how far from the original it may go."""

    job: Job
    facts: dict[str, Any]
    strength: float = 1.0

    def draws(self, options: dict[str, Any]) -> bool:
        """Whether it may come to begin with noise alone, which is drawn. Raises UsageError: it may not, but is told to.

        options: of the command, without `sketch` for one that always has something to begin with.
        """
        may = options["method"] in ("auto", "conditioning") and (self.strength == 1 or self.job.memory > 0)
        asked = options.get("sketch", NO_SKETCH)
        if asked not in (None, NO_SKETCH) and not may:
            raise UsageError(
                f"--sketch {asked}: only what would begin with noise alone is drawn. Give --strength 1 too, and no "
                "--method."
            )
        return may and asked != NO_SKETCH


def run(task: str, options: dict[str, Any]) -> int:
    """Edit as many times as is asked for; the exit code. Raises StemforgeError."""
    _check(options)
    pages.check(options["report_html"])
    session = Session.begin({name: value for name, value in options.items() if name not in _NOT_SETTINGS})
    stems = listed(options["stems"], "--stems")
    session.check_stems(stems)
    edit = TASKS[task](session, options, stems)
    inputs = [path for name in ("source", "after") if (path := options.get(name)) is not None]
    name = track_name("-".join(path.absolute().name if path.is_dir() else path.stem for path in inputs))
    seeds = range(session.seed, session.seed + options["num_samples"])
    top = options["out"] / session.checkpoint.name / task
    places = {seed: top / (name if len(seeds) == 1 else f"{name}-{seed}") for seed in seeds}
    check_writable(options["out"])
    prepared = cache(lambda: _prepared(session, edit, options))
    drawn = {"sketch": sketches.stamp(session)} if edit.draws(options) else {}
    batch = Batch(session, lambda: _files(options), inputs[0].absolute().name, lambda seed: drawn)
    with session.report:
        code = batch.run(places, lambda seed, folder: _one(session, task, edit, *prepared(), seed, folder))
        page = top / f"{name}.html" if len(places) > 1 else Place(top / name).page
        if options["report_html"] and (batch.done or not page.exists()):
            _write_page(session, task, edit.job, places, page)
    return code


def _write_page(session: Session, task: str, job: Job, places: dict[int, Path], page: Path) -> None:
    """One page of all variations that are there, listed by the sidecar of each."""
    there = {seed: Place(folder) for seed, folder in places.items()}
    there = {seed: place for seed, place in there.items() if place.manifest.exists() and not place.unfinished()}
    if not there:
        return
    names = {"After" if len(places) == 1 else f"Seed {seed}": place.folder for seed, place in there.items()}
    title = page.stem if len(places) > 1 else page.parent.name
    write_page(page, html(edits.sheet_of(title, task, job, names)))
    for place in there.values():
        list_page(place, os.path.relpath(page, place.folder).replace(os.sep, "/"))
    session.report.note(f"report: {page}")
    if session.options["json"]:
        console.result_json("report", path=str(page))


def _prepared(session: Session, edit: Edit, options: dict[str, Any]) -> tuple[Way, Callable[[Part], Scene]]:
    """What all variations share: how they are made, and the parts taken apart, as long as they are few."""

    def scene(part: Part) -> Scene:
        return _scene(session, edit.job, part)

    seconds = sum(span.length for span in edit.job.spans) / edit.job.piece.rate
    return _way(session, edit, options), cache(scene) if seconds <= 2 * LONGEST_S else scene


def _files(options: dict[str, Any]) -> dict[str, Path]:
    """The files that are read, by what they are."""
    found: dict[str, Path] = {}
    for name in ("source", "after", "reference"):
        path: Path | None = options.get(name)
        if path is not None and path.is_dir():
            found |= {f"{name} {stem}": file for stem, file in stem_files(path).items()}
        elif path is not None:
            found[name] = path
    return found


def _check(options: dict[str, Any]) -> None:
    """Raises UsageError for what is impossible whatever the song is."""
    if options["method"] not in ("auto", *METHODS):
        raise UsageError(f"--method {options['method']}: unknown. Give one of {', '.join(METHODS)}.")
    if not 0 <= options.get("fade", 0.0) < 60:
        raise UsageError(f"--fade {options['fade']:g}: must be at least 0 and less than 60 s. Try {FADE}.")
    if not 0 < options.get("strength", 1.0) <= 1:
        raise UsageError(f"--strength {options['strength']:g}: must be more than 0 (keep) and at most 1 (all new).")
    if options["guidance"] is not None and not 0 <= options["guidance"] < float("inf"):
        raise UsageError(f"--guidance {options['guidance']:g}: must be at least 0. Leave it out for the default.")


def _piece(session: Session, path: Path, stems: tuple[str, ...] | None) -> Files:
    """A song, or the stems of a folder that the checkpoint knows. Raises InputError and UsageError."""
    if not path.exists():
        raise InputError(f"'{path}': no such file or folder. Check the spelling.")
    if not path.is_dir():
        return open_song(path)
    piece = open_stems(path, session.checkpoint.stems or session.network.names)
    if others := sorted(stem_files(path).keys() - set(piece.names) - {MIX, "mixture"}):
        session.report.note(f"{path.name}: left out: {', '.join(others)}, which this checkpoint does not know")
    if missing := [name for name in stems or () if name not in piece.names]:
        raise InputError(
            f"'{path}': has no {' and no '.join(missing)}, but {', '.join(piece.names)}. Edit what is there."
        )
    return piece


def _names(session: Session, piece: Piece, stems: tuple[str, ...] | None) -> tuple[str, ...]:
    """The stems that are edited: those asked for, or all that there are."""
    everything = piece.names if piece.names != (MIX,) else session.checkpoint.stems or session.network.names
    return stems or tuple(everything)


def _regions(session: Session, options: dict[str, Any], stems: tuple[str, ...] | None) -> Edit:
    """Parts of a song, which keeps its length."""
    asked = [region_of(text) for text in options["region"] or []]
    if not asked and not options.get("whole"):
        raise UsageError("no region is given: say which part is made anew, as --region 30:34.")
    piece = _piece(session, options["source"], stems)
    found = checked(asked or [(0.0, float("inf"))], piece.rate, piece.frames)
    fade = round(options["fade"] * piece.rate)
    job = Job(piece, tuple(found), fade, piece.frames, _names(session, piece, stems))
    regions = [[region.first / piece.rate, region.last / piece.rate] for region in found]
    return Edit(job, {"input": options["source"].absolute().name, "regions": regions}, options.get("strength", 1.0))


def _inpainted(session: Session, options: dict[str, Any], stems: tuple[str, ...] | None) -> Edit:
    """Inpaint: nothing is known of the regions."""
    return _recalling(_regions(session, options, stems))


def _recalling(edit: Edit) -> Edit:
    """The same, begun with something like it out of the song around; with strength 1 without."""
    return edit if edit.strength == 1 else replace(edit, job=replace(edit.job, memory=MEMORY_S))


def _continued(session: Session, options: dict[str, Any], stems: tuple[str, ...] | None) -> Edit:
    """Continue: what stands is kept to its last sample, or to --at; the stems asked for go on, the others end."""
    seconds, at = options["seconds"], options["at"]
    if not 0 < seconds < 24 * 3600:
        raise UsageError(f"--seconds {seconds:g}: must be more than 0. Try --seconds 12.")
    piece = _piece(session, options["source"], stems)
    last = piece.frames if at is None else round(at * piece.rate)
    if not 0 < last <= piece.frames:
        raise UsageError(f"--at {at:g}: must be within the song, which lasts {piece.frames / piece.rate:.3f} s.")
    piece = replace(piece, frames=last)
    frames = last + max(1, round(seconds * piece.rate))
    job = Job(piece, (Region(last, frames),), 0, frames, _names(session, piece, stems), AHEAD)
    facts = {"input": options["source"].absolute().name, "at": last / piece.rate, "seconds": seconds}
    return _recalling(Edit(job, facts, options["strength"]))


def _transition(session: Session, options: dict[str, Any], stems: tuple[str, ...] | None) -> Edit:
    """Transition: the second song at the rate and width of the first, both with `overlap` seconds in common."""
    before, after = (_piece(session, options[name], stems) for name in ("source", "after"))
    if (before.names == (MIX,)) != (after.names == (MIX,)):
        raise UsageError("transition: one is a song, the other a folder of stems. Give two songs, or two folders.")
    after = after.at(before.rate, before.channels)
    overlap, shortest = round(options["overlap"] * before.rate), min(before.frames, after.frames)
    if not 0 < overlap <= shortest:
        raise UsageError(
            f"--overlap {options['overlap']:g}: must be more than 0 and at most {shortest / before.rate:.3f} s, "
            "the length of the shorter song. Choose another one."
        )
    piece = Joined(before, after, overlap)
    region = Region(before.frames - overlap, before.frames)
    job = Job(piece, (region,), round(options["fade"] * piece.rate), piece.frames, _names(session, piece, stems))
    facts = {"input": options["source"].absolute().name, "after": options["after"].absolute().name,
             "overlap": options["overlap"]}  # fmt: skip
    return Edit(job, facts, options["strength"])


def _restyled(session: Session, options: dict[str, Any], stems: tuple[str, ...] | None) -> Edit:
    """Restyle: a song, or parts of it, nearer to what is wished."""
    edit_wish.check(options)
    edit = _regions(session, {**options, "whole": True}, stems)
    reference = options["reference"]
    wish = {"reference": reference and reference.absolute().name, "tag": options["tag"],
            "embedder": options["embedder"]}  # fmt: skip
    return replace(edit, facts={**edit.facts, **wish})


TASKS: dict[str, Callable[[Session, dict[str, Any], tuple[str, ...] | None], Edit]] = {
    "inpaint": _inpainted,
    "continue": _continued,
    "regenerate": _regions,
    "transition": _transition,
    "restyle": _restyled,
}


def _way(session: Session, edit: Edit, options: dict[str, Any]) -> Way:
    """How it is made: the defaults of the network, with what the options change."""
    wish = None
    if "embedder" in options:
        wish = edit_wish.wish_of(options, session.network.rate, session.device)
    way = way_for(
        session.network,
        method=options["method"],
        strength=edit.strength,
        step=options["guidance"],
        normalised=options["normalised"],
        wish=wish,
        segment=options["segment"],
    )
    way = replace(way, sampling=sampling_of(way.sampling, options))
    return replace(way, sketcher=sketches.gap_sketcher(session, edit.job.names)) if edit.draws(options) else way


def _scene(session: Session, job: Job, part: Part) -> Scene:
    """A part with its stems."""

    def apart(mixture: Audio) -> Stems:
        session.report.note(f"taking {mixture.seconds:.1f} s apart", 1)
        network: Any = session.network
        segment = session.options["segment"]
        if hasattr(network, "separate"):
            return separate(mixture, NetworkSeparator(network, segment=segment, device=session.device))
        return separate(mixture, checkpoints.build(session.checkpoint, session.options["device"], segment=segment))

    return scene_of(job, part, apart, session.network.names)


def _patches(session: Session, job: Job, way: Way, scene: Callable[[Part], Scene], seed: int) -> Iterator[list[Patch]]:
    """What each part adds, in their order."""
    before: Tail | None = None
    for index, part in enumerate(job.parts):
        found, before = changes(
            session.network,
            job,
            scene(part),
            way,
            before=before,
            seed=seed * 7919 + index,
            device=session.device,
            on_step=lambda done, total: session.report.advance(1),
        )
        yield found


def _one(
    session: Session, task: str, edit: Edit, way: Way, scene: Callable[[Part], Scene], seed: int, folder: Path
) -> None:
    """One variation: written and told."""
    begun, job = time.monotonic(), edit.job
    session.report.task(f"{task} {folder.name}", steps_in(session.network, job, way))
    starts = [begins(job, part) for part in job.parts]
    patches = Patches(starts, _patches(session, job, way, scene, seed))
    patches.over(0, starts[0] + 1)  # so that what is impossible is told before any file is there
    written = write(job.piece, patches, job.frames, folder, session.encoding, mix=session.options["mix"])
    settings = {"method": way.method, "strength": way.strength, "fade": job.fade / job.piece.rate}
    if way.guides:
        settings |= {"guidance": way.step, "normalised": way.normalised or way.wish is not None}
    recipe = {"task": f"edit {task}", **edit.facts, "seed": seed, "stems": list(job.names), **settings,
              "sampling": asdict(way.schedule), **sketches.told(session, way.sketcher)}  # fmt: skip
    session.finish(folder, written, recipe, begun, rate=job.piece.rate, channels=job.piece.channels)
