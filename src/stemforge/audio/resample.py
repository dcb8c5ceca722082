"""Sample rate and channels: changed block by block, with the length kept exactly.

soxr's VHQ filter has linear phase and its stream is already aligned in time; only its total length is rounded, which
`to_length` puts right.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import soxr
import torch
from torch import Tensor

from stemforge.types import Audio


def resampled(blocks: Iterable[Tensor], rate: int, to_rate: int) -> Iterator[Tensor]:
    """Blocks (..., time) at `rate` Hz -> blocks at `to_rate` Hz, leading axes kept; memory does not grow."""
    if rate == to_rate:
        yield from blocks
        return
    stream: soxr.ResampleStream | None = None
    lead: torch.Size = torch.Size()
    for block in blocks:
        lead = block.shape[:-1]
        if stream is None:
            stream = soxr.ResampleStream(rate, to_rate, lead.numel(), dtype="float32", quality="VHQ")
        yield from _pushed(stream, block.reshape(-1, block.shape[-1]).T.numpy(), lead, last=False)
    if stream is not None:
        yield from _pushed(stream, np.zeros((0, lead.numel()), np.float32), lead, last=True)


def _pushed(stream: soxr.ResampleStream, frames: np.ndarray, lead: torch.Size, *, last: bool) -> Iterator[Tensor]:
    """What the stream gives for frames (time, all channels), as one block (..., time), or nothing yet."""
    out = stream.resample_chunk(np.ascontiguousarray(frames), last=last)
    if len(out):
        yield torch.from_numpy(np.ascontiguousarray(out.T)).reshape(*lead, -1)


def to_channels(block: Tensor, channels: int) -> Tensor:
    """Block (..., channel, time): mono is copied to every channel, several are averaged to mono.

    Mono to stereo and back gives the mono block again, bit by bit.
    """
    if block.shape[-2] == channels:
        return block
    if block.shape[-2] == 1:
        return block.repeat_interleave(channels, dim=-2)
    if channels == 1:
        return block.mean(dim=-2, keepdim=True)
    raise ValueError(f"no rule takes {block.shape[-2]} channels to {channels}")


def to_rate(audio: Audio, rate: int) -> Audio:
    """The same sound at `rate` Hz; round(time * rate / audio.rate) samples, at least one."""
    if rate == audio.rate:
        return audio
    length = max(1, round(audio.samples.shape[-1] * rate / audio.rate))
    blocks = [audio.samples.new_zeros((*audio.samples.shape[:-1], 0)), *resampled([audio.samples], audio.rate, rate)]
    samples = torch.cat(blocks, dim=-1)[..., :length]
    return Audio(torch.nn.functional.pad(samples, (0, length - samples.shape[-1])), rate)
