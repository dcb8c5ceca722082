"""How well stems were separated: improvements in SI-SDR, window by window.

For a window with reference r, estimate e and mixture m (mono, real):

    SI-SDR(e, r) = 10 log10( c^2 / (1 - c^2) ),   c^2 = <e, r>^2 / (<e, e> <r, r>)
    gain         = SI-SDR(e, r) - SI-SDR(m, r)

which is the definition of Le Roux et al., "SDR - half-baked or well done?" (2019), https://arxiv.org/abs/1811.02508,
equation 3, written through the squared correlation. Windows last 4 s and start every 2 s.

    active   mono; windows in which the reference stem and at least one other stem are active
    stereo   the same for each channel by itself: a stem folded to mono loses here
    treble   the same above 8 kHz: a stem of low bandwidth loses here
    msdm     after the evaluation of Mariani et al., "Multi-Source Diffusion Models" (2023),
             https://arxiv.org/abs/2302.02257: 22.05 kHz mono, silent references count too, so it rewards silence
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain

import numpy as np
import soxr
from numpy.typing import NDArray

Signal = NDArray[np.float64]
Gains = dict[str, list[float]]

FIGURES = ("active", "stereo", "treble", "msdm")
FLOOR_DB = -30.0  # what an estimate scores that holds nothing of the reference
ACTIVE_RMS = 10 ** (-45 / 20)  # full scale is 1
WINDOW_SECONDS, HOP_SECONDS = 4, 2
TREBLE_HZ = 8000.0
TREBLE_BOOST = 10.0  # little of a stem lives above 8 kHz: 20 dB more sensitive to what is active there
MSDM_RATE = 22050
MSDM_ACTIVE = 1.5e-5  # norm over number of samples


def gains(refs: Mapping[str, Signal], ests: Mapping[str, Signal], rate: int) -> dict[str, Gains]:
    """All figures of one song: figure -> stem -> gain in dB of each window that counts.

    refs, ests: stem -> (time, channel), equal in shape, full scale 1; rate in Hz. `stereo` is empty for mono stems.
    """
    mono_refs, mono_ests = _mono(refs), _mono(ests)
    channels = range(next(iter(refs.values())).shape[1])
    apart = (active_gains(_channel(refs, c), _channel(ests, c), rate) for c in channels) if len(channels) > 1 else ()
    boosted = {stem: _above(x, rate) * TREBLE_BOOST for stem, x in mono_refs.items()}
    return {
        "active": active_gains(mono_refs, mono_ests, rate),
        "stereo": _merged(apart),
        "treble": active_gains(boosted, {stem: _above(x, rate) for stem, x in mono_ests.items()}, rate),
        "msdm": msdm_gains(mono_refs, mono_ests, rate),
    }


def sum_gap_db(refs: Mapping[str, Signal], ests: Mapping[str, Signal]) -> float:
    """Energy of mixture minus sum of estimates over energy of the mixture, in dB."""
    mixture = sum(refs.values(), np.zeros(()))
    gap = mixture - sum(ests.values(), np.zeros(()))
    return float(10 * np.log10(((gap**2).sum() + 1e-20) / ((mixture**2).sum() + 1e-20)))


def si_sdr(est: Signal, ref: Signal) -> float:
    """Scale-invariant SDR in dB of (time,) signals; FLOOR_DB where there is nothing to compare."""
    ee, rr, er = float(est @ est), float(ref @ ref), float(est @ ref)
    if ee < 1e-6 * rr or rr == 0:
        return FLOOR_DB
    c2 = min(er * er / (ee * rr), 1 - 1e-12)
    return max(FLOOR_DB, float(10 * np.log10(c2 / (1 - c2) + 1e-30)))


def active_gains(refs: Mapping[str, Signal], ests: Mapping[str, Signal], rate: int) -> Gains:
    """SI-SDR improvement of (time,) stems over the windows in which the stem and another one are active."""
    mixture, found = sum(refs.values(), np.zeros(())), Gains()
    for cut in _windows(len(mixture), rate):
        active = [stem for stem, x in refs.items() if np.sqrt(np.mean(x[cut] ** 2)) > ACTIVE_RMS]
        for stem in active if len(active) > 1 else ():
            gain = si_sdr(ests[stem][cut], refs[stem][cut]) - si_sdr(mixture[cut], refs[stem][cut])
            found.setdefault(stem, []).append(gain)
    return found


def msdm_gains(refs: Mapping[str, Signal], ests: Mapping[str, Signal], rate: int) -> Gains:
    """SI-SDR improvement of (time,) stems as the evaluation of MSDM computes it, silent references included."""
    refs, ests = ({stem: soxr.resample(x, rate, MSDM_RATE) for stem, x in d.items()} for d in (refs, ests))
    mixture, found = sum(refs.values(), np.zeros(())), Gains()
    for cut in _windows(len(mixture), MSDM_RATE):
        if sum(np.linalg.norm(x[cut]) / len(x[cut]) >= MSDM_ACTIVE for x in refs.values()) > 1:
            for stem, ref in refs.items():
                gain = _msdm_si_sdr(ests[stem][cut], ref[cut]) - _msdm_si_sdr(mixture[cut], ref[cut])
                found.setdefault(stem, []).append(gain)
    return found


def _msdm_si_sdr(est: Signal, ref: Signal, eps: float = 1e-8) -> float:
    scaled = (est @ ref + eps) / (ref @ ref + eps) * ref
    error = scaled - est
    return float(10 * np.log10((scaled @ scaled + eps) / (error @ error + eps)))


def _windows(length: int, rate: int) -> Iterator[slice]:
    window, hop = WINDOW_SECONDS * rate, HOP_SECONDS * rate
    return (slice(start, start + window) for start in range(0, max(1, length - hop), hop))


def _above(x: Signal, rate: int) -> Signal:
    spectrum = np.fft.rfft(x)
    spectrum[: int(TREBLE_HZ * len(x) / rate)] = 0
    return np.fft.irfft(spectrum, n=len(x))


def _mono(stems: Mapping[str, Signal]) -> dict[str, Signal]:
    return {stem: x.mean(axis=1) for stem, x in stems.items()}


def _channel(stems: Mapping[str, Signal], channel: int) -> dict[str, Signal]:
    return {stem: x[:, channel] for stem, x in stems.items()}


def _merged(parts: Iterator[Gains] | tuple[()]) -> Gains:
    merged = Gains()
    for stem, values in chain.from_iterable(part.items() for part in parts):
        merged.setdefault(stem, []).extend(values)
    return merged
