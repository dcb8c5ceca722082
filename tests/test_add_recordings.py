"""The script that makes songs of one stem from recordings of played instruments."""

from __future__ import annotations

import importlib.util
import runpy
import tomllib
from pathlib import Path

import numpy as np
import pytest
import soundfile

from stemforge.data.levels import TARGETS, active_rms
from stemforge.data.score import RATE
from stemforge.train.data import find_songs

SCRIPTS = Path(__file__).parents[1] / "scripts"


@pytest.fixture(scope="module")
def recordings() -> dict:
    return runpy.run_path(str(SCRIPTS / "add_recordings.py"))


def play(path: Path, seconds: float = 2.0, rate: int = 48000) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, 0.02 * np.sin(2 * np.pi * 220 * np.arange(round(seconds * rate)) / rate), rate)


def test_a_recording_becomes_a_song_of_one_stem(recordings, tmp_path):
    """44.1 kHz stereo int16 at the usual level of its stem, beside its licence, as the trainer finds it."""
    play(tmp_path / "clones/someone+archive-of-oblivion/a.ogg")
    (tmp_path / "clones/someone+archive-of-oblivion/ATTRIBUTION.md").write_text("CC0")
    recordings["main"](tmp_path / "clones", tmp_path / "out", [])
    (song,) = find_songs(tmp_path / "out", ("bass", "piano"))
    assert list(song.stems) == ["piano"] and song.frames == 2 * RATE
    sound = np.load(tmp_path / "out/ishizaka-00/piano.npy")
    assert sound.dtype == np.int16 and sound.shape == (2 * RATE, 2)
    assert active_rms(sound / np.float32(32768)) == pytest.approx(TARGETS["piano"], abs=0.3)
    assert (tmp_path / "out/ishizaka-00/ATTRIBUTION.md").read_text() == "CC0"


@pytest.mark.skipif(importlib.util.find_spec("pedalboard") is None, reason="pedalboard is not installed")
def test_dry_takes_get_different_amplifiers(recordings, tmp_path):
    """Three songs of each, none like another, the same in a second run; what is to be skipped is."""
    clone = tmp_path / "clones/tone-3000+neural-amp-modeler-wasm"
    for name in ("Tomb", "Decapitated"):
        play(clone / f"{name} - Guitar.wav")
    for out in ("one", "two"):
        recordings["main"](tmp_path / "clones", tmp_path / out, ["tone3000"])
    songs = [sorted((tmp_path / out).glob("*/guitar.npy")) for out in ("one", "two")]
    assert [path.parent.name for path in songs[0]] == ["tone3000-00", "tone3000-01", "tone3000-02"]
    first, second = ([np.load(path) for path in paths] for paths in songs)
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert not np.array_equal(first[0], first[1]) and not np.array_equal(first[1], first[2])


def test_tracks_of_a_song_become_its_stems(recordings, tmp_path):
    """The first part that fits takes a track, tracks of a stem are added, one gain is for all; a folder is a song."""
    entry = {"parts": {"vocals": "VOX", "drums": "KICK|HATS", "other": "."}}
    tracks = {"a": {"KICK": 0.5, "HATS": 0.3, "VOX HATS": 0.2}, "b": {"PAD": 0.1}}
    for song, found in tracks.items():
        for name, level in found.items():
            (tmp_path / song).mkdir(exist_ok=True)
            length = RATE if name == "VOX HATS" else 2 * RATE
            soundfile.write(tmp_path / song / f"{name}.wav", np.full((length, 2), level), RATE, subtype="FLOAT")
    first, second = recordings["songs"](entry, sorted(tmp_path.glob("*/*.wav")))
    assert {stem: sound.shape for stem, sound in first.items()} == dict.fromkeys(("drums", "vocals"), (2 * RATE, 2))
    assert np.allclose(first["drums"], 0.8) and list(second) == ["other"]
    assert np.allclose(first["vocals"][:RATE], 0.2) and not first["vocals"][RATE:].any()
    recordings["write"](tmp_path / "out", first, [])
    told = {stem: np.load(tmp_path / f"out/{stem}.npy")[0, 0] for stem in first}
    assert told == {"drums": round(0.9 * 0.8 * 32767), "vocals": round(0.9 * 0.2 * 32767)}


def test_without_what_is_named_the_script_says_so(recordings, tmp_path):
    """A clone of another version stops it."""
    (tmp_path / "clones/fretsonfire-songs-sectoid").mkdir(parents=True)
    with pytest.raises(SystemExit, match="no files of 'sectoid'"):
        recordings["main"](tmp_path / "clones", tmp_path / "out", [])
    table = tomllib.loads((SCRIPTS / "recordings.toml").read_text(encoding="utf-8"))
    for entry in table.values():
        assert entry["clone"] and entry["files"] and set(entry.get("parts", [entry.get("stem")])) <= set(TARGETS)
