"""The multichannel Wiener filter: what it promises by its formula, on sounds whose answer is known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from stemforge.models.spatial import Place, places, wiener


def _noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.complex64, generator=torch.Generator().manual_seed(seed))


def _panned(angles: tuple[float, ...], frames: int = 400, bins: int = 140) -> Tensor:
    """Independent stems (1, stem, 2, frame, bin), each at one angle of the stereo picture: 0 left, pi/2 right."""
    place = torch.tensor([[torch.cos(torch.tensor(a)), torch.sin(torch.tensor(a))] for a in angles])
    return place[None, :, :, None, None] * _noise(1, len(angles), 1, frames, bins)


def test_the_sum_stays() -> None:
    """Stems add up to what they added up to before, silence in a stem or in the mixture included."""
    first, mixture = _noise(2, 3, 2, 9, 300), _noise(2, 2, 9, 300, seed=1)
    first[:, 1] = 0
    mixture[:, :, 4:] = 0
    stems = wiener(first, mixture, 0.01)
    assert torch.allclose(stems.sum(dim=1), first.sum(dim=1), atol=1e-5)
    assert stems[:, 1].abs().max() < 1e-4


def test_two_places_are_told_apart() -> None:
    """Of the error of a first estimate that only knows how loud two stems from two sides are, 5 dB go."""
    stems = _panned((0.3, 1.2))
    loudness = stems.abs().square().sum(dim=2, keepdim=True)
    first = loudness / loudness.sum(dim=1, keepdim=True) * stems.sum(dim=1, keepdim=True)
    error = [_error(found, stems) for found in (first, wiener(first, stems.sum(dim=1), 1e-3))]
    assert error[1] < 10**-0.5 * error[0]


def _error(found: Tensor, stems: Tensor) -> float:
    return float((found - stems).abs().square().mean() / stems.abs().square().mean())


def test_nothing_changes_without_a_stereo_picture() -> None:
    """A mono song keeps the first estimate, and so does every song when all stems come from everywhere."""
    first = _noise(1, 3, 1, 20, 30).expand(-1, -1, 2, -1, -1)
    mixture = _noise(1, 1, 20, 30, seed=1).expand(-1, 2, -1, -1)
    assert torch.allclose(wiener(first, mixture, 0.01), first, atol=1e-4)
    first, mixture = _noise(1, 3, 2, 20, 30), _noise(1, 2, 20, 30, seed=1)
    assert torch.allclose(wiener(first, mixture, 1.0), first, atol=1e-5)


def test_places_are_covariances_of_trace_one() -> None:
    """Their parts are those of the mean outer product, and a spread of 1 leaves no direction."""
    first = _noise(1, 2, 2, 50, 4)
    share = torch.ones(1, 2, 50, 4)
    found = places(first, share, 0.0)
    outer = torch.einsum("bscfk,bsdfk->bskcd", first, first.conj())  # (batch, stem, frequency, 2, 2)
    scale = outer[..., 0, 0].real + outer[..., 1, 1].real
    assert torch.allclose(found.left, outer[..., 0, 0].real / scale, atol=1e-5)
    assert torch.allclose(found.cross, outer[..., 0, 1] / scale, atol=1e-5)
    assert torch.allclose(found.left + found.right, torch.ones(1, 2, 4), atol=1e-5)
    even = places(first, share, 1.0)
    assert torch.allclose(even.left, torch.full((1, 2, 4), 0.5))
    assert even.cross.abs().max() == 0


@pytest.mark.parametrize("spread", [0.01, 0.5])
def test_solve_is_the_inverse(spread: float) -> None:
    """A place times what was solved with it is what it was solved for."""
    place = places(_noise(1, 1, 2, 30, 5), torch.ones(1, 1, 30, 5), spread)
    x = _noise(1, 2, 7, 5, seed=2)
    flat = Place(*(part[:, 0, None] for part in place))
    back = place.times(flat.solve(x)[:, None])[:, 0]
    assert torch.allclose(back, x, atol=1e-4)
