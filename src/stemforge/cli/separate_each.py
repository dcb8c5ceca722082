"""Songs that are opened one at a time: those on object storage, and those that a worker gets."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from shutil import rmtree
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from stemforge import storage
from stemforge.audio.io import Source, probe
from stemforge.audio.writer import output_errors
from stemforge.cli.inputs import Item
from stemforge.cli.separate_song import separate_song
from stemforge.errors import InputError, StemforgeError
from stemforge.storage import Url
from stemforge.tasks.mirror import Mirror

if TYPE_CHECKING:
    from stemforge.cli.separate_request import Request
    from stemforge.cli.separate_state import Run


def is_far(request: Request, items: list[Item]) -> bool:
    """Whether a run reads from object storage, or writes there."""
    return isinstance(request.out, Url) or any(isinstance(item.path, Url) for item in items)


def use_temporary(run: Run, folder: Path) -> None:
    """Give a run a folder for what comes from elsewhere, and for stems that go elsewhere."""
    run.temporary = folder
    if isinstance(run.request.out, Url):
        run.mirror = Mirror(folder / "out", run.request.out)
        run.layout = replace(run.layout, top=run.mirror.here)


def opened(request: Request, path: Path, contents: Path | None = None) -> Source:
    """A song as its header describes it, its bytes in `contents` if they are not at its path. Raises InputError."""
    channels, stream = request.channels, request.stream
    return _cropped(probe(path, strict=request.strict, contents=contents, channels=channels, stream=stream), request)


def separate_one(run: Run, item: Item) -> None:
    """Fetch, open and separate one song, and wait until it is written; nothing of it stays in the temporary folder."""
    run.current = item.path
    place = run.layout.place(item)
    try:
        with TemporaryDirectory(dir=run.temporary) as folder:
            try:
                source = opened(run.request, item.path, _fetched(item.path, Path(folder)))
                if run.mirror is not None:
                    run.mirror.reflect(place)
            except StemforgeError as error:
                return run.failed(item, error)
            separate_song(run, item, source)
            run.flow.settle(wait=True)
    finally:
        if run.mirror is not None:
            rmtree(place.folder, ignore_errors=True)


def _fetched(path: Path, folder: Path) -> Path | None:
    """The file that a song on object storage was written to; None for another song."""
    if not isinstance(path, Url):
        return None
    file = folder / f"song{path.suffix}"
    with output_errors(folder, "TMPDIR"):
        storage.fetch(path, file)
    return file


def _cropped(source: Source, request: Request) -> Source:
    """The part of a song that is wanted. Raises InputError when it is too long, or not there."""
    start, end = request.span
    if start or end is not None:
        source = source.between(start, end)
    if request.longest is not None and source.seconds > request.longest:
        raise InputError(
            f"'{source.path}': lasts {source.seconds:.1f} s, more than --max-duration {request.longest:g}. "
            "Take a part of it with --start and --end, or allow more."
        )
    return source
