"""Method against method on the same weights: score, network calls and time of each way to separate.

    python bench/methods.py SONGS [--checkpoint forge] [--seconds 6] [--methods conditional dirac gaussian independent]
        [--steps 150] [--resamples 2] [--flow STEM=CHECKPOINT ...]

Methods of flows (docs/flows.md): `flow`, from zero and without sharing out the mixture; `shared`, the same with it;
`warm`, begun with what --checkpoint separates; `rest`, the stems of --flow taken out as in `shared`, and what they
leave taken apart by --checkpoint. Those of the checkpoint `flows`, and each --flow; --lr 0.005 --weight 0
is the published fit.

SONGS: one folder a song with one file a stem, as docs/scores.md has it. Of each song the middle `--seconds` are cut
out, its stems are added up, and every method takes the sum apart. Prints two rows a method: active SI-SDR improvement
in dB for each stem and all, network calls an excerpt, seconds of work for a second of sound; and the plain SDR in dB,
mean over the excerpts in which the stem sounds.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import defaultdict
from pathlib import Path

from stemforge import checkpoints, flows
from stemforge.audio.io import read
from stemforge.audio.writer import write
from stemforge.devices import keep_memory
from stemforge.separators.diffusion import DiffusionSeparator, Likelihood
from stemforge.separators.flow_prior import Fit, FlowSeparator
from stemforge.separators.folded import FoldedSeparator
from stemforge.tasks.cascade import Cascade
from stemforge.tasks.evaluate import evaluate, find_stem, list_songs, list_stems, means
from stemforge.tasks.score import separate_sums
from stemforge.types import Separator, Stems

OF_FLOWS = ("flow", "shared", "warm", "rest")


def middle_of(song: Path, seconds: float) -> list[Stems]:
    """The middle of each stem of a song."""
    found = []
    for stem in list_stems([song]):
        if path := find_stem(song, stem):
            sound = read(path)
            length = round(seconds * sound.rate)
            start = max(0, (sound.samples.shape[-1] - length) // 2)
            found.append(Stems((stem,), sound.samples[None, :, start : start + length], sound.rate))
    return found


def cut(songs: Path, seconds: float, target: Path) -> int:
    """The middle of every song, stem by stem, in `target`; how many songs."""
    found = list_songs(songs)
    for song in found:
        for stem in middle_of(song, seconds):
            write(stem, target / song.name)
    return len(found)


def calls(separator: object, steps: int) -> int:
    """Network calls for one excerpt of one window; of flows, iterations."""
    if isinstance(separator, FoldedSeparator):
        return calls(separator.separator, steps)
    if isinstance(separator, Cascade):
        return calls(separator.first, steps) + calls(separator.second, steps)
    if isinstance(separator, FlowSeparator):
        return separator.fit.iterations
    if not isinstance(separator, DiffusionSeparator):
        return steps * getattr(separator, "passes", 1)
    return separator.sampling.evaluations * (len(separator.names) if separator.method == "independent" else 1)


def sdr(ref: Path, est: Path) -> dict[str, float]:
    """10 log10(|s|^2 / |s - estimate|^2) of each stem, mean over the songs in which it is louder than -45 dBFS."""
    found = defaultdict(list)
    for song in list_songs(ref):
        for stem in list_stems([song]):
            path, other = find_stem(song, stem), find_stem(est / song.name, stem)
            if path is None or other is None:
                continue
            true, heard = (read(each).samples.double() for each in (path, other))
            if true.square().mean() > 10**-4.5:
                found[stem].append(float(10 * (true.square().sum() / (true - heard).square().sum()).log10()))
    means_of = {stem: sum(values) / len(values) for stem, values in found.items()}
    return means_of | {"all": sum(means_of.values()) / len(means_of)}


def separator_of(method: str, args: argparse.Namespace) -> Separator:
    """What takes the sums apart."""
    if method not in OF_FLOWS:
        changes: Likelihood = {
            "steps": args.steps, "resamples": args.resamples, "churn": args.churn, "sigma_max": args.sigma_max,
            "pinned": args.pinned,
        }  # fmt: skip
        return checkpoints.load(
            args.checkpoint, method=method, likelihood=changes, steps=args.refine, passes=args.passes
        )
    places = dict(text.split("=", 1) for text in args.flow)
    first = checkpoints.find("flows")
    warm = checkpoints.find(args.checkpoint).name if method == "warm" else None
    fit = Fit(iterations=args.iterations, rate=args.lr, weight=args.weight, share=method != "flow")
    fitted = flows.build(first, prior={"flows": places, "fit": fit, "warm": warm})
    return Cascade(fitted, checkpoints.load(args.checkpoint), tuple(places)) if method == "rest" else fitted


def main() -> None:
    """Read the command line, run each method, print its row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("songs", type=Path)
    parser.add_argument("--checkpoint")
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--methods", nargs="+", default=["conditional", "dirac", "gaussian", "independent"])
    parser.add_argument("--steps", type=int, help="of the sampling methods; default: of the checkpoint")
    parser.add_argument("--resamples", type=int)
    parser.add_argument("--churn", type=float)
    parser.add_argument("--sigma-max", type=float)
    parser.add_argument("--pinned")
    parser.add_argument("--flow", action="append", default=[], metavar="STEM=CHECKPOINT")
    parser.add_argument("--iterations", type=int, default=300)
    parser.add_argument("--lr", type=float, default=Fit.rate)
    parser.add_argument("--weight", type=float, default=Fit.weight, help="of the prior of flows")
    parser.add_argument("--passes", type=int, help="of the conditional method")
    parser.add_argument("--refine", type=int, default=1, help="calls of the conditional method")
    args = parser.parse_args()
    keep_memory()
    with tempfile.TemporaryDirectory() as folder:
        ref = Path(folder, "ref")
        count = cut(args.songs, args.seconds, ref)
        for method in args.methods:
            separator = separator_of(method, args)
            begun, est = time.monotonic(), Path(folder, method)
            separate_sums(ref, est, separator)
            speed = (time.monotonic() - begun) / (count * args.seconds)
            figures = means(evaluate(ref, est))["active"]
            row, plain = (
                "  ".join(f"{name} {value:6.2f}" for name, value in found.items() if value is not None)
                for found in (figures, sdr(ref, est))
            )
            print(f"{method:12} {row}  calls {calls(separator, args.refine)}  real-time factor {speed:.2f}", flush=True)
            print(f"{'SDR':12} {plain}", flush=True)


if __name__ == "__main__":
    main()
