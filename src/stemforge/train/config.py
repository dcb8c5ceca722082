"""What a training run is asked to do."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

LEARN = ("all", "making")
"""What a run may change: all weights, or those that only the making of stems reads."""


@dataclass(frozen=True)
class TrainConfig:
    """A whole run. Rates are peaks: they rise over `warmup` steps and fall to zero over the last `decay` share.

    batch_size 0 stands for one that is yet to be found, see `sizing`; each batch is computed in `accumulate` parts.
    caption_dropout: share of items without their caption, for networks that hear prompts. learn: of LEARN; "making"
    leaves alone what a Forge network separates with, so that its stems of a song stay what they are, bit by bit.
    """

    steps: int = 10000
    batch_size: int = 8
    seconds: float = 3.0
    seed: int = 0
    accumulate: int = 1
    matrix_rate: float = 2e-3
    rate: float = 1e-3
    weight_decay: float = 0.01
    warmup: int = 200
    decay: float = 0.3
    clip: float = 1.0
    ema: float = 0.999
    precision: str = "bf16-mixed"
    shares: tuple[float, ...] = (0.7, 0.1, 0.08, 0.07, 0.05)
    remix: float = 0.5
    left_out: float = 0.35
    augment: float = 1.0
    damaged: float = 0.2
    caption_dropout: float = 0.1
    validate_every: int = 500
    save_every: int = 250
    excerpts: int = 24
    learn: str = "all"
    start: str = ""
    stems: dict[str, Any] = field(default_factory=dict)
    network: dict[str, Any] = field(default_factory=dict)
