"""How good is what is generated? New pieces, imputation of all 14 subsets of four stems, and clicks between windows.

    python bench/synthesis.py generate SONGS [--checkpoint forge] [--count 20] [--seconds 12] [--steps N]
        [--sampler NAME] [--sigma-min S] [--sigma-max S] [--training SONGS] [--sketch NAME [--strength 0.3]]
    python bench/synthesis.py impute SONGS [--checkpoint forge] [--count 20] [--seconds 12] [--steps N]
        [--sampler NAME] [--sigma-min S] [--sigma-max S] [--given bass+drums ...] [--from LIBRARY | --sketch NAME]
        [--strength 0.3] [--guidance 1.5]
    python bench/synthesis.py borders [--checkpoint forge] [--count 1] [--seconds 60] [--steps N] [--sampler NAME]

SONGS: held-out songs, one folder a song with one file a stem; `--count` excerpts of `--seconds` are cut from them.
Needs `stemforge checkpoints pull musicnn`. Every row is a Fréchet distance on musicnn (MSD) to the excerpts, all sets
at the level of the excerpts; the rows of real sound beside the generated ones say what a good and a bad figure is.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from itertools import combinations
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

import librosa
import numpy as np
import soundfile
import torch
from torch import Tensor

from stemforge import checkpoints, wheels
from stemforge.audio.io import read
from stemforge.audio.resample import to_channels, to_rate
from stemforge.cli.impute_from import STRENGTH
from stemforge.devices import keep_memory
from stemforge.inference.samplers import SAMPLERS
from stemforge.inference.settings import Sampling, default
from stemforge.models.forge import Forge
from stemforge.models.registry import Joint
from stemforge.models.sketch import Sketch
from stemforge.tasks.coherence import Features, compare, features
from stemforge.tasks.edit_files import open_stems
from stemforge.tasks.evaluate import find_stem, list_songs
from stemforge.tasks.fad import embed, fad
from stemforge.tasks.generate import frames_of, generate, generate_blocks, instruments
from stemforge.tasks.impute import Song, Wish, impute, impute_blocks
from stemforge.tasks.levels import gain_of, levelled
from stemforge.tasks.library_files import borrowed, ranked, songs_in
from stemforge.tasks.sketched import GUIDANCE, Sketcher
from stemforge.train.recipes import rate_of
from stemforge.types import Audio, Stems

FOUR = ("bass", "drums", "guitar", "piano")
KINDS = ("beat", "chroma")
Row = TypeVar("Row")


def stems_of(song: Path, names: tuple[str, ...], rate: int) -> Tensor:
    """The stems of a song folder, (stem, 2, time); one that it lacks is silence."""
    paths = [find_stem(song, name) for name in names]
    sounds = [to_rate(read(path), rate).samples if path else torch.zeros(1, 1) for path in paths]
    time = max(sound.shape[-1] for sound in sounds)
    return torch.stack([torch.nn.functional.pad(to_channels(s, 2), (0, time - s.shape[-1])) for s in sounds])


def excerpts(songs: Path, names: tuple[str, ...], rate: int, seconds: float, count: int, needed: int) -> list[Tensor]:
    """Excerpts (stem, channel, time) spread over the songs, in which at least `needed` stems sound."""
    found: list[Tensor] = []
    length = round(seconds * rate)
    for song in list_songs(songs):
        stems = stems_of(song, names, rate)
        time = stems.shape[-1]
        cuts = [stems[..., start : start + length] for start in range(length, time - length, 2 * length)]
        found += [cut for cut in cuts if int((cut.square().mean(dim=(1, 2)) > 10**-4.5).sum()) >= needed]
    at = np.linspace(0, len(found) - 1, min(count, len(found))).round().astype(int)
    return [found[i] for i in dict.fromkeys(at.tolist())]


def at_level(sounds: Iterable[Tensor], rate: int, level: float) -> list[Audio]:
    """Sounds (channel, time) with the RMS `level`."""
    return [Audio(x * (level / x.square().mean().sqrt().clamp(min=1e-6)), rate) for x in sounds]


class Judge:
    """Distances to the real mixtures, all at one level."""

    def __init__(self, real: list[Tensor], rate: int) -> None:
        self.network, self.rate = wheels.musicnn("MSD"), rate
        self.level = float(torch.stack([x.square().mean() for x in real]).mean().sqrt())
        self.real = embed(at_level(real, rate, self.level), self.network)

    def distance(self, sounds: Iterable[Tensor]) -> float:
        """FAD-musicnn of mixtures (channel, time)."""
        made = embed(at_level(sounds, self.rate, self.level), self.network)
        return fad(self.real, made, minimum=2, resamples=0).value


def sampling_of(task: str, conditional: bool, args: argparse.Namespace) -> Sampling:
    """The settings of a task with what the command line changes."""
    names = ("sampler", "steps", "sigma_max", "sigma_min")
    return default(task, conditional).changed(**{name: getattr(args, name) for name in names})


def as_sound(network: Joint, stems: Tensor) -> Tensor:
    """Stems (stem, 2, time) of what a network makes: sound, or codes (stem, component, code) of it."""
    if isinstance(network, Sketch):
        return network.decode(stems)[:, None].expand(-1, 2, -1)
    return stems


def sketcher_of(args: argparse.Namespace, sound: Sampling) -> Sketcher | None:
    """What draws, as `--sketch` does, and how sound is made of it."""
    if args.sketch is None:
        return None
    network = checkpoints.network_of(checkpoints.find(args.sketch))
    return Sketcher(network, strength=args.strength, guidance=args.guidance, sound=sound)  # type: ignore[arg-type]


def piece(
    network: Joint, names: tuple[str, ...], sampling: Sampling, sketcher: Sketcher | None, seconds: float, seed: int
) -> Tensor:
    """A new piece (stem, channel, time), begun with a sketch where there is one."""
    if sketcher is None:
        return as_sound(network, generate(network, seconds, sampling, seed=seed, stems=names).samples)
    first = sketcher.generate(names, frames_of(network, seconds), network.channels, seed=seed)
    return generate(network, seconds, sketcher.refining, seed=seed, stems=names, begun=first).samples


def run_generate(args: argparse.Namespace) -> None:
    """Generated pieces beside noise, single stems and stems of different songs."""
    checkpoint = checkpoints.find(args.checkpoint)
    network = checkpoints.network_of(checkpoint)
    names = instruments(network.names)
    rate = rate_of(network)
    real = excerpts(args.songs, names, rate, args.seconds, args.count, 3)
    judge = Judge([x.sum(0) for x in real], rate)
    sampling = sampling_of("sketched" if args.sketch else "generate", network.conditional, args)
    sketcher = sketcher_of(args, sampling)
    made = [piece(network, names, sampling, sketcher, args.seconds, seed) for seed in range(args.count)]
    if network.conditional:  # as `stemforge generate`
        made = [next(levelled([piece], names)) for piece in made]
    shuffled = [
        torch.stack([real[(i + 3 * k) % len(real)][k] for k in range(len(x))]).sum(0) for i, x in enumerate(real)
    ]
    rows = {
        "generated": [x.sum(0) for x in made],
        "noise": [torch.randn(x[0].shape) for x in real],
        **{f"{name} alone": [x[i] for x in real] for i, name in enumerate(names)},
        "stems of different songs": shuffled,
    }
    if isinstance(network, Sketch):  # what its codes and their phases cost
        rows["real, from sketches"] = [as_sound(network, network.encode(x.mean(1))).sum(0) for x in real]
    for i, name in enumerate(names):
        own = Judge([x[i] for x in real if float(x[i].square().mean()) > 10**-4.5], rate)
        print(f"generated {name:8} beside real {name:8} {own.distance(x[i] for x in made):7.1f}", flush=True)
    print(f"{len(real)} excerpts, {args.count} pieces of {args.seconds:g} s, {sampling.evaluations} calls a window")
    for name, sounds in rows.items():
        print(f"{name:26} {judge.distance(s for s in sounds if s.abs().max() > 1e-3):7.1f}", flush=True)
    for i, name in enumerate(names):
        ours, theirs = (level_of([x[i] for x in xs]) for xs in (made, real))
        print(f"level of {name:8} generated {ours:6.1f} dB, real {theirs:6.1f} dB, where it sounds")
        print(f"  sounding in {100 * sounding([x[i] for x in made], rate):.0f}% of seconds, "
              f"real {100 * sounding([x[i] for x in real], rate):.0f}%")  # fmt: skip
    flat = torch.stack([x.sum((0, 1)) for x in made])
    alike = (torch.corrcoef(flat) - torch.eye(len(flat))).abs().max()
    print(f"largest correlation of two pieces {float(alike):.2f}")
    if args.training:
        pitched = [k for k, name in enumerate(names) if name != "drums"]
        wholes = ([x[pitched].sum(0) for x in xs] for xs in (made, real))
        heard_before(*wholes, args.training, rate)


def chroma(sound: Tensor, rate: int) -> Tensor:
    """Pitch classes of (channel, time), five times a second: (12, frame), each frame with mean 0."""
    found = librosa.feature.chroma_stft(y=sound.mean(0).numpy(), sr=rate, n_fft=8192, hop_length=8192, tuning=0.0)
    rows = torch.from_numpy(np.nan_to_num(found)).float()
    return rows - rows.mean(dim=0)


def nearest(pieces: list[Tensor], songs: dict[str, Tensor]) -> list[tuple[float, str]]:
    """Of each piece (12, frame) the largest correlation with a stretch as long of any song, and which song that is."""
    best = [(-1.0, "")] * len(pieces)
    for name, song in songs.items():
        for k, piece in enumerate(pieces):
            if song.shape[1] < piece.shape[1]:
                continue
            product = torch.nn.functional.conv1d(song[None], piece[None])[0, 0]
            energy = song.square().sum(0).unfold(0, piece.shape[1], 1).sum(-1)
            alike = (product / (energy.sqrt() * piece.norm()).clamp(min=1e-6)).max()
            best[k] = max(best[k], (float(alike), name))
    return best


def heard_before(made: list[Tensor], real: list[Tensor], training: Path, rate: int) -> None:
    """How near pieces (channel, time) are to songs of the training set, beside real music that is not in it."""
    pitched = ("bass", "guitar", "piano", "other")
    songs = {song.name: chroma(stems_of(song, pitched, rate).sum(0), rate) for song in list_songs(training)}
    for row, sounds in (("generated", made), ("held-out", real)):
        found = nearest([chroma(x, rate) for x in sounds], songs)
        most, name = max(found)
        median = np.median([alike for alike, _ in found])
        print(f"nearest of {len(songs)} training songs by chroma, {row}: median {median:.2f}, most {most:.2f} ({name})")


def level_of(stems: list[Tensor]) -> float:
    """Median RMS in dB of those that sound, more than -45 dBFS; NaN if none does."""
    powers = [float(x.square().mean()) for x in stems]
    return float(np.median(10 * np.log10([p for p in powers if p > 10**-4.5] or [np.nan])))


def sounding(stems: list[Tensor], rate: int) -> float:
    """Share of the seconds of (channel, time) that are louder than -45 dBFS."""
    seconds = torch.cat([x[:, : x.shape[-1] // rate * rate].unflatten(-1, (-1, rate)) for x in stems], dim=1)
    return float((seconds.square().mean(dim=(0, 2)) > 10**-4.5).float().mean())


def run_impute(args: argparse.Namespace) -> None:
    """Sub-FAD and coherence of each subset of four stems, and in how many the imputed ones are nearest to the real."""
    network = checkpoints.network_of(checkpoints.find(args.checkpoint))
    real = [x[:4] for x in excerpts(args.songs, FOUR, network.rate, args.seconds, args.count, 4)]
    judge = Judge([x.sum(0) for x in real], network.rate)
    sampling = sampling_of("sketched" if args.sketch else "impute", network.conditional, args)
    lender, sketcher = Lender(network, args.library) if args.library else None, sketcher_of(args, sampling)
    alone = [
        piece(network, FOUR, sampling, sketcher, args.seconds, 1000 + i)[..., : x.shape[-1]] for i, x in enumerate(real)
    ]
    print(f"{len(real)} excerpts of {args.seconds:g} s, {sampling.evaluations} calls")
    print(f"{'given':22} imputed  alone  +noise  +indep  +others | beats: imputed others real | chroma: the same")
    best = subsets = 0
    for given in (g for size in (1, 2, 3) for g in combinations(range(4), size)):
        if args.given and "+".join(FOUR[k] for k in given) not in args.given:
            continue
        rest = [k for k in range(4) if k not in given]
        names, fill = tuple(FOUR[k] for k in given), tuple(FOUR[k] for k in rest)
        kept, true = [x[list(given)] for x in real], [x[rest] for x in real]
        made = []
        for i, x in enumerate(kept):
            stems = Stems(names, x, network.rate)
            if sketcher is not None:
                stems = drawn(network, sketcher, stems, fill, i)
            elif lender is None:
                stems = impute(network, stems, sampling, fill=fill, seed=i)
            else:
                stems = lender.imputed(stems, fill, sampling.begun(args.strength), i)
            made.append(torch.stack([stems.samples[stems.names.index(name)] for name in fill]))
        others = elsewhere(true)
        noise = [torch.randn(1, *x.shape[1:]) * x.sum(0).square().mean().sqrt() for x in true]
        sums = [
            [a.sum(0) + b.sum(0) for a, b in zip(kept, rows, strict=True)]
            for rows in (made, [0 * x for x in true], noise, [x[rest] for x in alone], others)
        ]
        distances = [judge.distance(rows) for rows in sums]
        figures = coherences(names, fill, (kept, made, true), network.rate)
        best, subsets = best + (distances[0] < min(distances[1:4])), subsets + 1
        print(f"{'+'.join(names):22} " + "  ".join(f"{d:6.1f}" for d in distances) + " | " + figures, flush=True)
    print(f"imputed stems nearer than none, noise and independent ones in {best} of {subsets}")


class Lender:
    """What `impute --from` does."""

    def __init__(self, network: Forge, library: Path) -> None:
        self.network, self.songs = network, songs_in(library, "")

    def imputed(self, stems: Stems, fill: tuple[str, ...], sampling: Sampling, seed: int) -> Stems:
        """The missing stems, begun with what the most alike song lends."""
        wish, time = Wish(fill, seed=seed), stems.samples.shape[-1]
        with TemporaryDirectory() as folder:
            for name, sound in zip(stems.names, stems.samples, strict=True):
                soundfile.write(Path(folder) / f"{name}.wav", sound.T.numpy(), stems.rate, subtype="FLOAT")
            given = open_stems(Path(folder), stems.names)
            found = ranked(self.network, given, fill, self.songs)[0]
            blocks = list(borrowed(self.network, given, found, wish.names(self.network, stems.names)))
        song = Song([stems.samples], stems.names, time, gain_of(stems), blocks)
        made = torch.cat(list(impute_blocks(self.network, song, sampling, wish)), dim=-1)
        return Stems(wish.names(self.network, stems.names), made, stems.rate)


def drawn(network: Joint, sketcher: Sketcher, stems: Stems, fill: tuple[str, ...], seed: int) -> Stems:
    """What `impute --sketch` does: the missing stems, begun with a sketch."""
    wish, gain, time = Wish(fill, seed=seed), gain_of(stems), stems.samples.shape[-1]
    first = sketcher.impute(Song([stems.samples], stems.names, time, gain), fill, wish, network.channels)
    song = Song([stems.samples], stems.names, time, gain, first)
    made = torch.cat(list(impute_blocks(network, song, sketcher.refining, wish)), dim=-1)
    return Stems(wish.names(network, stems.names), made, stems.rate)


def elsewhere(rows: list[Row]) -> list[Row]:
    """For each excerpt what another one has."""
    return [rows[(i + 5) % len(rows)] for i in range(len(rows))]


def coherences(
    given: tuple[str, ...], fill: tuple[str, ...], rows: tuple[list[Tensor], list[Tensor], list[Tensor]], rate: int
) -> str:
    """Mean F-measure of beats and mean correlation of chroma of what was given with what is beside it.

    rows: the stems given, made and true of each excerpt; beside them come the true ones of other excerpts.
    """

    def heard(names: tuple[str, ...], x: Tensor) -> Features:
        pitched = [k for k, name in enumerate(names) if name != "drums"]
        return features(Audio(x[pitched].sum(0), rate) if pitched else None, Audio(x.sum(0), rate))

    asked, made, true = ([heard(names, x) for x in row] for names, row in zip((given, fill, fill), rows, strict=True))
    found = [[compare("", *pair) for pair in zip(asked, row, strict=True)] for row in (made, elsewhere(true), true)]
    means = [[[value for c in row if (value := getattr(c, kind)) is not None] for row in found] for kind in KINDS]
    return " | ".join("  ".join(f"{np.mean(v):5.2f}" if v else "    -" for v in kind) for kind in means)


def run_borders(args: argparse.Namespace) -> None:
    """The largest jump from one sample to the next within 10 ms of where windows meet, and anywhere else."""
    network = checkpoints.network_of(checkpoints.find(args.checkpoint))
    names, reach = instruments(network.names), round(0.01 * network.rate)
    sampling = sampling_of("generate", network.conditional, args)
    for seed in range(args.count):
        blocks = list(generate_blocks(network, args.seconds, sampling, seed=seed))
        piece = torch.cat(blocks, dim=-1)
        jumps = torch.cat([piece, piece.sum(0, keepdim=True)]).diff(dim=-1).abs().amax(dim=1)
        near = torch.zeros(jumps.shape[-1], dtype=torch.bool)
        for border in np.cumsum([block.shape[-1] for block in blocks])[:-1]:
            near[border - reach : border + reach] = True
        for name, row in zip((*names, "sum"), jumps, strict=True):
            at, inside = float(row[near].max()), float(row[~near].max())
            told = f"{name:7} at {len(blocks) - 1} borders {at:.4f}, inside {inside:.4f}: {at / inside:.2f} times"
            print(f"seed {seed} {told}", flush=True)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", choices=["generate", "impute", "borders"])
    parser.add_argument("songs", type=Path, nargs="?")
    parser.add_argument("--checkpoint")
    parser.add_argument("--count", type=int, help="excerpts, and pieces; 20, or 1 for borders")
    parser.add_argument("--seconds", type=float, help="of each; 12, or 60 for borders")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--training", type=Path, help="generate: songs that the network was trained on")
    parser.add_argument("--sampler", choices=list(SAMPLERS))
    parser.add_argument("--sigma-max", type=float)
    parser.add_argument("--sigma-min", type=float)
    parser.add_argument("--given", nargs="+", help="impute: only these subsets")
    parser.add_argument("--from", dest="library", type=Path, help="impute: songs to borrow from, a folder each")
    parser.add_argument("--strength", type=float, default=STRENGTH, help="of noise on what is borrowed or drawn")
    parser.add_argument("--sketch", help="a checkpoint of sketches, which are begun with")
    parser.add_argument("--guidance", type=float, default=GUIDANCE, help="of sketches, by the stems that are given")
    args = parser.parse_args()
    if args.songs is None and args.table != "borders":
        parser.error("SONGS are missing")
    args.count = args.count or (1 if args.table == "borders" else 20)
    args.seconds = args.seconds or (60.0 if args.table == "borders" else 12.0)
    keep_memory()
    {"generate": run_generate, "impute": run_impute, "borders": run_borders}[args.table](args)


if __name__ == "__main__":
    main()
