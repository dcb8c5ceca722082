"""`--engine ray`: the songs of one run on the workers of a Ray cluster, each with the network loaded once.

A worker does with a song what a local run does, and remembers what it would have said; this process says it.
"""

from __future__ import annotations

import os
import secrets
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stemforge.audio.writer import output_errors
from stemforge.cli import console, lists
from stemforge.cli.inputs import Item
from stemforge.cli.layout import DEFAULT, Layout
from stemforge.cli.separate_each import separate_one, use_temporary
from stemforge.cli.separate_flow import Flow
from stemforge.cli.separate_request import Request
from stemforge.cli.separate_state import Run
from stemforge.cli.separate_vocals import stages
from stemforge.errors import OutputError, SpaceError, StemforgeError
from stemforge.storage import Url
from stemforge.tasks.locks import BEAT, DEAD_AFTER
from stemforge.tasks.ray_crew import RayCrew
from stemforge.tasks.spread import TRIES, LostError, Spread

_AGAIN = 5.0
"""Seconds until a worker looks again whether the lock of a dead one is free."""


@dataclass
class Told:
    """What came of one song, and what is to be said of it, in order: a way to say it, and its arguments."""

    said: list[tuple[str, tuple[Any, ...]]] = field(default_factory=list)
    done: int = 0
    skipped: int = 0
    codes: list[int] = field(default_factory=list)
    full: SpaceError | None = None
    locked: bool = False


class _Notebook(console.Report):
    """Remembers what a report would show."""

    def __init__(self) -> None:
        super().__init__("none")
        self.told = Told()

    def note(self, text: str, level: int = 0) -> None:
        """Remembered."""
        self.told.said.append(("note", (text, level)))

    def error(self, message: str) -> None:
        """Remembered."""
        self.told.said.append(("error", (message,)))

    def library(self, kind: str, text: str) -> None:
        """Remembered."""
        self.told.said.append(("library", (kind, text)))


@dataclass
class _WorkerRun(Run):
    """A run that remembers its lines as well."""

    notebook: _Notebook = field(default_factory=_Notebook)

    def tell(self, item: Item, status: str, **fields: object) -> None:
        """Remembered, and whether another process has the song."""
        self.notebook.told.locked = status == "skipped" and fields["why"] != "already there"
        super().tell(item, status, **fields)

    def say(self, line: str) -> None:
        """Remembered."""
        self.notebook.told.said.append(("say", (line,)))

    def result(self, text: str) -> None:
        """Remembered."""
        self.notebook.told.said.append(("result", (text,)))


class SongWorker:
    """One process of the cluster. `begin` loads the network, `work` separates a song; a StemforgeError is returned.

    Args:
        request: as it was typed.
        folder: where it was typed, for the paths in it.
        token: name of a file that is in `--out` while the run lasts; None for stems that go to object storage.
        environment: settings of stemforge where it was typed.
    """

    def __init__(self, request: Request, folder: Path, token: str | None, environment: dict[str, str]) -> None:
        self._request, self._folder, self._token = request, folder, token
        os.environ.update(environment)

    def begin(self) -> StemforgeError | None:
        """Load the network, in the folder of the run."""
        try:
            self._check_folder()
            self._run = self._new_run()
            self._run.report.__enter__()
            _ = self._run.separator
        except StemforgeError as error:
            return error
        return None

    def work(self, item: Item, lost: int) -> Told | StemforgeError:
        """Separate a song. Where a worker has died of it, wait until its lock counts for nothing."""
        patience = time.monotonic() + (DEAD_AFTER + 2 * BEAT if lost else 0)
        try:
            while (told := self._work(item)).locked and time.monotonic() < patience:
                time.sleep(_AGAIN)
        except StemforgeError as error:
            return error
        return told

    def _work(self, item: Item) -> Told:
        run = self._run
        run.notebook.told = told = Told()
        run.done, run.skipped, run.codes, run.full = 0, 0, [], None
        with lists.temporary() as folder:
            use_temporary(run, Path(folder))
            separate_one(run, item)
        told.done, told.skipped, told.codes, told.full = run.done, run.skipped, run.codes, run.full
        return told

    def _check_folder(self) -> None:
        """Raises OutputError unless the disk that the run writes to is here too."""
        if self._folder.is_dir():
            os.chdir(self._folder)
        if self._token is not None and not (self._request.out / self._token).exists():
            raise OutputError(
                f"'{self._request.out}': is not on {socket.gethostname()}, or another folder there. Choose an --out "
                "on a disk that all machines share, or on object storage."
            )

    def _new_run(self) -> _WorkerRun:
        request, notebook = self._request, _Notebook()
        chosen = stages(request)
        template = DEFAULT if request.filename is None else request.filename
        layout = Layout(request.out, chosen.name, request.seed, template)
        flow = Flow(request.jobs, sanitize=request.sanitize)
        return _WorkerRun(request, chosen, notebook, layout, flow, notebook=notebook)


def separate_all(run: Run, items: list[Item]) -> None:
    """Every song on some worker; each is told when it is done. A failure is counted, as in a local run.

    Raises:
        DeviceError: no cluster, or no worker that gets ready.
        StemforgeError: as a local run does for what concerns no single song.
    """
    request = run.request
    environment = {name: value for name, value in os.environ.items() if name.startswith("STEMFORGE_")}
    with _token(request.out) as token:
        arguments = request, Path.cwd(), token, environment
        crew = RayCrew(SongWorker, arguments, address=request.address, device=request.device, workers=request.workers)
        with crew:
            run.report.note(f"ray: {crew.workers} workers asked for, {crew.room} there")
            spread = Spread(crew, items)
            for item, told in spread.answers(crew.workers):
                _hear(run, item, told)
                if run.full is not None or (request.fail_fast and run.codes):
                    spread.enough()


def _hear(run: Run, item: Item, told: Told | LostError) -> None:
    """Say what a worker has to say, and count it."""
    run.report.advance(1)
    if isinstance(told, LostError):
        return run.failed(item, LostError(f"'{item.path}': {TRIES} workers died of it; {told}"))
    run.done += told.done
    run.skipped += told.skipped
    run.codes += told.codes
    run.full = run.full or told.full
    for way, arguments in told.said:
        getattr(run if way in ("say", "result") else run.report, way)(*arguments)
    return None


@contextmanager
def _token(out: Path) -> Iterator[str | None]:
    """The name of a file in `out` that is there meanwhile, by which workers know the folder; None for storage."""
    if isinstance(out, Url):
        yield None
        return
    token, made = out / f".stemforge-{secrets.token_hex(8)}.part", not out.exists()
    with output_errors(out):
        out.mkdir(parents=True, exist_ok=True)
        token.touch()
    try:
        yield token.name
    finally:
        token.unlink(missing_ok=True)
        if made and not any(out.iterdir()):
            out.rmdir()
