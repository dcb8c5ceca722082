"""`stemforge data`: make material to train on, and look at what there is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from stemforge.cli.console import Report

app = typer.Typer(no_args_is_help=True, help="Training data: render songs of our own, check songs of yours.")

AssetsOption = Annotated[Path, typer.Option(help="Folder with fonts, packs and MIDI songs; docs/data.md fills it.")]
HoursOption = Annotated[float, typer.Option(help="How much to render, in hours of music.")]
OutOption = Annotated[Path, typer.Option("-o", "--out", help="Folder for the songs. What is there already is kept.")]
SeedOption = Annotated[int, typer.Option(min=0, help="The same seed and assets give the same songs.")]
JobsOption = Annotated[int, typer.Option("-j", "--jobs", help="Processes.")]
SplitOption = Annotated[str, typer.Option(help="train, or valid: songs and sounds that train never uses.")]
FormatOption = Annotated[str, typer.Option(help="flac, wav, or npy: int16 (time, 2), which training reads fastest.")]
LongestOption = Annotated[float, typer.Option(help="Longest song in seconds.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the report as one JSON object.")]
QuietOption = Annotated[bool, typer.Option("-q", "--quiet", help="No progress.")]
FolderArgument = Annotated[
    Path, typer.Argument(metavar="FOLDER", help="Songs, as `stemforge train --data` takes them.")
]
StemsOption = Annotated[
    str | None, typer.Option("--stems", help="Stems to look for, as bass,drums,vocals. Default: of the checkpoint.")
]
RateOption = Annotated[int, typer.Option("--rate", min=1, help="Hz of .npy files, which do not say it.")]
ThreadsOption = Annotated[int, typer.Option("-j", "--jobs", min=1, help="Files that are read at a time.")]
CheckJsonOption = Annotated[bool, typer.Option("--json", help="One JSON object a line: each song, then the summary.")]
RendersArgument = Annotated[Path, typer.Argument(metavar="RENDERS", help="Songs that `stemforge data render` wrote.")]
CaptionsOption = Annotated[Path, typer.Option("-o", "--out", help="Folder for the captioned mixtures.")]
SectionOption = Annotated[float, typer.Option(help="About so many seconds have one caption.")]
WholeOption = Annotated[float, typer.Option(help="Share of sections in which everybody plays.")]
SoloOption = Annotated[float, typer.Option(help="Share of sections with a single instrument, at most; 0 for none.")]
TextOption = Annotated[
    str | None, typer.Option("--text", help="Keep embeddings by this encoder too, as minilm: training then needs none.")
]
CountOption = Annotated[int, typer.Option("--captions", help="Captions of each section, in different words.")]


@app.command()
def render(
    assets: AssetsOption,
    hours: HoursOption,
    out: OutOption = Path("data/train"),
    seed: SeedOption = 0,
    jobs: JobsOption = 1,
    split: SplitOption = "train",
    format: FormatOption = "flac",
    longest: LongestOption = 150.0,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Render songs with one audio file a stem: bass, drums, guitar, piano, other, vocals; 44.1 kHz stereo.

    OUT holds a folder a song with its stems and song.json (what it was made of), manifest.jsonl and report.json.
    A stem that a song lacks has no file. Stopped at any time, the same command goes on where it was.
    """
    from stemforge.cli import console
    from stemforge.data.render import render as run

    with console.Report(verbosity=-1 if quiet else 0) as report:
        report.song(f"{hours:g} h to {out}", hours * 3600)
        found = run(assets, out, hours, seed, jobs, split, format, longest, _follow(report), report.note)
    if json:
        console.result_json("rendered", out=str(out), **found)
        return
    for line in _lines(found, out):
        console.result(line)


@app.command()
def check(
    folder: FolderArgument,
    stems: StemsOption = None,
    rate: RateOption = 44100,
    jobs: ThreadsOption = 1,
    json: CheckJsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Read every file of a data set and say what is there, before training starts.

    Layouts: a folder a song with one file a stem (MUSDB18-HQ and most others), with one folder a stem (MoisesDB), or
    Slakh2100 with its metadata.yaml. Told are hours of each stem, songs that lack it, silence, lengths and rates that
    differ, and files that are damaged or not finite: then the exit code is 3, or 4 when nothing can be used.
    """
    from stemforge.cli import data_check

    raise typer.Exit(data_check.run(folder, stems, rate, jobs, json=json, quiet=quiet))


@app.command()
def caption(
    renders: RendersArgument,
    out: CaptionsOption = Path("data/captioned"),
    section: SectionOption = 12.0,
    whole: WholeOption = 0.5,
    solo: SoloOption = 0.05,
    captions: CountOption = 4,
    text: TextOption = None,
    seed: SeedOption = 0,
    format: FormatOption = "flac",
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Turn rendered songs into captioned mixtures, what `stemforge train forge-text` learns from.

    OUT holds one mixture a song in audio/, captions.jsonl (what is heard in each section, in several ways) and
    report.json with the shares of bands, trios, duos and single instruments. There is no stem in it.
    """
    from stemforge.cli import console, data_caption
    from stemforge.data.mixtures import Wish

    wish = Wish(section, whole, solo, captions, seed)
    found = data_caption.run(renders, out, wish, format, text, quiet=quiet)
    if json:
        console.result_json("captioned", out=str(out), **found)
        return
    for line in data_caption.told(found, out):
        console.result(line)


def _follow(report: Report) -> Callable[[dict[str, Any], float], None]:
    """Shows each finished song."""

    def on_song(row: dict[str, Any], hours: float) -> None:
        report.advance(row["seconds"])
        report.note(f"{row['index'] + 1} songs, {hours:.2f} h", level=1)

    return on_song


def _lines(found: dict[str, Any], out: Path) -> list[str]:
    """The report in a few lines."""
    shares = [f"{found[f'share_of_time_with_{n}_stems']:.0%} of the time with {n} or more stems" for n in (2, 4)]
    rows = [
        f"{stem}: in {row['songs']} songs, {row['active_rms_db_mean']:.1f} dBFS (±{row['active_rms_db_std']:.1f})"
        for stem, row in found["stems"].items()
    ]
    return [f"{out}: {found['songs']} songs, {found['hours']:.2f} h, {', '.join(shares)}", *rows]
