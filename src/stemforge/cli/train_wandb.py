"""Figures of a run on Weights & Biases, for those who ask for it."""

from __future__ import annotations

import importlib
import logging
import uuid
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning_fabric.loggers.logger import Logger

from stemforge.errors import UsageError

log = logging.getLogger("stemforge")

ID = "wandb.id"


class Wandb(Logger):
    """A run of a project there, found again when the run in `out` goes on. It never ends a training.

    WANDB_MODE=offline keeps the figures in `out`/wandb; `wandb sync` sends them later.

    Raises:
        UsageError: it cannot be begun, for instance because nobody is logged in.
    """

    def __init__(self, project: str, out: Path, config: Mapping[str, Any]) -> None:
        wandb = importlib.import_module("wandb")
        path = out / "logs" / ID
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{uuid.uuid4().hex[:12]}\n", encoding="utf-8")
        self._project, self._id, self._told = project, path.read_text(encoding="utf-8").strip(), False
        about = {"project": project, "id": self._id, "name": out.name, "dir": str(out), "resume": "allow"}
        try:
            self._run = wandb.init(config=dict(config), **about)
        except Exception as error:  # theirs come in many kinds, and in other ones with each version
            raise UsageError(
                f"--wandb {project}: cannot be begun ({error}). Run `wandb login`, set WANDB_MODE=offline, or leave "
                "--wandb out."
            ) from error

    @property
    def name(self) -> str:
        """The project."""
        return self._project

    @property
    def version(self) -> str:
        """The id of the run there."""
        return self._id

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Figures of a step; what cannot be sent is told once."""
        try:
            self._run.log(dict(metrics), step=max(step or 0, 0))
        except Exception as error:
            if not self._told:
                log.warning("wandb: %s; the run goes on, its figures are in logs/.", error)
            self._told = True

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: object, **kwargs: object) -> None:
        """Not used: the config is there from the beginning."""

    def finalize(self, status: str) -> None:
        """Send what is left."""
        try:
            self._run.finish(exit_code=0 if status == "success" else 1)
        except Exception as error:
            log.warning("wandb: %s; the figures are in logs/.", error)
