"""The script that links recorded voices to where `stemforge data render` finds them."""

from __future__ import annotations

import runpy
import tomllib
from pathlib import Path

import numpy as np
import pytest
import soundfile

from stemforge.data import people
from stemforge.data.catalogue import HELD_OUT_PEOPLE

SCRIPTS = Path(__file__).parents[1] / "scripts"
TABLE = tomllib.loads((SCRIPTS / "voices.toml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def voices() -> dict:
    return runpy.run_path(str(SCRIPTS / "add_voices.py"))


def say(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, 0.1 * np.ones(800), 8000)


def test_people_are_told_apart_and_their_licence_goes_with_them(voices, tmp_path):
    """One person a folder of the clone; other clones, and files of no voice, are passed over; twice is once."""
    clone = tmp_path / "clones/resemble-ai+Resemblyzer"
    for reader in ("1688", "1998"):
        say(clone / f"audio_data/librispeech_test-other/{reader}/a.flac")
    say(clone / "audio_data/elsewhere/b.flac")
    (clone / "LICENSE").write_text("CC-BY-4.0")
    for _ in range(2):
        voices["main"](tmp_path / "clones", tmp_path / "assets", [])
    found = people.find(tmp_path / "assets/voices")
    assert [(person.name, len(person.files), person.sings) for person in found] == [
        ("librispeech-1688", 1, False), ("librispeech-1998", 1, False),
    ]  # fmt: skip
    assert (found[0].files[0].parent / "LICENSE").read_text() == "CC-BY-4.0"


def test_effects_are_left_out(voices, tmp_path):
    """Of the sung vowels those that were twisted are not taken; without one that fits the script says so."""
    clone = tmp_path / "clones/Tonejs+audio"
    for name in ("femalevoice_aa_F5", "femalevoice_twist_F5", "drum_1"):
        (clone / "berklee").mkdir(parents=True, exist_ok=True)
        (clone / f"berklee/{name}.mp3").write_bytes(b"x")
    voices["main"](tmp_path / "clones", tmp_path / "assets", ["berklee"])
    (person,) = people.find(tmp_path / "assets/voices")
    assert person.sings and [path.stem for path in person.files] == ["femalevoice_aa_F5"]
    (clone / "berklee/femalevoice_aa_F5.mp3").unlink()
    with pytest.raises(SystemExit, match="no files of 'berklee'"):
        voices["main"](tmp_path / "clones", tmp_path / "assets", [])


def test_every_voice_of_the_table_is_complete():
    """Clone, kind and files; who is held out is somebody of the table."""
    assert all(entry["clone"] and entry["files"] and entry["kind"] in ("spoken", "sung") for entry in TABLE.values())
    assert all(name.partition("-")[0] in TABLE for name in HELD_OUT_PEOPLE)
