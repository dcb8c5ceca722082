"""What other songs play beside stems like these: the missing stems of a song, borrowed where its kept ones are alike.

Generation that begins with what was found in a collection is that of Blattmann et al. 2022, "Semi-Parametric Neural
Image Synthesis" (https://arxiv.org/abs/2204.11824); here what is found is laid under the song, noise is put on it, and
the network takes the noise away again, told which stems are kept (Meng et al. 2022, SDEdit,
https://arxiv.org/abs/2108.01073).

A song of the collection is played faster or slower, as a tape is, by whole semitones: pitch and tempo move together
and nothing else changes. All stems are taken from one place of one song, so that they go together.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from stemforge.tasks.exemplar import logarithms, powers
from stemforge.tasks.levels import bounded

HOP_S, OVERLAPS = 0.0464, 8
"""Seconds between two prints of a song, and how many hops a spectrum lasts."""
SEMITONES = (0, -1, 1, -2, 2, -3, 3)
"""By how much a song may be played higher."""
PART_S = 12.0
"""A long song is accompanied in parts of this length, each from its own place of the other song."""
SOUNDING = 1e-3
"""A stem sounds where it has more of its loudest power than that."""
ONSET_S = 0.0058
"""Seconds between two spectra in which onsets are sought."""


@dataclass(frozen=True)
class Match:
    """Where a song is like the kept stems: how much, 1 at most, played how many semitones higher, from which prints.

    places: one for each part of the song that is accompanied; they count the prints of the other song as it is played.
    balance: amplitude of the missing stems of the whole song in that of the kept ones, as balance_of tells it.
    """

    alike: float
    semitones: int
    places: tuple[int, ...]
    balance: float = 1.0

    @property
    def speed(self) -> float:
        """How much faster the song is played."""
        return speed_of(self.semitones)


def speed_of(semitones: int) -> float:
    """Playing that much faster raises the pitch by so many semitones."""
    return float(2 ** (semitones / 12))


def prints(sound: Tensor, rate: int) -> Tensor:
    """Power of each semitone of (channel, time), (frame, semitone); what is left after the last whole hop has none."""
    hop = hop_of(rate)
    return powers(sound.mean(dim=0, keepdim=True), rate, hop, OVERLAPS)[: sound.shape[-1] // hop]


def hop_of(rate: int) -> int:
    """Samples from one print to the next."""
    return max(1, round(HOP_S * rate))


def matched(kept: Tensor, song: Mapping[str, Tensor], keep: Sequence[str], fill: Sequence[str]) -> Match | None:
    """Where a song plays something like the kept stems, and all that is missing beside it.

    Args:
        kept: prints of the sum of the kept stems, (frame, semitone).
        song: prints of each stem of the other song, as long as each other.
        keep, fill: names of the stems that are kept, and of those that are missing.

    Returns None where the song has none of the stems that are kept or of those that are missing, or is too short.

    Each part of the kept stems is looked for at every place and pitch: the mean cosine of logarithms of power, without
    what all frames have in common, times the share of the missing stems that sound there.
    """
    beside, missing = ([song[name] for name in names if name in song] for names in (keep, fill))
    if not beside or not missing or not len(kept):
        return None
    energy = torch.stack([stem.sum(dim=1) for stem in missing])
    sounds = energy > SOUNDING * energy.amax(dim=1, keepdim=True)
    heard, share = torch.stack(beside).sum(dim=0), sounds.float().sum(dim=0) / len(fill)
    parts = parts_of(kept)
    found = (_placed(parts, *played(heard, share, semitones), semitones) for semitones in SEMITONES)
    best = max((match for match in found if match is not None), key=lambda match: match.alike, default=None)
    return None if best is None else replace(best, balance=balance_of(heard, energy))


def parts_of(kept: Tensor) -> tuple[Tensor, ...]:
    """Prints (frame, semitone) in equal parts of about PART_S."""
    return torch.tensor_split(kept, max(1, round(len(kept) * HOP_S / PART_S)))


def played(heard: Tensor, share: Tensor, semitones: int) -> tuple[Tensor, Tensor]:
    """Prints (frame, semitone) and what goes with their frames (frame,), of the song played higher and so faster."""
    last, width = len(heard) - 1, heard.shape[1]
    at = torch.arange(int(last / speed_of(semitones)) + 1) * speed_of(semitones)
    before = at.long().clamp(max=max(0, last - 1))
    after, part = (before + 1).clamp(max=last), (at - before)[:, None]
    moved = functional.pad(heard[before] * (1 - part) + heard[after] * part, (max(0, semitones), max(0, -semitones)))
    return moved[:, :width] if semitones >= 0 else moved[:, -width:], share[before]


def _placed(parts: Sequence[Tensor], heard: Tensor, share: Tensor, semitones: int) -> Match | None:
    """The best place of each part."""
    if len(heard) < max(len(part) for part in parts) or not bool(share.any()):
        return None
    song, total, places = _shape(heard), 0.0, []
    for part in parts:
        size = len(part)
        cosine = _correlation(song, _shape(part)) / size
        sounding = share.unfold(0, size, 1).mean(dim=1)
        best, place = (cosine * sounding).max(dim=0)
        total += float(best) * size
        places.append(int(place))
    return Match(total / sum(len(part) for part in parts), semitones, tuple(places))


def _shape(power: Tensor) -> Tensor:
    """Each frame of length 1, after the logarithm and without what all frames have in common."""
    logs = logarithms(power)
    return functional.normalize(logs - logs.mean(dim=0), dim=1, eps=1e-3)


def _correlation(song: Tensor, part: Tensor) -> Tensor:
    """Inner product of a part (frame, column) with the song at each place where all of it fits, (place,)."""
    size = 1 << (len(song) + len(part)).bit_length()
    product = torch.fft.rfft(song, size, dim=0) * torch.fft.rfft(part, size, dim=0).conj()
    found: Tensor = torch.fft.irfft(product.sum(dim=1), size)[: len(song) - len(part) + 1]
    return found


def aligned(kept: Tensor, other: Tensor, rate: int) -> int:
    """The sample from which the onsets of another, longer sound fall on those of what is kept; both (channel, time)."""
    hop = max(1, round(ONSET_S * rate))
    wanted, found = (_onsets(sound, hop) for sound in (kept, other))
    if len(found) <= len(wanted):
        return 0
    return int(_correlation(found[:, None], wanted[:, None]).argmax()) * hop


def _onsets(sound: Tensor, hop: int) -> Tensor:
    """How much louder each spectrum is than the one before, (frame,), around its mean."""
    window = torch.hann_window(4 * hop, device=sound.device)
    spectra = torch.stft(sound.mean(dim=0), 4 * hop, hop, window=window, center=False, return_complex=True)
    rises = (spectra.abs() + 1e-4).log().diff(dim=1).clamp(min=0).sum(dim=0)
    return rises - rises.mean()


def level_for(kept: Tensor, other: Tensor) -> float:
    """What brings the kept stems of the other song to the level of those of this one, bounded; both (..., time)."""
    return bounded(_level(kept) / max(_level(other), 1e-6))


def balance_of(kept: Tensor, missing: Tensor) -> float:
    """Amplitude of the missing stems in that of the kept ones, from their prints."""
    return math.sqrt(float(missing.sum()) / max(float(kept.sum()), 1e-12))


def balanced(there: float, usual: float) -> float:
    """What brings stems half of the way from their balance at a place to the usual one, in decibels; 6 dB at most.

    A place is chosen where the missing stems sound, so that they are louder there than they usually are.
    """
    return bounded(math.sqrt(usual / max(there, 1e-6)), 2.0)


def _level(sound: Tensor) -> float:
    return float(sound.square().mean().sqrt())
