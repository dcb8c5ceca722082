"""Products of spectra and real numbers: what they are, and their gradients."""

from __future__ import annotations

import pytest
import torch

from stemforge.models.products import mixed, power, scaled, seen_as
from stemforge.models.spectra import Stft


def drawn(*shape: int) -> torch.Tensor:
    """Complex, of double precision, asking for a gradient."""
    return torch.randn(*shape, dtype=torch.complex128).requires_grad_()


def reals(*shape: int) -> torch.Tensor:
    """Real, of double precision, asking for a gradient."""
    return torch.randn(*shape, dtype=torch.float64).requires_grad_()


def test_power():
    """|z|^2, with or without a gradient."""
    z = drawn(3, 4)
    torch.testing.assert_close(power(z), z.abs().square())
    torch.testing.assert_close(power(z.detach()), z.detach().abs().square())
    assert torch.autograd.gradcheck(power, z)


def test_power_and_the_first_frequencies():
    """|z|^2 of all, real and imaginary parts of some."""
    z = drawn(2, 3, 5)
    found, low = seen_as(z, 2)
    torch.testing.assert_close(found, z.abs().square())
    torch.testing.assert_close(low, torch.view_as_real(z[..., :2]))
    assert torch.autograd.gradcheck(lambda x: seen_as(x, 2), z)
    assert torch.autograd.gradcheck(lambda x: seen_as(x, 2)[1], z)


@pytest.mark.parametrize(("spectrum", "gain"), [((2, 3, 4), (2, 3, 4)), ((2, 3, 4), (2, 1, 4)), ((2, 1, 4), (2, 3, 4))])
def test_a_product_with_real_gains(spectrum, gain):
    """Each broadcast to the other."""
    z, g = drawn(*spectrum), reals(*gain)
    torch.testing.assert_close(scaled(z, g), z * g)
    assert torch.autograd.gradcheck(scaled, (z, g))


@pytest.mark.parametrize("channels", [1, 2])
def test_a_product_across_channels(channels):
    """g z + flip(a z), and something added to the first frequencies."""
    z, g, a, low = (
        drawn(1, 2, channels, 3, 5),
        reals(1, 2, channels, 3, 5),
        reals(1, 2, 1, 3, 5),
        drawn(1, 2, channels, 3, 2),
    )
    expected = g * z + (a * z).flip(2) + torch.cat([low, torch.zeros(1, 2, channels, 3, 3)], dim=-1)
    torch.testing.assert_close(mixed(z, g, a, low), expected)
    torch.testing.assert_close(mixed(z, g, None, low), expected - (a * z).flip(2))
    assert torch.autograd.gradcheck(mixed, (z, g, a, low))
    assert torch.autograd.gradcheck(lambda *given: mixed(*given[:2], None, given[2]), (z, g, low))


def test_what_needs_no_gradient_gets_none():
    """Only the gains learn."""
    z, g = drawn(1, 2, 2, 3, 5).detach(), reals(1, 2, 2, 3, 5)
    mixed(z, g, None, z[..., :2]).abs().square().sum().backward()
    scaled(z, g).abs().square().sum().backward()
    assert g.grad is not None and z.grad is None


@pytest.mark.parametrize("n_fft", [12, 15])
def test_the_transform_and_its_inverse_are_adjoint_up_to_the_weight_of_bins(n_fft):
    """Even and odd windows; a time that fills no whole number of hops; spectra that are of no sound."""
    stft = Stft(n_fft).double()
    x = reals(2, 31)
    assert torch.autograd.gradcheck(stft, x)
    spectrum = drawn(2, stft.frames(31), n_fft // 2 + 1)
    assert torch.autograd.gradcheck(lambda s: stft.inverse(s, 31), spectrum)


def test_gradients_of_gradients():
    """The transforms are linear: the adjoint of the adjoint is the transform."""
    stft = Stft(12).double()
    assert torch.autograd.gradgradcheck(stft, reals(20))
    assert torch.autograd.gradgradcheck(lambda s: stft.inverse(s, 20), drawn(stft.frames(20), 7))
    assert torch.autograd.gradgradcheck(scaled, (drawn(2, 3), reals(2, 3)))


def test_conjugates_that_are_not_written_out():
    """A conjugate is a mark on the same memory until someone asks."""
    z, g = drawn(2, 3), reals(2, 3)
    assert torch.autograd.gradcheck(lambda z, g: scaled(power(z.conj()) * z.conj(), g).conj(), (z, g))
