"""MSDM and ISDM compute what the published implementation computes, and take sound of any length."""

from __future__ import annotations

import json

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import official
from stemforge.models.msdm import Isdm, Msdm, MsdmConfig
from stemforge.models.registry import ARCHITECTURES

SMALL = {"width": 64, "head_features": 16}


def config_of(stems: int, **sizes) -> MsdmConfig:
    return MsdmConfig(names=official.NAMES[:stems], **sizes)


def tiny(stems: int = 4) -> MsdmConfig:
    return config_of(stems, **official.TINY)


def shapes(network: nn.Module) -> dict[str, torch.Size]:
    return {key: value.shape for key, value in network.state_dict().items()}


def pair(config: MsdmConfig, seed: int = 0):
    """The published model and ours with the same weights."""
    torch.manual_seed(seed)
    theirs, ours = official.model(config), Msdm(config)
    ours.net.load_state_dict(theirs.unet.state_dict())
    return theirs.requires_grad_(False), ours.requires_grad_(False)


def four(sigma: Tensor) -> Tensor:
    return sigma[:, None, None, None]


def compare(config: MsdmConfig, time: int, limit: float = 1e-5) -> None:
    """Key for key the same tensors; the same U-Net, denoiser under its clamp, and training loss."""
    theirs, ours = pair(config)
    assert shapes(ours.net) == shapes(theirs.unet)
    x, sigma = torch.randn(2, len(config.names), time), torch.tensor([0.02, 0.7])
    assert (ours.net(x, sigma.log()) - theirs.unet(x, sigma.log())).abs().max() <= limit
    noisy = x + four(sigma)[..., 0] * torch.randn_like(x)
    expected = theirs.diffusion.denoise_fn(noisy, sigmas=sigma)
    assert (ours.denoise(noisy[:, :, None], four(sigma))[:, :, 0] - expected).abs().max() <= limit
    assert 0 < (expected.abs() == 1).float().mean() < 0.9, "the clamp is at work, and not all there is"
    theirs.diffusion.sigma_distribution = lambda num_samples, device: sigma
    noise = torch.randn_like(x)
    clean = 0.2 * x
    estimate = ours.denoise((clean + four(sigma)[..., 0] * noise)[:, :, None], four(sigma))[:, :, 0]
    weight = (sigma**2 + config.sigma_data**2) / (sigma * config.sigma_data) ** 2
    loss = (functional.mse_loss(estimate, clean, reduction="none").mean(dim=(1, 2)) * weight).mean()
    assert loss.item() == pytest.approx(theirs.diffusion(clean, noise=noise).item(), rel=1e-5)


@pytest.mark.parametrize(
    "config", [config_of(4, **SMALL), config_of(1, **SMALL), tiny(4), tiny(2)], ids=["joint", "one", "tiny", "two"]
)
def test_parity(config: MsdmConfig) -> None:
    """U-Net, denoiser and loss are those of audio-diffusion-pytorch 0.0.43."""
    compare(config, 2 * config.multiple)


@pytest.mark.slow
@pytest.mark.parametrize("stems", [4, 1])
def test_parity_of_the_published_size(stems: int) -> None:
    """The same for the 405 million parameters of the published models."""
    compare(config_of(stems), 16384)


@pytest.mark.parametrize(("stems", "count"), [(4, 405_497_700), (1, 405_491_100)])
def test_published_size(stems: int, count: int) -> None:
    """The default sizes are the published ones, key for key."""
    with torch.device("meta"):
        ours, theirs = Msdm(config_of(stems)), official.model(config_of(stems))
    assert shapes(ours.net) == shapes(theirs.unet) and len(ours.net.state_dict()) == 434
    assert sum(weight.numel() for weight in ours.parameters()) == count
    assert (ours.multiple, ours.rate, ours.channels, ours.conditional) == (8192, 22050, 1, False)
    assert ours.segment == 262144 / 22050


