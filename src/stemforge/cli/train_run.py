"""What `stemforge train` does around the loop of the core: settings, logs, saving, signals, progress."""

from __future__ import annotations

import signal
import sys
import time
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from types import FrameType
from typing import Any

from lightning_fabric import Fabric
from lightning_fabric.loggers.csv_logs import CSVLogger
from lightning_fabric.loggers.tensorboard import TensorBoardLogger

from stemforge import checkpoints, devices
from stemforge.errors import InputError, UsageError
from stemforge.train.data import Crops, find_songs
from stemforge.train.trainer import Run, Step, TrainConfig, adopt, averaged, fit, resume, save
from stemforge.train.validate import excerpts, validate

MEAN_OVER = 50  # steps a line of the log stands for


def settings(path: Path, changes: list[str]) -> TrainConfig:
    """The config file with key=value changes applied; UsageError names a key that does not exist."""
    try:
        table: dict[str, Any] = tomllib.loads(path.read_text())
    except OSError as error:
        raise InputError(f"config '{path}': {error.strerror}. Give a TOML file, such as configs/forge.toml.") from error
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"config '{path}': {error}. Mend that line.") from error
    for change in changes:
        key, sign, value = change.partition("=")
        if not sign:
            raise UsageError(f"'{change}': not a change. Write key=value, as steps=2000.")
        *parents, last = key.split(".")
        place = table
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = _value(value)
    known = {f.name for f in fields(TrainConfig)}
    if unknown := sorted(set(table) - known):
        raise UsageError(f"config '{path}': unknown key {unknown[0]!r}. Known keys: {', '.join(sorted(known))}.")
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in table.items()}
    return TrainConfig(**values)


def _value(text: str) -> Any:  # noqa: ANN401
    try:
        return tomllib.loads(f"x = {text}")["x"]
    except tomllib.TOMLDecodeError:
        return text


@contextmanager
def stop_signals() -> Iterator[list[int]]:
    """SIGINT, SIGTERM and SIGUSR1 ask the loop to save and end; the list holds the signals that came."""
    came: list[int] = []

    def note(number: int, _: FrameType | None) -> None:
        came.append(number)

    watched = [signal.SIGINT, signal.SIGTERM, *([signal.SIGUSR1] if hasattr(signal, "SIGUSR1") else [])]
    before = {number: signal.signal(number, note) for number in watched}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def say(text: str) -> None:
    """One line of progress on stderr."""
    print(text, file=sys.stderr, flush=True)


def run(config: TrainConfig, data: Path, valid: Path | None, out: Path, device: str, stop_after: int | None) -> None:
    """Train until the last step, `stop_after` steps or a signal; always saved at the end."""
    chosen = devices.choose(device)
    devices.keep_memory()
    state = _begun(config, out)
    since = f"from-{state.index:07d}"
    fabric = Fabric(
        accelerator=chosen.type,
        devices=1 if chosen.index is None else [chosen.index],
        precision=config.precision,  # type: ignore[arg-type]
        loggers=[
            CSVLogger(out, name="logs", version=since, flush_logs_every_n_steps=1),
            TensorBoardLogger(out, name="logs", version=since),
        ],
    )
    network = state.network
    songs = find_songs(data, network.names)
    level = network.config.level_db
    crops = Crops(
        songs, network.names, network.rate, config.seconds, config.batch_size, config.seed, config.shares, level
    )
    pieces = excerpts(find_songs(valid, network.names), network.names, network.rate, config.excerpts) if valid else []
    hours = sum(s.frames for s in songs) / network.rate / 3600
    say(f"{len(songs)} songs, {hours:.1f} h, {chosen}, step {state.index} of {config.steps}")
    last = min(config.steps, state.index + stop_after) if stop_after else config.steps
    with stop_signals() as came:
        _loop(state, crops, fabric, pieces, out, last, came)
    save(state, out)
    say(f"saved {out} at step {state.index}" + (" after a signal; the same command goes on" if came else ""))


def _begun(config: TrainConfig, out: Path) -> Run:
    """The run saved in `out`, else a fresh one, with the weights of the checkpoint `start` where one is named."""
    state = resume(config, out)
    if config.start and state.index == 0:
        try:
            adopt(state, checkpoints.network_of(checkpoints.find(config.start)))
        except RuntimeError as error:
            raise UsageError(
                f"start '{config.start}': its network has another shape. Give the same [network] as its config.json."
            ) from error
    return state


def _loop(state: Run, crops: Crops, fabric: Fabric, pieces: list[Any], out: Path, last: int, came: list[int]) -> None:
    recent: list[Step] = []
    since = time.monotonic()
    for step in fit(state, crops, fabric):
        recent.append(step)
        if len(recent) == MEAN_OVER or state.index == last:
            line = summary(recent, time.monotonic() - since)
            fabric.log_dict(line, step=step.index)
            say(f"{state.index:6d} " + " ".join(f"{k} {v:.3g}" for k, v in line.items()))
            recent, since = [], time.monotonic()
        if pieces and (state.index % state.config.validate_every == 0 or state.index == last):
            with fabric.autocast():
                score = validate(averaged(state), pieces)
            fabric.log_dict({f"valid/{k}": v for k, v in score.items()}, step=step.index)
            say(f"{state.index:6d} valid " + " ".join(f"{k} {v:.2f}" for k, v in score.items()))
            since = time.monotonic()
        if state.index % state.config.save_every == 0:
            save(state, out)
        if state.index >= last or came:
            return


def summary(steps: list[Step], seconds: float) -> Mapping[str, float]:
    """Means over steps: the parts of each task's loss, gradient norm, learning rate, audio seconds a second."""
    parts: dict[str, list[float]] = {}
    for step in steps:
        for name, value in step.parts.items():
            parts.setdefault(name if name != "denoising" else f"mse_{step.task}", []).append(value)
    means = {name: sum(v) / len(v) for name, v in sorted(parts.items())}
    heard = sum(s.audio_seconds for s in steps)
    norm = sum(s.grad_norm for s in steps) / len(steps)
    return {**means, "grad_norm": norm, "learning_rate": steps[-1].learning_rate, "audio_s_per_s": heard / seconds}
