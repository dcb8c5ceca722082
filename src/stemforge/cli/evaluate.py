"""`stemforge evaluate`: score separated songs, or a checkpoint, against reference stems; compare generated songs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

COMPARE = "Generated songs"

RefArgument = Annotated[
    Path, typer.Argument(metavar="REF", help="Folder with one folder a song, one audio file a stem in each.")
]
EstArgument = Annotated[
    Path | None,
    typer.Argument(
        metavar="EST",
        help="The same songs, separated. Left out: the checkpoint separates the sum of the stems of each song.",
    ),
]
StemsOption = Annotated[str | None, typer.Option("--stems", help="Stems that count, as bass,drums. Default: all.")]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object a line: each song, then the summary.")]
CsvOption = Annotated[Path | None, typer.Option("--csv", help="Also write song, figure, stem, windows, dB here.")]
CheckpointOption = Annotated[
    str | None,
    typer.Option(
        "-n", "--name", "--model", "--checkpoint", help="Name, or folder, of a checkpoint to score without EST."
    ),
]
PassesOption = Annotated[
    int | None, typer.Option("--passes", min=1, max=4, help="Pitches at which a song is heard, without EST.")
]
StepsOption = Annotated[int, typer.Option("--steps", min=1, help="Network calls a window, without EST.")]
DeviceOption = Annotated[
    str, typer.Option("-d", "--device", envvar="STEMFORGE_DEVICE", help="auto, cpu, cuda, cuda:N or mps.")
]


FadOption = Annotated[
    bool, typer.Option("--fad", help="FAD-musicnn of the songs of EST from those of REF.", rich_help_panel=COMPARE)
]
SubFadOption = Annotated[
    bool,
    typer.Option(
        "--sub-fad", help="The same of stems made by EST added to the --given of REF.", rich_help_panel=COMPARE
    ),
]
CoherenceOption = Annotated[
    bool,
    typer.Option("--coherence", help="Beat and chroma of stems made by EST against --given.", rich_help_panel=COMPARE),
]
GivenOption = Annotated[
    str | None, typer.Option("--given", help="Stems that were kept, as bass,drums.", rich_help_panel=COMPARE)
]
WindowsMinOption = Annotated[
    int, typer.Option("--windows-min", min=2, help="FAD of fewer windows is refused.", rich_help_panel=COMPARE)
]
WindowsHopOption = Annotated[
    float, typer.Option("--windows-hop", help="Seconds between starts of windows of 3 s.", rich_help_panel=COMPARE)
]
JudgeOption = Annotated[
    str, typer.Option("--judge", help="MSD or MTT, the weights of musicnn behind FAD.", rich_help_panel=COMPARE)
]


def evaluate(
    ref: RefArgument,
    est: EstArgument = None,
    stems: StemsOption = None,
    json: JsonOption = False,
    csv: CsvOption = None,
    checkpoint: CheckpointOption = None,
    steps: StepsOption = 1,
    passes: PassesOption = None,
    device: DeviceOption = "auto",
    fad: FadOption = False,
    sub_fad: SubFadOption = False,
    coherence: CoherenceOption = False,
    given: GivenOption = None,
    windows_min: WindowsMinOption = 300,
    windows_hop: WindowsHopOption = 0.5,
    judge: JudgeOption = "MSD",
) -> None:
    """Score separated songs against their reference stems, in dB; or compare generated songs with real ones.

    active, stereo, treble and msdm are improvements over the mixture in SI-SDR, windows of 4 s; sum_db says how far
    the estimates are from adding up to the mixture (worst song). --fad, --sub-fad and --coherence measure what was
    generated instead. docs/scores.md defines all of them.
    """
    from stemforge.cli import compare_run, score_run

    asked = compare_run.Asked(fad, sub_fad, coherence, given, stems, windows_min, windows_hop, judge, device, json)
    if asked.check(est, alone={"--csv": csv, "--checkpoint": checkpoint}):
        return compare_run.compare(ref, est, asked)
    raise typer.Exit(score_run.run(ref, est, asked, checkpoint, {"steps": steps, "passes": passes}, csv))
