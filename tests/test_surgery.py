"""Weights go over to a network with other stems: what it knew of a stem it still knows."""

from __future__ import annotations

from dataclasses import asdict, replace

import pytest
import torch

from stemforge.models.forge import Forge
from stemforge.train.surgery import alone, grown, refitted
from tiny import TINY, tiny_network

OLD = tuple(TINY["names"])


def awake(seed: int = 0, **changes) -> Forge:
    """A network all of whose weights count."""
    torch.manual_seed(seed)
    network = tiny_network(**changes)
    with torch.no_grad():
        for weight in network.parameters():
            weight += 0.1 * torch.randn_like(weight)
    return network.eval().requires_grad_(False)


def moved(network: Forge, names: tuple[str, ...]) -> Forge:
    """The network with other stems."""
    target = awake(1, **(asdict(network.config) | {"names": list(names)}))
    target.load_state_dict(refitted(network.state_dict(), network.names, names, target.state_dict()))
    return target


@pytest.mark.parametrize("detail", [0, 3])
def test_another_order_is_the_same_network(detail: int):
    """The same stems in another order: separated and denoised stems are the same, in that order."""
    old, order = awake(detail=detail, across=detail > 0, apart=detail > 0), [2, 0, 1]
    new = moved(old, tuple(OLD[k] for k in order))
    torch.manual_seed(2)
    x, sigma = 0.1 * torch.randn(2, 3, 2, 900), torch.tensor([[0.0, 0.3, 0.7], [0.2, 0.0, 1.0]])[..., None]
    hidden = torch.tensor([[False, False, True], [True, False, False]])
    y = x.sum(1)
    torch.testing.assert_close(new.separate(y), old.separate(y)[:, order], rtol=1e-4, atol=1e-6)
    before = old.denoise(x, sigma, mixture=y, hidden=hidden)[:, order]
    after = new.denoise(x[:, order], sigma[:, order], mixture=y, hidden=hidden[:, order])
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("detail", [0, 3])
def test_a_new_stem_changes_nothing_of_the_others(detail: int):
    """Without a mixture the estimates of the old stems are the same with a new one beside them, whatever it holds.

    Local patterns hear the sum of all other stems, so with them the new one must be hidden.
    """
    old = awake(detail=detail, across=detail > 0)
    new = moved(old, ("vocals", *OLD))
    torch.manual_seed(2)
    x, sigma = 0.1 * torch.randn(1, 4, 2, 900), torch.tensor([[0.5, 0.3, 0.7, 0.0]])[..., None]
    hidden = torch.tensor([[bool(detail), False, False, False]])
    after = new.denoise(x, sigma, hidden=hidden)[:, 1:]
    torch.testing.assert_close(after, old.denoise(x[:, 1:], sigma[:, 1:]), rtol=1e-4, atol=1e-6)
    assert new.separate(x.sum(1))[:, 0].abs().max() > 0


def test_stems_can_be_dropped_and_all_be_new():
    """Fewer stems are a network of their own; with none in common only the blocks are kept."""
    old = awake()
    few = moved(old, ("drums",))
    y = 0.1 * torch.randn(1, 2, 900)
    torch.testing.assert_close(few.separate(y)[:, 0], y, rtol=1e-4, atol=1e-5)
    fresh = awake(1, names=["a", "b"])
    other = moved(old, ("a", "b"))
    for (key, weight), drawn in zip(other.state_dict().items(), fresh.state_dict().values(), strict=True):
        if key.startswith("write_"):
            assert torch.equal(weight, drawn), key
        elif key.startswith("blocks."):
            assert torch.equal(weight, old.state_dict()[key]), key


def test_the_weights_that_were_given_stay():
    """Nothing is written into the old weights, and nothing is shared with them."""
    old = awake()
    before = {key: weight.clone() for key, weight in old.state_dict().items()}
    new = moved(old, ("vocals", "bass"))
    with torch.no_grad():
        for weight in new.parameters():
            weight.zero_()
    assert all(torch.equal(weight, before[key]) for key, weight in old.state_dict().items())


@pytest.mark.parametrize("changes", [{"width": 32}, {"layers": 1}, {"channels": 1}])
def test_other_shapes_are_refused(changes):
    """Only the stems may differ."""
    old, other = awake(), awake(1, **changes)
    with pytest.raises(ValueError, match=r"weights a stem|has shape|different layers"):
        refitted(old.state_dict(), OLD, OLD, other.state_dict())


