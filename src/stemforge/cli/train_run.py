"""What `stemforge train` does around the loop of the core: logs, scores, saving, signals."""

from __future__ import annotations

import errno
import logging
import signal
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from lightning_fabric import Fabric
from lightning_fabric.loggers.csv_logs import CSVLogger
from lightning_fabric.loggers.tensorboard import TensorBoardLogger

from stemforge import checkpoints, devices
from stemforge.cli import console
from stemforge.cli.inputs import check_writable
from stemforge.cli.train_config import resolved, wanted_of
from stemforge.cli.train_start import Request
from stemforge.cli.train_view import View
from stemforge.errors import OutputError, SpaceError, UsageError
from stemforge.train.data import Batches, find_songs, quarantine_of
from stemforge.train.recipes import Pieces, batches_of, pieces_of, score_of, scores_of
from stemforge.train.saving import resume, save, save_best
from stemforge.train.trainer import Run, TrainConfig, adopt, averaged, fit

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
    out = request.out
    check_writable(out)
    chosen = devices.choose(request.device)
    devices.keep_memory()
    config = resolved(config, out)
    state = _begun(config, out)
    since = f"from-{state.index:07d}"
    with _room(out):
        loggers = [_csv(out, since), TensorBoardLogger(out, name="logs", version=since)]
    fabric = Fabric(
        accelerator=chosen.type,
        devices=1 if chosen.index is None else [chosen.index],
        precision=config.precision,  # type: ignore[arg-type]
        loggers=loggers,
    )
    last = min(config.steps, state.index + request.stop_after) if request.stop_after else config.steps
    with console.Report(request.progress, request.verbosity) as report, stop_signals() as came:
        batches, pieces = _data(state, request)
        songs = batches.songs
        hours = sum(s.frames for s in songs) / state.network.rate / 3600
        report.note(f"{len(songs)} songs, {hours:.1f} h, {chosen}, step {state.index} of {config.steps}")
        if missing := [name for name in state.network.names if not any(name in song.stems for song in songs)]:
            log.warning(
                "no song has %s: the network will learn that there is none. Leave it out of network.names, or say in "
                "[stems] what it is called here.",
                ", ".join(missing),
            )
        view = View(report, state.index, last, json=request.json)
        view.lost(quarantine_of(songs).taken(0))
        with _room(out):
            _loop(state, batches, fabric, pieces, out, last, came, view)
        save(state, out)
        lost = len(quarantine_of(songs).reasons)
        files = f", {lost} files could not be read" if lost else ""
        more = " after a signal; the same command goes on" if came else ""
        report.note(f"saved {out} at step {state.index}{files}{more}")
    if request.json:
        console.result_json("summary", step=state.index, steps=config.steps, out=str(out), lost=lost, best=state.best)


def _csv(out: Path, version: str) -> CSVLogger:
    """A logger that starts anew where a run was killed before its first save."""
    warnings.filterwarnings("ignore", "Experiment logs directory")
    return CSVLogger(out, name="logs", version=version, flush_logs_every_n_steps=1)


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


def _data(state: Run, request: Request) -> tuple[Batches, Pieces]:
    config, network = state.config, state.network
    wanted = wanted_of(config, network.names)
    batches = batches_of(find_songs(request.data, wanted, network.rate), network, config, config.seed)
    held = find_songs(request.valid, wanted, network.rate) if request.valid else []
    return batches, pieces_of(held, network, config) if held else []


def _loop(
    state: Run, batches: Batches, fabric: Fabric, pieces: Pieces, out: Path, last: int, came: list[int], view: View
) -> None:
    lost, config = quarantine_of(batches.songs), state.config
    known = len(lost.reasons)
    for step in fit(state, batches, fabric):
        if line := view.step(step):
            fabric.log_dict({**line, "lost_files": len(lost.reasons)}, step=step.index)
        view.lost(lost.taken(known))
        known = len(lost.reasons)
        if pieces and (state.index % config.validate_every == 0 or state.index == config.steps):
            _scored(state, fabric, pieces, out, view)
        if state.index % config.save_every == 0:
            save(state, out)
        if state.index >= last or came:
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
    fabric.log_dict({f"valid/{k}": v for k, v in figures.items()}, step=state.index - 1)
    view.scored(state.index, figures, time.monotonic() - since, best=best)
