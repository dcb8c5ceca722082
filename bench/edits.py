"""How good are edits? Pieces are made one by one into a folder, so that a run can be stopped; then they are scored.

    python bench/edits.py make inpaint SONGS OUT [--limit N]     6 s, the middle 2 s made anew, every method
    python bench/edits.py make continue SONGS OUT [--limit N]    2.4 s given, 6 s out
    python bench/edits.py make transition SONGS OUT [--limit N]  10 pairs, 8 s in common
    python bench/edits.py make restyle SONGS OUT [--limit N]     towards another song, MTT guides, MSD judges; with
                                                                 the default --guidance, or another one
    python bench/edits.py make tags SONGS OUT [--limit N]        towards a tag, the same guide and judge
    python bench/edits.py score inpaint SONGS OUT [--reference HELD_OUT]
    python bench/edits.py speed SONG                             a 4 s inpaint as a user types it, start-up included

SONGS: one folder a song with one file a stem. OUT: one folder a row, one wav a piece. `--limit`: pieces a call.
Scores need `stemforge checkpoints pull musicnn`.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import soundfile
import torch
from edit_scores import END, GAP, GIVEN, score
from synthesis import excerpts
from torch import Tensor

from stemforge import checkpoints, embedders
from stemforge.audio.io import read
from stemforge.devices import keep_memory
from stemforge.inference.guidance import Loss
from stemforge.models.detail import Detail
from stemforge.tasks import wishes
from stemforge.tasks.edit import STRENGTH, edit, way_for
from stemforge.tasks.exemplar import recalled
from stemforge.tasks.generate import generate
from stemforge.tasks.regions import Region, free_in
from stemforge.tasks.sketched import AROUND, Sketcher
from stemforge.train.recipes import compile_in_place
from stemforge.types import Audio, Stems

SAMPLERS = ("dpmpp-2m 20", "ddim 50", "ddpm 50")
METHODS = ("conditioning", "guidance", "both")
TAGS = ("guitar", "electronic", "rock", "ambient", "dance")
"""Known to both ears."""
RECALLED = 0.7
"""Strength of `edit inpaint`, `continue` and `transition`."""
Made = Iterator[tuple[str, Callable[[], Tensor]]]
"""Name of a piece, <row>/<excerpt>-<seed>, and what makes its mixture (channel, time)."""


class Maker:
    """The network and the excerpts, stems (stem, channel, time)."""

    def __init__(self, args: argparse.Namespace, seconds: float, needed: int = 3) -> None:
        self.network = checkpoints.network_of(checkpoints.find(args.checkpoint))
        if args.compile:
            compile_in_place(self.network)
            for part in self.network.modules():
                if isinstance(part, Detail):
                    part.compile(dynamic=False)
        self.rate, self.seeds, self.guidance = self.network.rate, args.seeds, args.guidance
        self.sketcher = Sketcher(checkpoints.network_of(checkpoints.find(args.sketch)), guidance=AROUND)
        self.songs = excerpts(args.songs, self.network.names, self.rate, seconds, args.count, needed)
        if not self.songs:
            sys.exit(f"'{args.songs}': no song of {3 * seconds:g} s in which {needed} stems sound. Give longer songs.")

    def edited(self, stems: Tensor, region: tuple[float, float], seed: int, sampler: str, **way: object) -> Tensor:
        """The mixture after an edit of all stems in a region (seconds)."""
        name, steps = sampler.split()
        chosen = way_for(self.network, **way)  # type: ignore[arg-type]
        chosen = replace(chosen, sampling=chosen.sampling.changed(sampler=name, steps=int(steps)))
        free, song = self.free(stems, region), Stems(self.network.names, stems, self.rate)
        return edit(self.network, song, free, chosen, names=self.network.names, seed=seed).samples.sum(0)

    def free(self, stems: Tensor, region: tuple[float, float]) -> Tensor:
        """Which samples are in a region (seconds)."""
        return free_in(Region(0, stems.shape[-1]), [Region(*(round(at * self.rate) for at in region))])

    def recalled(self, stems: Tensor, region: tuple[float, float], seed: int, sampler: str, strength: float) -> Tensor:
        """As `edited`, begun with what sounds like it around: what `edit inpaint` and `continue` do."""
        found = recalled(Stems(self.network.names, stems, self.rate), self.free(stems, region), self.network.names)
        if found is None:
            return self.edited(stems, region, seed, sampler)
        return self.edited(found.samples, region, seed, sampler, strength=strength)

    def drawn(self, stems: Tensor, region: tuple[float, float], seed: int) -> Tensor:
        """As `edited`, begun with a sketch: what `edit inpaint --strength 1` does."""
        names, way = self.network.names, way_for(self.network, sketcher=self.sketcher)
        song = Stems(names, stems, self.rate)
        return edit(self.network, song, self.free(stems, region), way, names=names, seed=seed).samples.sum(0)

    def walked(self, stems: Tensor, wish: Loss | None = None) -> Tensor:
        """The whole mixture with some noise on it and back again, towards a wish where there is one."""
        whole = (0.0, stems.shape[-1] / self.rate)
        return self.edited(stems, whole, 0, "ddim 25", strength=0.5, wish=wish, step=self.guidance)


def inpaintings(maker: Maker) -> Made:
    """The methods and samplers, regenerate, and what they are compared with."""
    first, last = (round(s * maker.rate) for s in GAP)
    for seed in range(maker.seeds):
        for i, stems in enumerate(maker.songs):
            mix, other = stems.sum(0), maker.songs[(i + 1 + seed) % len(maker.songs)].sum(0)
            name = f"{i:02d}-{seed}"

            def put(part: Tensor, mix: Tensor = mix) -> Tensor:
                return torch.cat([mix[:, :first], part, mix[:, last:]], dim=-1)

            yield (
                f"recalled/{name}",
                lambda s=stems, n=seed: maker.recalled(s, GAP, n, "dpmpp-2m 20", RECALLED),
            )
            yield f"drawn/{name}", lambda s=stems, n=seed: maker.drawn(s, GAP, n)
            for method in METHODS:
                for sampler in SAMPLERS:
                    yield (
                        f"{method} {sampler}/{name}",
                        lambda s=stems, m=method, a=sampler, n=seed: maker.edited(s, GAP, n, a, method=m),
                    )
            yield (
                f"regenerate/{name}",
                lambda s=stems, n=seed: maker.edited(s, GAP, n, "dpmpp-2m 20", strength=STRENGTH),
            )
            yield f"silence/{name}", lambda put=put, mix=mix: put(torch.zeros_like(mix[:, first:last]))
            yield f"noise/{name}", lambda put=put, mix=mix: put(torch.randn_like(mix[:, first:last]) * mix.std())
            yield f"pasted/{name}", lambda put=put, other=other: put(other[:, first:last])
            yield (
                f"independent/{name}",
                lambda put=put, n=seed, i=i: put(_independent(maker, n * 1000 + i, last - first)),
            )


def _independent(maker: Maker, seed: int, length: int) -> Tensor:
    """A piece that knows nothing of the song."""
    sampling = way_for(maker.network).sampling.changed(sampler="dpmpp-2m", steps=20)
    return generate(maker.network, length / maker.rate, sampling, seed=seed).samples.sum(0)


def continuations(maker: Maker) -> Made:
    """The end of 6 s made anew, and an independent piece in its place."""
    at = round(GIVEN * maker.rate)
    for seed in range(maker.seeds):
        for i, stems in enumerate(maker.songs):
            name, mix = f"{i:02d}-{seed}", stems.sum(0)
            yield f"continued/{name}", lambda s=stems, n=seed: maker.recalled(s, END, n, "dpmpp-2m 20", RECALLED)
            yield f"drawn/{name}", lambda s=stems, n=seed: maker.drawn(s, END, n)
            yield f"from noise/{name}", lambda s=stems, n=seed: maker.edited(s, END, n, "dpmpp-2m 20")
            yield (
                f"independent/{name}",
                lambda m=mix, n=seed, i=i: torch.cat(
                    [m[:, :at], _independent(maker, n * 1000 + i, m.shape[-1] - at)], dim=-1
                ),
            )


def transitions(maker: Maker) -> Made:
    """14 s: 3 s of A, 8 s of transition, 3 s of B; and the plain cross-fade."""
    rate = maker.rate
    for i, a in enumerate(maker.songs[:10]):
        b = maker.songs[(i + len(maker.songs) // 2) % len(maker.songs)]
        angle = (torch.arange(14 * rate) / rate - 3).clamp(0, 8) / 8 * (np.pi / 2)
        faded = a * angle.cos() + b * angle.sin()
        yield f"before/{i:02d}-0", lambda a=a: a.sum(0)
        yield f"after/{i:02d}-0", lambda b=b: b.sum(0)
        yield f"crossfade/{i:02d}-0", lambda x=faded: x.sum(0)
        yield f"transition/{i:02d}-0", lambda x=faded: maker.edited(x, (3.0, 11.0), 0, "dpmpp-2m 20", strength=RECALLED)


def restyled(maker: Maker) -> Made:
    """Ten excerpts as they are, and nearer to another one."""
    ear = embedders.load("MTT")
    for i, stems in enumerate(maker.songs[:10]):
        other = maker.songs[(i + len(maker.songs) // 2) % len(maker.songs)].sum(0)
        wish = wishes.like(ear, Audio(other, maker.rate), maker.rate)
        yield f"original/{i:02d}-0", lambda s=stems: s.sum(0)
        yield f"reference/{i:02d}-0", lambda o=other: o
        yield f"plain/{i:02d}-0", lambda s=stems: maker.walked(s)
        yield f"restyled/{i:02d}-0", lambda s=stems, h=wish: maker.walked(s, h)


def tagged(maker: Maker) -> Made:
    """Ten excerpts as they are, and nearer to a tag that both ears know; each tag twice."""
    ear = embedders.load("MTT")
    for i, stems in enumerate(maker.songs[:10]):
        tag = TAGS[i % len(TAGS)]
        wish = wishes.tagged(ear, [ear.tags.index(tag)], maker.rate)
        name = f"{tag}{i // len(TAGS)}-0"
        yield f"original/{name}", lambda s=stems: s.sum(0)
        yield f"tagged/{name}", lambda s=stems, h=wish: maker.walked(s, h)


TASKS = {
    "inpaint": (inpaintings, 6.0),
    "continue": (continuations, 6.0),
    "transition": (transitions, 14.0),
    "restyle": (restyled, 6.0),
    "tags": (tagged, 6.0),
}


def make(args: argparse.Namespace) -> None:
    """The pieces that are not there yet, at most --limit of them."""
    keep_memory()
    pieces, seconds = TASKS[args.task]
    maker, made = Maker(args, seconds), 0
    for i, stems in enumerate(maker.songs):
        save(args.out / "real" / f"{i:02d}-0.wav", stems.sum(0), maker.rate)
    for name, piece in pieces(maker):
        path = args.out / f"{name}.wav"
        if path.exists() or (args.rows and path.parent.name not in args.rows.split(",")):
            continue
        if made == args.limit:
            return
        begun = time.perf_counter()
        save(path, piece(), maker.rate)
        made += 1
        print(f"{name}: {time.perf_counter() - begun:.1f} s", flush=True)


def save(path: Path, sound: Tensor, rate: int) -> None:
    """Complete, or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".{os.getpid()}.part")
    soundfile.write(part, sound.T.numpy(), rate, format="WAV", subtype="FLOAT")
    part.replace(path)


