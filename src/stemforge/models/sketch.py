"""The any-subset network in a small space: what a song is made of, before what it sounds like.

A sketch is a picture of each stem (`bands.Bands`) in codes: a tenth of a second of a picture in its principal
components (Jolliffe 2002, https://doi.org/10.1007/b98835), of which an eighth tells all but what Griffin-Lim loses
anyway. To samplers codes are a song with many channels and few samples, so all that makes stems (`tasks.generate`,
`tasks.impute`, `tasks.edit`) makes sketches with this network, and `Sketch.decode` makes sound of them: the first stage
of a cascade (Ho et al. 2022, https://arxiv.org/abs/2106.15282).

Every stem has a noise level of its own, 0 where it is known, or it is hidden, as in `forge`. The preconditioning is
that of EDM (Karras et al. 2022, https://arxiv.org/abs/2206.00364, Table 1) with the standard deviation s of each
component for sigma_data; those are the square root of what they are in pictures, so that no component is decided long
before the others.

With `text` in its config it has one slot, finished music, and hears a prompt with every token
(`inference.prompted`); an empty prompt, zeros or None, adds nothing. With `among` it can also be told the codes of a
mixture that the music is a part of, as one who learned to hear two songs at once (Wisdom et al. 2020, mixtures of
mixtures, https://arxiv.org/abs/2006.12701): which of it is meant, the prompt says.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional

from stemforge.models.bands import SILENCE, Bands
from stemforge.models.blocks import Attention, stack, through
from stemforge.models.forge_config import frozen

TOLD = 11
"""Numbers that tell a token of its noise level."""


@dataclass(frozen=True)
class SketchConfig:
    """rate: codes a second; channels: components of a code; segment: seconds that are attended to, as in training.

    sound_rate: Hz of the sound; bands, hop, n_fft: of its pictures; level_db: RMS at which songs are drawn. text: name
    of the text encoder of the prompts it was trained with, "": it hears none; prompt_width: numbers of its embeddings;
    among: whether it can be told a mixture.
    """

    names: tuple[str, ...] = ("bass", "drums", "guitar", "piano", "other")
    rate: int = 10
    channels: int = 160
    segment: float = 6.0
    sound_rate: int = 44100
    bands: int = 128
    hop: int = 441
    n_fft: int = 2048
    level_db: float = -20.0
    width: int = 384
    heads: int = 6
    hidden: int = 768
    kernel: int = 7
    layers: int = 6
    rank: int = 128
    text: str = ""
    prompt_width: int = 384
    among: bool = False


class Sketch(nn.Module):
    """A `registry.Joint` of codes; see the module's docstring. Say `learn` before the first training step.

    Raises:
        ValueError: a code does not last a whole number of frames, or has more components than they have numbers.
    """

    conditional = True
    takes_bf16 = True
    mean: Tensor
    axes: Tensor
    spread: Tensor

    def __init__(self, config: SketchConfig | None = None) -> None:
        super().__init__()
        self.config = c = config or SketchConfig()
        self.names, self.rate, self.channels, self.segment = c.names, c.rate, c.channels, c.segment
        self.frames, rest = divmod(c.sound_rate, c.rate * c.hop)
        numbers = self.frames * c.bands
        if rest or not 0 < c.channels <= numbers:
            raise ValueError(f"rate {c.rate}, channels {c.channels}: do not fit {c.sound_rate} Hz in steps of {c.hop}")
        self.size = self.frames * c.hop
        """Samples of a code."""
        self.level_db = c.level_db
        self.pictures = Bands(c.sound_rate, c.bands, c.n_fft, c.hop)
        self.register_buffer("mean", torch.zeros(numbers))
        self.register_buffer("axes", torch.eye(numbers)[: c.channels].clone())
        self.register_buffer("spread", torch.ones(c.channels))
        self.read = nn.Linear(c.channels, c.width)
        self.read_state = nn.Linear(TOLD, c.width)
        if c.text:
            first, second = nn.Linear(c.prompt_width, c.width, bias=False), nn.Linear(c.width, c.width, bias=False)
            self.read_prompt = nn.Sequential(first, nn.GELU(), second)
        if c.among:
            self.read_mixture = nn.Linear(c.channels, c.width)
        self.stem = nn.Parameter(torch.randn(len(c.names), 1, c.width) * 0.02)
        self.blocks = stack(c.layers, c.width, c.heads, c.hidden, c.kernel, len(c.names), c.rank)
        for part in self.blocks.modules():
            if isinstance(part, Attention) and part.ordered:
                part.reach = round(c.segment * c.rate / 2)
        self.norm = nn.LayerNorm(c.width)
        self.write = nn.Linear(c.width, c.channels)
        nn.init.normal_(self.write.weight, std=0.01)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Sketch:
        """Build from the table of a config.json (lists become tuples); TypeError on unknown keys."""
        return cls(SketchConfig(**{k: frozen(v) for k, v in config.items() if k != "architecture"}))

    def to_config(self) -> dict[str, Any]:
        """The table that `from_config` reads."""
        return {"architecture": "sketch", **asdict(self.config)}

    @torch.no_grad()
    def learn(self, pictures: Tensor) -> None:
        """Take the principal components from pictures (item, band, frame) of sounds that are not silent."""
        patches = self._patches(pictures).flatten(0, 1).double()
        mean = patches.mean(dim=0)
        variance, axes = torch.linalg.eigh((patches - mean).mT @ (patches - mean) / len(patches))
        deviation = variance.flip(0)[: self.channels].clamp(min=1e-6).sqrt()
        spread = deviation.sqrt() / deviation.mean().sqrt()
        self.mean.copy_(mean)
        self.spread.copy_(spread)
        self.axes.copy_(axes.mT.flip(0)[: self.channels] * (spread / deviation)[:, None])

    def encode(self, sound: Tensor) -> Tensor:
        """(..., time) at `sound_rate` -> (..., component, code), the last code filled up with silence."""
        return self.codes(self.pictures.read(sound))

    def codes(self, picture: Tensor) -> Tensor:
        """(..., band, frame) -> (..., component, code), as `encode`."""
        return ((self._patches(picture) - self.mean) @ self.axes.mT).mT

    def decode(self, codes: Tensor, iterations: int = 32, seed: int = 0) -> Tensor:
        """(..., component, code) -> sound (..., time) on the CPU, with phases by so many iterations of Griffin-Lim."""
        return self.pictures.sound(self.picture(codes), iterations, seed)

    def picture(self, codes: Tensor) -> Tensor:
        """(..., component, code) -> (..., band, frame)."""
        patches = codes.mT @ (self.axes / self.axes.square().sum(dim=1, keepdim=True)) + self.mean
        return rearrange(patches, "... t (f p) -> ... f (t p)", p=self.frames)

    def _patches(self, picture: Tensor) -> Tensor:
        """(..., band, frame) -> (..., code, number)."""
        whole = functional.pad(picture, (0, -picture.shape[-1] % self.frames), value=SILENCE)
        return rearrange(whole, "... f (t p) -> ... t (f p)", p=self.frames)

    def noise(self, like: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """White noise of level 1 in the shape of `like`; drawn on the CPU."""
        return torch.randn(like.shape, generator=generator).to(like)

    def denoise(
        self,
        x: Tensor,
        sigma: Tensor,
        *,
        mixture: Tensor | None = None,
        hidden: Tensor | None = None,
        prompt: Tensor | None = None,
    ) -> Tensor:
        """E[codes | x, what is given]. x: (batch, stem, component, code) = codes + sigma * noise.

        sigma: broadcastable to (batch, stem, 1 or code), 0 where a stem is known; hidden: (batch, stem) bool, the stems
        of which x says nothing; prompt: (batch, prompt_width); mixture: (batch, component, code). Returns the shape of
        x. A prompt is not heard where `text` is empty, nor a mixture where `among` is false.
        """
        level = torch.as_tensor(sigma, device=x.device, dtype=x.dtype).expand(*x.shape[:2], x.shape[3])
        hidden = torch.zeros(x.shape[:2], dtype=torch.bool, device=x.device) if hidden is None else hidden
        noisy, data = level[:, :, None], self.spread[:, None]
        total = (noisy.square() + data.square()).rsqrt()
        prompt, mixture = prompt if self.config.text else None, mixture if self.config.among else None
        said: Tensor = self(x * total, level, hidden, prompt, mixture)
        return data.square() * total.square() * x + noisy * data * total * said

    def forward(
        self, x: Tensor, level: Tensor, hidden: Tensor, prompt: Tensor | None = None, mixture: Tensor | None = None
    ) -> Tensor:
        """F of EDM. x: (batch, stem, component, code) scaled by c_in; level: (batch, stem, code); others: as above."""
        tokens = self.read((x * ~hidden[:, :, None, None]).mT) + self.read_state(told(level, hidden)) + self.stem
        if prompt is not None:
            heard = self.read_prompt(prompt.shape[-1] ** 0.5 * functional.normalize(prompt, dim=-1))
            tokens = tokens + heard[:, None, None]
        if mixture is not None:
            tokens = tokens + self.read_mixture(mixture.mT)[:, None]
        said: Tensor = self.write(through(tokens, self.blocks, self.norm)).float()
        return said.mT


def told(level: Tensor, hidden: Tensor) -> Tensor:
    """What a token is told of its noise level: (batch, stem, code) -> (batch, stem, code, TOLD)."""
    c_noise = level.clamp(min=1e-4).log() / 4  # EDM Table 1
    waves = [f(c_noise * k) for k in (1.0, 2.0, 4.0, 8.0) for f in (torch.sin, torch.cos)]
    there = (~hidden)[:, :, None].to(level).expand_as(level)
    columns = torch.stack([*waves, c_noise, (level == 0).to(level)], dim=-1) * there[..., None]
    return torch.cat([columns, 1 - there[..., None]], dim=-1)
