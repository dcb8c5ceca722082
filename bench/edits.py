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
from pathlib import Path
from tempfile import TemporaryDirectory

import librosa
import numpy as np
import soundfile
import torch
from synthesis import excerpts, levelled
from torch import Tensor

from stemforge import checkpoints, embedders, wheels
from stemforge.audio.io import read
from stemforge.inference.guidance import Loss, belonging, resemblance
from stemforge.models.embedders import Ear
from stemforge.tasks.coherence import beat_f_measure, features
from stemforge.tasks.edit import STRENGTH, edit, way_for
from stemforge.tasks.fad import embed, fad, realism
from stemforge.tasks.generate import generate
from stemforge.tasks.regions import Region, free_in
from stemforge.types import Audio, Stems

SAMPLERS = {"dpmpp-2m 20": ("dpmpp-2m", 20), "ddim 50": ("ddim", 50), "ddpm 50": ("ddpm", 50)}
METHODS = ("conditioning", "guidance", "both")
TAGS = ("guitar", "electronic", "rock", "ambient", "dance")
"""Known to both ears."""
GAP = (2.0, 4.0)
"""Seconds of the 6 that are made anew."""
GIVEN = 2.4
"""Seconds of the 6 that a continuation has."""
Made = Iterator[tuple[str, Callable[[], Tensor]]]
"""Name of a piece, <row>/<excerpt>-<seed>, and what makes its mixture (channel, time)."""


class Maker:
    """The network and the excerpts, stems (stem, channel, time)."""

    def __init__(self, args: argparse.Namespace, seconds: float, needed: int = 3) -> None:
        self.network = checkpoints.network_of(checkpoints.find(args.checkpoint))
        self.rate, self.seeds, self.guidance = self.network.rate, args.seeds, args.guidance
        self.songs = excerpts(args.songs, self.network.names, self.rate, seconds, args.count, needed)
        if not self.songs:
            sys.exit(f"'{args.songs}': no song of {3 * seconds:g} s in which {needed} stems sound. Give longer songs.")

    def edited(self, stems: Tensor, region: tuple[float, float], seed: int, sampler: str, **way: object) -> Tensor:
        """The mixture after an edit of all stems in a region (seconds)."""
        name, steps = SAMPLERS[sampler]
        chosen = way_for(self.network, **way)  # type: ignore[arg-type]
        sampling = chosen.sampling.changed(sampler=name, steps=steps)
        span = Region(0, stems.shape[-1])
        free = free_in(span, [Region(round(region[0] * self.rate), round(region[1] * self.rate))])
        chosen = type(chosen)(**{**vars(chosen), "sampling": sampling})
        song = Stems(self.network.names, stems, self.rate)
        return edit(self.network, song, free, chosen, names=self.network.names, seed=seed).samples.sum(0)

    def walked(self, stems: Tensor, wish: Loss | None = None) -> Tensor:
        """The whole mixture with some noise on it and back again, towards a wish where there is one."""
        whole = (0.0, stems.shape[-1] / self.rate)
        return self.edited(stems, whole, 0, "ddim 50", strength=0.5, wish=wish, step=self.guidance)


def inpaintings(maker: Maker) -> Made:
    """The methods and samplers, regenerate, and what they are compared with."""
    first, last = (round(s * maker.rate) for s in GAP)
    for seed in range(maker.seeds):
        for i, stems in enumerate(maker.songs):
            mix, other = stems.sum(0), maker.songs[(i + 1 + seed) % len(maker.songs)].sum(0)
            name = f"{i:02d}-{seed}"

            def put(part: Tensor, mix: Tensor = mix) -> Tensor:
                return torch.cat([mix[:, :first], part, mix[:, last:]], dim=-1)

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
            yield f"continued/{name}", lambda s=stems, n=seed: maker.edited(s, (GIVEN, 6.0), n, "dpmpp-2m 20")
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
        yield f"crossfade/{i:02d}-0", lambda x=faded: x.sum(0)
        yield f"transition/{i:02d}-0", lambda x=faded: maker.edited(x, (3.0, 11.0), 0, "dpmpp-2m 20", strength=STRENGTH)


