"""Does a checkpoint with text do what its prompts say? Three tables, for the prompts in bench/prompts.toml.

    python bench/prompts.py follow [--checkpoint forge-text] [--seeds 10] [--seconds 10]
    python bench/prompts.py separate SONGS [--seconds 6] [--beside forge]
    python bench/prompts.py cohere [--seeds 6] [--seconds 12]

follow: each prompt of one instrument is generated with every seed and heard by musicnn (MagnaTagATune, pulled once with
`stemforge checkpoints pull musicnn`), which no part of the training has heard. A row a prompt: where its tag comes
among the 50 by mean likelihood, where it comes for the empty prompt, and which of the tags of all prompts wins.
separate: active SI-SDR improvement in dB on the middle of every song, as bench/methods.py has it: all prompts at once,
the same in other words, each stem by itself, and Dirac on a checkpoint that was trained on stems. The mixture has 0.
cohere: for each form of the mixture term the agreement of every two stems of a set, in beats (F-measure) and pitch
classes (correlation, without drums), means over sets and seeds and what they differ by from `none`, with 95% intervals.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import torch
from methods import cut
from torch import Tensor

from stemforge import checkpoints, embedders, prompts
from stemforge.devices import choose, keep_memory
from stemforge.inference.prompted import TERMS, Prompts
from stemforge.inference.settings import default
from stemforge.models.sketch import Sketch
from stemforge.separators.diffusion import Likelihood
from stemforge.separators.prompted import extractor, separator
from stemforge.tasks.coherence import compare, features
from stemforge.tasks.evaluate import evaluate, find_stem, list_songs, means
from stemforge.tasks.player import Player
from stemforge.tasks.prompted import joined, names_of
from stemforge.tasks.score import separate_sums
from stemforge.types import Separator, Stems

ASKED = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))


class Heard:
    """A checkpoint and its language model on a device."""

    def __init__(self, name: str, device: str) -> None:
        self.device = choose(device)
        self.network: Any = checkpoints.network_of(checkpoints.find(name)).to(self.device)
        self._encoder = prompts.load_encoder(self.network.config.text)

    def rows(self, texts: Sequence[str]) -> Tensor:
        """Embeddings (text, feature), zeros for the empty prompt."""
        return torch.stack([self._row(text) for text in texts])

    def _row(self, text: str) -> Tensor:
        return prompts.embeddings(self._encoder, [text])[0] if text else torch.zeros(self.network.config.prompt_width)

    def made(self, stems: Sequence[str], mixture: str | None, term: str, seed: int, args: argparse.Namespace) -> Stems:
        """New stems with these prompts."""
        joint = None if mixture is None else self.rows([mixture])[0]
        wanted = Prompts(self.rows(stems), joint, scale=args.cfg, term=term)
        sampling = default("generate", True).changed(steps=args.steps)
        names = names_of(stems)
        player = Player(self.network, names, wanted, self.device)
        blocks = player.generate(args.seconds, sampling, seed=seed, segment=12.0)
        return Stems(names, torch.cat(list(blocks), dim=-1), player.rate)


def follow(heard: Heard, args: argparse.Namespace) -> None:
    """Ranks of tags."""
    ear = embedders.load("MTT", heard.device)
    places = [ear.tags.index(tag) for tag in ASKED["tags"].values()]

    def likelihoods(prompt: str) -> Tensor:
        """(tag,), means over seeds."""
        found = []
        for seed in range(args.seeds):
            made = heard.made([prompt], None, "none", seed, args)
            with torch.no_grad():
                logits = ear.hear(made.samples.to(heard.device), made.rate).logits
            assert logits is not None
            found.append(logits.sigmoid()[0].cpu())
        return torch.stack(found).mean(dim=0)

    def rank(row: Tensor, place: int) -> int:
        return int((row > row[place]).sum()) + 1

    empty, winners, five, above = likelihoods(""), [], 0, 0
    for (prompt, tag), place in zip(ASKED["tags"].items(), places, strict=True):
        row = likelihoods(prompt)
        now, before = rank(row, place), rank(empty, place)
        winners.append(ear.tags[places[int(row[places].argmax())]])
        five, above = five + (now <= 5), above + (now < before)
        print(f"{prompt:18} {tag:12} rank {now:2}  empty prompt {before:2}  winner {winners[-1]}", flush=True)
    swaps = list(combinations(winners, 2))
    changed = sum(a != b for a, b in swaps)
    right = sum(a == b for a, b in zip(winners, ASKED["tags"].values(), strict=True))
    print(f"of {len(winners)}: in the top five {five}, above the empty prompt {above}, winner is the tag {right}")
    print(f"of {len(swaps)} swaps of two prompts {changed} change the winner")


def separators(heard: Heard, args: argparse.Namespace) -> Iterator[tuple[str, Separator]]:
    """Name and separator of each row."""
    names, changes = tuple(ASKED["stems"]), Likelihood(steps=args.steps)
    for row, words in (("text", ASKED["stems"]), ("paraphrased", ASKED["paraphrased"])):
        wanted = Prompts(heard.rows([words[name] for name in names]), scale=args.cfg)
        yield row, separator(heard.network, names, wanted, changes, device=heard.device)
    texts = list(ASKED["stems"].values())
    rests = heard.rows([joined([other for other in texts if other != text]) for text in texts])
    wanted = Prompts(heard.rows(texts), scale=args.cfg)
    yield "extracted", extractor(heard.network, names, wanted, rests, changes, device=heard.device)
    if args.beside:
        yield f"dirac {args.beside}", checkpoints.load(args.beside, heard.device, method="dirac", likelihood=changes)


def separate(heard: Heard, args: argparse.Namespace) -> None:
    """Scores of separation."""
    with tempfile.TemporaryDirectory() as folder:
        ref = Path(folder, "ref")
        count = cut(args.songs, args.seconds, ref)
        silent = [stem for stem in ASKED["stems"] if not any(find_stem(song, stem) for song in list_songs(ref))]
        for row, found in separators(heard, args):
            begun, est = time.monotonic(), Path(folder, row.replace(" ", "-"))
            separate_sums(ref, est, found)
            scores = evaluate(ref, est)
            speed = (time.monotonic() - begun) / (count * args.seconds)
            figures = means(scores)["active"].items()
            told = "  ".join(f"{name} {value:6.2f}" for name, value in figures if value is not None)
            worst = max(score.sum_db for score in scores)
            print(f"{row:14} {told}  sum {worst:.0f} dB  real-time factor {speed:.2f}", flush=True)
        if silent:
            print(f"no song has {', '.join(silent)}")


def agreement(made: Stems) -> tuple[float, float]:
    """Means over pairs of stems: beats, pitch classes; nan where no pair has any."""
    heard = []
    for name in made.names:
        sound = made[name]
        heard.append(features(None if "drum" in name else sound, sound))
    pairs = [compare("", a, b) for a, b in combinations(heard, 2)]
    return _mean([pair.beat for pair in pairs]), _mean([pair.chroma for pair in pairs])


def _mean(values: Sequence[float | None]) -> float:
    found = [value for value in values if value is not None]
    return sum(found) / len(found) if found else float("nan")


def interval(values: Sequence[float]) -> str:
    """Mean and 95% interval of it, without what is not known."""
    found = torch.tensor([value for value in values if value == value], dtype=torch.float64)
    if len(found) < 2:
        return "not enough"
    return f"{found.mean():6.3f} +- {1.96 * float(found.std()) / len(found) ** 0.5:.3f} (n {len(found)})"


def cohere(heard: Heard, args: argparse.Namespace) -> None:
    """Agreement with each form of the mixture term."""
    wishes = [(asked, seed) for asked in ASKED["sets"] for seed in range(args.seeds)]
    found: dict[str, list[tuple[float, float]]] = {}
    terms = TERMS[:1] if isinstance(heard.network, Sketch) else tuple(term for term in TERMS if term != "none")
    for term in ("none", *terms):
        found[term] = [
            agreement(heard.made(asked["stems"], asked["prompt"], term, seed, args)) for asked, seed in wishes
        ]
        for k, figure in enumerate(("beats", "chroma")):
            values = [pair[k] for pair in found[term]]
            more = [a - pair[k] for a, pair in zip(values, found["none"], strict=True)]
            print(f"{term:8} {figure:7} {interval(values)}  above none {interval(more)}", flush=True)


def main() -> None:
    """Read the command line, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    tables: dict[str, tuple[Callable[[Heard, argparse.Namespace], None], int, float, float]] = {
        "follow": (follow, 10, 10.0, 3.0), "separate": (separate, 0, 6.0, 1.0), "cohere": (cohere, 6, 12.0, 3.0)
    }  # fmt: skip
    commands = parser.add_subparsers(dest="table", required=True)
    for name, (_, seeds, seconds, cfg) in tables.items():
        command = commands.add_parser(name)
        if name == "separate":
            command.add_argument("songs", type=Path)
            command.add_argument("--beside", default="forge", help="checkpoint trained on stems; empty for none")
        else:
            command.add_argument("--seeds", type=int, default=seeds)
        command.add_argument("--checkpoint", default="forge-text")
        command.add_argument("--seconds", type=float, default=seconds)
        command.add_argument("--cfg", type=float, default=cfg)
        command.add_argument("--steps", type=int)
        command.add_argument("--device", default="auto")
    args = parser.parse_args()
    keep_memory()
    tables[args.table][0](Heard(args.checkpoint, args.device), args)


if __name__ == "__main__":
    main()
