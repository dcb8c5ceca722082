"""`stemforge separate`: take songs apart."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stemforge.cli import options as o

_OUT, _FORMAT, _ADVANCED, _RUN = "What is written", "Format", "Advanced sampling", "Run"
_FLOWS = "Flows"


def _list_models(wanted: bool) -> None:
    if wanted:
        from stemforge.cli.checkpoints_run import show_all

        show_all(None, json=False)
        raise typer.Exit


def separate(
    inputs: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="INPUT",
            help="Sound files, folders with some, @LIST for a file that names some, - for stdin; or addresses, as "
            "s3://bucket/songs.",
        ),
    ] = None,
    files_from: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Take the songs that FILE names too, one a line; - is stdin.")
    ] = None,
    null: Annotated[
        bool, typer.Option("-0", "--null", help="Names in lists end with NUL, as find -print0 writes them.")
    ] = False,
    checkpoint: o.Checkpoint = None,
    out: Annotated[
        Path,
        typer.Option(
            "-o",
            "--out",
            envvar="STEMFORGE_OUT",
            help="Folder for <checkpoint>/<track>/<stem>.wav; - is stdout, for one stem; or an address, as "
            "s3://bucket/stems.",
        ),
    ] = Path("separated"),
    filename: Annotated[
        str | None,
        typer.Option(
            metavar="TEMPLATE",
            help="Names below <out>/<checkpoint>, of {track}, {stem}, {ext}, {reldir}, {seed} and {trackext}; "
            "below <out> with {model} in it. Default: {reldir}/{track}/{stem}.{ext}.",
            rich_help_panel=_OUT,
        ),
    ] = None,
    recursive: Annotated[
        bool, typer.Option("--recursive/--no-recursive", "-r", help="Look into the folders of a folder.")
    ] = True,
    ext: Annotated[str | None, typer.Option(help="Endings to take in a folder. Default: all known.")] = None,
    stems: Annotated[
        str | None, typer.Option(help="Write these only, as bass,drums; takes as long.", rich_help_panel=_OUT)
    ] = None,
    two_stems: Annotated[
        str | None, typer.Option(metavar="STEM", help="Write STEM, and all else as no_STEM.", rich_help_panel=_OUT)
    ] = None,
    vocals: Annotated[
        bool,
        typer.Option(
            "--vocals",
            help="Take the voice out first, as one more stem; so do --stems and --two-stems that name vocals.",
            rich_help_panel=_OUT,
        ),
    ] = False,
    vocals_with: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Checkpoint that takes the voice out. Default: spleeter-2stem, to be pulled once.",
            rich_help_panel=_OUT,
        ),
    ] = None,
    other_method: Annotated[
        str, typer.Option(help="no_STEM: add the others, minus STEM from the mixture, or none.", rich_help_panel=_OUT)
    ] = "add",
    device: o.Device = "auto",
    precision: Annotated[
        str, typer.Option(help="fp32, bf16 inside the network, or auto: bf16 where that is faster.")
    ] = "auto",
    segment: Annotated[
        float | None, typer.Option(help="Seconds of a window. Default: as the checkpoint was trained.")
    ] = None,
    overlap: Annotated[float, typer.Option(help="Share of a window that it has in common with the next.")] = 0.25,
    batch_size: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Windows in one network call, halved when memory is not enough; changes nothing else. Default: 1 on a "
            "CPU, 4 elsewhere.",
        ),
    ] = None,
    passes: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=4,
            help="Pitches at which the network hears the song, whose mean is written: 1 is quickest, 3 are best. "
            "Default: as the checkpoint says, 2 for forge.",
        ),
    ] = None,
    shifts: Annotated[
        int, typer.Option(help="Mean of so many runs over shifted windows; takes as many times as long.")
    ] = 0,
    steps: Annotated[
        int | None, typer.Option(help="Network calls a window; time grows with them. Default: 1, or of the method.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the noise, when there is more than one step.")] = 0,
    method: Annotated[
        str,
        typer.Option(
            help="conditional: one or a few network calls. dirac, gaussian, independent: stems sampled under a "
            "likelihood of the mixture (MSDM), hundreds of calls. flow: a flow a stem, fitted to the mixture "
            "(InstGlow), minutes for seconds. text: stems named by --stem, hundreds of calls for each. auto: what the "
            "checkpoint is made for."
        ),
    ] = "auto",
    stem: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TEXT",
            help="With --method text: one stem in words; again until the whole song is said, as drums, bass, "
            '"the rest". Needs a checkpoint that was trained with text.',
            rich_help_panel="Prompts",
        ),
    ] = None,
    extract: Annotated[
        bool,
        typer.Option(
            "--extract",
            help="Take each --stem out by itself, against all others together; what is left is the residual.",
            rich_help_panel="Prompts",
        ),
    ] = False,
    negative: o.Negative = None,
    cfg: o.Cfg = None,
    sampler: o.SamplerName = None,
    churn: o.Churn = None,
    resamples: o.Resamples = None,
    sigma_min: o.SigmaMin = None,
    sigma_max: o.SigmaMax = None,
    rho: o.Rho = None,
    pinned: Annotated[
        str | None,
        typer.Option(
            metavar="STEM",
            help="Stem that is the mixture minus the others; all: they share. Default: as the checkpoint was made.",
            rich_help_panel=_ADVANCED,
        ),
    ] = None,
    gamma: Annotated[
        float | None, typer.Option(help="Width of the gaussian likelihood, in noise levels.", rich_help_panel=_ADVANCED)
    ] = None,
    factor: Annotated[
        float | None,
        typer.Option(
            help="Of the gaussian gradient: 0.5 as in the released code, 1 as in the paper.", rich_help_panel=_ADVANCED
        ),
    ] = None,
    flow: Annotated[
        list[str] | None,
        typer.Option(
            metavar="STEM=CHECKPOINT", help="The flow of a stem; again for further ones.", rich_help_panel=_FLOWS
        ),
    ] = None,
    warm: Annotated[
        str | None,
        typer.Option(metavar="CHECKPOINT", help="Begin with what that one separates.", rich_help_panel=_FLOWS),
    ] = None,
    rest: Annotated[
        str | None,
        typer.Option(
            metavar="CHECKPOINT",
            help="Take the stems of --flow out of the song, and let that one take apart what is left.",
            rich_help_panel=_FLOWS,
        ),
    ] = None,
    iterations: Annotated[
        int | None, typer.Option(min=0, help="Of Adam, a window. Default: 300.", rich_help_panel=_FLOWS)
    ] = None,
    lr: Annotated[float | None, typer.Option(help="Step of Adam. Default: 0.002.", rich_help_panel=_FLOWS)] = None,
    spread: Annotated[
        float | None,
        typer.Option(help="Standard deviation of the latents at the start. Default: 0.", rich_help_panel=_FLOWS),
    ] = None,
    prior_weight: Annotated[
        float | None,
        typer.Option(help="Of the prior beside the reconstruction. Default: 0.03.", rich_help_panel=_FLOWS),
    ] = None,
    prior_space: Annotated[
        str | None,
        typer.Option(help="z: prior of the latents; x: likelihood of the spectra.", rich_help_panel=_FLOWS),
    ] = None,
    gate: Annotated[
        bool, typer.Option("--gate", help="Weaken spectra in frames below the mixture.", rich_help_panel=_FLOWS)
    ] = False,
    share: Annotated[
        bool,
        typer.Option(
            "--share/--no-share",
            help="Divide the mixture in the ratio of the spectra; or write them as they are, and a residual.",
            rich_help_panel=_FLOWS,
        ),
    ] = True,
    format: o.Format = None,
    flac: o.Flac = False,
    mp3: o.Mp3 = False,
    ogg: o.Ogg = False,
    mp3_bitrate: o.Mp3Bitrate = 320,
    int16: o.Int16 = False,
    int24: o.Int24 = False,
    float32: o.Float32 = False,
    clip_mode: Annotated[
        str | None,
        typer.Option(
            help="Beyond full scale: rescale all stems by one gain, clamp, or none. Default: none for float32, "
            "rescale otherwise.",
            rich_help_panel=_FORMAT,
        ),
    ] = None,
    channels: Annotated[
        str,
        typer.Option(
            help="input: as the song has them, one or two. downmix: more are mixed to stereo. mono: to one. "
            "mid: only the middle of a stereo song is taken apart; what its sides differ by goes to the rest.",
            rich_help_panel=_FORMAT,
        ),
    ] = "input",
    loudness: Annotated[
        float | None,
        typer.Option(
            metavar="LUFS",
            help="Bring the song to this loudness (BS.1770), by one gain for all stems.",
            rich_help_panel=_FORMAT,
        ),
    ] = None,
    on_exist: Annotated[
        str | None,
        typer.Option(
            help="Stems are there already: skip, overwrite, error or rename. Default: skip what the same command made, "
            "error otherwise.",
            rich_help_panel=_RUN,
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("-y", "--overwrite", help="Same as --on-exist overwrite.", rich_help_panel=_RUN)
    ] = False,
    start: Annotated[
        str | None, typer.Option(metavar="TIME", help="Take songs from here on: seconds, or as 1:15.5.")
    ] = None,
    end: Annotated[str | None, typer.Option(metavar="TIME", help="Take songs up to here.")] = None,
    max_duration: Annotated[
        str | None, typer.Option(metavar="TIME", help="A longer song is an error; nothing is ever cut off.")
    ] = None,
    stream: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Which sound stream of a film is taken. Default: the first.")
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option(
            metavar="I/N", help="Do part I of N of the songs; auto: as the Slurm array says.", rich_help_panel=_RUN
        ),
    ] = None,
    engine: Annotated[
        str,
        typer.Option(
            help="local: here, one song after another. ray: on the workers of a Ray cluster, or of this machine; needs "
            "stemforge[cluster].",
            rich_help_panel=_RUN,
        ),
    ] = "local",
    address: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="Of the Ray cluster. Default: RAY_ADDRESS, else the one that runs here, else a new one for this run.",
            rich_help_panel=_RUN,
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Processes of --engine ray, each with the network loaded once. Default: one a GPU, or one a core "
            "where there is no GPU.",
            rich_help_panel=_RUN,
        ),
    ] = None,
    report_html: o.ReportHtml = False,
    report: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Append one JSON object a song to FILE at once.", rich_help_panel=_RUN),
    ] = None,
    retry_failed: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Take the songs that failed in a report.", rich_help_panel=_RUN),
    ] = None,
    jobs: Annotated[
        int,
        typer.Option(
            "-j",
            "--jobs",
            help="Stems encoded at once; from 2 on a song is also read and written while another is computed.",
            rich_help_panel=_RUN,
        ),
    ] = 1,
    strict: Annotated[
        bool, typer.Option("--strict", help="A wav that was cut short is an error.", rich_help_panel=_RUN)
    ] = False,
    sanitize: Annotated[
        bool, typer.Option("--sanitize", help="Set samples that are not finite to zero.", rich_help_panel=_RUN)
    ] = False,
    fail_fast: Annotated[
        bool, typer.Option("--fail-fast/--keep-going", help="Stop at the first song that fails.", rich_help_panel=_RUN)
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be written, and stop.", rich_help_panel=_RUN)
    ] = False,
    list_models: Annotated[
        bool,
        typer.Option(
            "--list-models",
            callback=_list_models,
            is_eager=True,
            help="Same as stemforge checkpoints list.",
            rich_help_panel=_RUN,
        ),
    ] = False,
    progress: o.Progress = "auto",
    json: o.Json = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = 0,
) -> None:
    """Take songs apart into stems that add up to them.

    Rate, channels and length of the stems are those of the song.
    Memory does not grow with its length. What is there already is skipped,
    so the same command goes on after an interruption.
    """
    options = {name: value for name, value in locals().items() if name != "list_models"}
    from stemforge.cli.separate_request import Request
    from stemforge.cli.separate_run import run

    raise typer.Exit(run(Request(**options)))
