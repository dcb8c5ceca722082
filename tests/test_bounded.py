"""Hours of music in bounded memory: impute and generate hold a window and some blocks, and change nothing else."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from stemforge.audio.feed import Feed, lasting
from stemforge.audio.windows import eased
from stemforge.devices import LOADING, memory_errors
from stemforge.errors import DeviceError
from stemforge.inference.given import Free, Observed
from stemforge.inference.noise import noise_of
from stemforge.inference.settings import Sampling
from stemforge.inference.wrappers import conditioned, denoiser
from stemforge.separators.diffusion import DiffusionSeparator
from stemforge.tasks import levels
from stemforge.tasks.edit import Way, edit
from stemforge.tasks.generate import CONTEXT, EASE, generate, generate_blocks
from stemforge.tasks.impute import Wish, impute, windows_of
from stemforge.tasks.impute_files import accompanied, gain_for, names_of, open_given
from stemforge.tasks.levels import gain_of, gain_over
from stemforge.types import Stems

RATE = 1000
STEP = Sampling("euler", steps=1, sigma_min=0.05, sigma_max=2.0)
QUICK = Sampling(steps=3, sigma_min=0.05, sigma_max=2.0)


class Pair:
    """Two stems of independent noise, one channel; the denoiser is exact."""

    names, rate, segment, channels = ("bass", "drums"), RATE, 2.0, 1

    def __init__(self, conditional: bool = True) -> None:
        self.conditional = conditional

    def noise(self, like: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return torch.randn(like.shape, generator=generator)

    def denoise(self, x: Tensor, sigma: Tensor, *, mixture=None, hidden=None, prompt=None) -> Tensor:
        level = sigma[:, :, None] if sigma.dim() == 3 else sigma
        return x * 0.01 / (0.01 + level**2)


class Full(Pair):
    """Asks for more memory than there is."""

    def denoise(self, x: Tensor, sigma: Tensor, *, mixture=None, hidden=None, prompt=None) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


class Largest(TorchDispatchMode):
    """The number of elements of the largest tensor that anything asks for."""

    def __init__(self) -> None:
        super().__init__()
        self.most = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else (out,):
            if isinstance(tensor, Tensor):
                self.most = max(self.most, tensor.numel())
        return out


class Tape:
    """Given stems of any length that lie nowhere: drums, read in blocks, and how far that went."""

    names, rate, channels = ("drums",), RATE, 1

    def __init__(self, minutes: int) -> None:
        self.frames, self.read = minutes * 60 * RATE, 0

    def stream(self, *, again: bool = False) -> Iterator[Tensor]:
        self.read = 0
        for start in range(0, self.frames, 1 << 16):
            count = min(1 << 16, self.frames - start)
            self.read += count
            yield torch.full((1, 1, count), 0.1)


def given_pair(seconds: float) -> Stems:
    samples = 0.1 * torch.randn(2, 1, round(seconds * RATE), generator=torch.Generator().manual_seed(3))
    return Stems(("bass", "drums"), samples, RATE)


def whole_impute(network: Pair, full: Tensor, known: Tensor, gain: float, method: str, seed: int) -> Tensor:
    """The same in memory: all windows of one array (1, stem, channel, time), as the method is written down."""
    starts, length = windows_of(network, full.shape[-1])
    out, done = full * gain, known.clone()
    for index, start in enumerate(starts):
        cut = slice(start, start + length)
        noise = noise_of(network, seed * 1_000_003 + index)
        clear, stems = done[..., cut].clone(), out[..., cut].double()
        bound = denoiser(network) if method == "replace" else conditioned(denoiser(network), clear)
        given = Observed(stems, clear, noised=method == "replace")
        window = QUICK.run(bound, noise(stems) * QUICK.sigma_max, given, noise, lambda done, steps: None)
        out[..., cut] = eased(window, clear, round(EASE * RATE)).to(out)
        done[..., cut] = True
    return torch.where(known, full, out / gain)[0]


def whole_generate(network: Pair, time: int, seed: int) -> Tensor:
    """The same in memory: every window is put behind the piece, whose end is the next one's beginning."""
    length, piece, index = 12 * RATE, torch.zeros(1, 2, 1, 0, dtype=torch.float64), 0
    while piece.shape[-1] < time:
        context = piece[..., piece.shape[-1] - int(CONTEXT * length) :] if index else piece
        noise = noise_of(network, seed * 1_000_003 + index)
        known = (torch.arange(length) < context.shape[-1]).expand(1, 2, 1, -1)
        stems = torch.nn.functional.pad(context, (0, length - context.shape[-1]))
        given = Observed(stems, known, noised=False) if index else Free()
        bound = conditioned(denoiser(network), known) if index else denoiser(network)
        window = QUICK.run(bound, noise(stems) * QUICK.sigma_max, given, noise, lambda done, steps: None)
        piece = torch.cat([piece, eased(window, known, round(EASE * RATE))[..., context.shape[-1] :]], dim=-1)
        index += 1
    return piece[0, :, :, :time].float()


