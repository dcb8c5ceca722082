"""The work of `stemforge generate`."""

from __future__ import annotations

import time
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from stemforge.cli import prompted, sketches
from stemforge.cli.inputs import check_writable
from stemforge.cli.options import listed, sampling_of
from stemforge.cli.synthesis import Rows, Session
from stemforge.cli.synthesis_batch import Batch
from stemforge.errors import UsageError
from stemforge.inference.settings import default
from stemforge.tasks.generate import frames_of, generate_blocks, instruments, windows_in
from stemforge.tasks.levels import levelled


def run(options: dict[str, Any]) -> int:
    """Generate as many pieces as are asked for; the exit code. Raises StemforgeError."""
    prompted.refuse(options, "--prompt or --stem")
    session = Session.begin(options)
    stems = listed(options["stems"], "--stems")
    session.check_stems(stems)
    check_duration(options)
    sketches.check(session)
    top = options["out"] / session.checkpoint.name
    seeds = range(session.seed, session.seed + options["num_samples"])
    check_writable(options["out"])
    with session.report:
        batch = Batch(session, changes=lambda seed: {"sketch": sketches.stamp(session)})
        return batch.run({seed: top / f"seed-{seed}" for seed in seeds}, partial(_one, session, stems))


def check_duration(options: dict[str, Any]) -> None:
    """Raises UsageError for a piece of no length."""
    if not 0 < options["duration"] < 24 * 3600:
        raise UsageError(f"--duration {options['duration']:g}: must be more than 0 s. Try --duration 12.")


def _one(session: Session, stems: tuple[str, ...] | None, seed: int, folder: Path) -> None:
    """One piece."""
    begun, options, network = time.monotonic(), session.options, session.network
    if getattr(network, "independent", False):
        session.report.note("this checkpoint knows single stems only: they will not belong together")
    segment, duration = options["segment"], options["duration"]
    names, frames = stems or instruments(network.names), frames_of(network, duration)
    sketcher = sketches.sketcher(session, names)
    sampling = sampling_of(default("generate", network.conditional), options)
    sampling = sampling if sketcher is None else sketcher.refining
    steps = sampling.steps * windows_in(network, duration, segment)
    session.report.task(f"seed {seed}", steps + (0 if sketcher is None else sketcher.steps(frames)))

    def on_step(done: int, steps: int) -> None:
        session.report.advance(1)

    blocks = generate_blocks(
        network,
        duration,
        sampling,
        seed=seed,
        stems=stems,
        segment=segment,
        device=session.device,
        on_step=on_step,
        begun=None
        if sketcher is None
        else sketcher.generate(names, frames, network.channels, seed=seed, on_step=on_step),
    )
    rate, channels = network.rate, network.channels
    if network.conditional:  # the levels of others are their authors'
        blocks = levelled(blocks, names)
    written = session.write(folder, Rows(names, rate, channels, frames, blocks), mix=True)
    recipe = {"task": "generate", "seed": seed, "duration": duration, "stems": list(names),
              "sampling": asdict(sampling), **sketches.told(session, sketcher)}  # fmt: skip
    session.finish(folder, written, recipe, begun, rate=rate, channels=channels)
