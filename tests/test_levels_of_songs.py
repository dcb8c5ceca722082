"""The level of songs: one gain, from the first block, within bounds."""

from __future__ import annotations

import pytest
import torch

from stemforge.tasks.levels import LOUDEST, MOST, gain_of, levelled
from stemforge.types import Stems

NAMES = ("bass", "drums")


@pytest.mark.parametrize("level", [0.02, 0.2])
def test_a_piece_gets_the_level_of_training_songs(level: float) -> None:
    """-24 and -23 dB of power add up; the gain of the first block holds for all that follow."""
    blocks = [level * torch.randn(2, 2, 20000, generator=torch.Generator().manual_seed(k)) for k in (0, 1)]
    blocks[1] *= 3
    first, second = levelled(blocks, NAMES)
    assert first.sum(0).square().mean() == pytest.approx(10**-2.4 + 10**-2.3, rel=1e-4)
    assert torch.allclose(second, gain_of(Stems(NAMES, blocks[0], 1)) * blocks[1])


def test_gains_have_bounds_and_silence_has_none() -> None:
    """What is all but silent is not blown up."""
    faint = 1e-4 * torch.ones(2, 2, 100)
    assert torch.equal(next(levelled([faint], NAMES)), MOST * faint)
    assert torch.allclose(next(levelled([1e4 * faint], NAMES)), 1e4 * faint / MOST)
    assert not next(levelled([0 * faint], NAMES)).any() and not list(levelled([], NAMES))


def test_what_was_made_is_not_turned_up_until_it_clips() -> None:
    """A click in a quiet piece, of one stem or where all meet, ends at LOUDEST; a loud piece is turned down to it."""
    click = 0.01 * torch.randn(len(NAMES), 2, 4000, generator=torch.Generator().manual_seed(0))
    click[0, :, 2000] = 0.6
    assert float(next(levelled([click], NAMES)).abs().max()) == pytest.approx(LOUDEST)
    meeting = click.clone()
    meeting[:, :, 2000] = 0.3
    assert float(next(levelled([meeting], NAMES)).sum(dim=0).abs().max()) == pytest.approx(LOUDEST)
    assert float(next(levelled([2.5 * click], NAMES)).abs().max()) == pytest.approx(LOUDEST)
