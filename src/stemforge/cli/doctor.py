"""`stemforge doctor`: is everything here that a run needs, and which settings would it have?"""

from __future__ import annotations

from typing import Annotated

import typer

from stemforge.cli import options as o


def doctor(
    context: typer.Context,
    checkpoint: o.Checkpoint = None,
    device: o.Device = "auto",
    strict: Annotated[
        bool, typer.Option("--strict", help="Return 5 or 6 where the checkpoint or the device cannot be used.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Say what is installed, which devices, caches and checkpoints are there, and where each setting comes from.

    Send what it prints along with the report of a fault.
    """
    names = {"checkpoint": checkpoint, "device": device}
    sources = {name: getattr(context.get_parameter_source(name), "name", "DEFAULT") for name in names}
    from stemforge.cli.doctor_run import run

    raise typer.Exit(run(names, sources, strict=strict, json=json))
