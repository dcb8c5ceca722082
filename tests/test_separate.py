"""Separation: exact length, rate, channels and sum for any input, whatever the network is."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from shares import Shares
from stemforge.audio.io import probe, read
from stemforge.audio.writer import encoding
from stemforge.errors import OutputError, StemforgeError, UsageError
from stemforge.separators.network import NetworkSeparator
from stemforge.tasks import files
from stemforge.tasks.separate import Levels, Selection, all_names, separate, separate_blocks
from stemforge.types import Audio


def network(**config) -> Shares:
    return Shares(config).requires_grad_(False)


def noise(channels: int, frames: int, seed: int = 0) -> torch.Tensor:
    return 0.2 * torch.randn(channels, frames, generator=torch.Generator().manual_seed(seed))


def db(error: torch.Tensor, signal: torch.Tensor) -> float:
    return 20 * math.log10(max(float(error.double().norm() / signal.double().norm()), 1e-15))


@settings(max_examples=25, deadline=None)
@given(
    rate=st.sampled_from([8000, 22050, 44100, 48000, 96000, 192000]),
    channels=st.integers(1, 2),
    frames=st.integers(1, 60000),
    overlap=st.sampled_from([0.0, 0.25, 0.7]),
    other=st.booleans(),
)
def test_stems_are_the_mixture(rate: int, channels: int, frames: int, overlap: float, other: bool) -> None:
    """Any rate, channels and length: stems have that shape and sum to the mixture."""
    separator = NetworkSeparator(network(names=("bass", "drums", "other" if other else "piano")), overlap=overlap)
    mixture = noise(channels, frames)
    stems = separate(Audio(mixture, rate), separator)
    assert stems.names == ("bass", "drums", *(("other",) if other else ("piano", "residual")))
    assert stems.samples.shape == (len(stems.names), channels, frames)
    assert db(stems.samples.sum(dim=0) - mixture, mixture) < -120


def test_leftover_of_the_network_alone() -> None:
    """At its own rate and channels nothing is left over but rounding; at another rate the band above is."""
    separator, levels = NetworkSeparator(network()), Levels()
    list(separate_blocks([noise(2, 100000)], 44100, 2, separator, levels))
    assert levels.leftover_db < -120
    high = Levels()
    list(separate_blocks([noise(2, 100000)], 96000, 2, separator, high))
    assert -10 < high.leftover_db < 0
    assert Levels().leftover_db == -math.inf


def test_bands_stay_aligned_at_other_rates() -> None:
    """A tone in the band of a stem comes out of it with its phase, also at another rate and in mono."""
    separator = NetworkSeparator(network())
    t = torch.arange(2 * 48000, dtype=torch.float64) / 48000
    tone = (0.5 * torch.sin(2 * math.pi * 400 * t)).float()[None]
    bass = separate(Audio(tone, 48000), separator)["bass"].samples
    inside = slice(2000, -2000)
    assert db((bass - tone)[:, inside], tone[:, inside]) < -60


def test_blocks_of_the_input_do_not_matter() -> None:
    """The same song in other blocks gives the same samples, noise of several steps included."""
    x = noise(2, 90000)
    one, two = (
        torch.cat(list(NetworkSeparator(network(), steps=3, seed=5).stream(blocks)), dim=-1)
        for blocks in ([x], x.split(1234, dim=-1))
    )
    assert torch.equal(one, two)


def test_seed_matters_only_with_steps() -> None:
    """Another seed is another result with several steps, the same with one."""
    x = noise(2, 40000)
    results = {
        (steps, seed): torch.cat(list(NetworkSeparator(network(), steps=steps, seed=seed).stream([x])), dim=-1)
        for steps in (1, 2)
        for seed in (0, 1)
    }
    assert torch.equal(results[1, 0], results[1, 1])
    assert not torch.equal(results[2, 0], results[2, 1])


def test_silence_gives_silence() -> None:
    """Digital silence in, digital silence out."""
    stems = separate(Audio(torch.zeros(2, 50000), 48000), NetworkSeparator(network()))
    assert not stems.samples.any()


def test_input_is_not_changed() -> None:
    """The samples given stay as they are."""
    x = noise(1, 30000)
    before = x.clone()
    separate(Audio(x, 22050), NetworkSeparator(network()))
    assert torch.equal(x, before)


def test_network_that_fails() -> None:
    """Samples that are not finite are an error that says where; with bf16 the window is tried again in fp32."""
    with pytest.raises(StemforgeError, match=r"not finite in the window at 0\.4 s"):
        separate(Audio(noise(2, 60000), 44100), NetworkSeparator(network(fault="nan"), precision="fp32"))
    stems = separate(Audio(noise(2, 60000), 44100), NetworkSeparator(network(fault="nan"), precision="bf16"))
    assert stems.samples.isfinite().all()


@pytest.mark.parametrize(
    "options",
    [{"steps": 0}, {"overlap": 1.0}, {"overlap": -0.1}, {"segment": 0}, {"segment": math.nan}, {"precision": "fp8"}],
)
def test_impossible_options(options) -> None:
    """Options outside of their range are usage errors."""
    with pytest.raises(UsageError):
        NetworkSeparator(network(), **options)


def test_selection() -> None:
    """Stems by name come in the order of the checkpoint; two stems are one and the sum of all others."""
    names = ("bass", "drums", "other")
    stems = noise(6, 100).reshape(3, 2, 100)
    mixture = stems.sum(dim=0)
    some = Selection(stems=("other", "bass"))
    assert some.names(names) == ("bass", "other")
    assert torch.equal(some.apply(mixture, stems, names), stems[[0, 2]])
    for method in ("add", "minus"):
        two = Selection(two_stems="drums", other_method=method)
        assert two.names(names) == ("drums", "no_drums")
        assert torch.allclose(two.apply(mixture, stems, names), torch.stack([stems[1], stems[0] + stems[2]]), atol=1e-6)
    alone = Selection(two_stems="drums", other_method="none")
    assert alone.names(names) == ("drums",) and alone.apply(mixture, stems, names).shape == (1, 2, 100)


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        (Selection(stems=("drum",)), "has bass, drums, other. Did you mean drums"),
        (Selection(two_stems="vocals"), "stem 'vocals'"),
        (Selection(stems=("bass",), two_stems="bass"), "exclude each other"),
        (Selection(two_stems="bass", other_method="half"), "other method 'half'"),
    ],
)
def test_impossible_selections(selection: Selection, message: str) -> None:
    """Unknown stems and options against each other are told, with a guess."""
    with pytest.raises(UsageError, match=message):
        selection.check(("bass", "drums", "other"))


def song(path: Path, seconds: float = 1.5, rate: int = 48000, channels: int = 1, level: float = 1.0) -> torch.Tensor:
    x = level * noise(channels, max(1, round(seconds * rate)))
    sf.write(path, x.numpy().T, rate, subtype="FLOAT")
    return x


@pytest.mark.parametrize("seconds", [0, 0.7, 3.7])
@pytest.mark.parametrize(("rate", "channels"), [(44100, 2), (48000, 1), (8000, 2)])
def test_written_stems_null_against_the_input(tmp_path: Path, seconds: float, rate: int, channels: int) -> None:
    """Float files sum to the input below -90 dB, sample by sample, from one sample on."""
    x = song(tmp_path / "a.wav", seconds, rate, channels)
    outcome = files.separate_file(probe(tmp_path / "a.wav"), tmp_path / "out", NetworkSeparator(network()))
    stems = [read(path) for path in outcome.written.files.values()]
    assert {stem.rate for stem in stems} == {rate}
    assert db(torch.stack([stem.samples for stem in stems]).sum(dim=0) - x, x) < -120


@pytest.mark.parametrize("depth", ["int16", "int24"])
def test_integers_null_to_a_bit_for_each_stem(tmp_path: Path, depth: str) -> None:
    """After rounding to integers the stems sum to the input, times the one gain, to half a bit for each."""
    x = song(tmp_path / "a.wav", level=3.0)
    outcome = files.separate_file(
        probe(tmp_path / "a.wav"), tmp_path / "out", NetworkSeparator(network()), encoding=encoding("wav", depth)
    )
    total = sum(sf.read(path, always_2d=True)[0].T for path in outcome.written.files.values())
    bits = 15 if depth == "int16" else 23
    assert np.abs(total - outcome.written.gain * x.numpy()).max() <= 2 * 2.0**-bits


def test_residual_is_written_when_it_can_be_heard(tmp_path: Path) -> None:
    """A checkpoint without `other` gets a residual for what lies above its band, and none when nothing is left."""
    separator = NetworkSeparator(network(names=("bass", "piano")))
    song(tmp_path / "high.wav", rate=96000)
    song(tmp_path / "same.wav", rate=44100, channels=2)
    found = {
        name: set(files.separate_file(probe(tmp_path / f"{name}.wav"), tmp_path / name, separator).written.files)
        for name in ("high", "same")
    }
    assert found == {"high": {"bass", "piano", "residual"}, "same": {"bass", "piano"}}
    assert all_names(separator.names) == ("bass", "piano", "residual")


def test_sidecar_tells_what_differs(tmp_path: Path) -> None:
    """The same request is recognised; another input, checkpoint or setting is named; so is a missing file."""
    song(tmp_path / "a.wav")
    song(tmp_path / "b.wav", seconds=1)
    folder = tmp_path / "out"
    outcome = files.separate_file(probe(tmp_path / "a.wav"), folder, NetworkSeparator(network()))
    recipe = files.recipe(tmp_path / "a.wav", "shares", "0" * 64, {"overlap": 0.25})
    files.write_sidecar(folder, {"recipe": recipe, **outcome.as_json()})
    assert files.difference(folder, recipe) is None
    other = files.recipe(tmp_path / "a.wav", "shares", "0" * 64, {"overlap": 0.5})
    assert files.difference(folder, other) == "overlap was 0.25 and is now 0.5"
    assert "input" in files.difference(folder, files.recipe(tmp_path / "b.wav", "shares", "0" * 64, {"overlap": 0.25}))
    assert "weights" in files.difference(folder, {**recipe, "checkpoint": {"name": "shares", "sha256": "1" * 64}})
    files.remove_stale(folder, keep={"bass.wav"})
    assert "is not there any more" in files.difference(folder, recipe)
    assert (folder / "bass.wav").exists()
    (folder / files.SIDECAR).write_text("{}")
    with pytest.raises(OutputError, match="cannot be read"):
        files.difference(folder, recipe)


def test_sidecar_is_json_for_silence(tmp_path: Path) -> None:
    """Nothing left over is null, never an infinity that JSON does not know."""
    sf.write(tmp_path / "a.wav", np.zeros((1000, 2)), 44100)
    outcome = files.separate_file(probe(tmp_path / "a.wav"), tmp_path / "out", NetworkSeparator(network()))
    files.write_sidecar(tmp_path / "out", outcome.as_json())
    sidecar = json.loads((tmp_path / "out" / files.SIDECAR).read_text())
    assert sidecar["schema"] == 1 and sidecar["leftover_db"] is None and sidecar["peak"] == 0
