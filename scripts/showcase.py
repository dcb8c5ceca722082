"""One page on which a person hears within a minute what stemforge does: docs/showcase.html.

    python scripts/showcase.py [--checkpoint NAME] [--seed 0] [--steps N] [--out docs/showcase.html]

A part of the example song as it was, taken apart, with stems made anew beside the kept ones, with a part of it made
anew, and a new piece: all by the commands that it prints, with the same seed every time. Sounds are mono; a page of
more than 2 MB is refused. New weights: run it again.
"""

from __future__ import annotations

import argparse
import os
import shlex
import tempfile
from collections.abc import Iterator
from contextlib import chdir
from dataclasses import replace
from functools import partial
from pathlib import Path

import soundfile
from torch import Tensor

from stemforge import checkpoints
from stemforge.audio.io import Source, blocks, probe
from stemforge.audio.resample import resampled, to_channels
from stemforge.cli.main import main as stemforge
from stemforge.report.colours import colour_of
from stemforge.report.page import html, write_page
from stemforge.report.sheet import Lane, Sheet, added

ROOT = Path(__file__).parents[1]
SONG, NAME = ROOT / "examples" / "demo.flac", "low-tide"
FIRST_S, SECONDS = 4.8, 14.4  # bars 3 to 8 of the example song
NEW_S = (4.8, 9.6)
"""What `edit` makes anew, in seconds from the first."""
STRENGTH = 0.7
KEPT = ("bass", "drums", "guitar", "vocals")
ANEW = "Accompanied anew"
RATE, BITRATE = 32000, 48
MOST_BYTES = 2_000_000


def mono(source: Source) -> Iterator[Tensor]:
    """A sound as the page has it."""
    return resampled((to_channels(block, 1) for block in blocks(source)), source.rate, RATE)


def lane(name: str, group: str, path: Path, key: str = "", note: str = "", new: bool = False) -> Lane:
    """A file as a lane."""
    source = probe(path)
    return Lane(name, group, partial(mono, source), RATE, 1, colour_of(name), key, note=note, marks=(NEW_S,) * new)


def made(checkpoint: str | None, seed: int, steps: int | None) -> tuple[list[str], dict[str, Path], tuple[str, ...]]:
    """Run the commands in this folder: as typed, the folder of each result, and the stems that were kept."""
    found = checkpoints.find(checkpoint)
    kept = tuple(name for name in found.shown if name in KEPT)
    name, song, apart = found.name, f"{NAME}.wav", f"separated/{found.name}/{NAME}"
    own = ["--checkpoint", str(checkpoint)] if checkpoint else []
    sampled = [*own, "--seed", str(seed), *(["--steps", str(steps)] if steps else [])]
    region = f"{NEW_S[0]:g}:{NEW_S[1]:g}"
    lines = [
        ["separate", song, *own],
        ["impute", apart, "--keep", ",".join(kept), "--mix", *sampled],
        ["edit", "regenerate", song, "--region", region, "--strength", str(STRENGTH), *sampled],
        ["generate", "--duration", f"{SECONDS:g}", *sampled],
    ]
    for line in lines:
        print("stemforge", shlex.join(line), flush=True)
        if code := stemforge([*line, "--quiet"]):
            raise SystemExit(code)
    places = {"separate": apart, "impute": f"imputed/{name}/{NAME}", "edit": f"edited/{name}/regenerate/{NAME}",
              "generate": f"generated/{name}/seed-{seed}"}  # fmt: skip
    return [shlex.join(["stemforge", *line]) for line in lines], {k: Path(v) for k, v in places.items()}, kept


def sheet_of(lines: list[str], places: dict[str, Path], kept: tuple[str, ...], facts: list[tuple[str, str]]) -> Sheet:
    """All that was made on one time line; the switch of the page leads from one version to the next."""
    apart, imputed = places["separate"], places["impute"]
    stems, new = (sorted(path.stem for path in folder.glob("*.wav")) for folder in (apart, imputed))
    lanes = [lane("original", "The song", Path(f"{NAME}.wav"), "0")]
    lanes += [lane(name, "Taken apart", apart / f"{name}.wav", str(k)) for k, name in enumerate(stems, 1)]
    both = [lane(name, ANEW, imputed / f"{name}.wav") for name in kept]
    lanes.append(replace(both[0], name=" + ".join(kept), blocks=lambda: added([b.blocks() for b in both]),
                         colour=colour_of("mixture"), note="kept"))  # fmt: skip
    lanes += [lane(name, ANEW, imputed / f"{name}.wav", note="new") for name in new if name not in (*kept, "mix")]
    words = f"{NEW_S[0]:g} to {NEW_S[1]:g} s made anew"
    lanes.append(lane("edited", "Edited", places["edit"] / "mix.wav", note=words, new=True))
    lanes.append(lane("generated", "Generated", places["generate"] / "mix.wav", note="nothing was given"))
    tasks = ("taken apart", "accompanied anew", "edited", "generated")
    lead = "One song: as it was, taken apart, with a new accompaniment, with a part made anew; and one that never was."
    return Sheet("stemforge in a minute", lead, lanes, SECONDS, "Taken apart",
                 settings=[*zip(tasks, lines, strict=True), *facts])  # fmt: skip


def main(arguments: list[str] | None = None) -> None:
    """Make the sounds in a folder that vanishes, then the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, help="fewer than by default, to try it out")
    parser.add_argument("--song", type=Path, default=SONG)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "showcase.html")
    args = parser.parse_args(arguments)
    song, out = args.song.resolve(), args.out.resolve()
    if args.checkpoint and Path(args.checkpoint).is_dir():
        args.checkpoint = str(Path(args.checkpoint).resolve())
    for name in ("STEMFORGE_MODEL", "STEMFORGE_OUT"):
        os.environ.pop(name, None)
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        rate = soundfile.info(song).samplerate
        samples, _ = soundfile.read(song, round(SECONDS * rate), round(FIRST_S * rate), always_2d=True)
        soundfile.write(f"{NAME}.wav", samples, rate, subtype="PCM_24")
        found = made(args.checkpoint, args.seed, args.steps)
        checkpoint = checkpoints.find(args.checkpoint)
        facts = [("checkpoint", checkpoint.name), ("sha256", checkpoints.verify(checkpoint)[checkpoints.WEIGHTS][:16])]
        text = html(sheet_of(*found, facts), BITRATE)
    if len(text.encode()) > MOST_BYTES:
        raise SystemExit(f"showcase: {len(text.encode()):,} bytes, more than {MOST_BYTES:,}. Choose a lower BITRATE.")
    write_page(out, text)
    print(f"{out}: {len(text.encode()) / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
