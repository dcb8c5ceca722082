"""Local patterns past the tokens: weighed as told, in their places, and of the right things."""

from __future__ import annotations

import math

import pytest
import torch

from stemforge.models.detail import FLOOR, RUN, Detail, Taps, read_levels, stem_planes, taken
from stemforge.models.spectra import Stft

SIZES, MAPS, STEMS, WIDTH = [5, 20, 33], 3, 2, 4


@pytest.fixture(scope="module")
def detail() -> Detail:
    """All weights drawn, none zero."""
    torch.manual_seed(0)
    detail = Detail(2, MAPS, WIDTH, SIZES, STEMS)
    for weight in detail.parameters():
        torch.nn.init.normal_(weight)
    return detail.requires_grad_(False)


def said(detail: Detail, planes: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """The definition, group by group: what the token of the band says of the run, times the patterns of the group."""
    patterns = torch.nn.functional.gelu(detail.second(torch.nn.functional.gelu(detail.first(planes))))
    out = torch.zeros(len(tokens), STEMS, 2, planes.shape[2], sum(SIZES))
    for b in range(len(tokens)):
        for i in range(STEMS):
            for g in range(sum(SIZES)):
                band = next(k for k in range(3) if g < sum(SIZES[: k + 1]))
                run = (g - sum(SIZES[:band])) // RUN
                words = detail.weigh[band](tokens[b, band]).view(planes.shape[2], STEMS, 2, -1, MAPS)[:, i, :, run]
                item = b * STEMS + i if len(planes) > len(tokens) else b
                out[b, i, :, :, g] = torch.einsum("tok,kt->ot", words, patterns[item, :, :, g]) / MAPS
    return out


@pytest.mark.parametrize("each", [1, STEMS], ids=["of the mixture", "of each stem"])
def test_patterns_are_weighed_by_the_tokens_of_their_band(detail, each):
    """Every group of every band, with runs that are not full at the end of a band."""
    planes, tokens = torch.randn(2 * each, 2, 7, sum(SIZES)), torch.randn(2, 3, 7, WIDTH)
    torch.testing.assert_close(detail(planes, tokens), said(detail, planes, tokens), rtol=1e-4, atol=1e-5)


def test_it_says_nothing_untrained():
    """Zeros, whatever is shown."""
    fresh = Detail(2, MAPS, WIDTH, SIZES, STEMS)
    assert not fresh(torch.randn(1, 2, 7, sum(SIZES)), torch.randn(1, 3, 7, WIDTH)).any()


def test_a_stem_hears_itself_the_others_and_the_mixture():
    """Planes of a stem: its own two channels, the mean power of all others, the middle of the mixture, the level."""
    power = torch.tensor([1.0, 4.0, 0.0])[None, :, None, None, None].expand(1, 3, 2, 1, 1)
    levels, around = 0.25 * (power + FLOOR).log(), torch.tensor([10.0, 20.0, 30.0, 40.0])[None, :, None, None]
    planes = stem_planes(levels, around, torch.tensor([0.0, 1.0, math.e])[None, :, None])[..., 0, 0]
    own, others = [0.0, math.log(4) / 4, math.log(FLOOR) / 4], [math.log(4) / 4, 0.0, math.log(5) / 4]
    expected = [[o, o, r, 30.0, n] for o, r, n in zip(own, others, (math.log(1e-4) / 4, 0, 0.25), strict=True)]
    torch.testing.assert_close(planes, torch.tensor(expected), rtol=0, atol=1e-5)


def test_no_mixture_reads_as_zero():
    """In the place of the mixture stands 0, and one channel is enough."""
    levels = torch.zeros(1, 2, 1, 3, 4)
    assert not stem_planes(levels, None, torch.ones(1, 2, 3))[:, 2].any()
    mono = stem_planes(levels, torch.full((1, 1, 3, 4), 7.0), torch.ones(1, 2, 3))
    assert mono.shape == (2, 4, 3, 4) and (mono[:, 2] == 7).all()


def test_levels_are_read_band_by_band():
    """Each lower band reads its own bins of all stems and channels; the top band nothing."""
    readers = torch.nn.ModuleList(torch.nn.Linear(2 * n, 3, bias=False) for n in (2, 4))
    levels = torch.randn(1, 2, 1, 5, 9)
    read = read_levels(readers, levels, [(0, 2), (2, 6)])
    assert read.shape == (1, 3, 5, 3) and not read[:, 2].any()
    second = torch.cat([levels[0, 0, 0, :, 2:6], levels[0, 1, 0, :, 2:6]], dim=-1) @ readers[1].weight.T
    torch.testing.assert_close(read[0, 1], second)


def test_taps_are_one_word_a_run():
    """16 groups of a band share what its token says, the last ones of a band fewer; untrained nothing."""
    taps = Taps(WIDTH, SIZES, STEMS)
    tokens = torch.randn(2, 3, 7, WIDTH)
    assert not taps(tokens).any()
    for weight in taps.parameters():
        torch.nn.init.normal_(weight)
    found = taps(tokens)
    assert found.shape == (2, STEMS, 3, 7, sum(SIZES))
    for band, first, last, run in [(0, 0, 5, 0), (1, 5, 21, 0), (1, 21, 25, 1), (2, 25, 41, 0), (2, 57, 58, 2)]:
        words = taps.weigh[band](tokens[:, band]).view(2, 7, STEMS, 3, -1)[..., run].permute(0, 2, 3, 1)
        torch.testing.assert_close(found[..., first:last], words[..., None].expand(-1, -1, -1, -1, last - first))


@pytest.mark.parametrize("off", [-0.5, 0.0, 0.2, 0.5])
def test_frames_around_a_held_tone_add_up_to_it(off):
    """Turned back they are 2 cos(2 pi d / 3) of the frame between them, d bins off the middle of the bin."""
    stft, at = Stft(96), 20
    tone = torch.cos(2 * torch.pi * (at + off) / 96 * torch.arange(960) + 1.0)
    x = stft(tone[None, None])[:, None]
    along, none = torch.ones(1, 1, 2, x.shape[3], 30), torch.zeros(1, 1, 1, *x.shape[3:])
    sums = taken(x, none, along)[0, 0, 0, 5:-5, at]
    expected = 2 * math.cos(2 * math.pi * off / 3) * x[0, 0, 0, 5:-5, at]
    torch.testing.assert_close(sums, expected, rtol=0.02, atol=0)


def test_the_other_channel_and_the_frames_around_are_where_they_belong():
    """Each tap by its own weight; before the first and behind the last frame there is silence; one channel has none."""
    x = torch.randn(2, 3, 2, 4, 9, dtype=torch.complex64)
    across, along = torch.randn(2, 3, 1, 4, 9), torch.randn(2, 3, 2, 4, 6)
    turn = torch.exp(2j * torch.pi / 3 * torch.arange(6))
    padded = torch.nn.functional.pad(x, (0, 0, 1, 1))
    expected = across * x[:, :, [1, 0]]
    expected[..., :6] += along[:, :, :1] * padded[..., :-2, :6] * turn + along[:, :, 1:] * padded[..., 2:, :6] / turn
    torch.testing.assert_close(taken(x, across, along), expected)
    mono = taken(x[:, :, :1], across, along)
    torch.testing.assert_close(mono, taken(x[:, :, [0, 0]], across * 0, along)[:, :, :1])
