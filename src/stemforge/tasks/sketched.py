"""Sketches first: what sound begins with is drawn by a network of pictures, then heard, and refined by that of sound.

A cascade of two joint models (Ho et al. 2022, https://arxiv.org/abs/2106.15282). The first says what is played, in few
numbers; the second gets its sound with some noise on it (SDEdit, Meng et al. 2022, https://arxiv.org/abs/2108.01073)
and says what it sounds like.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from stemforge.audio.feed import lasting
from stemforge.audio.resample import to_channels
from stemforge.audio.windows import Window, join, split
from stemforge.inference.samplers import OnStep, quiet
from stemforge.inference.settings import Sampling, default
from stemforge.models.sketch import Sketch
from stemforge.tasks.generate import generate_blocks, windows_in
from stemforge.tasks.impute import Song, Wish, impute_blocks
from stemforge.tasks.impute import windows_in as windows_of_song
from stemforge.tasks.levels import gain_of
from stemforge.tasks.places import Places
from stemforge.tasks.regions import regions_in
from stemforge.types import Stems

STRENGTH = 0.3
"""How far sound may go from its sketch: as much as Griffin-Lim loses."""
GUIDANCE, AROUND = 1.5, 2.0
"""How strongly given stems count in what is drawn beside them, and what stands around a gap in what fills it."""
PEAK = 0.7
"""Of a sample of a stem: nine of ten excerpts of real ones stay below, phases that are found pile up to thrice that."""
PART = 100
"""Codes whose phases are found at once, the last of them cross-faded with the next part."""


@dataclass(frozen=True)
class Sketcher:
    """Draws what sound begins with.

    network: on `device`; sampling: of the codes; strength: see `Sampling.begun`; guidance: see `Wish`; sound: how the
    sound that begins with it is sampled, see `refining`.
    """

    network: Sketch
    sampling: Sampling = field(default_factory=lambda: default("generate", conditional=True))
    strength: float = STRENGTH
    guidance: float = GUIDANCE
    device: torch.device | str = "cpu"
    sound: Sampling = field(default_factory=lambda: default("sketched", conditional=True))

    @property
    def refining(self) -> Sampling:
        """How sound is made of it, from the level of the noise that is put on it."""
        return self.sound.begun(self.strength)

    def can(self, made: Sequence[str], rate: int, given: Sequence[str] | None = None) -> bool:
        """Whether it knows all that is made, something of what is given (None: nothing is), and the rate in Hz."""
        known = set(self.network.names)
        return set(made) <= known and (given is None or bool(known & set(given))) and rate == self._rate

    def can_fill(self, names: Sequence[str], rate: int) -> bool:
        """Whether it knows one of the stems in which there is a gap, and the rate in Hz."""
        return bool(set(self.network.names) & set(names)) and rate == self._rate

    def steps(self, frames: int, *, beside: bool = False) -> int:
        """How many steps a sketch of so many samples takes, `beside` given stems or not."""
        windows = windows_of_song if beside else windows_in
        return self.sampling.steps * windows(self.network, self._seconds(frames))

    def generate(
        self, names: Sequence[str], frames: int, channels: int, *, seed: int = 0, on_step: OnStep = quiet
    ) -> Iterator[Tensor]:
        """A new piece: blocks (stem, channel, time) of so many samples, at the level of training songs.

        Arguments and errors as of `generate_blocks`.
        """
        wanted = tuple(name for name in self.network.names if name in names)
        codes = generate_blocks(
            self.network, self._seconds(frames), self.sampling, seed=seed, stems=wanted, device=self.device,
            on_step=on_step,
        )  # fmt: skip
        order = [wanted.index(name) for name in names]
        heard = decoded(self.network, (block[order] for block in codes), seed)
        gains = Places(channels).gains(names, seed)
        return lasting((block[:, None] * gains for block in heard), frames, (len(names), channels))

    def impute(
        self, song: Song, made: Sequence[str], wish: Wish, channels: int, *, on_step: OnStep = quiet
    ) -> Iterator[Tensor]:
        """What goes with given stems: blocks (stem, channel, time) of the stems `made`, at the level of the given.

        song: blocks at the rate of the network, those of stems that it does not know are not heard; wish: regions and
        seed. Errors as of `impute_blocks`.
        """
        known = [name for name in song.names if name in self.network.names]
        rows = [song.names.index(name) for name in known]
        count = self._codes(song.frames)
        places = Places(channels, known)
        mono = (to_channels(places.heard(block[rows]), 1) * song.gain for block in song.blocks)
        heard = lasting(mono, count * self.network.size, (len(rows), 1))
        regions = {name: [self._whole(*part) for part in parts] for name, parts in wish.regions.items()}
        fill = tuple(name for name in made if name not in regions)
        task = replace(wish, fill=fill, regions=regions, method="condition", segment=None, guidance=self.guidance)
        drawn = impute_blocks(
            self.network,
            Song(coded(self.network, heard), tuple(known), count, 1.0),
            self.sampling, task, device=self.device, on_step=on_step,
        )  # fmt: skip
        wanted = task.names(self.network, tuple(known))
        order = [wanted.index(name) for name in made]
        sound = decoded(self.network, (block[order] for block in drawn), wish.seed)
        blocks = (block / song.gain for block in placed(sound, places, made, wish.seed))
        return lasting(blocks, song.frames, (len(made), channels))

    def filled(
        self, stems: Stems, free: Tensor, names: Sequence[str], *, seed: int = 0, on_step: OnStep = quiet
    ) -> Stems:
        """The stems with a drawing in the free samples of the named ones, silence in those that it does not know.

        stems: (stem, channel, time) at the rate of the network, whose own free samples are not looked at; free: bool
        (time,); names: of stems, one of them known at least. Errors as of `impute`.
        """
        edited = torch.tensor([name in names for name in stems.names])[:, None, None]
        rows = torch.where(edited & free, 0.0, stems.samples)
        drawn = tuple(name for name in names if name in self.network.names)
        regions = [(part.first / stems.rate, part.last / stems.rate) for part in regions_in(free)]
        around = rows if bool(free.all()) else rows[..., ~free]
        song = Song([rows], stems.names, rows.shape[-1], gain_of(Stems(stems.names, around, stems.rate)))
        wish = Wish((), dict.fromkeys(drawn, regions), seed=seed)
        places = [stems.names.index(name) for name in drawn]
        made = torch.cat(list(self.impute(song, drawn, wish, rows.shape[1], on_step=on_step)), dim=-1)
        rows[places] = torch.where(free, made, rows[places])
        return Stems(stems.names, rows, stems.rate)

    @property
    def _rate(self) -> int:
        return self.network.config.sound_rate

    def _codes(self, frames: int) -> int:
        """How many codes so many samples touch."""
        return -(-frames // self.network.size)

    def _seconds(self, frames: int) -> float:
        """Of all those codes."""
        return self._codes(frames) / self.network.rate

    def _whole(self, start: float, stop: float) -> tuple[float, float]:
        """A region, in seconds, made as long as all codes that it touches."""
        rate = self.network.rate
        return math.floor(start * rate) / rate, stop if math.isinf(stop) else math.ceil(stop * rate) / rate


def coded(network: Sketch, blocks: Iterable[Tensor]) -> Iterator[Tensor]:
    """Sound, blocks (stem, channel, time) of any lengths, as blocks of codes (stem, component, code) on the CPU.

    They are those of the whole sound at once: each part is read with a code more on both sides.
    """
    size = network.size
    rest = None
    for index, part in enumerate(split(blocks, (PART + 2) * size, PART * size)):
        sound = part.samples[..., : part.valid].mean(dim=1)
        found = network.encode(sound.to(network.mean)).cpu()
        yield found[..., min(index, 1) : PART + 1]
        rest = found[..., PART + 1 :]
    if rest is not None and rest.shape[-1]:
        yield rest


def placed(blocks: Iterable[Tensor], places: Places, made: Sequence[str], seed: int) -> Iterator[Tensor]:
    """Mono blocks (stem, time) where they stand, (stem, channel, time), by what is heard until the first is there."""
    gains = None
    for block in blocks:
        gains = places.gains(made, seed) if gains is None else gains
        yield block[:, None] * gains


def decoded(network: Sketch, codes: Iterable[Tensor], seed: int) -> Iterator[Tensor]:
    """Codes, blocks (stem, component, code), as sound, blocks (stem, time) within PEAK on the CPU."""
    size = network.size

    def heard() -> Iterator[Window]:
        for index, part in enumerate(split(codes, PART, PART - 1)):
            sound = network.decode(part.samples[..., : part.valid].to(network.mean), seed=seed * 1_000_003 + index)
            missing = PART * size - sound.shape[-1]
            yield Window(torch.nn.functional.pad(sound, (0, missing)), sound.shape[-1])

    yield from (block.clamp(-PEAK, PEAK) for block in join(heard(), PART * size, (PART - 1) * size))
