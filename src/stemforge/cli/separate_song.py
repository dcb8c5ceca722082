"""One song of `stemforge separate`: is it there already, does another process have it, and if not, separate it."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stemforge import checkpoints
from stemforge.audio.io import Source
from stemforge.audio.writer import output_errors, sweep
from stemforge.cli import console, pages
from stemforge.cli.inputs import Item
from stemforge.cli.separate_flow import Facts, Writing
from stemforge.errors import OutputError, StemforgeError
from stemforge.report import songs
from stemforge.separators.diffusion import LONGEST, DiffusionSeparator
from stemforge.separators.flow_prior import FlowSeparator
from stemforge.separators.middle import MiddleSeparator
from stemforge.separators.pictured import PicturedSeparator
from stemforge.separators.prompted import Extractor
from stemforge.separators.shifted import ShiftedSeparator
from stemforge.tasks import files
from stemforge.tasks.files import Place, Unwritten
from stemforge.tasks.locks import Lock, LockedError, clear
from stemforge.types import Separator

if TYPE_CHECKING:
    from stemforge.cli.separate_state import Run


class _StoppedError(StemforgeError):
    """The disk was full for the song before, so this one is given up."""


def separate_song(run: Run, item: Item, source: Source, following: Source | None = None) -> None:
    """Separate one song, or skip it; a failure is told and counted. Errors of the checkpoint concern the whole run.

    With several jobs it may still be written when this returns; `following` is the next song, which is read ahead.
    """
    place = run.layout.place(item)
    run.current = item.path
    if run.request.dry_run:
        return _plan(run, item, source, place)
    recipe = run.recipe(item, source)
    try:
        lock = _lock(run, place, recipe)
    except LockedError as error:
        return _skip(run, item, place, f"{error.owner} is separating it")
    except StemforgeError as error:
        return run.failed(item, error)
    if lock is None:
        return _there(run, item, source, place)
    with ExitStack() as stack:
        stack.enter_context(lock)
        song = _locked(run, item, place, recipe)
        if song is not None:
            _separate(run, song, source, following, stack)
    return None


def _plan(run: Run, item: Item, source: Source, place: Place) -> None:
    """What would be done with a song; nothing is written, and nothing downloaded."""
    there = place.manifest.exists() and not place.unfinished() and run.request.policy in (None, "skip", "error")
    if there and all(checkpoints.state(one) != "not pulled" for one in run.stages.all):
        recipe = run.recipe(item, source)
        try:
            if _is_done(run, place, recipe):
                return _skip(run, item, place, "already there")
        except OutputError as error:
            return run.failed(item, error)
    ending = run.request.encoding.container
    paths = [place.path(name, ending) for name in run.request.selection.names(run.names)]
    outputs = [path.relative_to(place.folder).as_posix() for path in paths]
    run.done += 1
    run.tell(item, "planned", folder=str(place.folder), outputs=outputs, seconds=source.seconds)
    run.result(f"{item.path} ({console.clock(source.seconds)}) -> {place.folder}: {', '.join(outputs)}")
    return None


def _skip(run: Run, item: Item, place: Place, why: str) -> None:
    """A song that is there, or comes from another process."""
    run.flow.settle(wait=True)
    run.skipped += 1
    run.report.note(f"{item.path.name}: {why}")
    run.tell(item, "skipped", folder=run.shown(place.folder), why=why)
    if why == "already there":
        run.result(run.shown(place.folder))


def _there(run: Run, item: Item, source: Source, place: Place) -> None:
    """A song that is there already; its page is made if it is wanted and not there."""
    clear(place.lock)
    if run.request.report_html and run.mirror is None:
        run.flow.settle(wait=True)
        try:
            pages.add(place, source, sanitize=run.request.sanitize)
        except StemforgeError as error:
            return run.failed(item, error)
    return _skip(run, item, place, "already there")


def _lock(run: Run, place: Place, recipe: dict[str, Any]) -> Lock | None:
    """The lock of a song, or None when its stems are there already, which needs none. Raises LockedError."""
    policy = run.request.policy
    finished = place.manifest.exists() and not place.unfinished() and policy in (None, "skip")
    if finished and (policy == "skip" or files.difference(place, recipe) is None):
        return None
    with output_errors(place.folder):
        return Lock(place.lock).acquire()


@dataclass(frozen=True)
class _Song:
    """A song, where its stems go, and what they depend on."""

    item: Item
    place: Place
    recipe: dict[str, Any]
    begun: float = field(default_factory=time.monotonic)


def _locked(run: Run, item: Item, place: Place, recipe: dict[str, Any]) -> _Song | None:
    """What is to be done for a song that no other process has; None when that is nothing."""
    try:
        target = _target(run, item, place, recipe)
    except StemforgeError as error:
        run.failed(item, error)
        return None
    if target is None:
        _skip(run, item, place, "already there")
        return None
    return _Song(item, target, recipe)


def _target(run: Run, item: Item, place: Place, recipe: dict[str, Any]) -> Place | None:
    """The place to write to, or None when its stems are there already. Raises OutputError when others are there."""
    unfinished = place.unfinished()
    with output_errors(place.folder):
        sweep(place.folder, place.prefix)
    has_sidecar = place.manifest.exists()
    exists = not unfinished and (has_sidecar or _holds_sound(run, place))
    if not exists or run.request.policy == "overwrite":
        return place
    if run.request.policy == "rename":
        return _free_place(run, item)
    return None if _is_done(run, place, recipe) else place


def _is_done(run: Run, place: Place, recipe: dict[str, Any]) -> bool:
    """True when the stems at a place are those that are asked for. Raises OutputError when others are there."""
    has_sidecar = place.manifest.exists()
    if run.request.policy == "skip" and has_sidecar:
        return True
    if run.request.policy == "error":
        raise OutputError(f"'{run.shown(place.folder)}': exists. Leave out --on-exist error, or choose another --out.")
    why = files.difference(place, recipe) if has_sidecar else "its files were not made by stemforge"
    if why is None:
        return True
    shown = run.shown(place.folder)
    raise OutputError(f"'{shown}': exists, but {why}. Give --overwrite, or choose another --out.")


def _holds_sound(run: Run, place: Place) -> bool:
    """True when a stem would be written where a file is, or into a song's own folder that has sound in it."""
    ending = run.request.encoding.container
    if not place.prefix and any(place.folder.glob(f"*.{ending}")):
        return True
    return any(place.path(name, ending).exists() for name in run.request.selection.names(run.names))


