"""Stems that are drawn stand somewhere: as loud as they were, by turns left and right, away from what is given."""

from __future__ import annotations

import pytest
import torch

from stemforge.tasks.places import ASIDE, MIDDLE, Places

MADE = ("bass", "drums", "guitar", "piano", "other")


def pan(gains: torch.Tensor) -> torch.Tensor:
    """-1 left to 1 right, of gains (stem, 2, 1)."""
    return torch.atan2(gains[:, 1, 0], gains[:, 0, 0]) * 4 / torch.pi - 1


@pytest.mark.parametrize("seed", range(20))
def test_places_of_a_new_piece(seed: int) -> None:
    gains = Places(2).gains(MADE, seed)
    torch.testing.assert_close(gains.square().sum(dim=1), torch.full((5, 1), 2.0))
    where = dict(zip(MADE, pan(gains).tolist(), strict=True))
    assert all(where[name] == pytest.approx(0, abs=1e-6) for name in MADE if name in MIDDLE)
    aside = [where[name] for name in sorted(MADE) if name not in MIDDLE]
    assert all(ASIDE[0] <= abs(at) <= ASIDE[1] for at in aside)
    assert aside[0] * aside[1] < 0 and aside[1] * aside[2] < 0


def test_the_same_in_any_order_and_others_for_another_seed() -> None:
    places = Places(2)
    there = places.gains(MADE[::-1], 3)
    assert torch.equal(places.gains(MADE, 3), there.flip(0))
    assert not torch.equal(places.gains(MADE, 4), there.flip(0))
    sides = {float(pan(places.gains(("guitar",), seed))[0].sign()) for seed in range(20)}
    assert sides == {-1.0, 1.0}


@pytest.mark.parametrize("side", [0, 1])
def test_what_is_new_stands_where_what_is_given_does_not(side: int) -> None:
    places = Places(2, ["piano", "bass"])
    block = torch.randn(2, 2, 1000)
    block[0, 1 - side] *= 0.1
    assert places.heard(block) is block
    for seed in range(5):
        at = pan(places.gains(("guitar",), seed))[0]
        assert at < 0 if side else at > 0


def test_a_stem_that_is_given_in_parts_stays_where_it_is() -> None:
    places = Places(2, ["piano"])
    sound = torch.randn(1, 1, 5000)
    places.heard(torch.cat([sound, 0.5 * sound], dim=1))
    gains = places.gains(("piano", "bass"), 0)
    assert float(gains[0, 0] / gains[0, 1]) == pytest.approx(2, rel=1e-5)
    assert float(gains[0].square().sum()) == pytest.approx(2, rel=1e-5)
    torch.testing.assert_close(gains[1], torch.ones(2, 1))


def test_in_the_middle_where_there_is_no_side_or_nothing_to_go_by() -> None:
    assert torch.equal(Places(1).gains(MADE, 0), torch.ones(5, 1, 1))
    silent = Places(2, ["guitar"])
    silent.heard(torch.zeros(1, 2, 10))
    assert abs(pan(silent.gains(("guitar",), 0))[0]) >= ASIDE[0]
    mono = Places(2, ["other"])
    mono.heard(torch.ones(1, 1, 10))
    torch.testing.assert_close(mono.gains(("other",), 0), torch.ones(1, 2, 1))