@pytest.mark.parametrize("method", ["condition", "replace"])
def test_windows_on_a_tape_are_those_in_memory(method: str) -> None:
    """Missing stems, and regions that reach over windows, come out bit for bit as from one array in memory."""
    given = given_pair(40.3)
    known = torch.ones(1, 2, 1, 40_300, dtype=torch.bool)
    known[0, 0, :, 8_000:23_456] = known[0, 0, :, 40_000:] = False
    expected = whole_impute(Pair(), given.samples[None], known, gain_of(given), method, 7)
    regions = {"bass": [(8.0, 23.456), (40.0, float("inf"))]}
    assert torch.equal(impute(Pair(), given, QUICK, regions=regions, method=method, seed=7).samples, expected[:1])
    drums = Stems(("drums",), given.samples[1:], RATE)
    known[0, 0] = False
    expected = whole_impute(
        Pair(), given.samples[None] * torch.tensor([0.0, 1.0])[:, None, None], known, gain_of(drums), method, 7
    )
    assert torch.equal(impute(Pair(), drums, QUICK, method=method, seed=7).samples, expected[:1])


def test_pieces_are_those_in_memory() -> None:
    """A piece of many windows is bit for bit what it is when all of it is held, and so is its beginning."""
    whole = whole_generate(Pair(), 40_007, 3)
    assert torch.equal(generate(Pair(), 40.007, QUICK, seed=3).samples, whole)
    assert torch.equal(generate(Pair(), 12.0, QUICK, seed=3).samples, whole[..., :12_000])


def test_files_in_blocks_are_those_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another rate and width, blocks of any size: the same samples as read, changed and put together at once."""
    rng = np.random.default_rng(0)
    for name, seconds, channels in (("bass", 20.0, 1), ("drums", 20.5, 2)):
        soundfile.write(tmp_path / f"{name}.wav", 0.1 * rng.normal(size=(round(seconds * 2250), channels)), 2250)
    runs = []
    for block in (1 << 17, 997):
        monkeypatch.setattr("stemforge.audio.io._BLOCK", block)
        given = open_given(tmp_path, ("bass", "drums"))
        wish = Wish(regions={"drums": [(3.0, 9.0)]}, seed=1)
        gain = gain_for(given, Pair())
        rows = torch.cat(list(accompanied(Pair(), given, gain, QUICK, wish)), dim=-1)
        runs.append((gain, rows))
    old = torch.cat(list(given.stream()), dim=-1)
    assert runs[0][0] == runs[1][0] and torch.equal(runs[0][1], runs[1][1])
    assert names_of(given, Pair(), wish) == ("bass", "drums") and rows.shape == old.shape == (2, 2, 46125)
    assert torch.equal(rows[0], old[0]) and torch.equal(rows[1, :, :6750], old[1, :, :6750])
    assert torch.equal(rows[1, :, 20250:], old[1, :, 20250:]) and not torch.equal(rows, old)


def test_the_level_of_a_long_song_is_that_of_all_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to five minutes the level is bit for bit that of one array, and beyond it is the same to float32."""
    stems = given_pair(40)
    blocks = stems.samples.split(777, dim=-1)
    assert gain_over(blocks, stems.names, RATE) == gain_of(stems)
    monkeypatch.setattr(levels, "SHORT", 9.0)
    assert gain_over(blocks, stems.names, RATE) == pytest.approx(gain_of(stems), rel=1e-6)


