"""`stemforge evaluate`: score separated songs, or a checkpoint, against reference stems."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

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
StepsOption = Annotated[int, typer.Option("--steps", min=1, help="Network calls a window, without EST.")]
DeviceOption = Annotated[
    str, typer.Option("-d", "--device", envvar="STEMFORGE_DEVICE", help="auto, cpu, cuda, cuda:N or mps.")
]


def evaluate(
    ref: RefArgument,
    est: EstArgument = None,
    stems: StemsOption = None,
    json: JsonOption = False,
    csv: CsvOption = None,
    checkpoint: CheckpointOption = None,
    steps: StepsOption = 1,
    device: DeviceOption = "auto",
) -> None:
    """Score separated songs against their reference stems, in dB.

    active, stereo, treble and msdm are improvements over the mixture in SI-SDR, windows of 4 s; sum_db says how far
    the estimates are from adding up to the mixture (worst song). docs/scores.md defines them.
    """
    from stemforge.cli import score_report
    from stemforge.cli.score_run import estimates
    from stemforge.tasks.evaluate import SongScore
    from stemforge.tasks.evaluate import evaluate as run

    def on_song(score: SongScore) -> None:
        if json:
            score_report.print_json("song", [score], song=score.name)

    with estimates(ref, est, checkpoint, steps, device) as folder:
        scores = run(ref, folder, [s.strip() for s in stems.split(",")] if stems else None, on_song=on_song)
    score_report.print_json("summary", scores, songs=len(scores)) if json else score_report.print_report(scores)
    if csv:
        score_report.write_csv(scores, csv)
