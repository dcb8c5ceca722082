"""Minutes of sound through the embedded checkpoint: memory does not grow, stems add up, the example is taken apart."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

pytestmark = pytest.mark.slow
DEMO = Path(__file__).parents[1] / "examples" / "demo.flac"
PEAK = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def separated(song: Path, out: Path) -> tuple[float, dict[str, np.ndarray]]:
    """Peak memory of `stemforge separate` in MiB, and the stems that it wrote."""
    command = [sys.executable, "-m", "stemforge", "separate", str(song), "-o", str(out), "-q"]
    done = subprocess.run([sys.executable, "-c", PEAK, *command], check=True, capture_output=True, text=True)
    stems = {p.stem: soundfile.read(p, dtype="float32")[0] for p in (out / "forge" / song.stem).glob("*.wav")}
    return int(done.stdout) / 1024, stems


def test_memory_does_not_grow_with_the_song_and_stems_add_up(tmp_path):
    """Ten minutes need at most 1.15 times the memory of two, and the written stems sum to the song below -90 dB."""
    demo, rate = soundfile.read(DEMO, dtype="float32")
    peaks = {}
    for minutes in (2, 10):
        song = tmp_path / f"song{minutes}.wav"
        mixture = np.resize(demo, (minutes * 60 * rate, 2))
        soundfile.write(song, mixture, rate, subtype="PCM_16")
        peaks[minutes], stems = separated(song, tmp_path / "out")
        gap = soundfile.read(song, dtype="float32")[0] - sum(stems.values())
        assert 10 * np.log10((gap**2).sum() / (mixture**2).sum()) < -90
    assert peaks[10] < 1.15 * peaks[2]
    assert peaks[10] < 1500


def test_example_song_is_taken_apart(tmp_path):
    """Each of its five instruments is heard in its stem: none is silent, none is the whole mixture."""
    mixture = soundfile.read(DEMO, dtype="float32")[0]
    _, stems = separated(DEMO, tmp_path / "out")
    assert set(stems) == {"bass", "drums", "guitar", "piano", "other"}
    for name, stem in stems.items():
        part = 10 * np.log10((stem**2).sum() / (mixture**2).sum())
        assert -40 < part < -1, name