def test_half_an_hour_of_impute_holds_what_six_minutes_do() -> None:
    """The largest array, and how far reading runs ahead of writing, are a window and blocks whatever the length."""
    found = []
    for minutes in (6, 30):
        tape, written, ahead = Tape(minutes), 0, 0
        with Largest() as largest:
            gain = gain_for(tape, Pair())
            for rows in accompanied(Pair(), tape, gain, STEP, Wish(segment=60.0)):
                ahead = max(ahead, tape.read - written)
                written += rows.shape[-1]
        assert written == tape.frames and gain == pytest.approx(10 ** (-23 / 20) / 0.1, rel=1e-4)
        assert ahead <= 60 * RATE + (1 << 16)
        found.append(largest.most)
    assert found == [2 * 60 * RATE] * 2, "two stems of one window"


def test_half_an_hour_of_new_music_holds_a_window() -> None:
    """The largest array of half an hour is that of six minutes: two stems of a window."""
    found = []
    for minutes in (6, 30):
        with Largest() as largest:
            assert sum(block.shape[-1] for block in generate_blocks(Pair(), minutes * 60, STEP, segment=60.0)) == (
                minutes * 60 * RATE
            )
        found.append(largest.most)
    assert found == [2 * 60 * RATE] * 2


def test_what_is_odd_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Stems that are read several times are told to be loud a single time."""
    soundfile.write(tmp_path / "drums.wav", np.full((5000, 1), 40.0), RATE, subtype="FLOAT")
    with caplog.at_level(logging.WARNING, "stemforge"):
        given = open_given(tmp_path, ("drums",))
        for seed in (1, 2):
            list(accompanied(Pair(), given, gain_for(given, Pair()) if seed == 1 else 1.0, STEP, Wish(seed=seed)))
    assert [record.getMessage().partition(": ")[2][:4] for record in caplog.records] == ["peak"]


def test_out_of_memory_names_the_segment() -> None:
    """Generate, impute, edit and separation by sampling: one line that says what makes it smaller."""
    given, free = Stems(("drums",), torch.zeros(1, 1, 500), RATE), torch.ones(500, dtype=torch.bool)
    calls = (
        lambda: generate(Full(), 1.0, STEP),
        lambda: impute(Full(), given, STEP),
        lambda: edit(Full(), given, free, Way(STEP), names=("drums",)),
        lambda: list(DiffusionSeparator(Full(), method="dirac", sampling=STEP).stream([torch.zeros(2, 500)])),
    )
    for call in calls:
        with pytest.raises(DeviceError, match=r"device 'cpu': out of memory .* Try a shorter --segment, or -d cpu"):
            call()


def test_other_errors_stay_what_they_are() -> None:
    """Only being out of memory is translated; the weights have words of their own."""
    with pytest.raises(RuntimeError, match="shape"), memory_errors("cpu"):
        raise RuntimeError("shape")
    with (
        pytest.raises(DeviceError, match="'cuda:1': out of memory with the weights alone"),
        memory_errors("cuda:1", LOADING),
    ):
        raise torch.OutOfMemoryError("CUDA out of memory")


def test_shorter_windows_are_heard_by_the_network() -> None:
    """With a segment every window has that length, in all three tasks."""
    seen: list[int] = []

    class Watched(Pair):
        def denoise(self, x: Tensor, sigma: Tensor, **how: Any) -> Tensor:
            seen.append(x.shape[-1])
            return super().denoise(x, sigma, **how)

    given = given_pair(5)
    generate(Watched(), 5.0, STEP, segment=2.0)
    impute(Watched(), Stems(("drums",), given.samples[1:], RATE), STEP, segment=2.0)
    edit(Watched(), given, torch.ones(5000, dtype=torch.bool), Way(STEP, segment=2.0), names=("drums",))
    assert len(seen) == 4 + 3 + 3 and set(seen) == {2000}


def test_a_feed_gives_what_it_got() -> None:
    """Pieces of any size follow each other without gaps; asking for more than there is, is an error."""
    x = torch.arange(1000.0)[None]
    feed = Feed(x.split(64, dim=-1))
    sizes = [0, 1, 200, 64, 735]
    assert torch.equal(torch.cat([feed.take(n) for n in sizes], dim=-1), x)
    with pytest.raises(ValueError, match="1 samples were asked for, 0 are left"):
        feed.take(1)
    assert torch.equal(torch.cat(list(lasting(x.split(64, dim=-1), 300, (1,))), dim=-1), x[:, :300])
    longer = torch.cat(list(lasting([x], 600_000, (1,))), dim=-1)
    assert longer.shape == (1, 600_000) and torch.equal(longer[:, :1000], x) and not longer[:, 1000:].any()
