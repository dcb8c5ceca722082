"""Flows of spectra: exact inverses, exact determinants, and a likelihood that learns what a stem sounds like."""

from __future__ import annotations

import math

import pytest
import torch

from stemforge.models.glow import ActNorm, Flows, Glow, GlowConfig, Mix
from stemforge.models.registry import build
from stemforge.train.flow import flow_loss

TINY = {"n_fft": 32, "hop": 8, "rows": 18, "blocks": 3, "hidden": 8, "layers": 3, "kernel": 3, "rate": 8000}


def stirred(config: GlowConfig, seed: int = 0) -> Glow:
    """A flow whose every weight matters, in evaluation mode."""
    torch.manual_seed(seed)
    flow = Glow(config)
    for weight in flow.parameters():
        weight.data += 0.1 * torch.randn_like(weight)
    return flow.eval()


@pytest.mark.parametrize("kind, most", [(torch.float32, 1e-4), (torch.float64, 1e-9)])
def test_inverse(kind: torch.dtype, most: float) -> None:
    """There and back again, in either direction, with determinants that cancel; dilated layers too."""
    flow = stirred(GlowConfig(**TINY, dilation=2)).to(kind)
    x = 3 * torch.randn(2, 10, 18, dtype=kind)
    for there, back in ((flow, flow.inverse), (flow.inverse, flow)):
        z, log_det = there(x)
        again, opposite = back(z)
        assert (again - x).abs().max() <= most and (z - x).abs().max() > 0.1
        torch.testing.assert_close(opposite, -log_det)


def test_determinant_is_that_of_the_jacobian() -> None:
    """Of the whole flow and of each of its parts, against automatic differentiation."""
    config = GlowConfig(**TINY)
    flow = stirred(config).double()
    for part, shape in [(flow, (4, 18)), *((part, (2, 36)) for part in flow.parts[:3])]:
        x = torch.randn(shape, dtype=torch.float64)
        jacobian = torch.autograd.functional.jacobian(lambda v, part=part: part(v[None])[0][0].flatten(), x)
        expected = torch.linalg.slogdet(jacobian.reshape(x.numel(), x.numel()))[1]
        torch.testing.assert_close(part(x[None])[1].reshape(()), expected)


def test_published_rows_go_where_the_published_code_has_them() -> None:
    """Even frames come first when two frames become one, and groups of four have two rows of either half."""
    flow = Glow(GlowConfig(**TINY, split=4))
    mix = flow.parts[1]
    assert isinstance(mix, Mix)
    mix.weight.data = torch.eye(4)[[1, 0, 2, 3]]
    rows = torch.arange(36.0).reshape(1, 2, 18)
    z, _ = flow._through(rows, [mix])
    # The first two rows of the first group are rows 0 and 1 of the first half, which is the even frame.
    assert z[0, 0, :4].tolist() == [1, 0, 3, 2] and z[0, 1].tolist() == list(range(18, 36))
    for part in flow.parts:
        part.forward = lambda x: (x[..., :18].repeat(1, 1, 2), x.new_zeros(len(x)))
    frames = torch.arange(6.0)[None, :, None].expand(1, 6, 18)
    assert flow(frames)[0][0, :, 0].tolist() == [0, 0, 2, 2, 4, 4]


def test_first_batch_normalises() -> None:
    """After the first batch of a training every row of an ActNorm has mean 0 and variance 1, and is not set again."""
    norm = ActNorm(5)
    x = torch.randn(4, 50, 5) * torch.tensor([1.0, 2, 3, 4, 5]) + 7
    z, log_det = norm(x)
    assert z.mean((0, 1)).abs().max() < 1e-5
    torch.testing.assert_close(z.var((0, 1), correction=0), torch.ones(5))
    torch.testing.assert_close(log_det, -50 * torch.log(x.var((0, 1), correction=0)).sum() / 2)
    before = norm.bias.clone()
    norm(x + 100)
    assert torch.equal(norm.bias, before)
    fresh = ActNorm(5).eval()
    assert torch.equal(fresh(x)[0], x) and not fresh.started


def test_density_is_a_density() -> None:
    """The mean of p(x) over a box of two values, times its area, is 1."""
    config = GlowConfig(n_fft=2, hop=1, rows=1, split=2, blocks=2, hidden=4, layers=1, kernel=1)
    flow = stirred(config, 3).double()
    axis = torch.linspace(-8, 8, 81, dtype=torch.float64)
    points = torch.cartesian_prod(axis, axis)[:, :, None]
    total = flow.log_prob(points).exp().sum() * (axis[1] - axis[0]) ** 2
    assert total.item() == pytest.approx(1, abs=0.01)


def test_loss_of_the_identity() -> None:
    """Before any training of what it couples, the loss of unit spectra is that of a Gaussian."""
    flows = Flows(GlowConfig(**TINY)).eval()
    stems = torch.zeros(2, 1, 1, 800)
    loss, parts = flow_loss(flows, stems, torch.full_like(stems, 0.5))
    assert loss.item() == pytest.approx(0.5 * math.log(2 * math.pi)) and parts["bass"] == loss


def test_spectra() -> None:
    """Back to sound exactly; at double the rate with double the window, magnitudes are those of the published kind."""
    at_44, at_22 = Flows(GlowConfig()), Flows(GlowConfig(rate=22050, n_fft=1024, hop=256))
    time = torch.arange(44100, dtype=torch.float64) / 44100
    x = 0.3 * torch.sin(2 * math.pi * 440 * time) + 0.2 * torch.sin(2 * math.pi * 3000 * time)
    spectrum = at_44.spectrum(x)
    torch.testing.assert_close(at_44.sound(spectrum, 44100), x)
    a, b = at_44.magnitudes(spectrum)[4:80], at_22.magnitudes(at_22.spectrum(x[::2]))[4:80]
    assert a.shape == b.shape == (76, 514) and (a[:, -1] == 0).all()
    assert (a - b).abs().max() < 0.01 * a.max()
    assert at_44.magnitudes(at_44.spectrum(torch.zeros(1))).shape == (2, 514)


def test_config_round_trip() -> None:
    """A network built from its own table has the same weights by name; impossible tables are refused."""
    flows = Flows(GlowConfig(names=("a", "keys"), **TINY))
    again = build("glow", flows.to_config(), sum(w.numel() for w in flows.parameters()))
    assert again.names == ("a", "keys")
    assert {k: v.shape for k, v in again.state_dict().items()} == {k: v.shape for k, v in flows.state_dict().items()}
    for wrong in ({"split": 3}, {"kernel": 2}, {"blocks": 0}, {"rows": 40}, {"names": []}):
        with pytest.raises(ValueError):
            build("glow", {**flows.to_config(), **wrong}, 10**6)


def test_published_size() -> None:
    """The default is the published configuration: 12 blocks of 128 hidden rows, 11.7 million numbers."""
    assert sum(weight.numel() for weight in Flows().parameters()) == 11_695_440
