"""Windows: what is split and joined is what it was, for every length, overlap and division into blocks."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stemforge.audio.windows import Window, eased, hop_of, join, split, windowed
from stemforge.errors import UsageError


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def chopped(x: torch.Tensor, sizes: list[int]) -> list[torch.Tensor]:
    """x in blocks of these sizes, over and over."""
    blocks, start = [], 0
    while start < x.shape[-1]:
        size = sizes[len(blocks) % len(sizes)]
        blocks.append(x[..., start : start + size])
        start += size
    return blocks


@settings(max_examples=150, deadline=None)
@given(
    total=st.integers(1, 300),
    length=st.integers(1, 64),
    overlap=st.floats(0, 0.99),
    sizes=st.lists(st.integers(1, 90), min_size=1, max_size=4),
)
def test_split_and_join_are_the_identity(total: int, length: int, overlap: float, sizes: list[int]) -> None:
    """Any length, window, overlap and division into blocks gives back the input, bit by bit."""
    x, hop = noise(2, total), hop_of(length, overlap)
    windows = list(split(chopped(x, sizes), length, hop))
    assert {w.samples.shape[-1] for w in windows} == {length}
    assert all(w.valid == length for w in windows[:-1])
    assert torch.equal(torch.cat(list(join(windows, length, hop)), dim=-1), x)


@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5, 0.9])
def test_weights_sum_to_one(overlap: float) -> None:
    """Windows of a constant, each times a number of its own, stay between the least and the largest of them."""
    hop = hop_of(40, overlap)
    windows = [Window(w.samples * (1 + i % 2), w.valid) for i, w in enumerate(split([torch.ones(1, 500)], 40, hop))]
    y = torch.cat(list(join(windows, 40, hop)), dim=-1)
    assert y.shape == (1, 500)
    assert y.min() >= 1 and y.max() <= 2


def test_cross_fade_is_smooth() -> None:
    """Between windows that disagree the step from sample to sample is no larger than the fade allows."""
    hop = hop_of(1000, 0.25)
    windows = [Window(w.samples * i, w.valid) for i, w in enumerate(split([torch.ones(1, 5000)], 1000, hop))]
    y = torch.cat(list(join(windows, 1000, hop)), dim=-1)
    assert y.diff().abs().max() < 2 / 250


def test_nothing_in_nothing_out() -> None:
    """No samples give no windows and no blocks."""
    assert list(split([], 10, 5)) == []
    assert list(join([], 10, 5)) == []


def test_only_a_few_windows_are_held() -> None:
    """Output comes as soon as the windows for it are there."""
    read = 0

    def blocks():
        nonlocal read
        for _ in range(100):
            read += 10
            yield torch.ones(1, 10)

    written = 0
    for block in join(split(blocks(), 20, 15), 20, 15):
        written += block.shape[-1]
        assert read - written <= 60
    assert written == 1000


@pytest.mark.parametrize(("length", "overlap"), [(0, 0.25), (10, 1.0), (10, -0.1), (10, float("nan"))])
def test_impossible_windows(length: int, overlap: float) -> None:
    """A window needs a sample, an overlap is at least 0 and below 1."""
    with pytest.raises(UsageError):
        hop_of(length, overlap)


def test_windowed_denoise_equals_the_whole_for_a_pointwise_denoiser() -> None:
    """Where the estimate of a sample depends on that sample alone, windows change nothing."""
    x, sigma = noise(2, 3, 2, 700), torch.full((2, 1, 1, 1), 0.5)

    def denoise(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        return x / (1 + sigma**2)

    assert torch.equal(windowed(denoise, 64, 0.4)(x, sigma), denoise(x, sigma))


@pytest.mark.parametrize(("time", "seen"), [(40, [40]), (64, [64]), (100, [64, 62]), (103, [64, 64, 27])])
def test_windowed_denoise_ends_with_the_song(time: int, seen: list[int]) -> None:
    """No window has samples that the song does not have, nor levels."""
    lengths = list[int]()

    def denoise(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        assert sigma.shape[-1] == x.shape[-1]
        lengths.append(x.shape[-1])
        return x / (1 + sigma**2)

    dice = torch.Generator().manual_seed(0)
    x, sigma = torch.randn(1, 2, 1, time, generator=dice), torch.rand(1, 2, 1, time, generator=dice)
    assert torch.equal(windowed(denoise, 64, 0.4)(x, sigma), x / (1 + sigma**2))
    assert lengths == seen


def test_windowed_denoise_keeps_sums() -> None:
    """Estimates that sum to the mixture in every window do so in the song."""
    mixture = noise(1, 1, 2, 900)

    def denoise(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        first = x[:, :1] - x[:, :1].mean()
        return torch.cat([first, x.sum(dim=1, keepdim=True) - first], dim=1)

    y = windowed(denoise, 100, 0.6)(torch.cat([mixture, torch.zeros_like(mixture)], dim=1), torch.tensor(1.0))
    assert (y.sum(dim=1, keepdim=True) - mixture).abs().max() < 1e-6


def test_new_parts_begin_where_known_ones_end() -> None:
    """Steps at both ends of a new part are taken out, known samples and the middle of the new part stay."""
    x = torch.zeros(1, 2, 1, 300)
    x[..., 100:200] = 1.0
    known = torch.ones(1, 2, 1, 300, dtype=torch.bool)
    known[:, 0, :, 100:200] = False
    out = eased(x, known, 20)
    assert torch.equal(out[:, 1], x[:, 1]) and torch.equal(out[known], x[known])
    assert torch.equal(out[0, 0, 0, 120:180], x[0, 0, 0, 120:180])
    assert out[0, 0, 0].diff().abs().max() < 0.1
