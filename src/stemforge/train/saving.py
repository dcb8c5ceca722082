"""What a run leaves on the disk, so that a kill at any moment and a full disk cost nothing that was saved."""

from __future__ import annotations

import errno
import json
import os
import pickle
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as to_bytes

from stemforge.errors import InputError, OutputError, SpaceError, TrainingError, UsageError
from stemforge.train.config import TrainConfig
from stemforge.train.trainer import Run, averaged, start

STATE, WEIGHTS, CONFIG, BEST = "state.pt", "model.safetensors", "config.json", "best"


def save(run: Run, folder: Path) -> None:
    """state.pt to go on from, model.safetensors + config.json (averaged weights) to use.

    All three are written beside the old ones and to the disk first, then take their places.

    Raises:
        TrainingError: a weight is not finite; what was saved before stays.
        SpaceError, OutputError: the disk is full or cannot be written; what was saved before stays whole.
    """
    if not all(bool(w.isfinite().all()) for w in run.network.state_dict().values()):
        raise TrainingError(
            f"the weights of step {run.index} are not finite, so '{folder}' keeps the last good state. "
            "Lower rate and matrix_rate; the same command goes on from there."
        )
    with _replacing(folder, STATE, WEIGHTS, CONFIG) as (state, weights, config):
        with _written(state) as file:
            torch.save(run.state(), file)
        _checkpoint(run, weights, config, {"step": run.index})


def save_best(run: Run, folder: Path, figures: Mapping[str, float]) -> None:
    """The averaged weights as a checkpoint in `folder`/best, with the figures in their metadata. Raises as `save`."""
    about = {"step": run.index, **{name: round(value, 4) for name, value in figures.items()}}
    with _replacing(folder / BEST, WEIGHTS, CONFIG) as (weights, config):
        _checkpoint(run, weights, config, about)


def resume(config: TrainConfig, folder: Path) -> Run:
    """The run saved in `folder`, or a fresh one where there is none.

    Raises:
        InputError: its state is damaged.
        UsageError: it is that of another network.
    """
    run = start(config)
    path = folder / STATE
    if not path.exists():
        return run
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        reason = str(error).partition("\n")[0]
        raise InputError(f"state '{path}': damaged ({reason}). Give another --out, or start={folder}.") from None
    try:
        run.restore(state)
    except (RuntimeError, ValueError, KeyError) as error:
        raise UsageError(
            f"run '{folder}': is one of another network or stems. Give another --out, or the same [network]."
        ) from error
    return run


def _checkpoint(run: Run, weights: Path, config: Path, about: Mapping[str, float]) -> None:
    """The averaged weights with step and figures as JSON under `training`: a second key would be in random order."""
    tensors = {k: v.detach().cpu().clone().contiguous() for k, v in averaged(run).state_dict().items()}
    with _written(weights) as file:
        file.write(to_bytes(tensors, metadata={"training": json.dumps(about)}))
    with _written(config) as file:
        file.write((json.dumps(run.network.to_config(), indent=1) + "\n").encode())


@contextmanager
def _written(path: Path) -> Iterator[Any]:
    """The file open for writing; on the disk when it is closed."""
    with path.open("wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def _replacing(folder: Path, *names: str) -> Iterator[list[Path]]:
    """Parts that take the places of the files of these names, in this order, when all of them are written."""
    parts = [folder / f"{name}.part" for name in names]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield parts
        for part, name in zip(parts, names, strict=True):
            part.replace(folder / name)
        _synced(folder)
    except (OSError, RuntimeError) as error:
        reason = error if isinstance(error, OSError) else error.__context__
        if isinstance(reason, OSError) and reason.errno in (errno.ENOSPC, errno.EDQUOT):
            raise SpaceError(
                f"'{folder}': the disk is full. What was saved before is whole: make room, the same command goes on."
            ) from None
        why = getattr(reason, "strerror", None) or error
        raise OutputError(f"'{folder}': cannot be saved to: {why}. What was saved before is whole.") from None
    finally:
        for part in parts:
            with suppress(OSError):
                part.unlink()


def _synced(folder: Path) -> None:
    """The new names are on the disk, where the system can be asked for that."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
