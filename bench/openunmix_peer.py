"""Train Open-Unmix on the renders that stemforge was trained on, for a budget of compute, and separate with it.

    pip install --no-deps openunmix==1.3.0 tqdm
    python bench/openunmix_peer.py train RENDERS WEIGHTS --core-seconds 7200 [--stop-after 3600]
    python bench/openunmix_peer.py separate WEIGHTS SONGS EST [--wiener 1]

RENDERS: folders of songs with {bass,drums,guitar,piano,other}.npy, int16 (time, 2), 44.1 kHz; no file is silence.
SONGS: folders of songs with one audio file a stem; EST/<song>/<stem>.wav is written from their sum.

Network, filters and recipe are Open-Unmix's own (Stöter et al. 2019, https://github.com/sigsep/open-unmix-pytorch):
one BiLSTM a stem on magnitudes (4096/1024, bandwidth 16 kHz), mean squared error, Adam 1e-3 with weight decay 1e-5,
excerpts of 6 s, batches of 16, gains of 0.25 to 1.25, swapped channels, stems of different songs mixed. Two things
are in its favour: half of the excerpts keep their song together, and the rate falls to zero over the last quarter,
because its own schedule waits for a plateau that no short training reaches. The nets share batches and spectrograms.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import soundfile as sf
import torch
from numpy.typing import NDArray
from openunmix.model import OpenUnmix, Separator
from openunmix.transforms import ComplexNorm, make_filterbanks
from safetensors.torch import load_file, save_file
from torch import Tensor

from stemforge.devices import keep_memory

STEMS = ("bass", "drums", "guitar", "piano", "other")
RATE, N_FFT, HOP, BINS = 44100, 4096, 1024, 2049
BANDWIDTH_HZ = 16000
SECONDS = 6.0
STOPPED: list[int] = []


class Renders:
    """Random excerpts of rendered songs, augmented as Open-Unmix does it."""

    def __init__(self, folder: Path, seed: int) -> None:
        songs = sorted(path for path in folder.iterdir() if any((path / f"{stem}.npy").exists() for stem in STEMS))
        if not songs:
            raise SystemExit(f"openunmix_peer: no rendered song in {folder}")
        self.songs = [self._open(song) for song in songs]
        self.rng = np.random.default_rng(seed)
        self.length = int(SECONDS * RATE)

    @staticmethod
    def _open(song: Path) -> dict[str, NDArray[np.int16]]:
        paths = {stem: song / f"{stem}.npy" for stem in STEMS}
        return {stem: np.load(path, mmap_mode="r") for stem, path in paths.items() if path.exists()}

    def batch(self, size: int) -> Tensor:
        """(batch, stem, 2, time) float32."""
        return torch.from_numpy(np.stack([self._example() for _ in range(size)]))

    def _example(self) -> NDArray[np.float32]:
        """(stem, 2, time): all stems of one place, or each stem from anywhere."""
        together = self.rng.random() < 0.5
        song, place = self._anywhere()
        stems = []
        for stem in STEMS:
            if not together:
                song, place = self._anywhere()
            x = np.zeros((self.length, 2), np.float32)
            if stem in song:
                part = song[stem][int(place * max(0, len(song[stem]) - self.length)) :][: self.length]
                x[: len(part)] = part.astype(np.float32) / 32768
            x = x[:, ::-1] if self.rng.random() < 0.5 else x
            stems.append(x.T * np.float32(self.rng.uniform(0.25, 1.25)))
        return np.stack(stems)

    def _anywhere(self) -> tuple[dict[str, NDArray[np.int16]], float]:
        return self.songs[self.rng.integers(len(self.songs))], self.rng.random()


def core_seconds() -> float:
    """User and system time of this process and its children."""
    return sum(os.times()[:4])


def magnitudes(device: str) -> Callable[[Tensor], Tensor]:
    """(..., channel, time) -> (..., channel, bin, frame)."""
    stft, _ = make_filterbanks(n_fft=N_FFT, n_hop=HOP, sample_rate=RATE)
    norm = ComplexNorm(mono=False)
    stft = stft.to(device)

    def run(x: Tensor) -> Tensor:
        return norm(stft(x.flatten(0, -3).contiguous())).unflatten(0, x.shape[:-2])

    return run


def statistics(renders: Renders, spectra: Callable[[Tensor], Tensor], device: str) -> tuple[NDArray, NDArray]:
    """Mean and standard deviation of the mixture's magnitudes for each bin, as in Open-Unmix's trainer."""
    with torch.no_grad():
        found = [spectra(renders.batch(4).sum(1).to(device)).mean(1).transpose(0, 1).flatten(1) for _ in range(10)]
    flat = torch.cat(found, dim=1).double().cpu().numpy()
    scale = flat.std(axis=1)
    return flat.mean(axis=1), np.maximum(scale, 1e-4 * scale.max())


def build(hidden: int, mean: NDArray | None = None, scale: NDArray | None = None) -> torch.nn.ModuleDict:
    """One Open-Unmix a stem."""
    top = int(np.searchsorted(np.linspace(0, RATE / 2, BINS), BANDWIDTH_HZ, side="right"))
    options = {"nb_bins": BINS, "nb_channels": 2, "hidden_size": hidden, "max_bin": top}
    return torch.nn.ModuleDict({s: OpenUnmix(**options, input_mean=mean, input_scale=scale) for s in STEMS})


def train(args: argparse.Namespace) -> None:
    """Train all nets together until the budget is spent; --stop-after and SIGTERM pause, the same command goes on."""
    signal.signal(signal.SIGTERM, lambda number, frame: STOPPED.append(number))
    torch.manual_seed(args.seed)
    clock, budget = (time.monotonic, args.wall_seconds) if args.wall_seconds else (core_seconds, args.core_seconds)
    start = clock()
    state = args.weights / "state.pt"
    saved = torch.load(state, weights_only=True) if state.exists() else {"step": 0, "spent": 0.0}
    step, before = saved["step"], saved["spent"]
    renders, spectra = Renders(args.renders, args.seed + step), magnitudes(args.device)
    start -= before
    nets = build(args.hidden, *statistics(renders, spectra, args.device)).to(args.device)
    optimizer = torch.optim.Adam(nets.parameters(), lr=1e-3, weight_decay=1e-5)
    if step:
        nets.load_state_dict(saved["nets"])
        optimizer.load_state_dict(saved["optimizer"])
    shown = before
    stop = min(budget, before + args.stop_after)
    pool, ahead = ThreadPoolExecutor(args.workers), ThreadPoolExecutor(1)

    def prepared() -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            stems = renders.batch(args.batch).to(args.device)
            return spectra(stems.sum(1)), spectra(stems)

    coming = ahead.submit(prepared)
    while (spent := clock() - start) < stop and not STOPPED:
        optimizer.param_groups[0]["lr"] = 1e-3 * min(1.0, max(1e-3, 4 * (1 - spent / budget)))
        batch, coming = coming.result(), ahead.submit(prepared)
        losses = train_step(nets, optimizer, *batch, pool)
        step += 1
        if spent - shown > budget / 50:
            shown = spent
            print(f"{spent:8.0f} s  step {step}  " + "  ".join(f"{k} {v:.3f}" for k, v in losses.items()), flush=True)
            save(args, nets, optimizer, step, clock() - start)
    print(save(args, nets, optimizer, step, clock() - start))


def save(
    args: argparse.Namespace, nets: torch.nn.ModuleDict, optimizer: torch.optim.Optimizer, step: int, spent: float
) -> str:
    """Write what a resumed run and `separate` need; returns the config as text."""
    args.weights.mkdir(parents=True, exist_ok=True)
    state = {"nets": nets.state_dict(), "optimizer": optimizer.state_dict(), "step": step, "spent": spent}
    torch.save(state, args.weights / "state.tmp")
    (args.weights / "state.tmp").replace(args.weights / "state.pt")
    save_file({name: value.contiguous() for name, value in state["nets"].items()}, args.weights / "nets.safetensors")
    config = {"hidden": args.hidden, "steps": step, "batch": args.batch, "spent_s": round(spent, 1)}
    config |= {
        "clock": "wall" if args.wall_seconds else "core",
        "parameters": sum(p.numel() for p in nets.parameters()),
    }
    (args.weights / "config.json").write_text(json.dumps(config))
    return json.dumps(config)


def train_step(
    nets: torch.nn.ModuleDict,
    optimizer: torch.optim.Optimizer,
    mixture: Tensor,
    wanted: Tensor,
    pool: ThreadPoolExecutor,
) -> dict[str, float]:
    """One step of every net, side by side, on the spectra of mixtures and of their stems; the loss of each."""
    optimizer.zero_grad()

    def learn(stem: str, target: Tensor) -> float:
        loss = torch.nn.functional.mse_loss(nets[stem](mixture), target)
        loss.backward()
        return loss.item()

    losses = list(pool.map(learn, STEMS, wanted.unbind(1)))
    optimizer.step()
    return dict(zip(STEMS, losses, strict=True))


def separate(args: argparse.Namespace) -> None:
    """Separate the sum of the stems of every song with Open-Unmix's own Separator."""
    nets = build(json.loads((args.weights / "config.json").read_text())["hidden"])
    nets.load_state_dict(load_file(args.weights / "nets.safetensors"))
    separator = Separator(dict(nets.items()), niter=args.wiener, sample_rate=RATE, n_fft=N_FFT, n_hop=HOP)
    separator.freeze()
    separator.to(args.device)
    for song in sorted(path for path in args.songs.iterdir() if path.is_dir()):
        files = [path for path in sorted(song.iterdir()) if path.stem in STEMS]
        mixture = sum(sf.read(path, dtype="float32", always_2d=True)[0] for path in files)
        with torch.no_grad():
            found = separator(torch.from_numpy(mixture.T)[None].to(args.device))[0].cpu().numpy()
        folder = args.est / song.name
        folder.mkdir(parents=True, exist_ok=True)
        for stem, x in zip(STEMS, found, strict=True):
            sf.write(folder / f"{stem}.wav", x.T, RATE, subtype="FLOAT")
        print(folder)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1, help="more of them wait for each other, which counts as work")
    commands = parser.add_subparsers(required=True)
    training = commands.add_parser("train")
    training.add_argument("renders", type=Path)
    training.add_argument("weights", type=Path)
    training.add_argument("--core-seconds", type=float, default=7200, help="user and system time, all nets together")
    training.add_argument("--wall-seconds", type=float, help="budget on the wall clock instead, for a GPU")
    training.add_argument("--stop-after", type=float, default=float("inf"), help="pause then; the same command goes on")
    training.add_argument("--hidden", type=int, default=512)
    training.add_argument("--batch", type=int, default=16)
    training.add_argument("--workers", type=int, default=1, help="nets that learn at the same time, a thread each")
    training.add_argument("--seed", type=int, default=0)
    training.set_defaults(run=train)
    separating = commands.add_parser("separate")
    separating.add_argument("weights", type=Path)
    separating.add_argument("songs", type=Path)
    separating.add_argument("est", type=Path)
    separating.add_argument("--wiener", type=int, default=0, help="rounds of expectation maximisation; 0 is off")
    separating.set_defaults(run=separate)
    args = parser.parse_args()
    keep_memory()
    torch.set_num_threads(args.threads)
    args.run(args)


if __name__ == "__main__":
    main()
