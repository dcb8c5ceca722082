"""Coherence: beats within 70 ms, pitch classes that agree, and the rows to compare with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch

from stemforge.tasks.coherence import Features, beat_f_measure, chroma_correlation, coherence, compare, features
from stemforge.tasks.mixtures import completions
from stemforge.types import Audio

RATE = 22050
SECONDS = 8
CHORDS = {"c": (261.63, 329.63, 392.0), "f#": (369.99, 466.16, 554.37), "g": (196.0, 246.94, 293.66)}


def clicks(bpm: float, late: float = 0.0) -> np.ndarray:
    """Short bursts at a tempo."""
    wave = np.zeros(SECONDS * RATE)
    burst = np.random.default_rng(0).normal(size=500) * np.exp(-np.arange(500) / 80)
    for time in np.arange(0.5 + late, SECONDS - 0.5, 60 / bpm):
        wave[round(time * RATE) :][:500] += 0.3 * burst
    return wave


def chords(names: list[str]) -> np.ndarray:
    """One chord after another over the whole time, with overtones."""
    t = np.arange(SECONDS * RATE) / RATE
    wave = np.zeros_like(t)
    for i, name in enumerate(names):
        here = (t >= i * SECONDS / len(names)) & (t < (i + 1) * SECONDS / len(names))
        wave += here * sum(np.sin(2 * np.pi * hz * k * t) / k**2 for hz in CHORDS[name] for k in (1, 2))
    return 0.05 * wave


def heard(wave: np.ndarray, pitched: bool = True) -> Features:
    audio = Audio(torch.from_numpy(wave).float().expand(2, -1), RATE)
    return features(audio if pitched else None, audio)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ([1, 2, 3], [1, 2, 3], 1.0),
        ([1, 2, 3], [1.069, 1.931, 3.069], 1.0),
        ([1, 2, 3], [1.071, 1.929, 3.071], 0.0),
        ([1, 2, 3, 4], [2, 4], 2 / 3),
        ([1, 1.05], [1.02], 2 / 3),
        ([1], [], 0.0),
        ([], [], None),
    ],
)
def test_beat_f_measure(a: list[float], b: list[float], expected: float | None) -> None:
    """Each beat is hit at most once, within 70 ms; no beats at all is no figure. Symmetric."""
    for one, other in ((a, b), (b, a)):
        found = beat_f_measure(np.array(one, float), np.array(other, float))
        assert found is None if expected is None else found == pytest.approx(expected)


def test_beats_of_one_tempo() -> None:
    """Clicks and chords struck together share their beats; another tempo does not."""
    same, other = clicks(120), clicks(92, late=0.2)
    tone = 1 + 0.2 * np.sin(2 * np.pi * 300 * np.arange(len(same)) / RATE)
    together = compare("x", heard(same), heard(same * tone))
    apart = compare("x", heard(same), heard(other))
    assert together.beat > 0.9 > 0.6 > apart.beat


def test_chroma_of_chords() -> None:
    """The same chords agree whatever their level, others agree less, a triad a tritone away is the opposite."""
    a = heard(chords(["c", "g", "c"]))
    assert chroma_correlation(a, heard(0.3 * chords(["c", "g", "c"]))) == pytest.approx(1, abs=1e-3)
    far = chroma_correlation(a, heard(chords(["f#", "f#", "f#"])))
    swapped = chroma_correlation(a, heard(chords(["g", "c", "g"])))
    assert far < 0 < swapped < 0.8


def test_what_does_not_sound_does_not_count() -> None:
    """Drums alone have no harmony, silence has neither beat nor harmony, and only shared half seconds count."""
    a, silence = heard(chords(["c", "g"])), heard(np.zeros(SECONDS * RATE))
    assert chroma_correlation(a, heard(clicks(120), pitched=False)) is None
    assert compare("x", silence, silence) == compare("x", heard(np.zeros(100), pitched=False), silence)
    assert compare("x", silence, silence).beat is None and compare("x", silence, silence).chroma is None
    half = chords(["c", "f#"])
    half[SECONDS * RATE // 2 :] = 0
    assert chroma_correlation(a, heard(half)) > 0.98


def write(folder: Path, stem: str, wave: np.ndarray) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    sf.write(folder / f"{stem}.wav", wave, RATE, subtype="FLOAT")


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Three songs: guitar plays what the bass plays, each in its own key; the estimate has it wrong in the first."""
    songs = {"a": ["c", "c"], "b": ["f#", "f#"], "c": ["g", "g"]}
    for song, names in songs.items():
        write(tmp_path / "ref" / song, "bass", chords(names))
        write(tmp_path / "ref" / song, "drums", clicks(120))
        write(tmp_path / "ref" / song, "guitar", 0.5 * chords(names) + clicks(120))
        write(tmp_path / "est" / song, "guitar", chords(["f#", "f#"] if song == "a" else names) + clicks(120))
    return tmp_path / "ref", tmp_path / "est"


def test_report(folders: tuple[Path, Path]) -> None:
    """Song by song, on average, and between the real stems of the same and of other songs."""
    seen: list[str] = []
    found = coherence(completions(*folders, ["bass", "drums"]), on_song=seen.append)
    assert seen == [song.name for song in found.songs] == ["a", "b", "c"]
    assert found.songs[0].chroma < 0.2 < 0.9 < found.songs[1].chroma
    assert found.made.chroma == pytest.approx(np.mean([song.chroma for song in found.songs]))
    assert found.others.chroma < found.made.chroma < found.real.chroma
    assert found.made.beat > 0.8
    alone = coherence(completions(*folders, ["bass", "drums"])[:1])
    assert alone.others is None and alone.real.chroma > 0.9
