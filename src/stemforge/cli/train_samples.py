"""What the weights sound and look like while a run goes on: a fixed piece, taken apart, in TensorBoard."""

from __future__ import annotations

import torch
from lightning_fabric import Fabric
from lightning_fabric.loggers.tensorboard import TensorBoardLogger
from torch import Tensor

from stemforge.models.forge import Forge
from stemforge.train.data import Batch
from stemforge.train.recipes import Pieces, Trained

SECONDS = 4


@torch.no_grad()
def show(fabric: Fabric, network: Trained, pieces: Pieces, step: int) -> None:
    """The first seconds of the first piece in mono: its mixture and each estimate, as sound and as a spectrogram.

    Networks that take no mixture apart by themselves, or learn to make stems only, have nothing to show.
    """
    writers = [logger.experiment for logger in fabric.loggers if isinstance(logger, TensorBoardLogger)]
    if not isinstance(network, Forge) or isinstance(pieces[0], Batch) or not writers:
        return
    mixture = torch.as_tensor(pieces[0]).sum(dim=0)[:, : SECONDS * network.rate].to(network.data_curve.device)
    stems = network.separate(mixture[None])[0]
    for name, sound in zip(("mixture", *network.names), (mixture, *stems), strict=True):
        mono = sound.mean(dim=0).float().cpu().clamp(-1, 1)
        for writer in writers:
            writer.add_audio(f"sound/{name}", mono[None], step, sample_rate=network.rate)
            writer.add_image(f"spectrogram/{name}", spectrogram(mono), step, dataformats="HW")


def spectrogram(mono: Tensor) -> Tensor:
    """(time,) -> (frequency, frame) from 0 at -80 dB to 1 at the level of a full scale tone, low frequencies below."""
    window = torch.hann_window(1024)
    power = torch.stft(mono, 1024, 512, window=window, return_complex=True).abs() / (0.5 * window.sum())
    return (1 + 20 * power.clamp(min=1e-9).log10() / 80).clamp(0, 1).flip(0)
