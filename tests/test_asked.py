"""Only what is asked for is computed, and it is what it would be among all the rest."""

from __future__ import annotations

import pytest
import torch

from stemforge.models.asked import Asked, chosen
from stemforge.models.forge import Forge, ForgeConfig

NAMES = ("bass", "drums", "guitar", "piano")
RATE, TIME = 8000, 6000


def network(channels: int = 2, **config: object) -> Forge:
    """A small one with all there is, of which every layer says something."""
    torch.manual_seed(0)
    pools = ((40, 80, 4), (80, 104, 8))
    config = {"detail": 4, "across": True, "apart": True, "trunk": 1} | config
    forge = Forge(
        ForgeConfig(
            names=NAMES, rate=RATE, channels=channels, n_fft=192, edges=(0, 8, 16, 40), pools=pools, width=16, heads=2,
            hidden=16, layers=2, rank=8, **config,
        )
    )  # fmt: skip
    for weight in forge.parameters():
        torch.nn.init.normal_(weight, std=0.2)
    return forge.eval()


def whole(forge: Forge, x: torch.Tensor, sigma: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
    """The estimates of all stems at all times."""
    frames = forge.frame_sigma(sigma, x.shape[-1])
    seen = forge.stft(x * ~hidden[:, :, None, None])
    c = forge.coefficients(frames, hidden)
    out = forge(None, seen * c.c_in, frames, hidden)
    return forge.stft.inverse(forge.combine(out, None, seen, frames, hidden, c), x.shape[-1])


def levels(known: tuple[int, ...], spans: tuple[tuple[int, int], ...], items: int = 1) -> torch.Tensor:
    """(batch, stem, time): 0.7, and 0 for the known stems and outside of the spans."""
    sigma = torch.zeros(items, len(NAMES), TIME)
    for first, last in spans:
        sigma[..., first:last] = 0.7
    sigma[:, list(known)] = 0
    return sigma


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("known", [(), (0,), (1, 2), (0, 1, 2)])
@pytest.mark.parametrize("hidden", [(), (3,), (0, 3)])
@pytest.mark.parametrize(
    "spans", [((0, TIME),), ((0, 700),), ((2000, 2001),), ((100, 130), (4000, 5000)), ((5990, TIME),)]
)
def test_what_is_asked_for_is_what_it_was(
    channels: int, known: tuple[int, ...], hidden: tuple[int, ...], spans: tuple[tuple[int, int], ...]
) -> None:
    forge = network(channels)
    unseen = torch.tensor([k in hidden for k in range(len(NAMES))])[None]
    sigma = levels(known, spans)
    x = torch.randn(1, len(NAMES), channels, TIME)
    with torch.no_grad():
        found, wanted = forge.denoise(x, sigma, hidden=unseen), whole(forge, x, sigma, unseen)
    shown = ~unseen[0]
    torch.testing.assert_close(found[:, shown], wanted[:, shown], rtol=1e-4, atol=1e-5)
    assert torch.equal(found[:, list(known)], (x * shown[None, :, None, None])[:, list(known)])


def test_without_local_patterns_too() -> None:
    forge = network(detail=0, across=False, apart=False, trunk=0)
    sigma, unseen = levels((1,), ((1000, 2000),)), torch.zeros(1, 4, dtype=torch.bool)
    x = torch.randn(1, 4, 2, TIME)
    with torch.no_grad():
        torch.testing.assert_close(forge.denoise(x, sigma), whole(forge, x, sigma, unseen), rtol=1e-4, atol=1e-5)


def test_items_of_a_batch_may_ask_for_different_parts() -> None:
    forge = network()
    sigma = torch.cat([levels((0, 1), ((0, 700),)), levels((2,), ((3000, 4000),))])
    unseen = torch.tensor([[False] * 4, [False, False, False, True]])
    x = torch.randn(2, 4, 2, TIME)
    with torch.no_grad():
        found, wanted = forge.denoise(x, sigma, hidden=unseen), whole(forge, x, sigma, unseen)
    torch.testing.assert_close(found[~unseen], wanted[~unseen], rtol=1e-4, atol=1e-5)


def test_gradients_are_what_they_were() -> None:
    forge = network()
    sigma, unseen = levels((1,), ((1000, 3000),)), torch.tensor([[False, False, False, True]])
    x = torch.randn(1, 4, 2, TIME, requires_grad=True)
    found = (
        forge.denoise(x, sigma, hidden=unseen)[:, :3].sin().sum(),
        whole(forge, x, sigma, unseen)[:, :3].sin().sum(),
    )
    mine, theirs = (torch.autograd.grad(value, x)[0] for value in found)
    assert float(theirs[:, :3].abs().amax()) > 0.1
    torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-4)


def test_all_known_is_what_is_given() -> None:
    forge, x = network(), torch.randn(1, 4, 2, TIME)
    assert torch.equal(forge.denoise(x, torch.zeros(1, 4, 1)), x)


def test_rows_in_a_row_are_a_slice() -> None:
    unseen = torch.zeros(1, 4, dtype=torch.bool)
    some = Asked.of(levels((0,), ((0, TIME),)), unseen)
    assert some is not None and some.rows == slice(1, 4) and some.frames == slice(None)
    apart = Asked.of(levels((1,), ((5, 9),)), unseen)
    assert apart is not None and apart.rows.tolist() == [0, 2, 3] and apart.frames == slice(3, 11)
    assert Asked.of(levels((), ()), unseen) is None
    within = Asked.of(levels((1,), ((0, TIME),)), torch.tensor([[True, False, False, False]]))
    assert within is not None and (within.shown, within.rows, within.within) == (slice(1, 4), slice(2, 4), slice(1, 3))


def test_chosen_outputs_are_those_of_the_layer() -> None:
    layer, x = torch.nn.Linear(5, 24), torch.randn(3, 5)
    laid = layer(x).unflatten(-1, (2, 4, 3))
    rows = torch.tensor([0, 3])
    torch.testing.assert_close(chosen(layer, x, (2, 4), (slice(None), rows)), laid[:, :, rows].flatten(1))
    torch.testing.assert_close(chosen(layer, x, (2, 4), (slice(1, 2), slice(1, 3))), laid[:, 1:, 1:3].flatten(1))