@pytest.mark.parametrize("detail", [0, 3])
@pytest.mark.parametrize("name", OLD)
def test_one_slot_says_what_was_said_of_its_stem(name: str, detail: int):
    """Of one stem, the others hidden and no mixture given, the network of one slot says what the old one says."""
    old = awake(names=OLD, detail=detail, across=detail > 0, apart=detail > 0)
    new = awake(1, names=["music"], detail=detail, across=detail > 0)
    new.load_state_dict(alone(old.state_dict(), OLD, name))
    torch.manual_seed(2)
    x, sigma = 0.1 * torch.randn(2, 1, 2, 900), torch.tensor([0.3, 2.0])[:, None, None]
    prompt, k = torch.randn(2, 6), OLD.index(name)
    hidden = torch.tensor([other != name for other in OLD]).expand(2, -1)
    before = old.denoise(x.expand(-1, 3, -1, -1), sigma, hidden=hidden, prompt=prompt)[:, k : k + 1]
    torch.testing.assert_close(new.denoise(x, sigma, prompt=prompt), before, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("before", [0, 3])
def test_what_is_new_says_nothing_at_first(before: int):
    """A network that gets a trunk, local patterns, blocks of its own or hears across channels says what it said."""
    old = awake(detail=before)
    new = grown(old, replace(old.config, detail=3, across=True, apart=True, trunk=1))
    torch.manual_seed(2)
    x, sigma = 0.1 * torch.randn(2, 3, 2, 900), torch.tensor([0.3, 2.0])[:, None, None]
    torch.testing.assert_close(new.separate(x.sum(1)), old.separate(x.sum(1)))
    torch.testing.assert_close(new.denoise(x, sigma), old.denoise(x, sigma))
    assert new.config.detail == 3 and new.config.across and new.config.apart and new.config.trunk == 1
    assert grown(new, replace(old.config, detail=5)) is new and grown(old, old.config) is old


FINE = {"n_fft": 258, "edges": [0, 20, 60], "pools": [[60, 100, 2], [100, 130, 2]]}


@pytest.mark.parametrize("new", [{}, {"detail": 3, "across": True, "apart": True, "trunk": 1}])
@pytest.mark.parametrize("splits", [(2, 2, 2), (1, 3, 2), (2, 1, 1)])
def test_tokens_that_are_cut_say_what_they_said(splits: tuple[int, ...], new: dict):
    """Separated, denoised and made stems are the same, with and without local patterns and two trunks."""
    old = awake(**FINE, **new)
    fine = grown(old, replace(old.config, splits=splits))
    assert fine.sizes == {(2, 2, 2): [16, 4, 32, 8, 32, 3], (1, 3, 2): [20, 16, 16, 8, 32, 3],
                          (2, 1, 1): [16, 4, 40, 35]}[splits]  # fmt: skip
    torch.manual_seed(2)
    x, sigma = 0.1 * torch.randn(2, 3, 2, 900), torch.tensor([[0.0, 0.3, 0.7], [0.2, 0.0, 1.0]])[..., None]
    hidden, y = torch.tensor([[False, False, True], [True, False, False]]), x.sum(1)
    torch.testing.assert_close(fine.separate(y), old.separate(y), rtol=1e-4, atol=1e-6)
    for mixture in (None, y):
        before = old.denoise(x, sigma, mixture=mixture, hidden=hidden)
        torch.testing.assert_close(fine.denoise(x, sigma, mixture=mixture, hidden=hidden), before, rtol=1e-4, atol=1e-6)
    activity = old(old.stft(y)).activity
    torch.testing.assert_close(fine(fine.stft(y)).activity, activity, rtol=1e-4, atol=1e-5)
    assert grown(fine, replace(old.config, splits=(3, 3, 3))) is fine
    assert Forge.from_config(fine.to_config()).state_dict().keys() == fine.state_dict().keys()


def test_a_network_of_finer_tokens_can_get_other_stems_and_one_slot():
    """As one of a token a band."""
    old = awake(**FINE, splits=(2, 2, 2))
    new = moved(old, tuple(OLD[k] for k in (2, 0, 1)))
    y = 0.1 * torch.randn(1, 2, 900)
    torch.testing.assert_close(new.separate(y), old.separate(y)[:, [2, 0, 1]], rtol=1e-4, atol=1e-6)
    one = awake(1, **FINE, splits=(2, 2, 2), names=["music"])
    one.load_state_dict(alone(old.state_dict(), OLD, "drums", tops=2))
    x, sigma = 0.1 * torch.randn(1, 1, 2, 900), torch.full((1, 1, 1), 0.4)
    hidden = torch.tensor([[True, False, True]])
    before = old.denoise(x.expand(-1, 3, -1, -1), sigma, hidden=hidden)[:, 1:2]
    torch.testing.assert_close(one.denoise(x, sigma), before, rtol=1e-4, atol=1e-6)


def test_the_trunk_of_one_slot_is_that_of_all():
    """Blocks, and what is read of the mixture and the prompt, are copied; the shapes are those of a network of one."""
    old, new = awake(), awake(1, names=["music"])
    found = alone(old.state_dict(), OLD, "drums")
    assert {key: w.shape for key, w in found.items()} == {key: w.shape for key, w in new.state_dict().items()}
    same = [key for key in found if key.startswith(("blocks.", "read_mixture.", "read_prompt.", "norm."))]
    assert len(same) > 20 and all(torch.equal(found[key], old.state_dict()[key]) for key in same)