def restyled(maker: Maker) -> Made:
    """Ten excerpts as they are, and nearer to another one."""
    ear = embedders.load("MTT")
    for i, stems in enumerate(maker.songs[:10]):
        other = maker.songs[(i + len(maker.songs) // 2) % len(maker.songs)].sum(0)
        with torch.no_grad():
            wanted = ear.hear(other[None], maker.rate).embedding
        wish = resemblance(lambda x: ear.hear(x.sum(dim=1), maker.rate).embedding, wanted)
        yield f"original/{i:02d}-0", lambda s=stems: s.sum(0)
        yield f"reference/{i:02d}-0", lambda o=other: o
        yield f"plain/{i:02d}-0", lambda s=stems: maker.walked(s)
        yield f"restyled/{i:02d}-0", lambda s=stems, h=wish: maker.walked(s, h)


def tagged(maker: Maker) -> Made:
    """Ten excerpts as they are, and nearer to a tag that both ears know; each tag twice."""
    ear = embedders.load("MTT")
    for i, stems in enumerate(maker.songs[:10]):
        tag = TAGS[i % len(TAGS)]
        wish = belonging(lambda x, t=tag: _likely(ear, x.sum(dim=1), maker.rate, t)[:, None], torch.ones(1))
        name = f"{tag}{i // len(TAGS)}-0"
        yield f"original/{name}", lambda s=stems: s.sum(0)
        yield f"tagged/{name}", lambda s=stems, h=wish: maker.walked(s, h)


def _likely(ear: Ear, sound: Tensor, rate: int, tag: str) -> Tensor:
    """Logits of a tag, (batch,)."""
    logits = ear.hear(sound, rate).logits
    assert logits is not None
    return logits[:, ear.tags.index(tag)]


TASKS = {
    "inpaint": (inpaintings, 6.0),
    "continue": (continuations, 6.0),
    "transition": (transitions, 14.0),
    "restyle": (restyled, 6.0),
    "tags": (tagged, 6.0),
}


def make(args: argparse.Namespace) -> None:
    """The pieces that are not there yet, at most --limit of them."""
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
    part = path.with_suffix(".part")
    soundfile.write(part, sound.T.numpy(), rate, format="WAV", subtype="FLOAT")
    part.replace(path)


def mel_distance(a: Tensor, b: Tensor, rate: int) -> float:
    """Mean over window sizes of the L1 distance of log-mel spectra, as VampNet has it."""
    found = []
    for size, bands in ((2048, 150), (512, 80)):
        x, y = (
            librosa.feature.melspectrogram(y=s.mean(0).numpy(), sr=rate, n_fft=size, hop_length=size // 4, n_mels=bands)
            for s in (a, b)
        )
        found.append(np.abs(np.log10(x.clip(1e-5) ** 2) - np.log10(y.clip(1e-5) ** 2)).mean())
    return float(np.mean(found))


def beats_agree(a: Tensor, b: Tensor, rate: int, start: float, stop: float) -> float | None:
    """F-measure of the beats of two sounds in a part of them."""
    found = (features(None, Audio(x, rate)).beats for x in (a, b))
    return beat_f_measure(*(x[(x > start) & (x < stop)] for x in found))


def chroma_agree(a: Tensor, b: Tensor, rate: int) -> float:
    """Correlation of the mean pitch classes of two sounds."""
    x, y = (
        librosa.feature.chroma_cqt(y=s.mean(0).numpy(), sr=rate, norm=None, tuning=0.0).mean(axis=1) for s in (a, b)
    )
    return float(np.corrcoef(x + 1e-9 * np.arange(12), y)[0, 1])


def pieces_of(folder: Path) -> list[tuple[str, Audio]]:
    """Names and sounds of a row."""
    return [(path.stem, read(path)) for path in sorted(folder.glob("*.wav"))]


def score(args: argparse.Namespace) -> None:
    """One line a row, of the pieces that are there."""
    scores = {"transition": _score_way, "restyle": _score_wish, "tags": _score_tags}
    scores.get(args.task, _score_gap)(args)


def _score_gap(args: argparse.Namespace) -> None:
    gap = GAP if args.task == "inpaint" else (GIVEN, 6.0)
    real = dict(pieces_of(args.out / "real"))
    rate = next(iter(real.values())).rate
    level = float(np.mean([float(x.samples.square().mean()) for x in real.values()]) ** 0.5)
    network = wheels.musicnn("MSD")
    window = slice(*(round(s * rate) for s in ((1.5, 4.5) if args.task == "inpaint" else (3.0, 6.0))))
    held = [read(path) for path in sorted(args.reference.rglob("*.wav"))] if args.reference else list(real.values())
    reference = embed(levelled([x.samples for x in held], held[0].rate, level), network, hop=1.5)
    print(f"{'row':28} pieces  FAD   mel  beats chroma   ({len(reference.rows)} reference windows)")
    for folder in sorted(path for path in args.out.iterdir() if path.is_dir()):
        found = pieces_of(folder)
        cut = [x.samples[:, window] for _, x in found]
        distance = float("nan")
        if len(cut) > 1:
            distance = fad(reference, embed(levelled(cut, rate, level), network), minimum=2, resamples=0).value
        mels, beats, chromas = [], [], []
        for name, x in found:
            original = real[f"{name.split('-')[0]}-0"].samples
            first, last = (round(s * rate) for s in gap)
            mels.append(mel_distance(x.samples[:, first:last], original[:, first:last], rate))
            beat = beats_agree(x.samples, original, rate, gap[0] - 0.1, gap[1] + 0.1)
            beats += [] if beat is None else [beat]
            around = torch.cat([original[:, :first], original[:, last:]], dim=-1)
            chromas.append(chroma_agree(x.samples[:, first:last], around, rate))
        numbers = f"{np.mean(mels):5.2f} {np.mean(beats):6.3f} {np.mean(chromas):6.3f}"
        print(f"{folder.name:28} {len(found):6d} {distance:5.1f} {numbers}", flush=True)


def _score_way(args: argparse.Namespace) -> None:
    """Eight windows of 3 s over the middle: distance to A rises, to B falls; how real the middle is.

    Realism is that of the plain cross-fade of the same pair times the ratio that is printed, in musicnn's space against
    the windows of --reference, or of the songs themselves.
    """
    ear, network = embedders.load("MSD"), wheels.musicnn("MSD")
    songs = sorted(args.reference.rglob("*.wav")) if args.reference else sorted((args.out / "real").glob("*.wav"))
    reference = embed([read(path) for path in songs], network, hop=1.5).rows
    rows = {name: dict(pieces_of(args.out / name)) for name in ("transition", "crossfade")}
    for row, found in rows.items():
        to_a, to_b = [], []
        for x in found.values():
            windows = [_heard(ear, x, at, at + 3) for at in np.linspace(2.0, 9.0, 8)]
            ends = _heard(ear, x, 0.0, 3.0), _heard(ear, x, 11.0, 14.0)
            for end, out in zip(ends, (to_a, to_b), strict=True):
                out.append(rising([float((w - end).norm()) for w in windows]))
        print(f"{row:12} {len(found)} pairs, Spearman to A {np.mean(to_a):.2f}, to B {np.mean(to_b):.2f}")
    ratios = []
    for name in rows["transition"]:
        made, plain = (
            realism(embed([Audio(x.samples[:, 3 * x.rate : 11 * x.rate], x.rate)], network).rows, reference).mean()
            for x in (rows["transition"][name], rows["crossfade"][name])
        )
        ratios.append(made / plain)
    print(f"realism against that of the cross-fade: {np.mean(ratios):.3f} (against {len(reference)} windows)")


def rising(values: list[float]) -> float:
    """Spearman's correlation with the order of the values."""
    return float(np.corrcoef(np.arange(len(values)), np.argsort(np.argsort(values)))[0, 1])


def _score_wish(args: argparse.Namespace) -> None:
    """Distance to the reference for the judge that did not guide, against that of the original."""
    ear = embedders.load("MSD")
    sounds = {row: dict(pieces_of(args.out / row)) for row in ("original", "reference", "plain", "restyled")}
    for row in ("plain", "restyled"):
        falls, beats, chromas = [], [], []
        for name, x in sounds[row].items():
            song = sounds["original"][name].samples
            ends = sounds["reference"][name], sounds["original"][name], x
            goal, before, now = (_heard(ear, s, 0.0, 6.0) for s in ends)
            falls.append(1 - float((now - goal).norm() / (before - goal).norm()))
            halves, rate = song.chunk(2, dim=-1), x.rate
            kept, usual = beats_agree(x.samples, song, rate, 0, 6), beats_agree(halves[0], halves[1], rate, 0, 3)
            beats += [kept / usual] if kept is not None and usual else []
            chromas.append(chroma_agree(x.samples, song, rate) / chroma_agree(halves[0], halves[1], rate))
        print(f"{row:10} {len(falls)} pieces, MSD distance falls by {100 * np.mean(falls):.1f}%")
        print(f"  agreement against that of halves: beats {np.mean(beats):.2f}, chroma {np.mean(chromas):.2f}")


@torch.no_grad()
def _score_tags(args: argparse.Namespace) -> None:
    """Likelihood of each tag before and after, for the guide and for the judge that did not guide."""
    rows = {row: dict(pieces_of(args.out / row)) for row in ("original", "tagged")}
    for name in ("MTT", "MSD"):
        ear, found = embedders.load(name), []
        for piece, now in rows["tagged"].items():
            tag = piece.partition("-")[0].rstrip("0123456789")
            pair = (rows["original"][piece], now)
            found.append([float(_likely(ear, x.samples[None], x.rate, tag).sigmoid()) for x in pair])
        before, after = np.array(found).T
        rose = int((after > before).sum())
        print(f"{name}: {before.mean():.3f} -> {after.mean():.3f}, higher in {rose} of {len(found)}", flush=True)


def _heard(ear: Ear, sound: Audio, start: float, stop: float) -> Tensor:
    with torch.no_grad():
        part = sound.samples[None, :, round(start * sound.rate) : round(stop * sound.rate)]
        return ear.hear(part, sound.rate).embedding[0]


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
        command.add_argument("--reference", type=Path)
        command.add_argument("--guidance", type=float)
        command.add_argument("--rows", help="these only, as 'noise,pasted'")
        for option, default in (("--limit", -1), ("--count", 40), ("--seeds", 8)):
            command.add_argument(option, type=int, default=default)
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
