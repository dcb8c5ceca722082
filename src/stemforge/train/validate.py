"""The score that training watches: active SI-SDR improvement on songs and sounds that it never sees."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from stemforge.audio.metrics import active_gains
from stemforge.models.forge import Forge
from stemforge.models.peers import Peer
from stemforge.train.data import Song
from stemforge.train.files import Float


def excerpts(songs: list[Song], names: tuple[str, ...], rate: int, count: int, channels: int = 2) -> list[Float]:
    """`count` fixed pieces of 8 s, (stem, channel, time), spread evenly over all songs."""
    found = np.zeros((count, len(names), channels, 8 * rate), np.float32)
    for k, piece in enumerate(found):
        song = songs[k * len(songs) // count]
        start = int((0.2 + 0.6 * ((k * 0.618) % 1)) * max(0, song.frames - piece.shape[-1]))
        for name, out in zip(names, piece, strict=True):
            if name in song.stems:
                song.stems[name].read(start, out)
    return list(found)


@torch.no_grad()
def validate(network: Forge | Peer, pieces: list[Float]) -> Mapping[str, float]:
    """Mean active SI-SDR improvement in dB of each stem over the windows of all pieces, and their mean as `all`."""
    gains: dict[str, list[float]] = {}
    for piece in pieces:
        mixture = torch.from_numpy(piece.sum(0)[None]).to(next(network.parameters()).device)
        estimates = network.separate(mixture)[0].float().cpu().numpy()
        refs, ests = (
            {name: x.mean(0).astype(np.float64) for name, x in zip(network.names, stems, strict=True)}
            for stems in (piece, estimates)
        )
        for name, found in active_gains(refs, ests, network.rate).items():
            gains.setdefault(name, []).extend(found)
    means = {name: float(np.mean(gains[name])) for name in network.names if name in gains}
    return means | {"all": float(np.mean(list(means.values()))) if means else float("nan")}
