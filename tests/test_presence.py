"""Whether a stem is there at all: the rule alone, and what it does to a separation."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from stemforge.models.presence import DOWN, presence_gain
from tiny import tiny_network


def _logits(*chances: float, frames: int = 200) -> torch.Tensor:
    """(1, stem, frame) of constant chances."""
    return torch.tensor(chances).logit()[None, :, None].expand(1, -1, frames).clone()


@pytest.mark.parametrize(("chance", "gain"), [(0.01, DOWN), (0.15, DOWN), (0.2, DOWN**0.5), (0.25, 1.0), (0.9, 1.0)])
def test_the_gain_rises_around_the_threshold(chance: float, gain: float) -> None:
    """DOWN below 0.8 of it, 1 above 1.2 of it, half of the decibels at it."""
    assert float(presence_gain(_logits(chance), 0.2, 15)) == pytest.approx(gain, rel=1e-3)


def test_one_place_is_enough() -> None:
    """A stem that sounds in half a second of a passage is there; a frame or two are not."""
    activity = _logits(0.01, 0.01, 0.01)
    activity[0, 1, 50:70], activity[0, 2, 50:52] = 4.0, 4.0
    assert presence_gain(activity, 0.2, 15)[0].tolist() == pytest.approx([DOWN, 1.0, DOWN])


def test_passages_of_a_batch_and_short_ones_are_judged_alone() -> None:
    """Each item by itself; fewer frames than are looked at together are all of them."""
    both = torch.cat([_logits(0.01), _logits(0.9)])
    assert presence_gain(both, 0.2, 15)[:, 0].tolist() == pytest.approx([DOWN, 1.0])
    assert float(presence_gain(_logits(0.9, frames=1), 0.2, 15)) == 1.0


@torch.no_grad()
def test_what_is_not_there_is_turned_down_and_the_sum_stays() -> None:
    """By 30 dB, whichever level the song has; a threshold of 0 changes nothing."""
    torch.manual_seed(0)
    network = tiny_network()
    torch.nn.init.zeros_(network.write_activity.weight)
    network.write_activity.bias.data = torch.tensor([3.0, 3.0, math.log(0.05 / 0.95)])
    mixture, levels = torch.randn(1, 2, 20000) * 0.1, []
    for silent, loud in ((0.0, 1.0), (0.2, 1.0), (0.2, 0.01)):
        network.config = replace(network.config, silent=silent)
        stems = network.separate(mixture * loud)[0] / loud
        assert torch.allclose(stems.sum(0), mixture[0], atol=1e-5)
        levels.append(10 * stems.square().mean(dim=(1, 2)).log10())
    assert float(levels[0][2] - levels[1][2]) == pytest.approx(30, abs=1.5)
    assert torch.allclose(levels[1], levels[2], atol=0.01)
    assert (levels[1][:2] >= levels[0][:2] - 0.01).all()
