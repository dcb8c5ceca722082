"""Denoisers: each parametrisation gives the exact denoiser of Gaussian data when its network is exact."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from stemforge.models import denoisers

STD = 0.3


def exact(x: Tensor, sigma: Tensor) -> Tensor:
    """E[x0 | x] of samples with standard deviation STD."""
    return x * STD**2 / (STD**2 + sigma**2)


def levels(time: Tensor) -> Tensor:
    return time[:, None, None, None]


def exact_eps(z: Tensor, time: Tensor) -> Tensor:
    x = z * (1 + levels(time) ** 2).sqrt()
    return (x - exact(x, levels(time))) / levels(time)


def exact_v(z: Tensor, time: Tensor) -> Tensor:
    alpha = (1 + levels(time) ** 2).rsqrt()
    return alpha * exact_eps(z, time) - levels(time) * alpha * exact_x0(z, time)


def exact_x0(z: Tensor, time: Tensor) -> Tensor:
    return exact(z * (1 + levels(time) ** 2).sqrt(), levels(time))


def exact_edm(scaled: Tensor, time: Tensor, sigma_data: float = 0.2) -> Tensor:
    """Karras et al. 2022, equation 7, solved for F."""
    sigma = levels((4 * time).exp())
    total = sigma**2 + sigma_data**2
    x = scaled * total.sqrt()
    return (exact(x, sigma) - sigma_data**2 / total * x) / (sigma * sigma_data * total.rsqrt())


@pytest.mark.parametrize(
    "denoise",
    [
        denoisers.eps(exact_eps),
        denoisers.v(exact_v),
        denoisers.x0(exact_x0),
        denoisers.edm(exact_edm, 0.2),
    ],
    ids=["eps", "v", "x0", "edm"],
)
def test_exact_networks_give_the_exact_denoiser(denoise: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Whatever a network predicts, what comes out is the mean of the clean samples."""
    torch.manual_seed(0)
    x = torch.randn(3, 2, 1, 50, dtype=torch.float64)
    for sigma in (torch.tensor(0.7), torch.tensor([1e-3, 0.5, 80.0])[:, None, None, None]):
        assert (denoise(x, sigma) - exact(x, sigma.double())).abs().max() < 1e-12


def test_edm_at_zero_and_at_its_limit() -> None:
    """Without noise the network does not matter, and nothing leaves the limit."""
    x = torch.tensor([[[-3.0, -0.5, 0.25, 2.0]]])
    denoise = denoisers.edm(lambda scaled, time: 100 * torch.ones_like(scaled) * time.isfinite(), 0.2, limit=1.0)
    assert denoise(x, torch.tensor(0.0)).tolist() == [[[-1.0, -0.5, 0.25, 1.0]]]
    assert denoise(x, torch.tensor(1.0)).tolist() == [[[1.0, 1.0, 1.0, 1.0]]]


@pytest.mark.parametrize("shape", [(), (1,), (2,), (2, 1), (2, 1, 1, 1), (1, 1, 1)])
def test_one_level_an_item(shape: tuple[int, ...]) -> None:
    """One level for all, or one an item, in any number of axes."""
    sigma = torch.arange(1.0, 3.0)[: max(1, torch.Size(shape).numel())].reshape(shape)
    level = denoisers.one_level(sigma, torch.zeros(2, 4, 1, 8))
    assert level.shape == (2, 1, 1, 1) and level[-1].item() == sigma.flatten()[-1].item()
    wide = sigma.reshape(-1, 1, 1, 1).expand(-1, 4, 1, 8)
    assert torch.equal(denoisers.one_level(wide, torch.zeros(2, 4, 1, 8)), level)


@pytest.mark.parametrize("shape", [(1, 4, 1, 1), (2, 1, 1, 8), (3,), (4, 1), (2, 2, 1)])
def test_levels_by_stem_or_time_are_refused(shape: tuple[int, ...]) -> None:
    """Levels that differ within an item, or are for another number of items, are a mistake."""
    with pytest.raises(ValueError, match="one noise level an item"):
        denoisers.one_level(torch.rand(shape), torch.zeros(2, 4, 1, 8))
