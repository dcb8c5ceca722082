"""`stemforge train`: train a checkpoint on a folder of songs with one file a stem."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ConfigArgument = Annotated[Path, typer.Argument(help="TOML file; see docs/training.md for its keys.")]
ChangesArgument = Annotated[list[str] | None, typer.Argument(help="Changes to it, as steps=2000 network.width=192.")]
DataOption = Annotated[Path, typer.Option("--data", help="Folder of songs to train on.")]
ValidOption = Annotated[Path | None, typer.Option("--valid", help="Folder of songs to validate on.")]
OutOption = Annotated[Path, typer.Option("-o", "--out", help="Folder of the run. It is resumed where it stands.")]
DeviceOption = Annotated[str, typer.Option("-d", "--device", help="auto, cpu, cuda, cuda:N or mps.")]
LimitOption = Annotated[int | None, typer.Option("--stop-after", min=1, help="Stop after so many steps, and save.")]


def train(
    config: ConfigArgument,
    changes: ChangesArgument = None,
    data: DataOption = Path("data/train"),
    valid: ValidOption = None,
    out: OutOption = Path("runs/forge"),
    device: DeviceOption = "auto",
    stop_after: LimitOption = None,
) -> None:
    """Train a checkpoint; the run can be stopped at any time and goes on where it was last saved.

    OUT holds model.safetensors and config.json (averaged weights, ready for `separate --checkpoint OUT`), state.pt to
    resume from, and logs/ with CSV and TensorBoard files.
    """
    from stemforge.cli import train_run

    settings = train_run.settings(config, changes or [])
    train_run.run(settings, data, valid, out, device, stop_after)
