"""Where `stemforge train` goes: to a run, or to the curves of one that is there."""

from __future__ import annotations

from pathlib import Path

from stemforge.cli import console
from stemforge.cli.train_request import Request, needed
from stemforge.errors import UsageError


def begin(config: Path | None, changes: list[str], plot: Path | None, request: Request) -> None:
    """Train, or draw. UsageError when neither is asked for, or both."""
    if plot is not None:
        if config is not None:
            raise UsageError("--plot: draws, it does not train. Leave the config out.")
        from stemforge.cli.train_plot import draw

        image = draw(plot)
        console.result_json("plotted", path=str(image)) if request.json else console.result(str(image))
        return
    if config is None:
        raise UsageError("train: no config. Give one, as `stemforge train finetune`, or --plot RUN.")
    needed("lightning_fabric", "tensorboard")
    if request.wandb is not None:
        needed("wandb", install="wandb")
    from stemforge.cli.train_config import settings
    from stemforge.cli.train_run import run

    run(settings(config, changes), request)
