"""`stemforge ui`: the page of a song, live in a browser on this machine."""

from __future__ import annotations

from typing import Annotated

import typer

from stemforge.cli import options as o


def ui(
    checkpoint: o.Checkpoint = None,
    device: o.Device = "auto",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Of the page; 0 for any that is free.")] = 8360,
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 lets other machines in, without a password.")
    ] = "127.0.0.1",
    open_browser: Annotated[bool, typer.Option("--open/--no-open", help="Open a browser at the page.")] = True,
    quiet: o.Quiet = False,
) -> None:
    """Open a page in the browser: drop a song, take it apart, listen, make parts of it anew, download.

    Everything is computed on this machine; songs are in a temporary folder that is removed when the command ends.
    """
    from stemforge.cli.ui_run import run

    raise typer.Exit(run(checkpoint, device, host, port, open_browser=open_browser, quiet=quiet))
