"""Separation by sketches: stems are drawn so that their pictures add up to that of the mixture, and share its sound.

What every stem may look like is known to a network of sketches that hears prompts, and may be told the mixture; that
they add up is `inference.pictured`. Each bin of the mixture goes to the stems by their shares of the power there
(Wiener; Liutkus and Badeau 2015, https://doi.org/10.1109/ICASSP.2015.7178102, eq. 5), so they keep its phases and add
up to it exactly.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from stemforge.audio.windows import Window, hop_of, join, split
from stemforge.devices import memory_errors
from stemforge.errors import UsageError
from stemforge.inference.given import Free
from stemforge.inference.noise import noise_of, state_type
from stemforge.inference.pictured import adding_up, known
from stemforge.inference.prompted import Prompted, Prompts
from stemforge.inference.samplers import OnStep, quiet
from stemforge.inference.settings import Sampling
from stemforge.inference.wrappers import denoiser
from stemforge.models.bands import summed
from stemforge.models.sketch import Sketch
from stemforge.separators.diffusion import HELD, LONGEST

DRAWS = 4
"""Of each piece; the mean of their shares is nearer to what is expected of a stem than any of them."""


class PicturedSeparator:
    """Stems named by prompts; memory does not grow with the length of the song.

    Args:
        network: on `device`; hears prompts.
        names: of the stems.
        prompts: one a stem.
        sampling: sampler, steps, noise levels, of the sketches.
        segment: seconds that are sampled at once, LONGEST unless said: whatever that is, attention slides along it.
        overlap: fraction of a segment that it shares with the next.
        seed: of the noise, together with the place in the song.
        draws: how often stems are drawn, at once.
        device: where the network is.
        on_step: called with (steps done, steps in all) of each piece.

    Raises:
        UsageError: a segment of no length, or no draws.
    """

    def __init__(
        self,
        network: Sketch,
        names: Sequence[str],
        prompts: Prompts,
        sampling: Sampling,
        *,
        segment: float | None = None,
        overlap: float = HELD,
        seed: int = 0,
        draws: int = DRAWS,
        device: torch.device | str = "cpu",
        on_step: OnStep = quiet,
    ) -> None:
        seconds = LONGEST if segment is None else segment
        if not 0 < seconds < float("inf"):
            raise UsageError(f"segment {seconds:g}: must be more than 0 s. Leave --segment out for {LONGEST:g} s.")
        if draws < 1:
            raise UsageError(f"draws {draws}: at least one is needed.")
        self.names, self.rate, self.channels = tuple(names), network.config.sound_rate, 2
        self.sampling, self.seed, self.on_step, self.device = sampling, seed, on_step, torch.device(device)
        self._network, self._prompts, self._draws = network, prompts, draws
        self._length = max(1, round(seconds * self.rate))
        self._hop = hop_of(self._length, overlap)

    def stream(self, blocks: Iterable[Tensor]) -> Iterator[Tensor]:
        """Mixture blocks (channel, time) in, stem blocks (stem, channel, time) out, in all of the same length."""
        yield from join(self._pieces(blocks), self._length, self._hop)

    def _pieces(self, blocks: Iterable[Tensor]) -> Iterator[Window]:
        for index, piece in enumerate(split(blocks, self._length, self._hop)):
            stems = self._apart(piece.samples[..., : piece.valid].to(self.device), index).cpu()
            yield Window(functional.pad(stems, (0, self._length - piece.valid)), piece.valid)

    @torch.no_grad()
    def _apart(self, mixture: Tensor, index: int) -> Tensor:
        """Stems (stem, channel, time) of a mixture (channel, time)."""
        network = self._network
        mono = mixture.mean(dim=0)
        gain = 10 ** (network.level_db / 20) / float(mono.square().mean().sqrt().clamp(min=1e-4))
        picture = network.pictures.read(functional.pad(mono * gain, (0, -mono.shape[-1] % network.size)))
        with memory_errors(self.device):
            shares = summed(network.picture(self._drawn(picture.expand(self._draws, -1, -1), index)))[1]
            return network.pictures.parts(mixture, (shares / shares.sum(dim=1, keepdim=True)).mean(dim=0))

    def _drawn(self, picture: Tensor, index: int) -> Tensor:
        """Codes (draw, stem, component, code) of stems whose pictures add up to the given one (draw, band, frame)."""
        network = self._network
        noise = noise_of(network, self.seed * 1_000_003 + index)
        codes = picture.shape[-1] // network.frames
        like = torch.empty(self._draws, len(self.names), network.channels, codes, dtype=state_type(self.device))
        joint = Prompted(network, self.names, self._prompts, network.codes(picture) if network.config.among else None)
        denoise = adding_up(denoiser(joint), network, known(picture))
        start = noise(like.to(self.device)) * self.sampling.sigma_max
        return self.sampling.run(denoise, start, Free(), noise, self.on_step).float()
