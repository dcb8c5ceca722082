"""Sound inside a page: small enough to be sent, in a form that every browser plays."""

from __future__ import annotations

import io
from collections.abc import Iterable

import soundfile
from torch import Tensor

from stemforge.audio.resample import resampled

BITRATES = (128, 96, 64)
"""kbit/s of an mp3; the first with which all sounds of a page are within MOST_BYTES."""

MOST_BYTES = 24_000_000
"""Of all sounds in a page together, as text."""

_RATES = (32000, 44100, 48000)


def bitrate_for(seconds: float) -> int | None:
    """kbit/s for sounds of so many seconds together; None when they are too long to be in a page."""
    return next((rate for rate in BITRATES if seconds * rate * 1000 / 8 * 4 / 3 <= MOST_BYTES), None)


def mp3(blocks: Iterable[Tensor], rate: int, channels: int, bitrate: int) -> bytes:
    """Blocks (channel, time) of a sound as an mp3, at a rate that has `bitrate`."""
    to_rate = rate if rate in _RATES else 44100
    file = io.BytesIO()
    options = {"bitrate_mode": "CONSTANT", "compression_level": (320 - bitrate) / (320 - 32)}
    with soundfile.SoundFile(file, "w", to_rate, channels, format="MP3", subtype="MPEG_LAYER_III", **options) as target:
        for block in resampled(blocks, rate, to_rate):
            target.write(block.T.numpy())
    return file.getvalue()
