"""What a gap may hold: found where the song repeats, never in the gap itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from stemforge.inference.settings import Sampling
from stemforge.tasks.edit import Way
from stemforge.tasks.edit_files import Files
from stemforge.tasks.edit_song import MEMORY_S, Job, Part, Scene, changes, windows_in
from stemforge.tasks.exemplar import blended, distances, likeness, recalled, semitones, sounding, sources
from stemforge.tasks.regions import Region
from stemforge.types import Stems
from test_edit import Smooth

RATE = 8000
NAMES = ("bass", "drums")


def loops(seconds: float, bar: float, rate: int = RATE, names: int = 2) -> Tensor:
    """Stems (stem, channel, time) that repeat a bar of eight notes of noise, each at a place of its own."""
    dice = torch.Generator().manual_seed(3)
    notes = torch.randn(names, 2, 8, round(bar * rate) // 8, generator=dice)
    for note in range(8):
        spectrum = torch.fft.rfft(notes[:, :, note])
        places = torch.linspace(0, 1, spectrum.shape[-1])
        notes[:, :, note] = torch.fft.irfft(
            spectrum * torch.exp(-(((places - 0.1 * (note * 3 % 8)) / 0.05) ** 2)), n=notes.shape[-1]
        )
    once = 0.3 * notes.flatten(2)
    return once.repeat(1, 1, 1 + round(seconds * rate) // once.shape[-1])[..., : round(seconds * rate)]


def gap(seconds: float, start: float, stop: float, rate: int = RATE) -> Tensor:
    """Which samples are free."""
    free = torch.zeros(round(seconds * rate), dtype=torch.bool)
    free[round(start * rate) : round(stop * rate)] = True
    return free


@pytest.mark.parametrize(("start", "stop"), [(5.0, 8.0), (9.3, 14.0), (0.0, 1.2)])
def test_a_song_that_repeats_says_what_is_missing(start: float, stop: float) -> None:
    """In the middle, at the end and at the beginning: what comes back is what was there, whatever is there now."""
    song, free = loops(14.0, 2.0), gap(14.0, start, stop)
    broken = torch.where(free, torch.full_like(song, 9.0), song)
    found = recalled(Stems(NAMES, broken, RATE), free, NAMES)
    assert found is not None
    assert (found.samples - song).abs().max() < 1e-6
    assert next(distances(torch.where(free, 0.0, song.sum(0)), ~free, RATE)) % 16000 == 0


def test_a_bar_comes_before_a_beat() -> None:
    """Of a song that repeats each half second at least a bar is taken; where there is no bar, the half second."""
    song = loops(8.0, 0.5)
    assert next(distances(song.sum(0), torch.ones(64000, dtype=torch.bool), RATE)) >= 0.9 * RATE
    free = gap(1.4, 0.7, 0.75)
    assert next(distances(torch.where(free, 0.0, song.sum(0)[:, :11200]), ~free, RATE)) == 4000


def test_only_named_stems_are_filled() -> None:
    """The others stay as they are, in the gap too."""
    song, free = loops(10.0, 2.0), gap(10.0, 4.0, 6.0)
    broken = torch.where(free, torch.full_like(song, 9.0), song)
    found = recalled(Stems(NAMES, broken, RATE), free, ("drums",))
    assert found is not None and torch.equal(found.samples[0], broken[0])
    assert (found.samples[1] - song[1]).abs().max() < 1e-6


def test_a_song_that_has_faded_out_goes_on_as_it_was_before() -> None:
    """What follows the end has the level of the song, in step with it, not that of its last second."""
    song, free = loops(20.0, 2.0), gap(20.0, 12.0, 20.0)
    fade = (1 - (torch.arange(20 * RATE) / RATE - 9.0) / 2.0).clamp(0, 1)
    found = recalled(Stems(NAMES, song * fade, RATE), free, NAMES)
    assert found is not None
    assert torch.equal(found.samples[..., :96000], (song * fade)[..., :96000])
    assert (found.samples[..., free] - song[..., free]).square().mean() < 0.2 * song.square().mean()
    short = gap(3.0, 0.2, 3.0)
    assert torch.equal(sounding(torch.rand(2, 24000), short, RATE), ~short)
    inside = gap(20.0, 11.0, 12.0)
    assert torch.equal(sounding((song * fade).sum(0), inside, RATE), ~inside)


@pytest.mark.parametrize("seconds", [0.05, 6.0])
def test_nothing_alike_is_none(seconds: float) -> None:
    """Silence, noise, and a song that is too short to be compared."""
    noise = torch.randn(2, 2, round(seconds * RATE), generator=torch.Generator().manual_seed(1))
    for song in (0 * noise, noise):
        assert recalled(Stems(NAMES, song, RATE), gap(seconds, 0.01, 0.04), NAMES) is None


def test_likeness_is_the_mean_cosine_at_each_distance() -> None:
    """Against two loops."""
    dice = torch.Generator().manual_seed(0)
    spectra, shown = torch.rand(12, 5, generator=dice), torch.rand(12, generator=dice) < 0.7
    cosine, count = likeness(spectra, shown)
    apart = spectra - spectra[shown].mean(0)
    for distance in range(12):
        pairs = [(i, i + distance) for i in range(12 - distance) if shown[i] and shown[i + distance]]
        assert count[distance] == len(pairs)
        if pairs:
            found = [torch.cosine_similarity(apart[i], apart[j], dim=0) for i, j in pairs]
            assert float(cosine[distance]) == pytest.approx(float(torch.stack(found).mean()), abs=1e-6)


def test_semitones_tell_notes_apart() -> None:
    """The loudest semitone of a tone is its own; frames in a gap are not known."""
    time = torch.arange(2 * 44100) / 44100
    tone = torch.sin(2 * torch.pi * 440 * time).repeat(2, 1)
    spectra, shown = semitones(tone, ~gap(2.0, 0.5, 1.0, 44100), 44100, 512)
    assert int(spectra[20:-20].mean(0).argmax()) in (36, 37)  # 440 Hz is three octaves above 55 Hz
    assert not shown[round(0.75 * 44100 / 512)] and shown[20] and shown[-20]


@given(st.lists(st.booleans(), min_size=1, max_size=60), st.integers(1, 20))
def test_sources_are_known_and_in_step(pattern: list[bool], distance: int) -> None:
    """Known samples are their own source; free ones have the nearest known one at a multiple of the distance."""
    free = torch.tensor(pattern)
    found = sources(free, ~free, distance)
    reachable = [any(not pattern[k] for k in range(i % distance, len(pattern), distance)) for i in range(len(pattern))]
    if found is None:
        assert not all(reachable)
        return
    assert all(reachable)
    for place, source in enumerate(found.tolist()):
        steps = abs(source - place) // distance
        assert (source - place) % distance == 0 and not pattern[source]
        assert steps == 0 or all(
            pattern[k]
            for k in (place - (steps - 1) * distance, place + (steps - 1) * distance)
            if 0 <= k < len(pattern)
        )


def test_where_two_sources_meet_one_passes_into_the_other() -> None:
    """A gap filled from before and from behind: no step where they meet, and nothing out of the gap."""
    free = gap(0.1, 0.04, 0.06)
    samples = torch.where(free, torch.full((2, 800), 7.0), torch.linspace(-1, 1, 800).expand(2, -1))
    source = sources(free, ~free, 100)
    assert source is not None
    filled = blended(samples, source, free, 40)
    steepest = 0.5 * torch.pi / 2 / 40 + 2 / 799  # a raised cosine from one line to the other, half a unit apart
    assert filled[:, 320:480].diff(dim=-1).abs().max() <= 1.01 * steepest and filled.max() <= 1


def test_an_edit_begins_with_what_is_recalled() -> None:
    """With hardly any noise a gap comes out as the song had it; only what is near is heard by the network."""
    rate, seconds = 1000, 40.0
    song = torch.nn.functional.pad(loops(seconds, 2.0, rate, 3), (0, 0))
    piece = Files(("bass", "drums", "other"), (), rate, 2, song.shape[-1])
    job = Job(piece, (Region(18_000, 21_000),), 0, piece.frames, piece.names, memory=MEMORY_S)
    assert job.parts == [Part(Region(6_000, 33_000), (Region(18_000, 21_000),))]
    broken = song.clone()
    broken[..., 18_000:21_000] = 0
    network, scene = Smooth(reach=0.01), Scene(job.parts[0], Stems(piece.names, broken[..., 6_000:33_000], rate))
    way = Way(Sampling("ddim", "cosine", steps=4, sigma_min=1e-4, sigma_max=2.0), strength=1e-3)
    (patch,), _ = changes(network, job, scene, way)
    assert (patch.change - song[..., 18_000:21_000]).abs().mean() < 0.01 < song.abs().mean()
    assert windows_in(network, job) == 1 and network.seen[0].shape[-1] == 9_000
    (plain,), _ = changes(network, replace(job, memory=0.0, context=12.0), scene, way)
    assert plain.change.abs().mean() < 0.01


def test_without_anything_alike_an_edit_begins_with_noise(tmp_path: Path) -> None:
    """The schedule is that of strength 1."""
    piece = Files(("bass", "drums", "other"), (), 1000, 2, 20_000)
    job = Job(piece, (Region(8_000, 9_000),), 0, piece.frames, piece.names, memory=MEMORY_S)
    network, scene = Smooth(), Scene(job.parts[0], Stems(piece.names, torch.zeros(3, 2, 20_000), 1000))
    way = Way(Sampling("ddim", "cosine", steps=4, sigma_min=0.05, sigma_max=2.0), strength=0.3)
    changes(network, job, scene, way)
    assert float(network.seen[0].max()) == pytest.approx(2.0)
