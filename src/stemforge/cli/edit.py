"""`stemforge edit`: parts of a song made anew, a song continued, two songs joined."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stemforge.cli import options as o

app = typer.Typer(
    no_args_is_help=True,
    help="Make parts of a song anew, continue it, or lead from one to another.\n\n"
    "A song is taken apart around the regions and put together again; of a folder of stems each file is edited. All "
    "samples outside the regions and their fades come out as they were.",
)

_SOURCE = "A song, or a folder with bass.wav, drums.wav, …"
_EDIT = "Edit"

Source = Annotated[Path, typer.Argument(metavar="SONG|FOLDER", help=_SOURCE)]
Regions = Annotated[
    list[str] | None,
    typer.Option(metavar="FROM:TO", help="In seconds, as 30:34 or 1m10:1m14; repeatable.", rich_help_panel=_EDIT),
]
Stems = Annotated[str | None, typer.Option(help="Edit these only, as drums,bass. Default: all.", rich_help_panel=_EDIT)]
Fade = Annotated[
    float, typer.Option(help="Seconds around a region in which old and new cross-fade.", rich_help_panel=_EDIT)
]
Strength = Annotated[
    float, typer.Option(help="How far from the original: near 0 keeps it, 1 forgets it.", rich_help_panel=_EDIT)
]
Recall = Annotated[
    float,
    typer.Option(
        "--strength",
        help="How far from what sounds like it within 12 s around: near 0 repeats that, 1 begins without it.",
        rich_help_panel=_EDIT,
    ),
]
Method = Annotated[
    str,
    typer.Option(
        help="conditioning: the network is told what stands; guidance: gradients pull towards it, any checkpoint, "
        "three times as slow; both. auto: conditioning where the checkpoint can.",
        rich_help_panel=_EDIT,
    ),
]
Guidance = Annotated[
    float | None, typer.Option(help="Size of a guidance step. Default: of the checkpoint.", rich_help_panel=_EDIT)
]
Normalised = Annotated[
    bool, typer.Option("--normalised", help="The step is a share of the noise, as 0.1.", rich_help_panel=_EDIT)
]
Sketch = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Checkpoint that draws what would begin with noise alone, or none. Default: as suits the checkpoint.",
    ),
]
Mix = Annotated[bool, typer.Option("--mix", help="Of a folder of stems, write the mixture too.")]
Out = Annotated[
    Path,
    typer.Option(
        "-o", "--out", envvar="STEMFORGE_OUT", help="Folder for <checkpoint>/<task>/<name>/mix.wav, or stems."
    ),
]


@app.command("inpaint")
def inpaint(
    source: Source,
    region: Regions = None,
    strength: Recall = 0.7,
    stems: Stems = None,
    fade: Fade = 0.05,
    method: Method = "auto",
    guidance: Guidance = None,
    normalised: Normalised = False,
    mix: Mix = False,
    report_html: o.ReportHtml = False,
    checkpoint: o.Checkpoint = None,
    sketch: Sketch = None,
    out: Out = Path("edited"),
    num_samples: o.Count = 1,
    seed: o.Seed = "0",
    steps: o.Steps = None,
    segment: o.Segment = None,
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
    """Make parts of a song anew, from what is before, after and beside them.

    stemforge edit inpaint song.wav --region 30:34 --stems drums
    """
    options = dict(locals())
    from stemforge.cli.edit_run import run

    raise typer.Exit(run("inpaint", options))


@app.command("continue")
def continue_(
    source: Source,
    seconds: Annotated[float, typer.Option(help="How much is added.", rich_help_panel=_EDIT)] = 12.0,
    at: Annotated[
        float | None, typer.Option(help="Go on from this second. Default: the end.", rich_help_panel=_EDIT)
    ] = None,
    strength: Recall = 0.7,
    stems: Stems = None,
    method: Method = "auto",
    guidance: Guidance = None,
    normalised: Normalised = False,
    mix: Mix = False,
    report_html: o.ReportHtml = False,
    checkpoint: o.Checkpoint = None,
    sketch: Sketch = None,
    out: Out = Path("edited"),
    num_samples: o.Count = 1,
    seed: o.Seed = "0",
    steps: o.Steps = None,
    segment: o.Segment = None,
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
    """Play on where a song ends, or from another place.

    The song is kept to its last sample. Stems that are not named end there.
    """
    options = dict(locals())
    from stemforge.cli.edit_run import run

    raise typer.Exit(run("continue", options))


@app.command("regenerate")
def regenerate(
    source: Source,
    region: Regions = None,
    strength: Strength = 0.85,
    stems: Stems = None,
    fade: Fade = 0.05,
    method: Method = "auto",
    guidance: Guidance = None,
    normalised: Normalised = False,
    mix: Mix = False,
    report_html: o.ReportHtml = False,
    checkpoint: o.Checkpoint = None,
    sketch: Sketch = None,
    out: Out = Path("edited"),
    num_samples: o.Count = 1,
    seed: o.Seed = "0",
    steps: o.Steps = None,
    segment: o.Segment = None,
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
    """Make parts of a song again in the manner of what is there: noise is put on it and taken off again."""
    options = dict(locals())
    from stemforge.cli.edit_run import run

    raise typer.Exit(run("regenerate", options))


@app.command("transition")
def transition(
    source: Source,
    after: Annotated[Path, typer.Argument(metavar="SONG|FOLDER", help="What comes after it, of the same kind.")],
    overlap: Annotated[float, typer.Option(help="Seconds that both have in common.", rich_help_panel=_EDIT)] = 8.0,
    strength: Strength = 0.7,
    stems: Stems = None,
    fade: Fade = 0.05,
    method: Method = "auto",
    guidance: Guidance = None,
    normalised: Normalised = False,
    mix: Mix = False,
    report_html: o.ReportHtml = False,
    checkpoint: o.Checkpoint = None,
    sketch: Sketch = None,
    out: Out = Path("edited"),
    num_samples: o.Count = 1,
    seed: o.Seed = "0",
    steps: o.Steps = None,
    segment: o.Segment = None,
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
    """Lead from the end of one song into the beginning of another.

    They may differ in tempo and rate: the result has the rate and the channels of the first, and is as long as both
    without the overlap.
    """
    options = dict(locals())
    from stemforge.cli.edit_run import run

    raise typer.Exit(run("transition", options))


@app.command("restyle")
def restyle(
    source: Source,
    reference: Annotated[
        Path | None, typer.Option(help="A sound that it shall resemble.", rich_help_panel=_EDIT)
    ] = None,
    tag: Annotated[str | None, typer.Option(help="What it shall have, as guitar,slow.", rich_help_panel=_EDIT)] = None,
    embedder: Annotated[
        str,
        typer.Option(help="MTT or MSD of musicnn, or a checkpoint of CLAP or PaSST.", rich_help_panel=_EDIT),
    ] = "MTT",
    region: Regions = None,
    strength: Strength = 0.5,
    stems: Stems = None,
    fade: Fade = 0.05,
    method: Method = "auto",
    guidance: Guidance = None,
    normalised: Normalised = False,
    mix: Mix = False,
    report_html: o.ReportHtml = False,
    checkpoint: o.Checkpoint = None,
    out: Out = Path("edited"),
    num_samples: o.Count = 1,
    seed: o.Seed = "0",
    steps: o.Steps = None,
    segment: o.Segment = None,
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
    """Bring a song, or parts of it, nearer to a reference or to tags, as an embedding of music hears them.

    Needs stemforge checkpoints pull musicnn, or another embedder. Gradients of its embedding guide the sampler.
    """
    options = dict(locals())
    from stemforge.cli.edit_run import run

    raise typer.Exit(run("restyle", options))
