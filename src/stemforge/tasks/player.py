"""Sound of prompts, from a network of sound or by way of sketches: new pieces, and what joins a song."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import tee
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from stemforge.audio.feed import Feed, lasting
from stemforge.audio.resample import resampled, to_channels
from stemforge.inference.prompted import Prompted, Prompts
from stemforge.inference.samplers import OnStep, quiet
from stemforge.inference.settings import Sampling
from stemforge.models.sketch import Sketch
from stemforge.tasks import generate, impute
from stemforge.tasks.edit_files import Files
from stemforge.tasks.impute_files import accompanied
from stemforge.tasks.places import MIDDLE, Places
from stemforge.tasks.prompted import gain_for
from stemforge.tasks.sketched import coded, decoded, placed

if TYPE_CHECKING:
    from stemforge.models.registry import Joint


@dataclass(frozen=True)
class Player:
    """Plays what prompts say.

    network: on `device`, has one slot and takes prompts; names: of the stems, one a prompt; prompts: what they are.
    """

    network: Joint | Sketch
    names: tuple[str, ...]
    prompts: Prompts
    device: torch.device | str = "cpu"

    @cached_property
    def joint(self) -> Prompted:
        """What is sampled. Raises UsageError as `Prompts.denoiser` does."""
        return Prompted(self.network, self.names, self.prompts)

    @property
    def rate(self) -> int:
        """Hz of the sound."""
        return self.network.config.sound_rate if isinstance(self.network, Sketch) else self.network.rate

    @property
    def channels(self) -> int:
        """Of the sound."""
        return 2 if isinstance(self.network, Sketch) else self.network.channels

    def frames(self, seconds: float) -> int:
        """How many samples a piece has."""
        return max(1, round(seconds * self.rate))

    def generate(
        self,
        seconds: float,
        sampling: Sampling,
        *,
        seed: int = 0,
        segment: float | None = None,
        on_step: OnStep = quiet,
    ) -> Iterator[Tensor]:
        """A new piece: blocks (stem, channel, time). Arguments and errors as of `generate.generate_blocks`."""
        network, frames, names = self.network, self.frames(seconds), self.names
        if isinstance(network, Sketch):
            seconds = -(-frames // network.size) / network.rate
        blocks = generate.generate_blocks(
            self.joint, seconds, sampling, seed=seed, stems=names, segment=segment, device=self.device, on_step=on_step
        )
        if not isinstance(network, Sketch):
            return blocks
        places = standing(names) if len(names) > 1 else MIDDLE[:1]
        placing = placed(decoded(network, blocks, seed), Places(self.channels), places, seed)
        return lasting(placing, frames, (len(names), self.channels))

    def join(self, given: Files, sampling: Sampling, wish: impute.Wish, on_step: OnStep = quiet) -> Iterator[Tensor]:
        """A song, the first of the names, with what joins it: blocks (stem, channel, time) at its rate and width.

        Its samples stay as they are. Errors as of `impute.impute_blocks` and reading.
        """
        gain = gain_for(given, self.network)
        if not isinstance(self.network, Sketch):
            return accompanied(self.joint, given, gain, sampling, wish, device=self.device, on_step=on_step)
        return self._drawn_beside(self.network, given, gain, sampling, wish, on_step)

    def _drawn_beside(
        self, network: Sketch, given: Files, gain: float, sampling: Sampling, wish: impute.Wish, on_step: OnStep
    ) -> Iterator[Tensor]:
        heard, kept = tee(given.stream(again=True))
        frames = max(1, round(given.frames * self.rate / given.rate))
        count, places, made = -(-frames // network.size), Places(given.channels, given.names), self.names[1:]
        mono = (to_channels(places.heard(block), 1) * gain for block in heard)
        sound = lasting(resampled(mono, given.rate, self.rate), count * network.size, (1, 1))
        song = impute.Song(coded(network, sound), given.names, count, 1.0)
        codes = impute.impute_blocks(self.joint, song, sampling, wish, device=self.device, on_step=on_step)
        drawn = placed(decoded(network, codes, wish.seed), places, standing(made), wish.seed)
        back = resampled((block / gain for block in drawn), self.rate, given.rate)
        old = Feed(kept)
        for new in lasting(back, given.frames, (len(made), given.channels)):
            yield torch.cat([old.take(new.shape[-1]), new])


def standing(names: Sequence[str]) -> list[str]:
    """Names for `Places`: what is a kind of bass, drums or vocals stands where those do."""
    return [next((kind for kind in MIDDLE if kind.rstrip("s") in name), name) for name in names]
