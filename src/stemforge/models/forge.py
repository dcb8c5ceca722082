"""The any-subset network: p(any stems | any other stems, the mixture, a prompt), for any part of the time line.

Every stem i has a noise level sigma_i: 0 where it is known, sigma where it is being generated, or it is *hidden*:
nothing of it is shown (the limit sigma -> infinity). The network predicts clean stems inside the preconditioning of EDM
(Karras et al. 2022, https://arxiv.org/abs/2206.00364, Table 1), per frequency, because the noise has a colour s(f) and
music a spectrum d(f):

    e_i = (c_skip + c_in c_out a_i) X_i + c_out r_i            without a mixture
    e_i = (c_skip + c_in c_out a_i) X_i + r_i Y                given the mixture Y
    D_i = e_i + m_i (Y - sum_j e_j),  sum_i m_i = 1            so that the stems add up to Y at every noise level

with real gains a, complex r and softmax masks m; a channel may take of the other one too (`across`). With all stems
hidden and a mixture given, one evaluation is the least-squares separator. A frame of the spectrum is four tokens, one a
band; the top band is pooled over neighbours. Four tokens cannot tell of each partial: `detail.Detail` goes past them.
"""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any, NamedTuple

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional

from stemforge.models.asked import ALL, WHOLE, Asked, chosen, pasted
from stemforge.models.blocks import Trunk, stack, through
from stemforge.models.detail import FLOOR, REACH, SAID, Across, Detail, divided, read_levels, silence, stem_planes
from stemforge.models.forge_config import ForgeConfig, frozen
from stemforge.models.presence import presence_gain
from stemforge.models.products import mixed, power, scaled, seen_as
from stemforge.models.spatial import wiener
from stemforge.models.spectra import Stft, colour, interpolate_db

SLOT = "music"
"""Name of the only slot of a network that hears prompts, and of what one prompt gives."""
TOGETHER = 0.35
"""Seconds in which a stem has to be likely to count as there."""


class Outputs(NamedTuple):
    """What the network says about each stem.

    masks: (batch, stem, channel, frame, group) logits, a 0 without a mixture; ratio: (batch, stem, channel, frame,
    low bin) complex; gains: (batch, stem, channel, frame, group), None when no stem is shown; activity: (batch, stem,
    frame) logits; across: (batch, stem, 1, frame, group), what is taken of the other channel, None for nothing.
    """

    masks: Tensor
    ratio: Tensor
    gains: Tensor | None
    activity: Tensor
    across: Tensor | None = None


class Coefficients(NamedTuple):
    """c_skip, c_in, c_out of EDM Table 1 for each frequency: each (batch, stem, 1, frame, frequency)."""

    c_skip: Tensor
    c_in: Tensor
    c_out: Tensor