def test_independent_models() -> None:
    """ISDM sends each stem through the network of that stem, and no other."""
    pairs = [pair(tiny(1), seed) for seed in range(3)]
    joined = Isdm(tiny(3))
    assert joined.independent and not Msdm(tiny()).independent
    for net, (_, single) in zip(joined.nets, pairs, strict=True):
        net.load_state_dict(single.net.state_dict())
    x, sigma = torch.randn(2, 3, 1, 96), four(torch.tensor([0.1, 1.0]))
    with torch.no_grad():
        together = joined.denoise(x, sigma)
    for i, (_, single) in enumerate(pairs):
        assert torch.equal(together[:, [i]], single.denoise(x[:, [i]], sigma))


@pytest.mark.parametrize("time", [1, 47, 48, 100])
def test_any_time(time: int) -> None:
    """Sound of any length is filled up with zeros and cut again; conditions that it does not know are ignored."""
    _, ours = pair(tiny())
    x, sigma = torch.randn(1, 4, 1, time), torch.tensor(0.5)
    filled = functional.pad(x, (0, -time % ours.multiple))
    assert ours.multiple == 48 and filled.shape[-1] % 48 == 0
    hidden = torch.ones(1, 4, dtype=torch.bool)
    denoised = ours.denoise(x, sigma, mixture=torch.randn(1, 1, time), hidden=hidden, prompt=torch.randn(1, 3))
    assert torch.equal(denoised, ours.denoise(filled, sigma)[..., :time])


def test_state_may_be_more_precise_than_weights() -> None:
    """A float64 state stays float64 around a float32 network; gradients reach the state."""
    _, ours = pair(tiny())
    x = (0.1 * torch.randn(1, 4, 1, 48, dtype=torch.float64)).requires_grad_()
    denoised = ours.denoise(x, 0.3)
    assert denoised.dtype == torch.float64
    assert (denoised - ours.denoise(x.float(), 0.3)).abs().max() < 1e-5
    denoised.square().sum().backward()
    assert x.grad is not None and x.grad.abs().max() > 0


def test_noise_is_white_and_seeded() -> None:
    """The same seed draws the same noise, in the type of what it is for."""
    ours = Msdm(tiny())
    like = torch.zeros(1, 4, 1, 10000, dtype=torch.float64)
    one, two = (ours.noise(like, torch.Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(one, two) and one.dtype == torch.float64 and one.shape == like.shape
    assert one.std().item() == pytest.approx(1, abs=0.02)
    assert (one[..., 1:] * one[..., :-1]).mean().abs() < 0.02


@pytest.mark.parametrize("architecture", ["msdm-unet", "isdm-unet"])
def test_config_round_trip(architecture: str) -> None:
    """A config goes through JSON and comes back as the same network; unknown keys and impossible sizes are refused."""
    build = ARCHITECTURES[architecture]
    table = {"architecture": architecture, "names": ["a", "b"], **official.TINY}
    network = build(json.loads(json.dumps(table)))
    assert network.names == ("a", "b") and network.to_config()["architecture"] == architecture
    assert shapes(build(json.loads(json.dumps(network.to_config())))) == shapes(network)
    with pytest.raises(TypeError, match="colour"):
        build(table | {"colour": "red"})
    with pytest.raises(ValueError, match="one value a level"):
        build(table | {"factors": [2]})


@pytest.mark.parametrize("shape", [(1, 3, 1, 48), (1, 4, 2, 48), (4, 1, 48)])
def test_wrong_stems_are_refused(shape: tuple[int, ...]) -> None:
    """Other stems, more channels than one, or a missing axis are told before anything is computed."""
    with pytest.raises(ValueError, match=r"must be \(batch, 4, 1, time\)"):
        Msdm(tiny()).denoise(torch.zeros(shape), 1.0)


def test_levels_by_stem_are_refused() -> None:
    """The network takes one noise level an item."""
    with pytest.raises(ValueError, match="one noise level an item"):
        Msdm(tiny()).denoise(torch.zeros(1, 4, 1, 48), torch.rand(1, 4, 1, 1))
