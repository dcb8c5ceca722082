"""What the assets folder offers: fonts, sampled instruments, drum samples and MIDI songs, split into train and valid.

    fonts/*.sf2 *.sf3    sfz/<pack>/*.sfz    midi/**/*.mid    samples/sonic-pi/*.flac    samples/salamander/*.ogg
    drumkits/<kit>/drumkit.xml    voices/spoken/<person>/** voices/sung/<person>/**

Own packs go to sfz/<stem>/*.sfz, for example sfz/guitar/mine.sfz. The held-out sounds and songs below are never used
for training songs, and validation songs use nothing else where a stem has held-out sounds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from stemforge.data import people
from stemforge.data.people import Person
from stemforge.data.score import STEMS
from stemforge.data.unpack import Map, hydrogen_map, one_shots, piano_map, pitched_maps, unpack_map
from stemforge.errors import InputError

PACKS = {
    "linguine": "bass", "fetuccine": "bass", "spaghetti": "bass", "rubner_pizz": "bass", "meatbass_pizz": "bass",
    "green_twang": "guitar", "black_twang": "guitar", "muldjordkit": "drums",
}  # fmt: skip
KITS = ("Audiophob", "rumpf_kit_z01_h2")
"""Hydrogen kits under CC0 or CC-BY; other kits of that package are GPL or CC-BY-SA and are left alone."""
HELD_OUT_MAPS = ("meatbass_pizz", "black_twang", "rumpf_kit_z01_h2", "salamander-14", "squidpipes_clean")
HELD_OUT_PEOPLE = ("dialogue-sdap_alex_brodie", "librispeech-1998", "librispeech-3005", "berklee")
HELD_OUT_PRESETS: dict[str, dict[str, tuple[int, ...]]] = {
    "sf_GMbank": {"bass": (33, 35, 38), "guitar": (25, 27, 30), "piano": (0, 4, 5), "drums": (8, 16, 32)},
    "FluidR3Mono_GM": {"other": (11, 19, 50, 61, 71, 87, 89, 75)},
}
HELD_OUT_SONGS = (
    "d_e1m3", "d_e1m6", "d_e2m2", "d_e3m1", "d_e3m5", "d_map03", "d_map07", "d_map12", "d_map18", "d_map24",
    "d_dm04", "d_dm13",
)  # fmt: skip
NOT_FOR_OTHER = ("sf_GMbank",)


@dataclass(frozen=True)
class Catalogue:
    """Everything one split may use."""

    split: str
    fonts: tuple[Path, ...]
    maps: tuple[Map, ...]
    shots: dict[str, list[Path]]
    songs: tuple[Path, ...]
    work: Path
    held_out: dict[str, dict[str, tuple[int, ...]]] = field(default_factory=lambda: HELD_OUT_PRESETS)
    people: tuple[Person, ...] = ()

    def maps_of(self, stem: str) -> list[Map]:
        """Sampled instruments of a stem."""
        return [made for made in self.maps if made.stem == stem]

    def fonts_of(self, stem: str) -> list[Path]:
        """Soundfonts that may play a stem; for validation those with held-out presets of it, where there are any."""
        fonts = [path for path in self.fonts if stem != "other" or path.stem not in NOT_FOR_OTHER]
        held = [path for path in fonts if self.held_out.get(path.stem, {}).get(stem)]
        return (held or fonts) if self.split == "valid" else fonts

    def allows(self, font: str, stem: str, program: int) -> bool:
        """May this split play that preset?"""
        held = self.held_out.get(font, {}).get(stem, ())
        return (program in held) == (self.split == "valid") if held else True


def open_catalogue(assets: Path, split: str, work: Path) -> Catalogue:
    """Look through `assets` and unpack its samples to `work`.

    Errors: InputError when the folder is missing or holds no instrument at all.
    """
    if not assets.is_dir():
        raise InputError(f"no assets in '{assets}': the folder does not exist. docs/data.md says how to fill it.")
    fonts = tuple(sorted((*assets.glob("fonts/*.sf2"), *assets.glob("fonts/*.sf3"))))
    songs = sorted(path for path in assets.glob("midi/**/*.mid") if (path.stem in HELD_OUT_SONGS) == (split == "valid"))
    maps = _unpacked(assets, work, split)
    chosen = [made for made in maps if (made.name in HELD_OUT_MAPS) == (split == "valid")]
    if split == "valid":
        covered = {made.stem for made in chosen}
        chosen += [made for made in maps if made.stem not in covered and not _known(made.name)]
    shots = one_shots(assets / "samples" / "sonic-pi", work) if split == "train" else {}
    if not fonts and not chosen:
        raise InputError(f"no instruments in '{assets}': no fonts/ and no sfz/. docs/data.md says how to fill it.")
    return Catalogue(split, fonts, tuple(chosen), shots, tuple(songs), work, people=_people(assets, split))


def _people(assets: Path, split: str) -> tuple[Person, ...]:
    everybody = people.find(assets / "voices")
    return tuple(person for person in everybody if (person.name in HELD_OUT_PEOPLE) == (split == "valid"))


def _known(name: str) -> bool:
    return name in PACKS or name.startswith(("salamander", "one-shot")) or name in [kit.lower() for kit in KITS]


def _unpacked(assets: Path, work: Path, split: str) -> list[Map]:
    """All maps that the split may use; known packs of the other split are not decoded."""
    maps: list[Map] = []
    for source in sorted(assets.glob("sfz/**/*.sfz")):
        folder = source.relative_to(assets / "sfz").parts[0]
        stem = folder if folder in STEMS else PACKS.get(source.stem)
        if stem is not None and (folder in STEMS or (source.stem in HELD_OUT_MAPS) == (split == "valid")):
            maps.append(unpack_map(stem, source.stem, source, work))
    piano = assets / "samples" / "salamander"
    sets: tuple[tuple[int, ...], ...] = ((14,),) if split == "valid" else ((6,), (10,), (6, 10))
    maps += [made for velocities in sets if (made := piano_map(piano, velocities, work))]
    for kit in KITS:
        if (kit in HELD_OUT_MAPS) == (split == "valid") and (assets / "drumkits" / kit / "drumkit.xml").is_file():
            made = hydrogen_map(assets / "drumkits" / kit, work)
            maps += [made] if made else []
    return maps + (pitched_maps(assets / "samples" / "sonic-pi", work) if split == "train" else [])
