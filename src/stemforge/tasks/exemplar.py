"""What a gap in a song may hold: what sounds at like places of it.

Music repeats. A song with a gap is laid over itself at every distance, and at the one where both are most alike what
is missing is taken from as far before or behind it. The idea of Perraudin et al. 2018, "Inpainting of Long Audio
Segments with Similarity Graphs" (https://arxiv.org/abs/1607.06667), with one distance for the whole gap, so that the
beat goes on in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from stemforge.audio.windows import ramp
from stemforge.inference.noise import state_type
from stemforge.types import Stems

HOP_S, OVERLAPS = 0.0116, 8
"""Seconds between two spectra, and how many hops a spectrum lasts: 512 and 4096 samples at 44.1 kHz."""
LOWEST_HZ, OCTAVES = 55.0, 7
"""Semitones that are compared."""
FLOOR = 1e-7
"""Of the loudest power; what is quieter is silence."""
MOSTLY = 0.74
"""A spectrum counts as known when so much of its window is."""
SHORTEST_S, BAR_S = 0.3, 0.9
"""A bar rather than a beat: what comes back sooner sounds like a stutter, and is taken only where no bar will do."""
EVIDENCE_S = 0.5
"""So much of the song must be compared at a distance; the likeness of little more is half believed."""
LONGER = 0.05
"""How much more an octave of distance counts: of two that are equally alike the longer one brings more of the song."""
FADE_S, FADED = 1.0, 0.25
"""A song has faded out if its last second has less than this share of its mean power, 6 dB; its sources end where a
second with half of that power was still to come."""
TRIED = 100
"""Distances that are tried until one reaches every sample of the gap."""
LEAST = 0.06
"""The least likeness that is one: noise has less."""
BLEND_S = 0.04
"""Seconds in which one source passes into the next."""


def recalled(stems: Stems, free: Tensor, names: Sequence[str]) -> Stems | None:
    """The stems with something of the song in the free samples of the named ones; None where nothing is alike.

    Args:
        stems: (stem, channel, time). What is in the free samples of any of them is not looked at.
        free: bool (time,).
        names: of the stems that are filled; the others stay as they are.
    """
    mixture = torch.where(free, 0.0, stems.samples.sum(dim=0))
    known = sounding(mixture, free, stems.rate)
    found = (sources(free, known, distance) for distance in distances(mixture, known, stems.rate))
    source = next((places for places in found if places is not None), None)
    if source is None:
        return None
    filled = blended(torch.where(free, 0.0, stems.samples), source, free, round(BLEND_S * stems.rate))
    edited = torch.tensor([name in names for name in stems.names])[:, None, None]
    return Stems(stems.names, torch.where(edited & free, filled, stems.samples), stems.rate)


def sounding(mixture: Tensor, free: Tensor, rate: int) -> Tensor:
    """What is known, bool (time,); of a song that goes on after its end without the seconds in which it fades out."""
    known, size = ~free, max(1, round(FADE_S * rate))
    if not free[-1] or int(known.sum()) <= 2 * size:
        return known
    power = mixture.square().mean(dim=0)
    energy = functional.pad(power.to(state_type(power.device)).cumsum(dim=0), (1, 0))
    ahead = (functional.pad(energy, (0, size), value=float(energy[-1]))[size:-1] - energy[:-1]) / size
    end, usual = int(known.nonzero()[-1]) + 1, power[known].mean()
    if ahead[max(0, end - size)] < FADED * usual:
        known[int((known & (ahead >= usual / 2)).nonzero()[-1]) + 1 :] = False
    return known


def distances(mixture: Tensor, known: Tensor, rate: int) -> Iterator[int]:
    """Distances in samples at which a mixture (channel, time) is like itself where it is known, the best one first."""
    hop = max(1, round(HOP_S * rate))
    if mixture.shape[-1] <= OVERLAPS * hop:
        return
    cosine, count = likeness(*semitones(mixture, known, rate, hop))
    seconds, compared = torch.arange(len(cosine), device=cosine.device) * hop / rate, count * hop / rate
    score = cosine * compared / (compared + EVIDENCE_S) * (1 + LONGER * seconds.clamp(min=SHORTEST_S).log2())
    usable = (seconds >= SHORTEST_S) & (compared >= EVIDENCE_S) & (score > LEAST)
    order = torch.where(usable, score + 2.0 * (seconds >= BAR_S), -1.0).sort(descending=True, stable=True)
    waves = _autocorrelation(mixture.mean(dim=0)[:, None])[:, 0]
    for best in order.indices[order.values > 0][:TRIED].tolist():
        first = max(1, (best - 1) * hop)  # where the waves themselves agree most, within one hop
        yield first + int(waves[first : (best + 1) * hop + 1].argmax())


def semitones(mixture: Tensor, known: Tensor, rate: int, hop: int) -> tuple[Tensor, Tensor]:
    """Log power of each semitone, (frame, semitone), and which frames are known for the most part, bool (frame,)."""
    bands, size = powers(mixture, rate, hop), OVERLAPS * hop
    shown = functional.pad(known.float(), (size // 2, size // 2)).unfold(0, size, hop).mean(dim=1) > MOSTLY
    return logarithms(bands), shown[: len(bands)]


def logarithms(power: Tensor) -> Tensor:
    """Of powers, of which those below FLOOR of the loudest are silence."""
    return (power + FLOOR * power.max().clamp(min=1e-12)).log()


def powers(mixture: Tensor, rate: int, hop: int, overlaps: int = OVERLAPS) -> Tensor:
    """Power of each semitone of (channel, time), (frame, semitone): first what is below them all, last what is above.

    A spectrum lasts `overlaps` hops and has its middle at the first sample of its hop.
    """
    size = overlaps * hop
    window = torch.hann_window(size, device=mixture.device)
    spectra = torch.stft(mixture.float(), size, hop, window=window, pad_mode="constant", return_complex=True)
    power = spectra.abs().square().mean(dim=0)
    hertz = torch.linspace(0, rate / 2, len(power), device=power.device)
    edges = LOWEST_HZ * 2 ** (torch.arange(12 * OCTAVES + 1, device=power.device) / 12)
    member = functional.one_hot(torch.bucketize(hertz, edges), len(edges) + 1).to(power)
    return ((member / member.sum(dim=0).clamp(min=1)).T @ power).T


def likeness(spectra: Tensor, shown: Tensor) -> tuple[Tensor, Tensor]:
    """Of spectra (frame, band) to themselves: mean cosine at each distance, and of how many, both (distance,).

    Distances are counted in frames; what all frames have in common is left out.
    """
    seen = shown.to(spectra)[:, None]
    apart = (spectra - (spectra * seen).sum(dim=0) / seen.sum().clamp(min=1)) * seen
    alike = _autocorrelation(functional.normalize(apart, dim=1, eps=1e-3)).sum(dim=1)
    count = _autocorrelation(seen)[:, 0].round()
    return alike / count.clamp(min=1), count


def _autocorrelation(x: Tensor) -> Tensor:
    """Of each column of (time, column), at distances from 0 to time - 1."""
    spectrum = torch.fft.rfft(x.double(), 2 * len(x), dim=0)
    found: Tensor = torch.fft.irfft(spectrum.abs().square(), 2 * len(x), dim=0)[: len(x)]
    return found


def sources(free: Tensor, known: Tensor, distance: int) -> Tensor | None:
    """Where each sample comes from, (time,): a free one from the nearest known one at a multiple of the distance.

    The others from themselves. None where a free sample has no such place.
    """
    place = torch.arange(len(free), device=free.device)
    found, missing = place.clone(), free.clone()
    for multiple in range(1, len(free) // distance + 1):
        for shift in (-multiple * distance, multiple * distance):
            there = place + shift
            inside = (there >= 0) & (there < len(free))
            takes = missing & inside & known[there.clamp(0, len(free) - 1)]
            found = torch.where(takes, there, found)
            missing &= ~takes
    return None if bool(missing.any()) else found


def blended(samples: Tensor, source: Tensor, free: Tensor, fade: int) -> Tensor:
    """Samples (..., time) from their sources; where two meet in a gap, one passes into the other in `fade` samples.

    That is where both are known, so nothing is ever taken from a free sample.
    """
    out = samples[..., source]
    shift = source - torch.arange(len(free), device=source.device)
    inner = free[1:] & free[:-1] & (shift[1:] != shift[:-1])
    for meeting in (inner.nonzero().flatten() + 1).tolist():
        before, after = int(shift[meeting - 1]), int(shift[meeting])
        back = _run(free, meeting - 1 + after, -1, fade)
        ahead = _run(free, meeting + before, 1, fade)
        ahead = min(ahead, max(fade // 2, fade - back))
        first, last = meeting - min(back, fade - ahead), meeting + ahead
        old, new = (samples[..., first + moved : last + moved] for moved in (before, after))
        out[..., first:last] = old + ramp(last - first).to(out) * (new - old)
    return out


def _run(free: Tensor, place: int, step: int, most: int) -> int:
    """How many samples are known from a place on, forwards or backwards, up to `most`."""
    first, last = sorted((place, place + step * (most - 1)))
    known = ~free[max(first, 0) : max(last + 1, 0)]
    if place < 0 or place >= len(free):
        return 0
    return int((known if step > 0 else known.flip(0)).long().cumprod(0).sum())
