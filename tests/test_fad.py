"""FAD-musicnn: the closed form, what it is good at telling apart, its interval, and folders of either layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stemforge.errors import InputError, UsageError
from stemforge.tasks.fad import Embedded, embed, fad, frechet, realism
from stemforge.tasks.mixtures import Completion, Sum, completions, mixtures
from stemforge.types import Audio
from test_musicnn import plucked, small

RATE = 16000


def rows_with(mean: np.ndarray, covariance: np.ndarray, count: int = 64, seed: int = 0) -> np.ndarray:
    """Rows whose own mean and covariance are exactly these."""
    white = np.random.default_rng(seed).normal(size=(count, len(mean)))
    white -= white.mean(axis=0)
    values, vectors = np.linalg.eigh(np.cov(white, rowvar=False))
    exact = white @ vectors / np.sqrt(values)
    return exact @ np.linalg.cholesky(covariance).T + mean


def test_closed_form_of_diagonal_gaussians() -> None:
    """Gaussians with diagonal covariances: squared distance of the means, and of the standard deviations."""
    mean_a, mean_b = np.array([1.0, -2, 0, 3]), np.array([0.5, 1, 0, 3])
    std_a, std_b = np.array([1.0, 2, 0.1, 4]), np.array([3.0, 0.5, 0.1, 1e-4])
    found = frechet(rows_with(mean_a, np.diag(std_a**2)), rows_with(mean_b, np.diag(std_b**2), seed=1))
    assert found == pytest.approx(np.square(mean_a - mean_b).sum() + np.square(std_a - std_b).sum(), rel=1e-12)


def test_closed_form_of_two_dimensions() -> None:
    """For covariances that do not commute, tr (AB)^½ = √(tr AB + 2 √det AB) in two dimensions."""
    a, b = np.array([[2.0, 0.7], [0.7, 1.0]]), np.array([[1.0, -0.4], [-0.4, 3.0]])
    root = np.sqrt(np.trace(a @ b) + 2 * np.sqrt(np.linalg.det(a) * np.linalg.det(b)))
    found = frechet(rows_with(np.zeros(2), a), rows_with(np.ones(2), b, seed=1))
    assert found == pytest.approx(2 + np.trace(a) + np.trace(b) - 2 * root, rel=1e-12)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 12), st.integers(2, 12))
def test_it_is_a_distance(seed: int, count_a: int, count_b: int) -> None:
    """Symmetric, never negative, zero for equal sets, unchanged by rotations, fewer rows than columns included."""
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(count_a, 6)), rng.normal(size=(count_b, 6)) + 1
    turned = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    assert frechet(a, b) == pytest.approx(frechet(b, a), rel=1e-9, abs=1e-12)
    assert frechet(a @ turned, b @ turned) == pytest.approx(frechet(a, b), rel=1e-9, abs=1e-12)
    assert 0 <= frechet(a, a) < 1e-12


def test_realism() -> None:
    """By hand on a line, with the outlier left out; never less than 1 for what is among the kept ones."""
    line = np.array([0.0, 1, 2, 3, 100])[:, None]
    # With k = 1 every neighbour but the outlier's is 1 away.
    assert realism(np.array([[1.5], [5.0], [100.0]]), line, 1) == pytest.approx([2, 1 / 2, 1 / 97])
    rows = np.random.default_rng(0).normal(size=(40, 5))
    assert np.sum(realism(rows, rows) >= 1) >= 20 and realism(rows + 50, rows).max() < 0.2
    with pytest.raises(UsageError):
        realism(rows, rows[:3])


def gaussian_songs(songs: int, windows: int, offset: float, seed: int) -> Embedded:
    """Songs that lie around means of their own, `offset` away from zero."""
    rng = np.random.default_rng(seed)
    means = np.repeat(rng.normal(size=(songs, 3)), windows, axis=0)
    rows = means + 0.3 * rng.normal(size=means.shape) + offset
    return Embedded(rows, np.repeat(np.arange(songs), windows))


def test_interval_holds_what_is_true() -> None:
    """The 95% interval of sets that are 3 apart in each of 3 features holds 27 in most of 20 trials, and the figure."""
    hits = 0
    for seed in range(20):
        found = fad(gaussian_songs(40, 5, 0, 2 * seed), gaussian_songs(40, 5, 3, 2 * seed + 1), resamples=60, minimum=2)
        low, high = found.interval
        assert low <= found.value <= high
        hits += low <= 27 <= high
    assert hits >= 16
    assert found.windows == (200, 200) and found.songs == (40, 40)


def test_interval_is_that_of_songs() -> None:
    """The same windows counted as songs of their own would claim to know more; one song has no interval."""
    ref, est = gaussian_songs(20, 15, 0, 0), gaussian_songs(20, 15, 1, 1)
    by_song = fad(ref, est, resamples=60).interval
    alone = [Embedded(side.rows, np.arange(len(side.rows))) for side in (ref, est)]
    by_window = fad(*alone, resamples=60).interval
    assert by_song[1] - by_song[0] > 2 * (by_window[1] - by_window[0])
    assert fad(ref, est, resamples=60).interval == by_song, "the seed decides"
    assert fad(Embedded(ref.rows, ref.song * 0), est).interval is None


def test_few_windows_are_refused() -> None:
    """Below the minimum, 300 unless said otherwise, there is no figure, and a covariance needs two in any case."""
    ref, est = gaussian_songs(30, 10, 0, 0), gaussian_songs(29, 10, 0, 1)
    with pytest.raises(UsageError, match=r"the estimate has 290 windows of 3 s, 300 are needed"):
        fad(ref, est)
    assert fad(ref, est, minimum=290, resamples=0).windows == (300, 290)
    with pytest.raises(UsageError, match="the reference has 1 windows of 3 s, 2 are needed"):
        fad(Embedded(ref.rows[:1], ref.song[:1]), est, minimum=1)


def test_embedding() -> None:
    """Windows of 3 s at each hop, of any rate and width; each row is what the network says of the window alone."""
    network, wave = small(), plucked()
    double = torch.cat([wave, wave], dim=-1)
    seen: list[int] = []
    songs = [Audio(double.expand(2, -1), RATE), Audio(wave[:, :47999], RATE), Audio(wave, RATE)]
    found = embed(songs, network, hop=1.5, on_song=seen.append)
    assert found.song.tolist() == [1, 1, 1, 3] and seen == [1, 2, 3] and found.songs == 2
    assert found.rows.dtype == np.float64 and found.rows.shape == (4, 5)
    assert np.allclose(found.rows[0], network(wave).penultimate.detach().numpy()[0], atol=1e-6)
    assert np.array_equal(found.rows[0], found.rows[2]) and np.array_equal(found.rows[0], found.rows[3])
    high = torch.from_numpy(np.sin(2 * np.pi * 440 * np.arange(132300) / 44100)).float()[None]
    low = torch.from_numpy(np.sin(2 * np.pi * 440 * np.arange(48000) / 16000)).float()[None]
    both = embed([Audio(high, 44100), Audio(low, RATE)], network)
    assert np.allclose(*both.rows, atol=1e-2)
    assert embed([], network).rows.shape == (0, 5)
    with pytest.raises(UsageError, match="must be above 0"):
        embed(songs, network, hop=0.0)


def write(path: Path, value: float, count: int = 8) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    sf.write(path, np.full(count, value), RATE, subtype="FLOAT")


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Two songs of four stems, the second without piano, and the same with piano and drums made anew."""
    stems = {"bass": 0.01, "drums": 0.02, "guitar": 0.04, "piano": 0.08}
    for song in ("one", "two"):
        for stem, value in stems.items():
            if (song, stem) != ("two", "piano"):
                write(tmp_path / "ref" / song / f"{stem}.wav", value)
                write(tmp_path / "est" / song / f"{stem}.aiff", 10 * value)
        write(tmp_path / "ref" / song / "mixture.wav", 0.9)
    return tmp_path / "ref", tmp_path / "est"


