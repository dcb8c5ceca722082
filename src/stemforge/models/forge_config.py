"""What shapes a Forge network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class ForgeConfig:
    """What shapes a Forge network. Edges are bins of the STFT; pools are (first bin, last bin, bins a group).

    floor: power, beside that of music at each frequency, below which a mixture reads as silence: what coders leave out
        is then no louder a sign than what is quiet.
    gate: power of the chance that a stem sounds by which `Forge.separate` multiplies its share, one for all or each; in
        training, and where stems are made, it is 1.
    silent: chance of sounding which a stem must reach somewhere in a segment, or `Forge.separate` turns it down by
        30 dB (`presence.presence_gain`); 0: never. Of finished checkpoints, as the gate; 0 in training.
    spread: of the multichannel Wiener filter (`spatial.wiener`) that ends `Forge.separate` in stereo, up to the last
        edge; None: no filter.
    passes: pitches at which a separator lets the network hear a song, unless told otherwise (`separators.passes`).
    splits: into how many parts each band is cut that tokens speak of, () for none: all tokens of a band read all of it.
    rank: of the mixers across the bands; 0: bands attend to each other.
    trunk: layers that look at several frames at once, half way through the blocks; 0: none.
    detail: local patterns that are read past the tokens (`detail.Detail`); 0: none.
    across: whether shown stems are read across their two channels (`detail.Across`); apart: by blocks of their own.
    text: name of the text encoder of the prompts it was trained with; "": it hears no prompts.
    """

    names: tuple[str, ...] = ("bass", "drums", "guitar", "piano", "other")
    rate: int = 44100
    channels: int = 2
    segment: float = 6.0
    n_fft: int = 3072
    edges: tuple[int, ...] = (0, 36, 114, 306)
    pools: tuple[tuple[int, int, int], ...] = ((306, 770, 4), (770, 1538, 8))
    width: int = 256
    heads: int = 4
    hidden: int = 512
    kernel: int = 7
    layers: int = 6
    rank: int = 256
    prompt_width: int = 384
    level_db: float = -20.0
    spectrum_hz: tuple[float, ...] = (30.0, 100.0, 400.0, 1500.0, 5000.0, 12000.0, 20000.0)
    spectrum_db: tuple[float, ...] = (-10.0, -8.0, -14.0, -24.0, -34.0, -41.0, -50.0)
    whitening: float = 0.5
    floor: float = 1e-6
    gate: float | tuple[float, ...] = 1.0
    silent: float = 0.0
    spread: float | None = 0.01
    passes: int = 1
    splits: tuple[int, ...] = ()
    trunk: int = 0
    detail: int = 0
    across: bool = False
    apart: bool = False
    text: str = ""

    def __post_init__(self) -> None:
        if not self.floor > 0:
            raise ValueError(f"floor = {self.floor}: give more than 0")


def frozen(value: Any) -> Any:  # noqa: ANN401 (whatever JSON holds)
    return tuple(frozen(v) for v in value) if isinstance(value, list) else value
