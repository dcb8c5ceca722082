"""`stemforge checkpoints`: what there is, where it is, and whether it is whole."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="Checkpoints: list them, verify them, describe new ones.")

StemOption = Annotated[str | None, typer.Option(help="Only those that have this stem.")]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]
NameArgument = Annotated[str | None, typer.Argument(help="Name or folder. Default: the default checkpoint.")]


@app.command("list")
def list_(stem: StemOption = None, json: JsonOption = False) -> None:
    """List the checkpoints, the default one with a star."""
    from stemforge import checkpoints
    from stemforge.cli import console

    for found in checkpoints.available().values():
        if stem is not None and stem not in (found.stems or ()):
            continue
        if json:
            console.result_json("checkpoint", **{**found.table, "name": found.name, "default": found.default})
        else:
            console.result(f"{'*' if found.default else ' '} {found.name}: {', '.join(found.stems or ())}")


@app.command()
def info(name: NameArgument = None, json: JsonOption = False) -> None:
    """Show the table of a checkpoint."""
    from stemforge import checkpoints
    from stemforge.cli import console

    found = checkpoints.find(name)
    fields = {**found.table, "name": found.name, "folder": str(found.folder), "default": found.default}
    if json:
        console.result_json("checkpoint", **fields)
        return
    for key, value in fields.items():
        console.result(f"{key}: {', '.join(map(str, value)) if isinstance(value, list) else value}")


@app.command()
def path(name: NameArgument = None) -> None:
    """Print the folder of a checkpoint."""
    from stemforge import checkpoints
    from stemforge.cli import console

    console.result(str(checkpoints.find(name).folder))


@app.command()
def verify(name: NameArgument = None) -> None:
    """Compare the files of one checkpoint, or of all, with their sha256."""
    from stemforge import checkpoints
    from stemforge.cli import console

    for found in [checkpoints.find(name)] if name else checkpoints.available().values():
        for file, value in checkpoints.verify(found).items():
            console.result(f"{found.name}/{file}: {'matches' if found.sha256 else 'not pinned'}, sha256 {value}")


@app.command()
def entry(
    folder: Annotated[Path, typer.Argument(help="Folder with model.safetensors and config.json.")],
    name: Annotated[str | None, typer.Option(help="Name of the checkpoint. Default: that of the folder.")] = None,
    license: Annotated[str, typer.Option(help="Licence of the weights.")] = "Apache-2.0",
    default: Annotated[bool, typer.Option("--default", help="Mark it as the default.")] = False,
) -> None:
    """Load a checkpoint strictly, and print its table for checkpoints.toml."""
    from stemforge import checkpoints
    from stemforge.cli import console

    console.result(checkpoints.entry_for(folder, name=name, license=license, default=default).rstrip())
