"""The work of `stemforge generate`."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any

from stemforge.cli.inputs import check_writable
from stemforge.cli.options import listed, output_folder, sampling_of
from stemforge.cli.synthesis import Session
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
    folders = [output_folder(top / f"seed-{seed}", overwrite=options["overwrite"]) for seed in seeds]
    check_writable(options["out"])
    with session.report:
        sampling = sampling_of(default("generate", session.network.conditional), options)
        if getattr(session.network, "independent", False):
            session.report.note("this checkpoint knows single stems only: they will not belong together")
        total = sampling.steps * windows_in(session.network, options["duration"])
        for seed, folder in zip(seeds, folders, strict=True):
            begun = time.monotonic()
            session.report.task(f"seed {seed}", total)
            made = generate(
                session.network,
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
    return 0