def speed(args: argparse.Namespace) -> None:
    """Wall and processor time of one command; is the rest untouched, and is there a click?"""
    with TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "stemforge", "edit", "inpaint", str(args.songs), "--region", "60:64"]
        begun, before = time.perf_counter(), os.times()
        subprocess.run([*command, "-o", folder, "-q", "-n", args.checkpoint], check=True, stdout=subprocess.DEVNULL)
        wall, after = time.perf_counter() - begun, os.times()
        busy = after.children_user + after.children_system - before.children_user - before.children_system
        old, new = read(args.songs), read(next(Path(folder).rglob("mix.wav")))
    edges = [round(s * old.rate) for s in (59.95, 60.0, 64.0, 64.05)]
    same = all(torch.equal(old.samples[:, p], new.samples[:, p]) for p in (slice(0, edges[0]), slice(edges[3], None)))
    steps = new.samples.diff(dim=-1).abs()
    jumps = [
        float(steps[:, e - 2 : e + 2].max() / steps[:, e - old.rate : e + old.rate].quantile(0.999)) for e in edges
    ]
    print(f"{old.seconds:.0f} s of song: {wall:.1f} s, {busy:.1f} s of processor time, rest bit-exact: {same}, "
          f"largest jump at an edge {max(jumps):.2f} times the local 99.9th percentile")  # fmt: skip


def main() -> None:
    """The command line of this file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, run in (("make", make), ("score", score), ("speed", speed)):
        command = commands.add_parser(name)
        command.set_defaults(run=run)
        if name != "speed":
            command.add_argument("task", choices=TASKS)
        command.add_argument("songs", type=Path)
        if name != "speed":
            command.add_argument("out", type=Path)
        command.add_argument("--checkpoint", default="forge")
        command.add_argument("--sketch", default="sketch")
        command.add_argument("--reference", type=Path)
        command.add_argument("--guidance", type=float)
        command.add_argument("--rows", help="these only, as 'noise,pasted'")
        command.add_argument(
            "--compile", action="store_true", help="a sixth less time for a long run, from its second piece"
        )
        for option, default in (("--limit", -1), ("--count", 40), ("--seeds", 8)):
            command.add_argument(option, type=int, default=default)
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
