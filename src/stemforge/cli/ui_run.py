"""The work of `stemforge ui`: say where the page is, and answer until it is stopped."""

from __future__ import annotations

import os
import sys
import webbrowser
from importlib.util import find_spec
from pathlib import Path

from stemforge.cli import console, lists
from stemforge.devices import check_name
from stemforge.errors import UsageError

_NEEDED = ("starlette", "uvicorn")


def run(checkpoint: str | None, device: str, host: str, port: int, *, open_browser: bool, quiet: bool) -> int:
    """Serve the page; 0 when it was stopped. Raises StemforgeError for what is not there."""
    for name in _NEEDED:
        if find_spec(name) is None:
            raise UsageError(f"stemforge ui: {name} is not installed. Run `pip install 'stemforge[ui]'`.")
    check_name(device)
    from stemforge.ui.app import Studio
    from stemforge.ui.guard import Names
    from stemforge.ui.jobs import Jobs
    from stemforge.ui.models import Models
    from stemforge.ui.server import bound, serve
    from stemforge.ui.songs import Shelf

    models = Models(checkpoint, device)
    _ = models.device
    report = console.Report("none", -1 if quiet else 0)
    with report, lists.temporary() as folder, bound(host, port) as listening, Jobs() as jobs:
        names = Names(host, listening.getsockname()[1])
        address = f"http://{f'[{host}]' if ':' in host else host}:{names.port}/"
        console.result(address)
        if not names.local:
            console.warning(f"{host}: everyone who reaches this machine can use the page. It asks for no password.")
        report.note("open this address in a browser; Ctrl-C ends it and removes its songs")
        if open_browser and _has_screen():
            webbrowser.open(address)
        serve(Studio(Shelf(Path(folder)), models, jobs), names, listening)
    return 0


def _has_screen() -> bool:
    """Whether a browser would have a window."""
    return sys.platform in ("win32", "darwin") or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))
