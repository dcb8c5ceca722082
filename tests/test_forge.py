"""The any-subset network: exact sums, known stems kept, hidden stems unseen, any length, any level."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import pytest
import torch

from stemforge.models.forge import Forge
from tiny import TINY, tiny_network

KINDS = {
    "tokens": {},
    "detail": {"detail": 3, "across": True},
    "finer": {
        "n_fft": 258,
        "edges": [0, 20, 60],
        "pools": [[60, 100, 2], [100, 130, 2]],
        "splits": [2, 3, 2],
        "detail": 3,
        "rank": 0,
        "trunk": 1,
    },
}


@pytest.fixture(scope="module", params=KINDS.values(), ids=KINDS)
def network(request: pytest.FixtureRequest) -> Forge:
    """Random weights, heads large enough that every term of the formula matters; of each kind."""
    torch.manual_seed(0)
    network = tiny_network(**request.param)
    past = [network.trunk.up] if network.trunk else []
    if network.config.detail:
        past += [*network.mixture_detail.weigh, *network.stem_detail.weigh, *network.read_levels]
    past += [*network.across.weigh] if network.config.across else []
    for linear in [*network.write_masks, *network.write_gains, *network.write_ratio, *past]:
        torch.nn.init.normal_(linear.weight, std=0.5)
    return network.eval().requires_grad_(False)


def sound(*shape: int, seed: int = 0) -> torch.Tensor:
    return 0.1 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("time", [1, 2, 31, 32, 33, 1000])
@pytest.mark.parametrize("steps", [1, 3])
def test_separated_stems_add_up_to_the_mixture(network, time, steps):
    """For any length and number of steps the stems sum to the input, below -100 dB."""
    mixture = sound(2, 2, time)
    stems = network.separate(mixture, steps=steps, generator=torch.Generator().manual_seed(1))
    assert stems.shape == (2, 3, 2, time)
    assert (stems.sum(1) - mixture).abs().max() < 1e-5 * mixture.abs().max()


@pytest.mark.parametrize("sigma", [0.01, 1.0, 50.0])
def test_denoised_stems_add_up_at_every_noise_level(network, sigma):
    """Given a mixture, the sum is exact by construction, not only without noise."""
    x, mixture = sound(1, 3, 2, 500), sound(1, 2, 500, seed=3)
    stems = network.denoise(x, torch.tensor(sigma), mixture=mixture)
    torch.testing.assert_close(stems.sum(1), mixture, atol=2e-5, rtol=0)


@pytest.mark.parametrize("given", [True, False])
def test_known_stems_come_back_unchanged(network, given):
    """A stem with sigma 0 is returned as it is, with and without a mixture."""
    x = sound(1, 3, 2, 500)
    sigma = torch.tensor([[[0.0], [1.0], [1.0]]])
    stems = network.denoise(x, sigma, mixture=x.sum(1) if given else None)
    torch.testing.assert_close(stems[:, 0], x[:, 0], atol=1e-5, rtol=0)


def test_known_time_comes_back_unchanged(network):
    """Samples further than a window from noise are returned as they are."""
    x = sound(1, 3, 2, 2000)
    sigma = torch.zeros(1, 3, 2000)
    sigma[..., 900:1100] = 1.0
    stems = network.denoise(x, sigma)
    far = 900 - 2 * network.stft.n_fft
    torch.testing.assert_close(stems[..., :far], x[..., :far], atol=1e-5, rtol=0)
    assert (stems[..., 900:1100] - x[..., 900:1100]).abs().max() > 1e-4


def test_a_hidden_stem_is_not_seen(network):
    """What is written in a hidden stem changes nothing."""
    x, hidden = sound(1, 3, 2, 500), torch.tensor([[False, True, False]])
    other = x.clone()
    other[:, 1] = 7.0
    first, second = (network.denoise(v, torch.tensor(0.5), hidden=hidden) for v in (x, other))
    torch.testing.assert_close(first, second)


def test_the_mixture_and_the_prompt_are_seen(network):
    """Both conditions change the answer."""
    x = sound(1, 3, 2, 500)
    plain = network.denoise(x, torch.tensor(1.0))
    told = network.denoise(x, torch.tensor(1.0), prompt=torch.ones(1, TINY["prompt_width"]))
    given = network.denoise(x, torch.tensor(1.0), mixture=x.sum(1))
    assert (plain - told).abs().max() > 1e-6
    assert (plain - given).abs().max() > 1e-6


def test_without_noise_the_denoiser_is_the_identity(network):
    """As sigma falls to zero, D(x; sigma) goes to x (EDM: c_skip -> 1, c_out -> 0)."""
    x = sound(1, 3, 2, 500)
    gaps = [(network.denoise(x, torch.tensor(s)) - x).abs().max().item() for s in (1e-1, 1e-3, 1e-5)]
    assert gaps[0] > 10 * gaps[1] > 0
    assert gaps[2] < 1e-5


def test_level_of_the_mixture_does_not_matter(network):
    """A song 30 dB softer gives the same stems, 30 dB softer."""
    mixture = sound(1, 2, 800)
    loud, soft = network.separate(mixture), network.separate(mixture * 10**-1.5)
    torch.testing.assert_close(soft * 10**1.5, loud, atol=1e-5, rtol=1e-3)


def test_silence_gives_silence(network):
    """Digital silence in, digital silence out, no NaN."""
    assert network.separate(torch.zeros(1, 2, 700)).abs().max() == 0


def test_config_round_trip():
    """A network built from its own config has the same shape, and an unknown key is refused."""
    network = tiny_network()
    again = Forge.from_config(network.to_config())
    assert [p.shape for p in again.parameters()] == [p.shape for p in network.parameters()]
    with pytest.raises(TypeError):
        Forge.from_config(TINY | {"colour": 1})


def test_mono_networks_work_too():
    """With one channel there are no middle and side planes; sums hold as well."""
    torch.manual_seed(0)
    network = tiny_network(channels=1)
    mixture = sound(1, 1, 300)
    with torch.no_grad():
        torch.testing.assert_close(network.separate(mixture).sum(1), mixture, atol=1e-5, rtol=0)


def test_pool_and_expand_agree(network):
    """Pooling what was expanded gives the groups back."""
    groups = torch.rand(3, network.low + network.pooled)
    pooled = network.pool(network.expand(groups))
    torch.testing.assert_close(pooled[..., :-1], groups[..., :-1])


def test_noise_is_drawn_on_the_cpu_from_the_generator(network):
    """The same seed gives the same noise, another seed another."""
    like = torch.zeros(2, 100)
    a, b, c = (network.noise(like, torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    torch.testing.assert_close(a, b)
    assert (a - c).abs().max() > 0.01 * a.abs().max()


def test_a_closed_gate_mutes_what_probably_does_not_sound(network):
    """With a higher power of the gate a stem of low probability falls, and the sum stays."""
    network = deepcopy(network)
    torch.nn.init.zeros_(network.write_activity.weight)
    network.write_activity.bias.data = torch.tensor([3.0, 3.0, -2.0])
    mixture = torch.randn(1, 2, 4000) * 0.1
    levels = []
    for gate in (1.0, 3.0):
        network.config = replace(network.config, gate=gate)
        stems = network.separate(mixture)[0]
        assert torch.allclose(stems.sum(0), mixture[0], atol=1e-5)
        levels.append(stems.square().mean(dim=(1, 2)))
    assert levels[1][2] < 0.1 * levels[0][2]
    network.config = replace(network.config, gate=(1.0, 1.0, 3.0))
    last = network.separate(mixture)[0].square().mean(dim=(1, 2))
    assert last[2] < 0.1 * levels[0][2] and last[0] > levels[0][0]


@torch.no_grad()
def test_gates_are_for_separation_alone(network):
    """Stems are made by the network as it was trained, whatever the gates."""
    x, sigma = torch.randn(1, 3, 2, 4000), torch.tensor(0.5)
    changed = deepcopy(network)
    changed.config = replace(network.config, gate=(0.0, 2.0, 1.0), silent=0.9)
    for mixture in (None, x.sum(1)):
        assert torch.equal(network.denoise(x, sigma, mixture=mixture), changed.denoise(x, sigma, mixture=mixture))
    assert not torch.allclose(network.separate(x.sum(1)), changed.separate(x.sum(1)), atol=1e-4)


def test_the_gradient_at_the_state_is_that_of_differences():
    """Guidance differentiates through the network: local patterns and levels are part of it."""
    torch.manual_seed(0)
    network = tiny_network(detail=3, across=True).double()
    detail = [*network.stem_detail.weigh, *network.mixture_detail.weigh, *network.read_levels]
    for linear in [*detail, *network.across.weigh]:
        torch.nn.init.normal_(linear.weight, std=0.5)
    x, way = sound(1, 3, 2, 200).double(), torch.randn(1, 3, 2, 200, dtype=torch.float64)

    def value(shift: float) -> torch.Tensor:
        return network.denoise(x + shift * way, torch.tensor(0.3), mixture=x.sum(1)).square().sum()

    x.requires_grad_(True)
    y = x.detach().sum(1)
    (gradient,) = torch.autograd.grad(network.denoise(x, torch.tensor(0.3), mixture=y).square().sum(), x)
    x = x.detach()
    slope = (value(1e-5) - value(-1e-5)) / 2e-5
    torch.testing.assert_close((gradient * way).sum(), slope, rtol=1e-4, atol=0)


def test_a_stem_takes_of_the_other_channel_by_the_share_of_noise():
    """With gains and ratios of 0 and one number k: D = c_skip X + (1 - c_skip) k c_skip X of the other channel."""
    network, k = tiny_network(across=True), 0.7
    with torch.no_grad():
        for weight in network.parameters():
            weight.zero_()
        for layer in network.across.weigh:
            layer.bias.fill_(k)
    x, sigma = sound(1, 3, 2, 800), torch.full((1, 3, 1), 0.5)
    spectrum, hidden = network.stft(x), torch.zeros(1, 3, dtype=torch.bool)
    skip = network.coefficients(network.frame_sigma(sigma, 800), hidden).c_skip
    expected = skip * spectrum + (1 - skip) * k * skip * spectrum[:, :, [1, 0]]
    found = network.denoise(x, sigma)
    torch.testing.assert_close(found, network.stft.inverse(expected, 800), rtol=1e-4, atol=1e-6)
    mono = x[:, :, :1].expand(-1, -1, 2, -1)
    torch.testing.assert_close(network.denoise(mono, sigma)[:, :, 0], network.denoise(mono, sigma)[:, :, 1])
