"""The packages that rendering needs, imported where they are used, with one clear line when one is missing."""

from __future__ import annotations

import importlib
from types import ModuleType

from stemforge.errors import InputError

NEEDED = ("mido", "pedalboard", "pysfizz")


def require(name: str) -> ModuleType:
    """The module `name`; InputError with the command that installs it when it is not there."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InputError(f"cannot render: the package '{name.split('.')[0]}' is missing. {_how(name)}") from error


def _how(name: str) -> str:
    if name.startswith("tinysoundfont"):
        return "Run `make data-env`, or `pip install --no-deps tinysoundfont` (its dependency pyaudio is not needed)."
    return "Run `make data-env`, or `pip install 'stemforge[data]'`."
