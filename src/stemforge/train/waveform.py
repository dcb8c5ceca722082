"""What the networks of `models.peers` minimise: the thresholded SNR of Wisdom et al. 2020.

https://arxiv.org/abs/2006.12701, eq. 3 for a stem that sounds and eq. 4 for one that does not; both stop at 30 dB.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from stemforge.models.peers import Peer

TAU = 1e-3
"""Of the energy of the stem, or of the mixture: 30 dB."""
SOUNDS = 1e-3
"""A stem of less than this part of the energy of the mixture is silent."""


def waveform_loss(network: Peer, mixture: Tensor, stems: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
    """Mean over items and stems, in dB. mixture: (batch, channel, time); stems: (batch, stem, channel, time)."""
    estimates = network(mixture).float()
    yy = mixture.square().sum(dim=(1, 2))[:, None].clamp(min=1e-8)  # (batch, 1)
    xx, dd, error = (x.square().sum(dim=(2, 3)) for x in (stems, estimates, estimates - stems))  # (batch, stem)
    sounds = (xx > SOUNDS * yy).float()
    snr = -10 * ((error / xx.clamp(min=1e-8)) + TAU).log10()
    quiet = 10 * (dd / yy + TAU).log10()
    loss = ((1 - sounds) * quiet - sounds * snr).mean()
    heard = (sounds * snr).sum().detach() / sounds.sum().clamp(min=1)
    return loss, {"snr_db": heard}
