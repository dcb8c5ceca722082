"""`stemforge generate`: new music, all stems together."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stemforge.cli import options as o


def generate(
    duration: Annotated[float, typer.Option(help="Seconds; more than a window is continued with overlap.")] = 12.0,
    checkpoint: o.Checkpoint = None,
    out: Annotated[
        Path,
        typer.Option("-o", "--out", envvar="STEMFORGE_OUT", help="Folder for <checkpoint>/seed-<seed>/<stem>.wav."),
    ] = Path("generated"),
    stems: Annotated[str | None, typer.Option(help="These only, as bass,drums. Default: all but vocals.")] = None,
    prompt: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT",
            help="What is to be heard; needs a checkpoint that was trained with text.",
            rich_help_panel="Prompts",
        ),
    ] = None,
    stem: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TEXT", help="One stem of what is to be heard; again for further ones.", rich_help_panel="Prompts"
        ),
    ] = None,
    negative: o.Negative = None,
    cfg: o.Cfg = None,
    mixture_term: o.MixtureTerm = None,
    prompts_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help='A piece for each line, as {"prompt": "slow jazz trio", "stems": ["piano", "upright bass"]}; negative '
            "and cfg may be there too.",
            rich_help_panel="Prompts",
        ),
    ] = None,
    report_html: o.ReportHtml = False,
    num_samples: o.Count = 1,
    seed: o.Seed = "0",
    steps: o.Steps = None,
    segment: o.Segment = None,
    sketch: o.Sketch = None,
    strength: Annotated[
        float | None,
        typer.Option(help="How far from its sketch the sound may go: near 0 keeps it, 1 forgets it. Default: 0.3."),
    ] = None,
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
    """Make new music: stems that belong together, and their mixture.

    The same seed and settings give the same music.
    With a checkpoint that was trained with text, any stems that can be named:
    stemforge generate --prompt "slow jazz trio" --stem "upright bass" --stem piano
    """
    options = dict(locals())
    if prompt is not None or stem or prompts_file is not None:
        from stemforge.cli.generate_prompted import run
    else:
        from stemforge.cli.generate_run import run

    raise typer.Exit(run(options))
