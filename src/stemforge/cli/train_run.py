"""What `stemforge train` does around the loop of the core: logs, scores, saving, signals."""

from __future__ import annotations

import errno
import logging
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from types import FrameType

import torch
from lightning_fabric import Fabric

from stemforge import checkpoints, devices
from stemforge.cli import console
from stemforge.cli.inputs import check_writable
from stemforge.cli.train_config import resolved, wanted_of
from stemforge.cli.train_engine import agreed, engine, loggers_of
from stemforge.cli.train_request import Request
from stemforge.cli.train_samples import show
from stemforge.cli.train_text import recordings
from stemforge.cli.train_view import View
from stemforge.cli.train_wandb import Wandb
from stemforge.errors import OutputError, SpaceError, UsageError
from stemforge.train.config import TrainConfig
from stemforge.train.data import Batches, Song, find_songs, quarantine_of
from stemforge.train.recipes import (
    Pieces,
    batches_of,
    compile_in_place,
    hears,
    pieces_of,
    prepare,
    rate_of,
    score_of,
    scores_of,
)
from stemforge.train.saving import resume, save, save_best
from stemforge.train.sizing import sized
from stemforge.train.trainer import Run, adopt, averaged, fit

log = logging.getLogger("stemforge")


@contextmanager
def stop_signals() -> Iterator[list[int]]:
    """SIGINT, SIGTERM and SIGUSR1 ask the loop to save and end, a second SIGINT ends at once; lists what came."""
    came: list[int] = []

    def note(number: int, _: FrameType | None) -> None:
        if number == signal.SIGINT and came:
            raise KeyboardInterrupt
        came.append(number)

    watched = [signal.SIGINT, signal.SIGTERM, *([signal.SIGUSR1] if hasattr(signal, "SIGUSR1") else [])]
    before = {number: signal.signal(number, note) for number in watched}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _room(out: Path) -> Iterator[None]:
    """A full disk under the logs is told like one under the weights."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise OutputError(f"'{out}': cannot be written: {error.strerror}. The last save is whole.") from error
        raise SpaceError(
            f"'{out}': the disk is full. What was saved before is whole: make room, the same command goes on."
        ) from None


def run(config: TrainConfig, request: Request) -> None:
    """Train until the last step, `stop_after` steps or a signal; always saved at the end."""
    check_writable(request.out)
    chosen = devices.choose(request.device)
    devices.keep_memory()
    config = resolved(config, request.out)
    state = _begun(config, request.out)
    with _room(request.out):
        fabric = engine(config, request, chosen, loggers_of(request.out, state.index))
        if request.wandb is not None and fabric.is_global_zero:
            fabric.loggers.append(Wandb(request.wandb, request.out, asdict(config)))
    told = request if fabric.is_global_zero else replace(request, progress="none", json=False, verbosity=-1)
    with console.Report(told.progress, told.verbosity) as report, stop_signals() as came:
        batches, pieces = _data(state, request, fabric, report)
        if request.compile:
            compile_in_place(state.network)
        _announce(state, batches, chosen, report)
        last = min(config.steps, state.index + request.stop_after) if request.stop_after else config.steps
        view = View(report, state.index, last, json=told.json)
        lost = quarantine_of(batches.songs)
        view.lost(lost.taken(0))
        with _room(request.out):
            _loop(state, batches, fabric, pieces, request.out, last, came, view)
        if fabric.is_global_zero:
            save(state, request.out)
        for logger in fabric.loggers:
            logger.finalize("success")
        files = f", {len(lost.reasons)} files could not be read" if lost.reasons else ""
        more = " after a signal; the same command goes on" if came else ""
        report.note(f"saved {request.out} at step {state.index}{files}{more}")
    if told.json:
        about = {"step": state.index, "steps": config.steps, "lost": len(lost.reasons), "best": state.best}
        console.result_json("summary", **about, out=str(request.out))


def _announce(state: Run, batches: Batches, device: torch.device, report: console.Report) -> None:
    """What the run begins with, and a warning about stems that no song has."""
    songs, network = batches.songs, state.network
    hours = sum(song.frames for song in songs) / rate_of(network) / 3600
    report.note(f"{len(songs)} songs, {hours:.1f} h, {device}, step {state.index} of {state.config.steps}")
    missing = [name for name in network.names if not any(name in song.stems for song in songs)]
    if missing:
        log.warning(
            "no song has %s: the network will learn that there is none. Leave it out of network.names, or say in "
            "[stems] what it is called here.",
            ", ".join(missing),
        )


def _begun(config: TrainConfig, out: Path) -> Run:
    """The run saved in `out`, else a fresh one, with the weights of the checkpoint `start` where one is named."""
    state = resume(config, out)
    if config.start and state.index == 0:
        try:
            adopt(state, checkpoints.network_of(checkpoints.find(config.start)))
        except (RuntimeError, ValueError) as error:
            raise UsageError(
                f"start '{config.start}': its network has another shape. Only its stems may differ; leave the rest of "
                "[network] out."
            ) from error
    return state


def _data(state: Run, request: Request, fabric: Fabric, report: console.Report) -> tuple[Batches, Pieces]:
    """What is trained on and what is scored; `batch_size = "auto"` is settled here."""
    network = state.network
    songs = _songs(request.data, state, fabric)
    if not state.config.batch_size:
        state.config = replace(state.config, batch_size=sized(state, songs, fabric))
        report.note(f"batch_size {state.config.batch_size}: the fastest that fits")
    held = _songs(request.valid, state, fabric) if request.valid else []
    batches = batches_of(songs, network, state.config, state.config.seed)
    if not state.config.start and state.index == 0:
        prepare(batches, averaged(state))
    return batches, pieces_of(held, network, state.config) if held else []


def _songs(place: Path, state: Run, fabric: Fabric) -> list[Song]:
    """What is under `place` for this network: songs with their stems, or sounds with captions."""
    network = state.network
    if hears(network):
        return recordings(place, network.config, rate_of(network), str(fabric.device))
    return find_songs(place, wanted_of(state.config, network.names), rate_of(network))


def _loop(
    state: Run, batches: Batches, fabric: Fabric, pieces: Pieces, out: Path, last: int, came: list[int], view: View
) -> None:
    lost, config = quarantine_of(batches.songs), state.config
    known = len(lost.reasons)
    if pieces and config.start and state.index == 0 and fabric.is_global_zero:
        averaged(state).to(fabric.device)
        _scored(state, fabric, pieces, out, view)  # so that the best weights are never worse than those of `start`
    for step in fit(state, batches, fabric):
        if line := view.step(step):
            fabric.log_dict({**line, "lost_files": len(lost.reasons)}, step=step.index)
        view.lost(lost.taken(known))
        known = len(lost.reasons)
        if pieces and (state.index % config.validate_every == 0 or state.index == config.steps):
            if fabric.is_global_zero:
                _scored(state, fabric, pieces, out, view)
            fabric.barrier()
        if state.index % config.save_every == 0 and fabric.is_global_zero:
            save(state, out)
        if state.index >= last or agreed(fabric, bool(came)):
            return


def _scored(state: Run, fabric: Fabric, pieces: Pieces, out: Path, view: View) -> None:
    """Score the averaged weights, and keep them in out/best when there were never better ones."""
    since = time.monotonic()
    with fabric.autocast():
        figures = scores_of(averaged(state), pieces)
    score = score_of(figures)
    best = score > (float("-inf") if state.best is None else state.best)  # never where it is not a number
    if best:
        state.best = score
        save_best(state, out, figures)
        show(fabric, averaged(state), pieces, state.index)
    fabric.log_dict({f"valid/{k}": v for k, v in figures.items()}, step=state.index - 1)
    view.scored(state.index, figures, time.monotonic() - since, best=best)