def _free_place(run: Run, item: Item) -> Place:
    """The first place of a song with a number after its name where nothing is."""
    for n in range(2, 10**9):
        place = run.layout.place(replace(item, track=item.track.with_name(f"{item.track.name}-{n}")))
        taken = place.folder.exists() if not place.prefix else place.manifest.exists() or _holds_sound(run, place)
        if not taken:
            return place
    raise OutputError(f"'{item.track}': has no free number. Choose another --out.")


def _separate(run: Run, song: _Song, source: Source, following: Source | None, stack: ExitStack) -> None:
    """Read and compute; write and tell, beside the next song if there are several jobs. The stack has the lock."""
    _ = run.separator
    try:
        unwritten = _computed(run, song, source, following)
    except _StoppedError:
        return None
    except StemforgeError as error:
        return run.failed(song.item, error)
    finally:
        run.flow.finished(source)
    stack.callback(unwritten.writer.close)
    run.flow.settle(wait=True)
    if run.full is not None:
        return None
    run.sort_warnings()
    kept = stack.pop_all()

    def work() -> Facts:
        with kept:
            return _written(run, song, source, unwritten)

    def told(facts: Callable[[], Facts]) -> None:
        try:
            found = facts()
        except StemforgeError as error:
            return run.failed(song.item, error)
        run.done += 1
        return _tell_done(run, song.item, song.place, found)

    run.flow.write(Writing(work, unwritten.writer.cancel, told))
    return None


