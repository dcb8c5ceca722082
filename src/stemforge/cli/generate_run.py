"""The work of `stemforge generate`."""

from __future__ import annotations

import time
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from stemforge.cli.inputs import check_writable
from stemforge.cli.options import listed, sampling_of
from stemforge.cli.synthesis import Session
from stemforge.cli.synthesis_batch import Batch
from stemforge.errors import UsageError
from stemforge.inference.settings import default
from stemforge.tasks.generate import generate, windows_in


def run(options: dict[str, Any]) -> int:
    """Generate as many pieces as are asked for; the exit code. Raises StemforgeError."""
    session = Session.begin(options)
    stems = listed(options["stems"], "--stems")
    session.check_stems(stems)
    if not 0 < options["duration"] < 24 * 3600:
        raise UsageError(f"--duration {options['duration']:g}: must be more than 0 s. Try --duration 12.")
    top = options["out"] / session.checkpoint.name
    seeds = range(session.seed, session.seed + options["num_samples"])
    check_writable(options["out"])
    with session.report:
        return Batch(session).run({seed: top / f"seed-{seed}" for seed in seeds}, partial(_one, session, stems))


def _one(session: Session, stems: tuple[str, ...] | None, seed: int, folder: Path) -> None:
    """One piece."""
    begun, options, network = time.monotonic(), session.options, session.network
    sampling = sampling_of(default("generate", network.conditional), options)
    if getattr(network, "independent", False):
        session.report.note("this checkpoint knows single stems only: they will not belong together")
    session.report.task(f"seed {seed}", sampling.steps * windows_in(network, options["duration"]))
    made = generate(
        network,
        options["duration"],
        sampling,
        seed=seed,
        stems=stems,
        device=session.device,
        on_step=lambda done, steps: session.report.advance(1),
    )
    written = session.write(folder, made, mix=True)
    recipe = {"task": "generate", "seed": seed, "duration": options["duration"], "stems": list(made.names),
              "sampling": asdict(sampling)}  # fmt: skip
    session.finish(folder, written, recipe, begun, rate=made.rate, channels=made.samples.shape[1])
