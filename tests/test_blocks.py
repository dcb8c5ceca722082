"""Layers of the band-token network: who hears whom, and at which pace."""

from __future__ import annotations

import pytest
import torch

from stemforge.models.blocks import STRIDE, Attention, BandAttention, Block, Trunk, through
from stemforge.models.detail import divided

WIDTH, BANDS = 8, 3


def tokens(frames: int = 10) -> torch.Tensor:
    return torch.randn(2, BANDS, frames, WIDTH, generator=torch.Generator().manual_seed(0))


def test_bands_attend_to_all_bands_of_their_frame_and_to_no_other():
    """Bands in another order give the same in that order; a frame that changes changes nothing in the others."""
    torch.manual_seed(1)
    mixer, x = BandAttention(WIDTH, 2), tokens()
    order = [2, 0, 1]
    torch.testing.assert_close(mixer(x[:, order]), mixer(x)[:, order])
    other = x.clone()
    other[:, 0, 4, 0] += 1
    changed = (mixer(other) - mixer(x)).abs().amax(dim=(0, 3)) > 1e-6
    assert changed.any(dim=0).tolist() == [frame == 4 for frame in range(10)] and changed[:, 4].all()


@pytest.mark.parametrize("frames", [1, 3, 4, 10])
def test_the_trunk_says_one_thing_to_several_frames(frames: int):
    """Nothing until it is trained; then the same to STRIDE frames at a time, hearing all frames, however many."""
    torch.manual_seed(1)
    trunk, x = Trunk(1, WIDTH, 2, BANDS), tokens(frames)
    assert torch.equal(trunk(x), x)
    torch.nn.init.normal_(trunk.up.weight)
    said = trunk(x) - x
    first = said[:, :, :STRIDE]
    torch.testing.assert_close(first, first[:, :, :1].expand_as(first))
    other = x.clone()
    other[:, 1, -1, 0] += 1
    assert (trunk(other) - other - said).abs().amax(dim=(1, 3)).gt(1e-6).all()


def test_the_trunk_stands_half_way():
    """Of four blocks two come before it."""
    order = []

    class Told(torch.nn.Module):
        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            order.append(self.name)
            return x

    blocks = torch.nn.ModuleList(Told(name) for name in "abcd")
    through(tokens(), blocks, torch.nn.LayerNorm(WIDTH), Told("trunk"))
    assert order == ["a", "b", "trunk", "c", "d"]


@pytest.mark.parametrize("rank", [0, 4])
def test_a_block_keeps_the_shape_and_every_weight_has_a_slope(rank: int):
    """With a low-rank mixer and with attention across the bands."""
    block = Block(WIDTH, 2, 12, 3, BANDS, rank)
    out = block(tokens())
    out.square().sum().backward()
    assert out.shape == tokens().shape and all(weight.grad is not None for weight in block.parameters())


def test_bands_are_cut_at_whole_runs():
    """Each part is whole runs of 16 groups but for the rest of its band; a band cannot be cut finer than its runs."""
    bands = [36, 78, 192, 212]
    assert divided(bands, ()) == ([0, 1, 2, 3], bands)
    parents, sizes = divided(bands, (1, 2, 3, 2))
    assert parents == [0, 1, 1, 2, 2, 2, 3, 3] and sizes == [36, 48, 30, 64, 64, 64, 112, 100]
    with pytest.raises(ValueError, match="36 groups has 3 runs"):
        divided(bands, (4, 1, 1, 1))


def test_attention_that_slides_sees_what_is_near():
    """As if each place stood in the middle of a row of its own; what is `reach` away or more changes nothing."""
    torch.manual_seed(0)
    reach, width = 5, 16
    layer, x = Attention(width, 2, ordered=True).requires_grad_(False), torch.randn(3, 40, width)
    layer.reach = reach
    out = layer(x)
    for at in (0, 3, 20, 39):
        first = max(0, at - reach + 1)
        cut = x[:, first : at + reach]
        assert torch.allclose(layer(cut)[:, at - first], out[:, at], atol=1e-5)
        far = torch.arange(40).sub(at).abs() >= reach
        assert torch.equal(layer(torch.where(far[:, None], 9.0, x))[:, at], out[:, at])


def test_rows_as_long_as_those_of_training_are_seen_whole():
    """Up to twice the reach nothing is hidden, and without a reach never."""
    torch.manual_seed(0)
    layer = Attention(16, 2, ordered=True).requires_grad_(False)
    short, long = torch.randn(2, 10, 16), torch.randn(2, 11, 16)
    plain = layer(short), layer(long)
    layer.reach = 5
    assert torch.equal(layer(short), plain[0])
    assert not torch.allclose(layer(long), plain[1], atol=1e-3)
