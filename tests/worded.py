"""Tiny random checkpoints that hear prompts, of sound and of sketches, and what stands in for a language model."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

import torch
from torch import Tensor

from stemforge.train.config import TrainConfig
from stemforge.train.saving import save
from stemforge.train.trainer import start
from test_sketch import SHAPE
from tiny import TINY

WORDS = {"names": ("music",), "text": "minilm", "prompt_width": 6}
"""Of a network of sketches that hears prompts."""


class Encoder:
    """Six numbers out of the letters of a text; reads twelve words."""

    name, stamp, width, limit = "minilm", "0", 6, 12

    def tokens(self, texts: Sequence[str]) -> list[int]:
        return [len(text.split()) for text in texts]

    def encode(self, texts: Sequence[str]) -> Tensor:
        seeds = [int(sha256(text.encode()).hexdigest()[:8], 16) for text in texts]
        rows = [torch.randn(6, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        return torch.nn.functional.normalize(torch.stack(rows), dim=-1)


def hearing_checkpoint(folder: Path) -> Path:
    """One slot, six numbers a prompt, random weights to which the prompt matters."""
    state = start(TrainConfig(network=TINY | {"names": ["music"], "text": "minilm"}))
    torch.nn.init.normal_(state.average.module.read_prompt.weight)
    save(state, folder)
    return folder


def drawing_checkpoint(folder: Path) -> Path:
    """The same for pictures of 8 kHz, whose codes are those of brown noise."""
    state = start(TrainConfig(network={"architecture": "sketch", **SHAPE, **WORDS}))
    network = state.average.module
    torch.nn.init.normal_(network.write.weight, std=0.3)
    torch.nn.init.normal_(network.read_prompt[-1].weight)
    noise = 0.1 * torch.randn(16, 16000, generator=torch.Generator().manual_seed(0))
    network.learn(network.pictures.read(noise.cumsum(dim=1) * 0.1))
    save(state, folder)
    return folder
