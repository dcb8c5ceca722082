"""`stemforge train`: train a checkpoint on a folder of songs with one file a stem."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stemforge.cli import options

ConfigArgument = Annotated[
    Path | None,
    typer.Argument(
        help="forge, forge-gpu, forge-text, sketch, sketch-text, finetune, making, flow, msdm, isdm, tiny, or a TOML "
        "file: docs/training.md."
    ),
]
ChangesArgument = Annotated[list[str] | None, typer.Argument(help="Changes to it, as steps=2000 network.width=192.")]
DataOption = Annotated[Path, typer.Option("--data", help="Folder of songs to train on; see `stemforge data check`.")]
ValidOption = Annotated[Path | None, typer.Option("--valid", help="Folder of songs to validate on.")]
OutOption = Annotated[Path, typer.Option("-o", "--out", help="Folder of the run. It is resumed where it stands.")]
LimitOption = Annotated[int | None, typer.Option("--stop-after", min=1, help="Stop after so many steps, and save.")]
DevicesOption = Annotated[int, typer.Option(min=1, help="Devices of this machine; each takes a part of every batch.")]
NodesOption = Annotated[int, typer.Option(min=1, help="Machines, for Slurm; torchrun says it itself.")]
CompileOption = Annotated[bool, typer.Option("--compile", help="Translate the network with torch.compile first.")]
WandbOption = Annotated[
    str | None, typer.Option("--wandb", metavar="PROJECT", help="Send the figures to Weights & Biases as well.")
]
PlotOption = Annotated[
    Path | None, typer.Option("--plot", metavar="RUN", help="Draw the curves of a run to RUN/curves.png; no training.")
]


def train(
    config: ConfigArgument = None,
    changes: ChangesArgument = None,
    data: DataOption = Path("data/train"),
    valid: ValidOption = None,
    out: OutOption = Path("runs/forge"),
    device: options.Device = "auto",
    devices: DevicesOption = 1,
    num_nodes: NodesOption = 1,
    stop_after: LimitOption = None,
    compile: CompileOption = False,
    wandb: WandbOption = None,
    plot: PlotOption = None,
    progress: options.Progress = "auto",
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = 0,
) -> None:
    """Train a checkpoint; the run can be stopped at any time and goes on where it was last saved.

    OUT holds model.safetensors and config.json (averaged weights, ready for `separate --checkpoint OUT`), the same in
    best/ as they were when they scored best on --valid, state.pt to resume from, and logs/ with CSV and TensorBoard
    files.
    """
    from stemforge.cli import train_request, train_start

    talk = (train_request.progress_of(progress), json, -1 if quiet else verbose)
    asked = train_request.Request(data, valid, out, device, devices, num_nodes, stop_after, *talk, compile, wandb)
    train_start.begin(config, changes or [], plot, asked)