def total(song: Sum) -> float:
    return round(song.audio().samples.max().item(), 4)


def test_mixtures_of_songs(folders: tuple[Path, Path], tmp_path: Path) -> None:
    """The sum of the stems, of those that are asked for, or the mixture where there is no stem."""
    assert {song.name: total(song) for song in mixtures(folders[0])} == {"one": 0.15, "two": 0.07}
    assert {song.name: total(song) for song in mixtures(folders[0], ["piano", "bass"])} == {"one": 0.09, "two": 0.01}
    assert [song.name for song in mixtures(folders[0], ["piano"])] == ["one"]
    write(tmp_path / "songs" / "whole" / "mixture.wav", 0.5)
    assert [total(song) for song in mixtures(tmp_path / "songs")] == [0.5]
    with pytest.raises(UsageError, match=r"no song has vocals"):
        mixtures(folders[0], ["vocals"])
    (tmp_path / "songs" / "whole" / "mixture.wav").unlink()
    with pytest.raises(InputError, match="no audio file in its songs"):
        mixtures(tmp_path / "songs")


def test_folder_of_mixtures(tmp_path: Path) -> None:
    """Files are songs, each by itself; the stems of a single song are not taken for that."""
    for name in ("seed-0.wav", "seed-1.wav", ".hidden.wav", "notes.txt"):
        write(tmp_path / "many" / name, 0.25) if name.endswith("wav") else (tmp_path / "many" / name).write_text("")
    assert [song.name for song in mixtures(tmp_path / "many")] == ["seed-0", "seed-1"]
    with pytest.raises(UsageError, match="holds mixtures, not stems"):
        mixtures(tmp_path / "many", ["bass"])
    for name in ("bass", "drums", "mixture"):
        write(tmp_path / "song" / f"{name}.wav", 0.25)
    with pytest.raises(InputError, match="is the folder of one song"):
        mixtures(tmp_path / "song")
    with pytest.raises(InputError, match="not a folder"):
        mixtures(tmp_path / "nowhere")


