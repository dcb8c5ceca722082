"""How strongly given stems count: what is filled lies on the line through what it is with them and without them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from stemforge.inference.settings import Sampling
from stemforge.inference.wrappers import untold
from stemforge.tasks.impute import Song, Wish, impute_blocks

RATE = 100


class Follower:
    """Knows of each stem that it is half of the sum of all stems that are shown clean, and 0.1 where none is."""

    names = ("bass", "drums", "other")
    rate, channels, segment, conditional = RATE, 1, 2.0, True

    def __init__(self) -> None:
        self.calls: list[list[bool]] = []

    def noise(self, like: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return torch.randn(like.shape, generator=generator)

    def denoise(self, x: Tensor, sigma: Tensor, *, hidden: Tensor | None = None, **_: object) -> Tensor:
        hidden = torch.zeros(x.shape[:2], dtype=torch.bool) if hidden is None else hidden
        self.calls.append(hidden[0].tolist())
        clean = ((sigma == 0) & ~hidden[..., None])[:, :, None].expand(*x.shape[:3], -1)
        clean = clean.expand_as(x)
        lead = 0.5 * (x * clean).sum(dim=1, keepdim=True)
        out = torch.where(clean.any(dim=1, keepdim=True), lead, torch.full_like(lead, 0.1)).expand_as(x)
        return torch.where(clean, x, out)


def filled(
    wish: Wish, names: tuple[str, ...] = ("bass",), seconds: float = 2.0, kind: type[Follower] = Follower
) -> tuple[Tensor, Follower]:
    network = kind()
    rows = torch.full((len(names), 1, round(seconds * RATE)), 0.4)
    song = Song([rows], names, rows.shape[-1], 1.0)
    blocks = impute_blocks(network, song, Sampling(steps=3), wish)
    return torch.cat(list(blocks), dim=-1), network


@pytest.mark.parametrize("guidance", [0.0, 0.5, 1.0, 1.5, 3.0])
def test_more_is_further_from_what_it_would_be_alone(guidance: float) -> None:
    """0.1 without the bass, 0.2 with it."""
    made, _ = filled(Wish(("drums",), guidance=guidance))
    assert torch.allclose(made, torch.tensor(0.1 + guidance * 0.1), atol=1e-5)


def test_what_is_hidden_stays_hidden_and_one_call_is_enough_without() -> None:
    """The third stem is not heard; with guidance every step asks once with the bass and once without."""
    assert filled(Wish(("drums",)))[1].calls == 3 * [[False, False, True]]
    assert filled(Wish(("drums",), guidance=2.0))[1].calls == 3 * [[True, False, True], [False, False, True]]


def test_only_stems_that_are_given_throughout_a_window_are_left_out() -> None:
    """A region of the bass is filled by what stands around it, and by the drums that are given beside it."""
    wish = Wish(regions={"bass": [(0.5, 1.0)]}, guidance=2.0)
    made, network = filled(wish, ("bass", "drums"))
    assert network.calls[:2] == [[False, True, True], [False, False, True]]
    assert torch.allclose(made[0, 0, 50:100], torch.tensor(0.3), atol=1e-5)
    assert torch.equal(made[0, 0, :50], torch.full((50,), 0.4))
    alone, network = filled(wish, ("bass",))  # nothing is given throughout
    assert network.calls == 6 * [[False, True, True]]
    assert torch.allclose(alone[0, 0, 50:100], torch.tensor(0.1), atol=1e-5)


class Neighbour(Follower):
    """Knows that what is missing is half of the mean of all that is shown clean, 0.1 where nothing is."""

    def denoise(self, x: Tensor, sigma: Tensor, *, hidden: Tensor | None = None, **_: object) -> Tensor:
        self.calls.append(hidden[0].tolist() if hidden is not None else [])
        clean = ((sigma == 0) & ~hidden[..., None])[:, :, None].expand(*x.shape[:3], -1).expand_as(x)
        return torch.where(clean, x, 0.5 * x[clean].mean() if bool(clean.any()) else torch.tensor(0.1))


@pytest.mark.parametrize("guidance", [0.0, 1.0, 2.0])
def test_what_stands_around_a_region_counts(guidance: float) -> None:
    """0.2 with what is around it, which is 0.4, and 0.1 without."""
    made, network = filled(Wish(regions={"bass": [(0.5, 1.0)]}, guidance=guidance), kind=Neighbour)
    assert torch.allclose(made[0, 0, 60:90], torch.tensor(0.1 + guidance * 0.1), atol=1e-5)
    kept = torch.cat([made[0, 0, :50], made[0, 0, 100:]])
    assert torch.equal(kept, torch.full((150,), 0.4))
    assert len(network.calls) == (6 if guidance == 2 else 3)


def test_what_is_not_to_be_seen_has_the_noise_of_the_rest() -> None:
    """There and nowhere else, a new draw at each call."""
    parts = torch.tensor([True, True, False, False]).reshape(1, 1, 1, 4)
    seen = untold(lambda x, sigma: x, parts.expand(1, 1, 1, 4), torch.ones_like)(
        torch.zeros(1, 1, 1, 4), torch.tensor(3.0)
    )
    assert torch.equal(seen, torch.tensor([3.0, 3.0, 0.0, 0.0]).reshape(1, 1, 1, 4))


def test_windows_that_follow_count_the_given_alone() -> None:
    """What the window before has filled is a beginning and no stem that is given."""
    made, network = filled(Wish(("drums",), guidance=1.5), seconds=5.0)
    assert {tuple(call) for call in network.calls} == {(True, False, True), (False, False, True)}
    assert torch.allclose(made[..., :150], torch.tensor(0.25), atol=1e-5)


def test_a_network_that_is_shown_noise_knows_no_guidance() -> None:
    assert filled(Wish(("drums",), method="replace", guidance=2.0))[1].calls == 3 * [[False, False, True]]