class Forge(nn.Module):
    """The network and its preconditioning; see the module's docstring for the formula."""

    data_curve: Tensor
    noise_curve: Tensor
    takes_bf16 = True  # enough for its matrix products: the same score on the dev set, a third less time
    conditional = True  # it can be told which stems, which parts of them and which mixture are given

    def __init__(self, config: ForgeConfig | None = None) -> None:
        super().__init__()
        self.config = c = config or ForgeConfig()
        self.names, self.rate, self.channels, self.segment = c.names, c.rate, c.channels, c.segment
        self.level_db, self.passes = c.level_db, c.passes
        self.stft = Stft(c.n_fft)
        stems = len(c.names)
        self.low = c.edges[-1]
        self.spans = [(a, b) for a, b in zip(c.edges[:-1], c.edges[1:], strict=True)]
        self.pooled = sum((b - a) // k for a, b, k in c.pools)
        bands = [b - a for a, b in self.spans] + [self.pooled]
        self.parents, self.sizes = divided(bands, c.splits)
        sizes = self.sizes
        below = [band for band in self.parents if band < len(self.spans)]
        planes = c.channels + 2 * (c.channels == 2)  # left, right, middle, side
        low, top = stems * c.channels * 2, stems * c.channels
        mixed = [(planes + 2 * c.channels) * n for n in bands[:-1]] + [planes * bands[-1]]
        shown = [low * n for n in bands[:-1]] + [top * bands[-1]]
        self.read_mixture = nn.ModuleList(nn.Linear(mixed[band], c.width) for band in self.parents)
        self.read_stems = nn.ModuleList(nn.Linear(shown[band], c.width) for band in self.parents)
        self.read_state = nn.Linear(stems * 10 + 1, c.width)
        self.read_prompt = nn.Linear(c.prompt_width, c.width, bias=False)
        self.band = nn.Parameter(torch.randn(len(sizes), 1, c.width) * 0.02)
        shape = (c.width, c.heads, c.hidden, c.kernel, len(sizes), c.rank)
        self.blocks, self.norm = stack(c.layers, *shape), nn.LayerNorm(c.width)
        self.trunk = Trunk(c.trunk, c.width, c.heads, len(sizes)) if c.trunk else None
        self.write_masks = nn.ModuleList(nn.Linear(c.width, top * n) for n in sizes)
        self.write_gains = nn.ModuleList(nn.Linear(c.width, top * n) for n in sizes)
        self.write_ratio = nn.ModuleList(nn.Linear(c.width, low * n) for n in sizes[: len(below)])
        self.write_activity = nn.Linear(len(sizes) * c.width, stems)
        if c.detail:
            seen = (stems * c.channels * bands[band] for band in below)
            self.read_levels = nn.ModuleList(nn.Linear(n, c.width, bias=False) for n in seen)
            self.mixture_detail = Detail(planes, c.detail, c.width, sizes, stems)
            self.stem_detail = Detail(c.channels + 3, c.detail, c.width, sizes, stems)
        if c.across:
            self.across = Across(c.width, sizes, stems)
        if c.apart:
            self.made_blocks, self.made_norm = stack(c.layers, *shape), nn.LayerNorm(c.width)
            self.made_trunk = Trunk(c.trunk, c.width, c.heads, len(sizes)) if c.trunk else None
        self._start_small()
        self._set_curves()

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Forge:
        """Build from the table of a config.json (lists become tuples); TypeError on unknown keys."""
        values: dict[str, Any] = {k: frozen(v) for k, v in config.items() if k != "architecture"}
        return cls(ForgeConfig(**values))

    def to_config(self) -> dict[str, Any]:
        """The table that `from_config` reads."""
        return {"architecture": "forge", **asdict(self.config)}

    def _start_small(self) -> None:
        for linear in [*self.write_masks, *self.write_gains, *self.write_ratio]:
            nn.init.normal_(linear.weight, std=0.01)
            nn.init.zeros_(linear.bias)
        if self.config.detail:
            silence(self.read_levels)
        for name, weight in self.named_parameters():
            if name.endswith(("attention.out.weight", "mlp.down.weight", "mixer.up.weight")):
                nn.init.normal_(weight, std=0.5 * weight.shape[1] ** -0.5 / len(self.blocks) ** 0.5)

    def _set_curves(self) -> None:
        c = self.config
        hz = torch.arange(c.n_fft // 2 + 1) * (c.rate / c.n_fft)
        data = interpolate_db(list(c.spectrum_hz), list(c.spectrum_db), hz)
        noise = interpolate_db(list(c.spectrum_hz), [c.whitening * db for db in c.spectrum_db], hz)
        shift = (data.log().mean() - noise.log().mean()).exp()
        self.noise_db = [c.whitening * db + 20 * shift.log10().item() for db in c.spectrum_db]
        self.register_buffer("data_curve", data, persistent=False)
        self.register_buffer("noise_curve", noise * shift, persistent=False)

    def noise(self, like: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Noise of sigma 1 in the colour that this network was trained with; drawn on the CPU. like: (..., time)."""
        white = torch.randn(like.shape, generator=generator)
        return colour(white, self.rate, list(self.config.spectrum_hz), self.noise_db).to(like)

    def pool(self, values: Tensor) -> Tensor:
        """(..., frequency) -> (..., low bin + group): each group of the top band is the mean of its bins."""
        pools = self.config.pools
        low, *cuts = torch.tensor_split(values, [a for a, _, _ in pools], dim=-1)
        whole = [functional.pad(x, (0, b - a - x.shape[-1])) for x, (a, b, _) in zip(cuts, pools, strict=True)]
        means = [rearrange(x, "... (g k) -> ... g k", k=k).mean(-1) for x, (_, _, k) in zip(whole, pools, strict=True)]
        return torch.cat([low, *means], dim=-1)

    def expand(self, values: Tensor) -> Tensor:
        """(..., low bin + group) -> (..., frequency): each group speaks for its bins."""
        low, *cuts = torch.split(values, [self.low, *((b - a) // k for a, b, k in self.config.pools)], dim=-1)
        wide = (cut.repeat_interleave(k, dim=-1) for cut, (_, _, k) in zip(cuts, self.config.pools, strict=True))
        return torch.cat([low, *wide], dim=-1)[..., : self.config.n_fft // 2 + 1]

    def _planes(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Power of each plane (left, right, middle, side), and the two complex planes that are shown as waves."""
        each = power(y)
        if self.channels == 1:
            return each, y[..., : self.low]
        cross = (y.real[:, :1] * y.real[:, 1:]) + (y.imag[:, :1] * y.imag[:, 1:])
        half = 0.5 * each.sum(dim=1, keepdim=True)
        low = y[..., : self.low] * 0.5**0.5
        wave = torch.cat([low[:, :1] + low[:, 1:], low[:, :1] - low[:, 1:]], dim=1)
        return torch.cat([each, half + cross, half - cross], dim=1).clamp_(min=0), wave

    @torch.no_grad()
    def _mixture_features(self, mixture: Tensor) -> tuple[list[Tensor], Tensor]:
        """What each band reads, and the logarithms among it as (batch, plane, frame, group)."""
        planes, wave = self._planes(mixture / self.data_curve)  # (batch, plane, frame, frequency)
        logs = (self.pool(planes) + self.config.floor).log()
        squashed = wave * (-0.35 * logs[:, -wave.shape[1] :, :, : self.low]).exp()
        parts, logs = torch.cat([squashed.real, squashed.imag], dim=1), 0.25 * logs
        cuts = [torch.cat([logs[..., a:b], parts[..., a:b]], dim=1) for a, b in self.spans] + [logs[..., self.low :]]
        return [cut.transpose(1, 2).flatten(2) for cut in cuts], logs

    def _stem_features(self, shown: Tensor, asked: Asked) -> tuple[list[Tensor], Tensor]:
        """The same of all stems, of those shown: logarithms as (batch, stem, channel, frame, group)."""
        powers, low = seen_as(shown, self.low)
        logs = 0.25 * asked.among((self.pool(powers) + FLOOR).log(), len(self.names), math.log(FLOOR))
        waves = torch.split(asked.among(low, len(self.names), 0.0), [b - a for a, b in self.spans], dim=-2)
        cuts = [rearrange(wave, "b i c t f r -> b t (i c r f)") for wave in waves]
        return [*cuts, rearrange(logs[..., self.low :], "b i c t g -> b t (i c g)")], logs

    def _state_features(self, sigma: Tensor, hidden: Tensor, given: bool) -> Tensor:
        c_noise = sigma.clamp(min=1e-4).log() / 4  # EDM Table 1
        waves = [f(c_noise * k) for k in (1.0, 2.0, 4.0) for f in (torch.sin, torch.cos)]
        known = (sigma == 0).float()
        columns = torch.stack([*waves, c_noise, known, torch.ones_like(known), 1 - known], dim=-1)
        columns = columns * (~hidden)[:, :, None, None]  # (batch, stem, frame, 10)
        flat = columns.transpose(1, 2).flatten(2)
        return functional.pad(flat, (0, 1), value=float(given))

    def coefficients(self, sigma: Tensor, hidden: Tensor) -> Coefficients:
        """Of the noise levels sigma (batch, stem, frame); hidden: (batch, stem) bool."""
        level, d2 = sigma[:, :, None, :, None], self.data_curve**2
        total = (level**2 * self.noise_curve**2 + d2).rsqrt()
        shown = (~hidden)[:, :, None, None, None].float()
        noisy = level * (self.noise_curve * self.data_curve) * total
        c_out = torch.where(hidden[:, :, None, None, None], self.data_curve, noisy)
        return Coefficients(d2 * total**2 * shown, total * shown, c_out)

    def forward(
        self,
        mixture: Tensor | None,
        stems: Tensor | None = None,
        sigma: Tensor | None = None,
        hidden: Tensor | None = None,
        prompt: Tensor | None = None,
        asked: Asked = WHOLE,
    ) -> Outputs:
        """One evaluation on spectra.

        mixture: (batch, channel, frame, frequency) complex or None; stems: the stems shown, already scaled by c_in,
        (batch, shown stem, channel, frame, frequency) complex or None; sigma: (batch, stem, frame); hidden: (batch,
        stem) bool; prompt: (batch, prompt_width) embedding or None; asked: what is shown, and spoken of.
        """
        features = [torch.zeros((), device=self.band.device)] * len(self.band)
        around = levels = None
        if mixture is not None:
            parts, around = self._mixture_features(mixture)
            features = [read(parts[band]) for read, band in zip(self.read_mixture, self.parents, strict=True)]
            batch, frames = mixture.shape[0], mixture.shape[2]
        if stems is not None and sigma is not None and hidden is not None:
            parts, levels = self._stem_features(stems, asked)
            shown = [read(parts[band]) for read, band in zip(self.read_stems, self.parents, strict=True)]
            features = [a + b for a, b in zip(features, shown, strict=True)]
            batch, frames = stems.shape[0], stems.shape[3]
        if sigma is None or hidden is None:
            sigma = torch.zeros(batch, len(self.names), frames, device=self.band.device)
            hidden = torch.ones(batch, len(self.names), dtype=torch.bool, device=self.band.device)
        state = self.read_state(self._state_features(sigma, hidden, mixture is not None))
        if prompt is not None:
            state = state + self.read_prompt(prompt.shape[-1] ** 0.5 * functional.normalize(prompt, dim=-1))[:, None]
        x = torch.stack([band + state for band in features], dim=1) + self.band
        if self.config.detail and levels is not None:
            spans = [self.spans[band] for band in self.parents[: len(self.read_levels)]]
            x = x + read_levels(self.read_levels, levels * ~hidden[:, :, None, None, None], spans, len(self.band))
        if self.config.apart and levels is not None:
            x = through(x, self.made_blocks, self.made_norm, self.made_trunk)
        else:
            x = through(x, self.blocks, self.norm, self.trunk)
        x = x[:, :, asked.frames]
        past = self._past_tokens(x, around, levels, sigma, asked)
        return self._write(x, past, asked.rows, given=mixture is not None, shown=levels is not None)

    def _past_tokens(
        self, x: Tensor, around: Tensor | None, levels: Tensor | None, sigma: Tensor, asked: Asked
    ) -> tuple[Tensor, Tensor, Tensor]:
        """What local patterns add to masks, ratios and gains, (batch, stem, 1, frame, group) each, or nothing."""
        masks = ratio = gains = x.new_zeros(())
        if self.config.detail and around is not None:
            said = self.mixture_detail(around, x)
            masks, ratio = said[:, :, 0, None], said[:, :, 1, None, :, : self.low]
        if self.config.detail and levels is not None:
            frames, before = asked.around(REACH, sigma.shape[-1])
            planes = stem_planes(levels[..., frames, :], around, sigma[..., frames], asked.rows)
            said = self.stem_detail(planes, x, asked.rows, 1 if around is None else SAID, before)
            masks, gains = masks if around is None else masks + said[:, :, 0, None], said[:, :, -1, None]
        return masks, ratio, gains

    def _write(
        self, x: Tensor, past: tuple[Tensor, Tensor, Tensor], rows: slice | Tensor, *, given: bool, shown: bool
    ) -> Outputs:
        tokens, stems = x.unbind(1), len(self.names)

        def write(heads: nn.ModuleList, lead: tuple[int, ...] = ()) -> Tensor:
            at = (*(ALL for _ in lead), rows)
            out = [
                chosen(head, token, (*lead, stems), at).float().view(*token.shape[:2], *lead, -1, self.channels, size)
                for head, token, size in zip(heads, tokens, self.sizes, strict=False)
            ]
            return torch.cat(out, dim=-1).movedim(1, len(lead) + 3)  # (batch, *lead, stem, channel, frame, group)

        activity = self.write_activity(x.transpose(1, 2).flatten(2)).float().transpose(1, 2)[:, rows]
        gains = write(self.write_gains) + past[2] if shown else None
        across = self.across(x)[:, rows] if self.config.across and shown else None
        real, imag = write(self.write_ratio, (2,)).unbind(1)
        closed = functional.logsigmoid(activity)[:, :, None, :, None]
        masks = write(self.write_masks) + past[0] + closed if given else past[0]
        return Outputs(masks, torch.complex(real + past[1], imag) * closed.exp(), gains, activity, across)

    def combine(
        self,
        out: Outputs,
        mixture: Tensor | None,
        stems: Tensor | None,
        sigma: Tensor,
        hidden: Tensor,
        coefficients: Coefficients | None = None,
    ) -> Tensor:
        """D of the module's docstring, (batch, stem, channel, frame, frequency) complex.

        stems: X, as shown; sigma: (batch, stem, frame or 1); coefficients: of sigma and hidden, where they are at hand.
        """
        c = self.coefficients(sigma, hidden) if coefficients is None else coefficients
        free = ((sigma > 0) | hidden[:, :, None])[:, :, None, :, None]
        e = out.ratio * (mixture[:, None] if mixture is not None else c.c_out)[..., : self.low] * free
        if stems is not None and out.gains is not None:
            gains, across = c.c_skip + c.c_in * c.c_out * self.expand(out.gains), None
            if out.across is not None:  # by the share of noise, where something was found
                across = (1 - c.c_skip) * self.expand(out.across) * gains.mean(dim=2, keepdim=True)
            e = mixed(stems, gains, across, e)
        if mixture is None:
            return e
        rest = mixture.clone()
        rest[..., : e.shape[-1]] -= e.sum(dim=1)
        shares = self.expand(out.masks.masked_fill(~free, -1e4).softmax(dim=1))
        found = scaled(rest[:, None], shares)
        found[..., : e.shape[-1]] += e
        return found

    def frame_sigma(self, sigma: Tensor, time: int) -> Tensor:
        """Largest noise level that each frame sees. (batch, stem, 1 or time) -> (batch, stem, frame)."""
        frames, n, hop = self.stft.frames(time), self.stft.n_fft, self.stft.hop
        if sigma.shape[-1] == 1:
            return sigma.expand(-1, -1, frames)
        padded = functional.pad(sigma, (n - hop, frames * hop - time))
        hops = rearrange(padded, "... (t h) -> ... t h", h=hop).amax(dim=-1)
        return hops.unfold(-1, n // hop, 1).amax(dim=-1)

    def denoise(
        self,
        x: Tensor,
        sigma: Tensor,
        *,
        mixture: Tensor | None = None,
        hidden: Tensor | None = None,
        prompt: Tensor | None = None,
    ) -> Tensor:
        """E[stems | x, what is given]. x: (batch, stem, channel, time) = stems + sigma * noise.

        sigma: broadcastable to (batch, stem, 1 or time), 0 where a stem is known; mixture: (batch, channel, time) or
        None; hidden: (batch, stem) bool, the stems of which x says nothing. Returns the shape of x; with a mixture the
        stems add up to it, without one nothing is said of those that are hidden.
        """
        batch, count, _, time = x.shape
        hidden = torch.zeros(batch, count, dtype=torch.bool, device=x.device) if hidden is None else hidden
        sigma = torch.as_tensor(sigma, device=x.device, dtype=x.dtype)
        level = sigma.expand(batch, count, sigma.shape[-1] if sigma.dim() else 1)
        sigma = self.frame_sigma(level, time)
        shown = x * ~hidden[:, :, None, None]
        asked = Asked.of(sigma, hidden) if mixture is None else WHOLE
        if asked is None:
            return shown
        y = self.stft(mixture) if mixture is not None else None
        rows, seen = asked.shown, self.stft(shown[:, asked.shown])
        c = self.coefficients((level if level.shape[-1] == 1 else sigma)[:, rows], hidden[:, rows])
        out = self(y, scaled(seen, c.c_in), sigma, hidden, prompt, asked)
        c = Coefficients(*(asked.cut(values) for values in c))
        found = self.combine(out, y, asked.cut(seen), asked.cut(sigma[:, rows]), hidden[:, asked.rows], c)
        first = (asked.frames.start or 0) * self.stft.hop
        return pasted(shown, self.stft.inverse(found, self.stft.covered(found.shape[-2], time - first)), asked, first)

    def separate(self, mixture: Tensor, *, steps: int = 1, generator: torch.Generator | None = None) -> Tensor:
        """Stems of a mixture (batch, channel, time), any time >= 1 -> (batch, stem, channel, time), adding up to it.

        One evaluation with all stems hidden; each further step adds a little noise to the estimate and denoises it
        again (from sigma 0.1 down), which repairs detail. The level of the mixture does not matter.
        """
        level = mixture.square().mean(dim=(1, 2), keepdim=True).sqrt()
        gain = 10 ** (self.config.level_db / 20) / level.clamp(min=1e-4)
        y = mixture * gain
        spectrum = self.stft(y)
        stems = self.stft.inverse(self._shares(spectrum), y.shape[-1])
        for step in range(1, steps):
            sigma = torch.full((1, 1, 1), 0.1 * (1 - (step - 1) / (steps - 1)), device=y.device)
            stems = self.denoise(stems + sigma[..., None] * self.noise(stems, generator), sigma, mixture=y)
        return stems / gain[:, None]

    def _gated(self, out: Outputs) -> Outputs:
        """With the gates of the checkpoint in place of those of training, which are 1."""
        more = torch.tensor(self.config.gate, device=out.activity.device).expand(len(self.names)) - 1
        closed = more[:, None] * functional.logsigmoid(out.activity)
        if self.config.silent:
            frames = round(TOGETHER * self.rate / self.stft.hop)
            closed = closed + presence_gain(out.activity, self.config.silent, frames).log()[..., None]
        closed = closed[:, :, None, :, None]
        return out._replace(masks=out.masks + closed, ratio=out.ratio * closed.exp())

    def _shares(self, spectrum: Tensor) -> Tensor:
        out = self._gated(self(spectrum))
        hidden = torch.ones(spectrum.shape[0], len(self.names), dtype=torch.bool, device=spectrum.device)
        sigma = torch.zeros(*hidden.shape, 1, device=spectrum.device)
        stems = self.combine(out, spectrum, None, sigma, hidden)
        if self.config.spread is None or self.channels == 1:
            return stems
        low = slice(self.low)  # above, the first estimate of most stems is what drums leave in it
        stems[..., low] = wiener(stems[..., low], spectrum[..., low], self.config.spread)
        return stems