def test_completions(folders: tuple[Path, Path]) -> None:
    """Given stems come from the reference, the others from the estimate; both add up to a song."""
    one, two = completions(*folders, ["bass", "guitar"])
    assert isinstance(one, Completion) and (one.name, two.name) == ("one", "two")
    assert total(one.completed) == 0.01 + 0.04 + 0.2 + 0.8 and total(one.original) == 0.15
    assert total(two.completed) == 0.25 and total(two.original) == 0.07
    chosen = completions(*folders, ["bass"], ["bass", "drums"])
    assert [total(song.completed) for song in chosen] == [0.21, 0.21]


def test_completions_that_cannot_be(folders: tuple[Path, Path]) -> None:
    """Stems that are unknown, missing, all given or given though they do not count are told."""
    ref, est = folders
    for given_stems, stems, message in (
        (["vocals"], None, "no stem vocals"),
        (["bass", "drums", "guitar", "piano"], None, "not all of them"),
        ([], None, "must be some of"),
        (["bass"], ["drums", "guitar"], "must be some of drums, guitar"),
    ):
        with pytest.raises(UsageError, match=message):
            completions(ref, est, given_stems, stems)
    with pytest.raises(InputError, match=r"'.*two': none of piano is there"):
        completions(ref, est, ["piano"])
    (est / "one" / "drums.aiff").unlink()
    with pytest.raises(InputError, match=r"no file for 'drums'"):
        completions(ref, est, ["bass"])
    with pytest.raises(InputError, match="no such folder"):
        completions(ref, est / "one", ["bass"])
    with pytest.raises(InputError, match="not a folder"):
        completions(ref, est / "none", ["bass"])
