"""Captions: every instrument has its words, and a caption speaks of what is heard and of nothing else."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import numpy as np
import pytest

from stemforge.data.captions import captions, family_of, scene_of, words

ROOT = Path(__file__).parents[1]


def part(voice: str, name: str = "channel 1", role: str = "human", program: int = 0, drive: float = 0.0) -> dict:
    """A part of song.json."""
    effects = [
        ["HighpassFilter", {"cutoff_frequency_hz": 30.0}],
        *([["Distortion", {"drive_db": drive}]] * (drive > 0)),
    ]
    return {"name": name, "role": role, "program": program, "voice": voice, "notes": 100, "effects": effects}


def row(song: dict | None = None, **parts: list[dict]) -> dict:
    """A song.json with these parts by stem."""
    return {"song": song or {"source": "midi"}, "stems": {stem: {"parts": found} for stem, found in parts.items()}}


JAZZ = {"source": "mma", "groove": "stdlib/jazzguitar", "style": "rock", "tempo": 70.0, "beats": 4}


def trio() -> dict:
    """Upright bass, brushed drums and piano play slow jazz."""
    return row(
        JAZZ,
        bass=[part("rubner_pizz", "Walk")],
        drums=[part("sf_GMbank kit Brush")],
        piano=[part("salamander-6")],
        other=[part("tuba")],
    )


def test_every_word_leads_to_a_family() -> None:
    """What packs, kits, presets and programs point at is there; every pack that scripts/packs.toml makes is named."""
    table = words()
    for kind in ("stems", "voices", "kits", "presets", "programs"):
        assert set(table[kind].values()) <= set(table["families"]), kind
    assert {made.get("driven", "drums") for made in table["families"].values()} <= set(table["families"])
    packs = tomllib.loads((ROOT / "scripts" / "packs.toml").read_text(encoding="utf-8"))
    assert set(packs) <= set(table["voices"])
    for style in table["styles"]:
        assert re.compile(style["find"]) and style["say"] and style["moods"]


@pytest.mark.parametrize(
    ("stem", "voice", "family"),
    [
        ("bass", "FluidR3Mono_GM 33 Fingered Bass", "fingered-bass"),
        ("bass", "synth saw", "synth-bass"),
        ("drums", "sf_GMbank kit TR 808", "drum-machine"),
        ("drums", "one-shots bd_klub hat_metal", "electronic-drums"),
        ("drums", "FluidR3Mono_GM kit Standard 3", "drums"),
        ("guitar", "sf_GMbank 24 Ukulele", "ukulele"),
        ("guitar", "FluidR3Mono_GM 30 Distortion Guitar", "distorted-guitar"),
        ("piano", "salamander-6-10", "piano"),
        ("piano", "FluidR3Mono_GM 4 Rhodes EP", "electric-piano"),
        ("other", "FluidR3Mono_GM 56 Trumpet", "trumpet"),
        ("other", "FluidR3Mono_GM 111 Shenai", "shawm"),
        ("other", "a pack of mine", "synth"),
        ("vocals", "sung words", "singing"),
    ],
)
def test_voices_have_families(stem: str, voice: str, family: str) -> None:
    """Packs by name, presets of soundfonts by name or program, our own instruments by kind."""
    assert family_of(stem, voice, 0) == family


def test_a_caption_speaks_of_what_is_heard() -> None:
    """Over many draws every player is named, and one who is silent only as being left out."""
    rng = np.random.default_rng(0)
    said = [text for _ in range(40) for text in captions(rng, scene_of(trio(), {"bass", "drums", "piano"}), 4)]
    for word in ("bass", "brush", "piano", "jazz", "slow", "trio", "walking"):
        assert sum(word in text for text in said) > 4, word
    for text in said:
        assert "tuba" not in text or re.search(r"(without|but the|no) tuba", text), text
        assert not re.search(r"guitar|rock|fast|vocals|solo|  | ,|\ba [aeiou]", text), text
    assert len(set(said)) > 80


def test_a_single_instrument_is_said_to_be_alone() -> None:
    """No style of a band, no others."""
    rng = np.random.default_rng(0)
    said = {text for _ in range(20) for text in captions(rng, scene_of(trio(), {"bass"}), 4)}
    assert {"bass", "only bass"} & said and any(text.startswith("solo ") for text in said)
    assert all("bass" in text and "piano" not in text and "without" not in text for text in said)


def test_a_distorted_guitar_makes_rock() -> None:
    """Behind a distortion a guitar is another instrument, and a song without a style is then rock."""
    heard = row(
        guitar=[part("strat", "own power guitar", "power", drive=16.0)],
        bass=[part("linguine")],
        drums=[part("audiophob")],
    )
    scene = scene_of(heard, {"guitar", "bass", "drums"})
    assert [player.family for player in scene.players] == ["distorted-guitar", "picked-bass", "drums"]
    assert scene.names == ("rock",) and scene.players[0].after[0] == "power chords"
    heard["stems"]["guitar"]["parts"][0]["effects"] = []
    assert scene_of(heard, {"guitar", "bass", "drums"}).names == ()


def test_voices_make_songs() -> None:
    """With vocals it is a song, and spoken of as one."""
    heard = row(JAZZ, vocals=[part("sung words", "vowels vocals", "vowels")], piano=[part("cp80")])
    scene = scene_of(heard, {"vocals", "piano"})
    said = captions(np.random.default_rng(0), scene, 40)
    assert scene.sung and any("song" in text for text in said) and not any("instrumental" in text for text in said)


def test_captions_are_different_and_the_same_again() -> None:
    """As many as were asked for, none twice; the same generator gives the same."""
    scene = scene_of(trio(), {"bass", "drums", "piano"})
    first, second = (captions(np.random.default_rng(3), scene, 8) for _ in range(2))
    assert first == second and len(first) == len(set(first)) == 8
    assert captions(np.random.default_rng(3), scene_of(trio(), set()), 4) == ()
