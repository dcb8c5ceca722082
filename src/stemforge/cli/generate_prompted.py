"""The work of `stemforge generate` with prompts."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stemforge.cli import prompted, sketches
from stemforge.cli.generate_run import check_duration
from stemforge.cli.inputs import check_writable
from stemforge.cli.options import sampling_of
from stemforge.cli.prompted import Wish
from stemforge.cli.synthesis import Rows, Session
from stemforge.cli.synthesis_batch import Batch
from stemforge.errors import UsageError
from stemforge.inference.settings import default
from stemforge.models.forge import SLOT
from stemforge.tasks.generate import WINDOW, windows_in
from stemforge.tasks.player import Player
from stemforge.tasks.prompted import names_of, slug

if TYPE_CHECKING:
    from torch import Tensor


def run(options: dict[str, Any]) -> int:
    """Generate as many pieces as are asked for, each with the next seed; the exit code. Raises StemforgeError."""
    wishes = prompted.pieces(options)
    session = Session.begin({**options, "checkpoint": prompted.named(options["checkpoint"])}, prompted=True)
    sketches.refuse(options)
    if options["stems"] is not None:
        raise UsageError(
            "--stems with prompts: is for stems that a checkpoint knows by name. Give --stem TEXT instead."
        )
    check_duration(options)
    prompted.encoder_of(session.checkpoint)
    check_writable(options["out"])
    count = options["num_samples"]
    by_seed = {session.seed + n: wishes[n // count] for n in range(len(wishes) * count)}
    top = options["out"] / session.checkpoint.name
    places = {seed: top / f"{slug(wish.mixture or wish.stems[0])}-{seed}" for seed, wish in by_seed.items()}
    texts = tuple(dict.fromkeys(text for wish in wishes for text in wish.texts))
    known = cache(lambda: prompted.encoded(session.checkpoint, texts))
    batch = Batch(session, changes=lambda seed: _told(by_seed[seed]))
    with session.report:
        return batch.run(places, lambda seed, folder: _one(session, by_seed[seed], known(), seed, folder))


def _told(wish: Wish) -> dict[str, Any]:
    """A wish as a sidecar has it."""
    return {"prompt": wish.mixture, "stem": list(wish.stems), "negative": wish.negative, "cfg": wish.cfg,
            "mixture_term": wish.term}  # fmt: skip


def _one(session: Session, wish: Wish, known: Mapping[str, Tensor], seed: int, folder: Path) -> None:
    """One piece."""
    begun, options, network = time.monotonic(), session.options, session.network
    sampling = sampling_of(default("generate", network.conditional), options)
    alone = len(wish.stems) == 1
    names = (SLOT,) if wish.mixture in wish.stems else names_of(wish.stems)
    player = Player(network, names, wish.prompts(known), session.device)
    segment = WINDOW if options["segment"] is None and network.conditional else options["segment"]
    duration = options["duration"]
    session.report.task(folder.name, sampling.steps * windows_in(player.joint, duration, segment))
    blocks = player.generate(
        duration, sampling, seed=seed, segment=segment, on_step=lambda done, steps: session.report.advance(1)
    )
    rate, channels = player.rate, player.channels
    written = session.write(folder, Rows(names, rate, channels, player.frames(duration), blocks), mix=not alone)
    recipe = {"task": "generate", "seed": seed, "duration": duration, "stems": list(names),
              "prompts": dict(zip(names, wish.stems, strict=True)), "sampling": asdict(sampling)}  # fmt: skip
    session.finish(folder, written, recipe, begun, rate=rate, channels=channels)
