"""The work of `stemforge impute --keep-mix`: new stems, named by prompts, to a song that stays whole."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stemforge.cli import prompted
from stemforge.cli.inputs import check_writable, track_name
from stemforge.cli.options import sampling_of
from stemforge.cli.prompted import Wish
from stemforge.cli.synthesis import Rows, Session
from stemforge.cli.synthesis_batch import Batch
from stemforge.errors import UsageError
from stemforge.inference.settings import default
from stemforge.tasks import impute
from stemforge.tasks.edit_files import Files, open_song
from stemforge.tasks.generate import WINDOW
from stemforge.tasks.player import Player
from stemforge.tasks.prompted import SONG, joined, names_of

if TYPE_CHECKING:
    from torch import Tensor


def run(options: dict[str, Any]) -> int:
    """Accompany a song as many times as is asked for; the exit code. Raises StemforgeError."""
    wish, song = _wish(options), options["keep_mix"]
    session = Session.begin({**options, "checkpoint": prompted.named(options["checkpoint"])}, prompted=True)
    prompted.encoder_of(session.checkpoint)
    check_writable(options["out"])
    seeds = range(session.seed, session.seed + options["num_samples"])
    top, name = options["out"] / session.checkpoint.name, track_name(song.stem)
    places = {seed: top / (name if len(seeds) == 1 else f"{name}-{seed}") for seed in seeds}
    known = cache(lambda: prompted.encoded(session.checkpoint, wish.texts))
    given = cache(lambda: replace(open_song(song), names=(SONG,)))
    batch = Batch(session, lambda: {SONG: song}, song.name)
    with session.report:
        return batch.run(places, lambda seed, folder: _one(session, wish, known(), given(), seed, folder))


def _wish(options: dict[str, Any]) -> Wish:
    """The song is the first stem. Raises UsageError for what does not go together."""
    added, described = options["add"] or [], options["song_prompt"]
    if options["keep_mix"] is None or not added:
        missing = "--add TEXT" if not added else "--keep-mix SONG"
        raise UsageError(f"--keep-mix and --add: say which song stays and what joins it. Give {missing} too.")
    others = {"FOLDER": options["source"] != Path(), "--keep": options["keep"], "--fill": options["fill"],
              "--region": options["region"], "--method": options["method"] != "auto",
              "--from": options["library"] is not None, "--sketch": options["sketch"],
              "--strength": options["strength"] is not None}  # fmt: skip
    for name, given in others.items():
        if given:
            raise UsageError(f"--keep-mix with {name}: that is for stems in files. Give one of them.")
    whole = joined([*([described] if described else []), *added]) if options["prompt"] is None else options["prompt"]
    wish = prompted.wish_of(added, whole, options)
    return replace(wish, stems=(described or "", *wish.stems))


def _one(session: Session, wish: Wish, known: Mapping[str, Tensor], given: Files, seed: int, folder: Path) -> None:
    """The song, and beside it what goes with it."""
    begun, network, options = time.monotonic(), session.network, session.options
    names = (SONG, *names_of(wish.stems[1:]))
    player = Player(network, names, wish.prompts(known), session.device)
    sampling = sampling_of(default("replace", network.conditional), options)
    segment = WINDOW if options["segment"] is None and network.conditional else options["segment"]
    task = impute.Wish(names[1:], method="replace", segment=segment, seed=seed)
    steps = sampling.steps * impute.windows_in(player.joint, given.frames / given.rate, segment)
    session.report.task(folder.name, steps)
    blocks = player.join(given, sampling, task, on_step=lambda done, steps: session.report.advance(1))
    written = session.write(folder, Rows(names, given.rate, given.channels, given.frames, blocks), mix=options["mix"])
    recipe = {"task": "impute", "input": options["keep_mix"].name, "seed": seed, "keep": [SONG],
              "fill": list(names[1:]), "prompts": dict(zip(names, wish.stems, strict=True)), "prompt": wish.mixture,
              "method": "replace", "sampling": asdict(sampling)}  # fmt: skip
    session.finish(folder, written, recipe, begun, rate=given.rate, channels=given.channels)
