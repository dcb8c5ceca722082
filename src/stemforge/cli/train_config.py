"""The config of a training run: a TOML file or the name of one that stemforge brings, with changes."""

from __future__ import annotations

import json
import math
import tomllib
from dataclasses import fields, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

from stemforge import checkpoints
from stemforge.errors import CheckpointError, InputError, UsageError
from stemforge.tables import CONFIG
from stemforge.train.config import LEARN, TrainConfig
from stemforge.train.layouts import Wanted
from stemforge.train.levels import TASKS

PRECISIONS = ("bf16-mixed", "16-mixed", "32-true")
COUNTS = ("steps", "accumulate", "validate_every", "save_every", "excerpts")
CHANCES = ("remix", "left_out", "augment", "damaged", "caption_dropout")


def shipped() -> dict[str, Path]:
    """The configs that come with the package or the working copy, by name."""
    folders = [Path(str(files("stemforge") / "configs")), Path(__file__).parents[3] / "configs"]
    folder = next((place for place in folders if place.is_dir()), None)
    return {path.stem: path for path in sorted(folder.glob("*.toml"))} if folder else {}


def settings(path: Path, changes: list[str]) -> TrainConfig:
    """The config with key=value changes applied. path: a file, or the name of a config of `shipped`.

    `stem` is short for network.names with that one.

    Raises:
        InputError: there is no such file.
        UsageError: it is no TOML, a key does not exist, or a value has the wrong type or is out of its range.
    """
    path = path if path.exists() else shipped().get(str(path), path)
    try:
        table: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        names = ", ".join(shipped())
        raise InputError(f"config '{path}': {error.strerror}. Give a TOML file, or one of {names}.") from error
    except ValueError as error:
        raise UsageError(f"config '{path}': {error}. Mend that line.") from error
    for change in changes:
        _apply(change, table)
    if "stem" in table:
        table["network"] = {**table.get("network", {}), "names": [table.pop("stem")]}
    return _checked(table, path)


def _apply(change: str, table: dict[str, Any]) -> None:
    key, sign, value = change.partition("=")
    if not sign:
        raise UsageError(f"'{change}': not a change. Write key=value, as steps=2000.")
    *parents, last = key.split(".")
    for parent in parents:
        table = table.setdefault(parent, {})
        if not isinstance(table, dict):
            raise UsageError(f"'{change}': {parent} is a value, not a table.")
    table[last] = _value(value)


def _value(text: str) -> Any:  # noqa: ANN401
    try:
        return tomllib.loads(f"x = {text}")["x"]
    except tomllib.TOMLDecodeError:
        return text


def _checked(table: dict[str, Any], path: Path) -> TrainConfig:
    known = {f.name: type(getattr(TrainConfig(), f.name)) for f in fields(TrainConfig)}
    if unknown := sorted(set(table) - set(known)):
        raise UsageError(f"config '{path}': unknown key {unknown[0]!r}. Known keys: {', '.join(sorted(known))}.")
    values: dict[str, Any] = {}
    if table.get("batch_size") == "auto":
        table["batch_size"] = 0
    elif isinstance(size := table.get("batch_size", 1), int) and size < 1:
        raise UsageError(f"config '{path}': batch_size = {size}: give 1 or more, or \"auto\".")
    for key, value in table.items():
        wanted = known[key]
        value = tuple(value) if isinstance(value, list) else value
        value = float(value) if wanted is float and type(value) is int else value
        if not isinstance(value, wanted) or isinstance(value, bool):
            raise UsageError(f"config '{path}': {key} = {value!r} must be of type {wanted.__name__}.")
        values[key] = value
    config = TrainConfig(**values)
    _in_range(config, path)
    return config


def _in_range(config: TrainConfig, path: Path) -> None:
    for key in COUNTS:
        if getattr(config, key) < 1:
            raise UsageError(f"config '{path}': {key} = {getattr(config, key)}: give 1 or more.")
    if not 0 < config.seconds < math.inf:
        raise UsageError(f"config '{path}': seconds = {config.seconds:g}: give more than 0.")
    for key in CHANCES:
        if not 0 <= getattr(config, key) <= 1:
            raise UsageError(f"config '{path}': {key} = {getattr(config, key):g}: give a number from 0 to 1.")
    shares = config.shares
    if len(shares) != len(TASKS) or not all(isinstance(x, int | float) and x >= 0 for x in shares) or not sum(shares):
        raise UsageError(f"config '{path}': shares = {list(shares)}: give {len(TASKS)} numbers from 0 on, not all 0.")
    for key, allowed in (("precision", PRECISIONS), ("learn", LEARN)):
        if (value := getattr(config, key)) not in allowed:
            raise UsageError(f"config '{path}': {key} '{value}' is not one of {', '.join(allowed)}.")
    if config.learn == "making" and config.shares[0]:
        raise UsageError(
            f"config '{path}': learn = 'making' leaves alone what separates. Begin shares with 0, as "
            "shares='[0, 0.1, 0.3, 0.4, 0.2]'."
        )


def wanted_of(config: TrainConfig, names: tuple[str, ...]) -> Wanted:
    """Which names of the data set make up each stem. UsageError for stems that the network does not have."""
    if unknown := sorted(set(config.stems) - set(names)):
        raise UsageError(f"[stems] {unknown[0]}: the network has {', '.join(names)}. Name one of them.")
    parts = {name: tuple([value] if isinstance(value, str) else value) for name, value in config.stems.items()}
    return Wanted(names, parts)


def resolved(config: TrainConfig, out: Path) -> TrainConfig:
    """The config with the whole network in it: that of the run in `out`, else of the checkpoint `start`.

    What [network] says goes first. Gates, settings of finished checkpoints, are open while training; a network that
    hears prompts only makes, so it needs no blocks of its own for that.

    Raises:
        UsageError, CheckpointError: `start` cannot be had.
    """
    if not config.start:
        return config
    path = out / CONFIG
    if not path.exists():
        path = checkpoints.fetch(checkpoints.find(config.start)).folder / CONFIG
    try:
        table = dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        raise CheckpointError(f"start '{config.start}': '{path}' cannot be read. Copy the checkpoint again.") from None
    for key in ("gate", "silent", *(["apart"] if config.network.get("text") else [])):
        table.pop(key, None)
    return replace(config, network={**table, **config.network})
