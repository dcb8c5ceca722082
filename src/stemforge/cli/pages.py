"""`--report-html`: what it needs, and the pages of songs that were done before."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

from stemforge.errors import UsageError

if TYPE_CHECKING:
    from stemforge.audio.io import Source
    from stemforge.tasks.files import Place

_NEEDED = {"PIL": "pillow", "jinja2": "jinja2"}


def check(wanted: bool) -> None:
    """Raises UsageError when a page is wanted and what makes it is not installed."""
    for module, package in _NEEDED.items() if wanted else ():
        if find_spec(module) is None:
            raise UsageError(f"--report-html: {package} is not installed. Run `pip install {package}`.")


def add(place: Place, original: Source | None = None, *, sanitize: bool = False) -> str | None:
    """Make the page of a finished song unless it is there, or another process is at it; its name if it was made.

    Raises as `report.songs.write` does.
    """
    from stemforge.audio.writer import output_errors
    from stemforge.report import songs
    from stemforge.tasks.locks import Lock, LockedError

    if place.page.exists():
        return None
    try:
        with output_errors(place.folder):
            lock = Lock(place.lock).acquire()
    except LockedError:
        return None
    with lock:
        return songs.write(place, original, sanitize=sanitize)
