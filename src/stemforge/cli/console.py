"""What the user sees: results on stdout, everything else on stderr.

Names of files are never read as markup, and control characters in them are shown, not sent.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

PROGRESS = ("auto", "bar", "plain", "none")
COLORS = ("auto", "always", "never")

log = logging.getLogger("stemforge.console")
"""Every line that is said; it goes nowhere unless a log file was asked for."""
log.propagate = False
log.setLevel(logging.INFO)
log.addHandler(logging.NullHandler())

_RED, _YELLOW, _PLAIN = "\x1b[1;31m", "\x1b[33m", "\x1b[0m"
_color = "auto"


@contextmanager
def colors(mode: str) -> Iterator[None]:
    """Colours by a mode of COLORS until the end of the `with`, in help texts too."""
    global _color
    before, _color = _color, mode
    try:
        if mode == "auto":
            yield
            return
        from typer import rich_utils

        kept = rich_utils.FORCE_TERMINAL, rich_utils.COLOR_SYSTEM
        rich_utils.FORCE_TERMINAL = mode == "always"
        rich_utils.COLOR_SYSTEM = "standard" if mode == "always" else None
        try:
            yield
        finally:
            rich_utils.FORCE_TERMINAL, rich_utils.COLOR_SYSTEM = kept
    finally:
        _color = before


def colors_from() -> tuple[str, str]:
    """How colours are chosen, and what says so: an option, the environment, or the default."""
    if _color != "auto":
        return _color, "option"
    if os.environ.get("NO_COLOR"):
        return "never", "environment"
    return ("always", "environment") if os.environ.get("FORCE_COLOR") else ("auto", "default")


def colored(stream: TextIO) -> bool:
    """Whether colours go to a stream: as --color says, else NO_COLOR, else FORCE_COLOR, else only to a terminal."""
    mode = colors_from()[0]
    return mode == "always" or (mode == "auto" and stream.isatty() and os.environ.get("TERM") != "dumb")


def _said(kind: str, text: str) -> str:
    """The line of an error, a warning, or anything else, for stderr."""
    if not kind:
        return f"stemforge: {text}"
    if not colored(sys.stderr):
        return f"stemforge: {kind}: {text}"
    return f"stemforge: {_RED if kind == 'error' else _YELLOW}{kind}:{_PLAIN} {text}"


def one_line(text: str) -> str:
    """The text on one line: control characters as escapes."""
    return "".join(letter if letter >= " " and letter != "\x7f" else repr(letter)[1:-1] for letter in text)


def result(text: str) -> None:
    """One line of the result to stdout, in the bytes that the system has for names."""
    log.info("%s", text)
    try:
        print(text, flush=True)
    except UnicodeEncodeError:
        sys.stdout.buffer.write(os.fsencode(text) + b"\n")
        sys.stdout.buffer.flush()


def json_line(event: str, **fields: object) -> str:
    """One JSON object."""
    return json.dumps({"schema": 1, "event": event, **fields}, allow_nan=False)


def result_json(event: str, **fields: object) -> None:
    """One JSON object a line to stdout."""
    line = json_line(event, **fields)
    log.info("%s", line)
    print(line, flush=True)


def error(message: str) -> None:
    """One line about a failure to stderr."""
    log.error("%s", one_line(message))
    print(_said("error", one_line(message)), file=sys.stderr, flush=True)


def logged(text: str) -> str | None:
    """Text of many lines for the log alone; the name of its file, None where there is no log."""
    log.error("%s", text)
    names = [handler.name for handler in log.handlers if handler.name]
    return names[0] if names else None


def warning(message: str) -> None:
    """One line about what is odd to stderr."""
    log.warning("%s", one_line(message))
    print(_said("warning", one_line(message)), file=sys.stderr, flush=True)


def clock(seconds: float) -> str:
    """Seconds as m:ss or h:mm:ss."""
    whole = round(seconds)
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else f"{rest // 60}:{rest % 60:02d}"


class Report(logging.Handler):
    """Context manager for the messages and the progress of one run; takes the warnings of the library too.

    Args:
        progress: auto (a bar on a terminal, lines otherwise), bar, plain or none.
        verbosity: below 0 quiet (errors only), 0 normal, above 0 more.
    """

    def __init__(self, progress: str = "auto", verbosity: int = 0) -> None:
        super().__init__(logging.INFO)
        if progress == "auto":
            progress = "bar" if sys.stderr.isatty() and os.environ.get("TERM") != "dumb" else "plain"
        self.verbosity = verbosity
        self.warnings: list[tuple[str, str]] = []
        self._lines = progress == "plain" and verbosity >= 0
        self._bars: Progress | None = None
        if progress == "bar" and verbosity >= 0:
            self._bars = _bars()
        self._run: TaskID | None = None
        self._song: TaskID | None = None

    def __enter__(self) -> Report:
        logging.getLogger("stemforge").addHandler(self)
        if self._bars is not None:
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bars is not None:
            self._bars.stop()
        logging.getLogger("stemforge").removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """A warning of the library: shown, and kept for the report of the song."""
        text = one_line(record.getMessage())
        self.warnings.append((str(record.threadName), text))
        self.library(record.levelname.lower(), text)

    def library(self, kind: str, text: str) -> None:
        """A line of the library to stderr, unless quiet; `kind` is error or warning."""
        if self.verbosity >= 0:
            self._print(_said(kind, text))

    def taken_warnings(self) -> list[tuple[str, str]]:
        """The warnings since the last call, each with the name of the thread that it came from."""
        taken, self.warnings = self.warnings, []
        return taken

    def note(self, text: str, level: int = 0) -> None:
        """A line to stderr when the verbosity is at least `level`; to a log in any case."""
        log.info("%s", one_line(text))
        if self.verbosity >= level:
            self._print(_said("", one_line(text)))

    def error(self, message: str) -> None:
        """A failure; shown even when quiet."""
        log.error("%s", one_line(message))
        self._print(_said("error", one_line(message)))

    def begin(self, songs: int, seconds: float) -> None:
        """A run over so many songs of so many seconds in all begins."""
        if self._bars is not None and songs > 1:
            self._run = self._bars.add_task(f"{songs} songs", total=seconds)

    def song(self, name: str, seconds: float) -> None:
        """A song begins."""
        self._begun(name, seconds, f"{name} ({clock(seconds)}) ...")

    def task(self, name: str, steps: int) -> None:
        """Something of so many steps begins."""
        self._begun(name, steps, f"{name} ({steps} steps) ...")

    def _begun(self, name: str, total: float, line: str) -> None:
        if self._lines:
            return self.note(line)
        log.info("%s", one_line(line))
        if self._bars is not None:
            if self._song is not None:
                self._bars.remove_task(self._song)
            self._song = self._bars.add_task(one_line(name), total=total)
        return None

    def describe(self, text: str) -> None:
        """Other words beside the bar of the song or task."""
        if self._bars is not None and self._song is not None:
            self._bars.update(self._song, description=one_line(text))

    def advance(self, seconds: float) -> None:
        """So many seconds of the song, or steps of the task, are done."""
        if self._bars is not None:
            if self._song is not None:
                self._bars.advance(self._song, seconds)
            if self._run is not None:
                self._bars.advance(self._run, seconds)

    def _print(self, line: str) -> None:
        if self._bars is not None:
            self._bars.console.print(line, markup=False, highlight=False, soft_wrap=True)
        else:
            print(line, file=sys.stderr, flush=True)


def _bars() -> Progress:
    """A rich progress display on stderr."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TextColumn("{task.percentage:>3.0f} %"))
    both = sys.stdout.isatty()  # results go to stdout even when only stderr is a terminal
    console = Console(stderr=True, no_color=not colored(sys.stderr))
    return Progress(*columns, TimeRemainingColumn(), console=console, transient=True, redirect_stdout=both)
