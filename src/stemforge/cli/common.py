"""What all commands share: --color and --log-file, which may stand anywhere, and the versions that matter."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from stemforge.cli import console
from stemforge.cli.options import choice
from stemforge.errors import OutputError, UsageError

NAMES = ("--color", "--log-file")
MATTER = ("torch", "torchaudio", "numpy", "soundfile", "soxr", "safetensors", "huggingface_hub", "typer", "rich")
"""What the samples, or the look of the program, depend on."""


def exit_code(codes: list[int], done: int) -> int:
    """Of a batch: 0 all done, 3 some failed, otherwise the code that all failures share, or 4."""
    if not codes:
        return 0
    if done:
        return 3
    return codes[0] if len(set(codes)) == 1 else 4


def versions() -> dict[str, str]:
    """Of Python and of the libraries that matter, without importing them."""
    import platform
    from importlib.metadata import PackageNotFoundError, version

    found = {"python": platform.python_version()}
    for name in MATTER:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def hoisted(arguments: list[str]) -> tuple[list[str], dict[str, str]]:
    """The command line with these options in front of the command, where its parser expects them, and their values.

    Raises UsageError for one without a value.
    """
    front: list[str] = []
    rest: list[str] = []
    values: dict[str, str] = {}
    words = iter(arguments)
    for word in words:
        name, sign, text = word.partition("=")
        if name not in NAMES:
            rest += [word, *words] if word == "--" else [word]
            continue
        value = text if sign else next(words, None)
        if value is None:
            raise UsageError(f"{name}: needs a value behind it. See stemforge --help.")
        front += [name, value]
        values[name] = value
    return [*front, *rest], values


@contextmanager
def applied(values: dict[str, str], arguments: list[str]) -> Iterator[None]:
    """Colours as they are wished, and a log of what the command says.

    Raises UsageError for an unknown kind of colours, OutputError when the log cannot be written.
    """
    color = choice(values.get("--color"), console.COLORS, "--color") or "auto"
    with console.colors(color), _logged(values.get("--log-file"), arguments):
        yield


@contextmanager
def _logged(name: str | None, arguments: list[str]) -> Iterator[None]:
    """Every line to the end of a file too, with its time; it may be that of other processes as well."""
    if name is None:
        yield
        return
    try:
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        handler = logging.FileHandler(path, encoding="utf-8", errors="backslashreplace")
    except (OSError, ValueError) as error:
        why = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise OutputError(f"'{name}': cannot be written: {why}. Choose another --log-file.") from None
    handler.name = name
    handler.setFormatter(logging.Formatter("%(asctime)s %(process)d %(levelname)s %(message)s"))
    loggers = (console.log, logging.getLogger("stemforge"))
    for logger in loggers:
        logger.addHandler(handler)
    console.log.info("command: stemforge %s", shlex.join(arguments))
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeHandler(handler)
        handler.close()