def _computed(run: Run, song: _Song, source: Source, following: Source | None) -> Unwritten:
    """The stems in hidden files."""
    request, separator = run.request, run.separator
    shifts = max(1, request.shifts)
    run.report.song(song.item.path.name, source.seconds)

    def on_block(seconds: float) -> None:
        run.report.advance(seconds)
        run.flow.settle()
        if run.full is not None:
            raise _StoppedError

    on_done = on_block
    if isinstance(run.last, DiffusionSeparator | PicturedSeparator | FlowSeparator | Extractor):
        longest = run.last.segment if isinstance(run.last, FlowSeparator) else LONGEST
        each = min(longest, source.seconds) / shifts
        run.last.on_step = lambda done, steps: on_block(each / steps)
        on_done = _nothing
    heard: Separator = separator if shifts == 1 else ShiftedSeparator(separator, shifts)
    return files.compute_file(
        source,
        song.place,
        MiddleSeparator(heard) if request.channels == "mid" else heard,
        run.flow.blocks(source, following),
        selection=request.selection,
        encoding=request.encoding,
        clip_mode=request.clip_mode,
        loudness=request.loudness,
        jobs=request.jobs,
        on_block=on_done,
    )


def _written(run: Run, song: _Song, source: Source, unwritten: Unwritten) -> Facts:
    """Encode, name, and the sidecar last; what is to be told. Tells nothing itself: it may be in another thread."""
    outcome = unwritten.finish()
    facts = {
        "rate": source.rate,
        "channels": source.channels,
        **outcome.as_json(),
        "seed": run.request.seed,
        "device": str(run.last.device),
        "elapsed_s": round(time.monotonic() - song.begun, 3),
    }
    files.remove_stale(song.place, keep=set(facts["outputs"].values()))
    files.write_sidecar(song.place, {"recipe": song.recipe, **facts})
    if run.request.report_html:
        facts["report"] = songs.write(song.place, source, sanitize=run.request.sanitize)
    if run.mirror is not None:
        run.mirror.publish(song.place)
    return facts


def _nothing(seconds: float) -> None:
    """Progress is told step by step."""


def _tell_done(run: Run, item: Item, place: Place, facts: dict[str, Any]) -> None:
    """The result of a song: its folder, its one stem, or a JSON line, and what the user ought to know."""
    name, request = item.path.name, run.request
    if facts.get("lufs") is not None:
        run.report.note(f"{name}: had {facts['lufs']:.1f} LUFS, all stems changed by one gain of {facts['gain']:.3f}")
    elif facts["gain"] != 1:
        run.report.note(f"{name}: all stems turned down by one gain of {facts['gain']:.3f}, one would clip")
    elif facts["clipped"] and not (request.encoding.is_float and request.clip_mode != "clamp"):
        run.report.note(f"{name}: samples beyond full scale were cut")
    seconds = facts["frames"] / facts["rate"]
    speed = facts["elapsed_s"] / seconds
    run.report.note(f"{name}: {facts['elapsed_s']:.1f} s, {speed:.2f} times its duration")
    run.tell(
        item,
        "ok",
        folder=run.shown(place.folder),
        checkpoint=run.checkpoint.name,
        checkpoint_sha256=run.sha256,
        **({} if run.voice is None else {"vocals": run.voice}),
        seconds=seconds,
        **facts,
    )
    if request.to_stdout:
        _pour([place.folder / name for name in facts["outputs"].values()])
    elif place.prefix:
        for output in facts["outputs"].values():
            run.result(str(place.folder / output))
    else:
        run.result(run.shown(place.folder))


def _pour(paths: list[Path]) -> None:
    """The bytes of files to stdout."""
    try:
        for path in paths:
            with path.open("rb") as file:
                shutil.copyfileobj(file, sys.stdout.buffer)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(f"stdout: cannot be written: {error.strerror}. Write it somewhere else.") from error
