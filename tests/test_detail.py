"""Local patterns past the tokens: weighed as told, in their places, and of the right things."""

from __future__ import annotations

import math

import pytest
import torch

from stemforge.models.detail import FLOOR, RUN, Across, Detail, read_levels, stem_planes

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
    """Each token of a lower band reads its bins of all stems and channels; the tokens of the top band nothing."""
    readers = torch.nn.ModuleList(torch.nn.Linear(2 * n, 3, bias=False) for n in (2, 4))
    levels = torch.randn(1, 2, 1, 5, 9)
    read = read_levels(readers, levels, [(0, 2), (2, 6)], 4)
    assert read.shape == (1, 4, 5, 3) and not read[:, 2:].any()
    second = torch.cat([levels[0, 0, 0, :, 2:6], levels[0, 1, 0, :, 2:6]], dim=-1) @ readers[1].weight.T
    torch.testing.assert_close(read[0, 1], second)


def test_across_is_one_word_a_run():
    """16 groups of a band share what its token says, the last ones of a band fewer; untrained nothing."""
    across = Across(WIDTH, SIZES, STEMS)
    tokens = torch.randn(2, 3, 7, WIDTH)
    assert not across(tokens).any()
    for weight in across.parameters():
        torch.nn.init.normal_(weight)
    found = across(tokens)
    assert found.shape == (2, STEMS, 1, 7, sum(SIZES))
    for band, (first, last, run) in enumerate([(0, 5, 0), (5, 21, 0), (21, 25, 1), (25, 41, 0), (57, 58, 2)]):
        band = min(band, 1) if band < 3 else 2
        words = across.weigh[band](tokens[:, band]).view(2, 7, STEMS, -1)[..., run].permute(0, 2, 1)
        torch.testing.assert_close(found[:, :, 0, :, first:last], words[..., None].expand(-1, -1, -1, last - first))
