"""bfloat16 inside the network: only where a device has it and the network bears it."""

import pytest
import torch

from stemforge import devices
from stemforge.inference.wrappers import denoiser
from stemforge.models.forge import Forge
from stemforge.models.forge_config import ForgeConfig
from stemforge.separators.network import NetworkSeparator

TINY = ForgeConfig(n_fft=384, edges=(0, 9, 33, 65), pools=((65, 193, 8),), width=32, heads=2, hidden=48,
                   layers=1, rank=16)  # fmt: skip


@pytest.fixture
def network():
    torch.manual_seed(0)
    return Forge(TINY).eval()


@pytest.fixture
def seen(network):
    """The types of the numbers that the network's first matrix is multiplied with."""
    found = []
    network.blocks[0].register_forward_hook(lambda module, inputs, output: found.append(output.dtype))
    network.blocks[0].attention.qkv.register_forward_hook(lambda module, inputs, output: found.append(output.dtype))
    return found


@pytest.mark.parametrize("there", [True, False])
def test_auto_is_bf16_where_the_device_has_it(network, seen, monkeypatch, there):
    """`auto` multiplies in bfloat16 on devices that have it and in float32 elsewhere; stems add up either way."""
    monkeypatch.setattr("stemforge.separators.network.has_bf16", lambda kind: there)
    separator = NetworkSeparator(network, segment=0.5)
    mixture = torch.randn(2, 30000) * 0.1
    stems = torch.cat(list(separator.stream([mixture])), dim=-1)
    assert separator.precision == ("bf16" if there else "fp32")
    assert (torch.bfloat16 in seen) == there
    assert (stems.sum(0) - mixture).abs().max() < 1e-5


def test_a_network_that_does_not_say_so_stays_in_float32(network, monkeypatch):
    """Without `takes_bf16` auto is fp32, whatever the device can."""
    monkeypatch.setattr("stemforge.separators.network.has_bf16", lambda kind: True)
    network.takes_bf16 = False
    assert NetworkSeparator(network).precision == "fp32"


def test_sampling_and_its_gradients_are_lowered(network, seen, monkeypatch):
    """The denoiser multiplies in bfloat16 and answers in the type of the state; its gradients point where they did."""
    monkeypatch.setattr(devices, "has_bf16", lambda kind: True)
    x = torch.randn(1, 5, 2, 3000, dtype=torch.float64)
    with torch.no_grad():
        out = denoiser(network)(x, torch.tensor(0.5))
        exact = network.denoise(x.float(), torch.full((1, 1, 1), 0.5))
    assert out.dtype == torch.float64 and torch.bfloat16 in seen
    assert (out - exact).abs().max() < 0.02 * exact.abs().max()

    def slope() -> torch.Tensor:
        leaf = x.clone().requires_grad_()
        return torch.autograd.grad(denoiser(network)(leaf, torch.tensor(0.5)).square().sum(), leaf)[0].flatten()

    low = slope()
    monkeypatch.setattr(devices, "has_bf16", lambda kind: False)
    assert torch.cosine_similarity(low, slope(), dim=0) > 0.99


def test_only_known_devices_have_bf16():
    """mps is never asked; a CPU answers with a bool."""
    assert devices.has_bf16("mps") is False
    assert isinstance(devices.has_bf16("cpu"), bool)
