"""`stemforge impute`: an accompaniment for the stems that are there."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stemforge.cli import options as o


def impute(
    source: Annotated[
        Path, typer.Argument(metavar="[FOLDER|SONG]", help="Folder with bass.wav, drums.wav, …, or a song.")
    ] = Path(),
    keep: Annotated[str | None, typer.Option(help="Stems that stay as they are, as bass,drums.")] = None,
    fill: Annotated[str | None, typer.Option(help="Stems to make. Default: all others but vocals.")] = None,
    region: Annotated[
        list[str] | None,
        typer.Option(metavar="STEM=FROM:TO", help="Make only this part (seconds) of a stem that is there; repeatable."),
    ] = None,
    library: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="LIBRARY",
            help="Begin with what another song plays beside stems like these: a folder of songs in stems, as "
            "separated/forge. Seed 0 takes the song that is most alike, 1 the next one.",
        ),
    ] = None,
    strength: Annotated[
        float | None,
        typer.Option(help="How far from what is borrowed or sketched: near 0 keeps it, 1 forgets it. Default: 0.3."),
    ] = None,
    keep_mix: Annotated[
        Path | None,
        typer.Option(
            metavar="SONG", help="A song that stays whole; --add says what joins it.", rich_help_panel="Prompts"
        ),
    ] = None,
    add: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TEXT",
            help='A new stem beside --keep-mix, as "electric guitar solo"; again for further ones. Needs a checkpoint '
            "that was trained with text.",
            rich_help_panel="Prompts",
        ),
    ] = None,
    prompt: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT",
            help="The song with what is added. Default: --song-prompt and all that is added.",
            rich_help_panel="Prompts",
        ),
    ] = None,
    song_prompt: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="What is in the song that is kept.", rich_help_panel="Prompts"),
    ] = None,
    negative: o.Negative = None,
    cfg: o.Cfg = None,
    mixture_term: o.MixtureTerm = None,
    checkpoint: o.Checkpoint = None,
    out: Annotated[
        Path, typer.Option("-o", "--out", envvar="STEMFORGE_OUT", help="Folder for <checkpoint>/<name>/<stem>.wav.")
    ] = Path("imputed"),
    num_samples: o.Count = 1,
    seed: o.Seed = "0",
    mix: Annotated[bool, typer.Option("--mix", help="Write the mixture too.")] = False,
    report_html: o.ReportHtml = False,
    method: Annotated[
        str, typer.Option(help="condition: the network is told what is kept; replace: as in MSDM, any checkpoint.")
    ] = "auto",
    steps: o.Steps = None,
    segment: o.Segment = None,
    sketch: o.Sketch = None,
    device: o.Device = "auto",
    sampler: o.SamplerName = None,
    churn: o.Churn = None,
    resamples: o.Resamples = None,
    sigma_min: o.SigmaMin = None,
    sigma_max: o.SigmaMax = None,
    rho: o.Rho = None,
    format: o.Format = None,
    flac: o.Flac = False,
    mp3: o.Mp3 = False,
    ogg: o.Ogg = False,
    mp3_bitrate: o.Mp3Bitrate = 320,
    int16: o.Int16 = False,
    int24: o.Int24 = False,
    float32: o.Float32 = False,
    on_exist: o.OnExist = None,
    overwrite: o.Overwrite = False,
    progress: o.Progress = "auto",
    json: o.Json = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = 0,
) -> None:
    """Keep some stems and make the others anew, so that they go together.

    In a folder with bass.wav and drums.wav: stemforge impute --keep bass,drums.
    A song is taken apart first. Kept stems come out with the samples they had.
    By words: stemforge impute --keep-mix song.wav --add "electric guitar solo".
    """
    options = dict(locals())
    if keep_mix is not None or add:
        from stemforge.cli.impute_prompted import run
    else:
        from stemforge.cli.impute_run import run

    raise typer.Exit(run(options))
