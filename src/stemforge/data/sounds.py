"""Choose an instrument for each part and let it play: sampled packs, soundfont presets, our synthesizer, speech."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from stemforge.data import modal, singing, speech
from stemforge.data.catalogue import Catalogue
from stemforge.data.people import Person, somebody
from stemforge.data.players import Sound, play_font, play_map, presets
from stemforge.data.score import Note, Part, folded
from stemforge.data.synth import Patch, draw_patch, play_patch
from stemforge.data.unpack import Map, draw_kit

SAMPLED = {"bass": 0.55, "drums": 0.6, "guitar": 0.6, "piano": 0.55, "other": 0.4}
"""Chance of a sampled pack where there is one."""
MODELLED = {"guitar": 0.23, "piano": 0.2, "other": 0.12}
"""Chance of an instrument made for this part alone; in training songs only."""
WORDS = 0.75
"""Share of sung parts that have words; the rest are vowels of our synthesizer."""
SYNTHETIC = {"bass": 0.1, "drums": 0.0, "guitar": 0.0, "piano": 0.0, "other": 0.18}
FAMILIES = {"bass": range(32, 40), "guitar": range(24, 32), "piano": range(0, 8)}
WEIGHTS = {"piano": (4, 3, 2, 1, 2.5, 2, 0.5, 0.7), "guitar": (2.5, 3, 1.5, 2.5, 0.8, 1.5, 1.8, 0.15)}
SHARES = {"audiophob": 0.4, "salamander-6": 0.6, "salamander-10": 0.6, "salamander-6-10": 0.6, "headroom_close": 0.7,
          "headroom_decca": 0.7, "spanish_classical": 0.8, "alto_sax": 0.6, "mtg_alto_sax": 0.5, "mtg_tenor_sax": 0.5,
          "mtg_soprano_sax": 0.5, "mtg_baritone_sax": 0.5, "bear_sax": 0.5, "organ_clarinet": 0.5, "organ_flutes": 0.6,
          "organ_tremolo": 0.6, "organ_trombone": 0.5, "organ_violin": 0.5, "ironface": 0.5, "ironface_distorted": 0.4,
          "tuba": 0.5, "fsbs_direct": 0.6, "fsbs_clean": 0.6, "fsbs_jazz": 0.4, "fsbs_overdriven": 0.5,
          "fsbs_distorted": 0.5, "power_chords": 2.0, "yamaha_classical": 0.8, "old_piano": 0.7, "vsco_upright": 0.8,
          "fm_piano": 0.6, "synth_bass": 0.4, "fm_bass": 0.4, "synth_choir": 0.6, "synth_square": 0.6}  # fmt: skip
"""Weights of packs that differ from 1: small ones, and those that come as several maps."""
TOGETHER_S = 0.04
"""Notes that begin within this are one chord."""
SHORT = ("cello_pizzicato", "guitar_banjo", "xylophone")
"""Packs of `other` that cannot hold a note: no pads for them."""
CHORDS = ("power_chords",)
"""Packs of which each sample is a whole chord: for power chords, of which they get the roots."""
NO_KITS = (48, 56, 57, 58, 95)
"""Orchestral, sound-effect and marching kits."""


@dataclass(frozen=True)
class Voice:
    """What plays a part: kind is map, font, synth, speech or singing; `label` goes into the manifest.

    people: who may sing it, or the one who says it.
    """

    kind: str
    label: str
    map: Map | None = None
    font: Path | None = None
    bank: int = 0
    program: int = 0
    varispeed: float = 0.0
    patch: Patch | None = None
    people: tuple[Person, ...] = ()


def choose(rng: np.random.Generator, part: Part, catalogue: Catalogue, song: Path) -> Voice:
    """A voice for the part, as the split allows. `song`: a folder for maps that are made for this song."""
    if part.role == "speech":
        return _person(rng, part, catalogue)
    if part.role == "vowels" and rng.random() < WORDS and singing.available(catalogue.people):
        return Voice("singing", "sung words", people=catalogue.people)
    if part.role == "vowels":
        return Voice("synth", "sung vowels", patch=draw_patch(rng, "vowels"))
    maps = [made for made in catalogue.maps_of(part.stem) if part.role == "power" or made.name not in CHORDS]
    fonts = catalogue.fonts_of(part.stem)
    draw = rng.random()
    if maps and (draw < SAMPLED[part.stem] or not fonts):
        return _sampled(rng, part, catalogue, maps, song)
    modelled = MODELLED.get(part.stem, 0.0) if catalogue.split == "train" else 0.0
    if draw < (SAMPLED[part.stem] if maps else 0.0) + modelled and part.role != "pad":
        made = modal.modelled_map(rng, part.stem, song / f"modelled-{rng.integers(2**31)}")
        return Voice("map", made.name, map=made)
    synthetic = SYNTHETIC[part.stem] if part.role != "human" or part.stem == "bass" else SYNTHETIC[part.stem] / 2
    if not fonts or draw > 1 - synthetic:
        patch = draw_patch(rng, part.role)
        return Voice("synth", f"synth {patch.wave}", patch=patch)
    return _preset(rng, part, catalogue, fonts)


def _person(rng: np.random.Generator, part: Part, catalogue: Catalogue) -> Voice:
    """Who says or sings what is heard as it was recorded; a program where nobody does, and now and then else."""
    singing = part.name == "singing"
    people = [person for person in catalogue.people if person.sings == singing]
    if not people or (not singing and speech.available() and rng.random() >= speech.RECORDED):
        return Voice("speech", "espeak-ng")
    label = "recorded singing" if singing else "recorded speech"
    return Voice("speech", label, people=(somebody(rng, people),))


def _sampled(rng: np.random.Generator, part: Part, catalogue: Catalogue, maps: list[Map], song: Path) -> Voice:
    if part.stem == "drums" and catalogue.shots and rng.random() < 0.35:
        made = draw_kit(rng, catalogue.shots, song / f"kit-{rng.integers(2**31)}.sfz")
    else:
        unfit = SHORT if part.role == "pad" else ()
        plain = [made for made in maps if not made.name.startswith("one-shot") and made.name not in unfit]
        pool = plain if plain and rng.random() < 0.9 else maps
        weights = np.asarray([SHARES.get(made.name, 1.0) for made in pool])
        made = pool[int(rng.choice(len(pool), p=weights / weights.sum()))]
    speed = rng.uniform(-2.5, 2.5) if part.stem == "drums" else rng.choice([-2, -1, 0, 0, 0, 0, 1, 2])
    return Voice("map", made.name, map=made, varispeed=float(speed))


def _preset(rng: np.random.Generator, part: Part, catalogue: Catalogue, fonts: list[Path]) -> Voice:
    font = fonts[int(rng.integers(len(fonts)))]
    if part.stem == "drums":
        kits = {p: n for p, n in presets(font, 128).items() if p not in NO_KITS and p < 120}
        allowed = [p for p in sorted(kits) if catalogue.allows(font.stem, "drums", p)] or sorted(kits)
        program = allowed[int(rng.integers(len(allowed)))]
        return Voice("font", f"{font.stem} kit {kits[program]}", font=font, bank=128, program=program)
    there = presets(font, 0)
    pool = [p for p in _programs(rng, part) if p in there and catalogue.allows(font.stem, part.stem, p)]
    if not pool:
        span = FAMILIES.get(part.stem, range(8, 112))
        pool = [p for p in span if p in there and catalogue.allows(font.stem, part.stem, p) and stem_other(part, p)]
    weights = np.asarray([WEIGHTS[part.stem][p % 8] if part.stem in WEIGHTS else 1.0 for p in pool])
    program = int(rng.choice(pool, p=weights / weights.sum()))
    variants = presets(font, 8)
    bank = 8 if program in variants and rng.random() < 0.3 else 0
    name = (variants if bank else there)[program]
    return Voice("font", f"{font.stem} {program} {name}", font=font, bank=bank, program=program)


def stem_other(part: Part, program: int) -> bool:
    """Is the program fit for the part's stem? Only `other` leaves out families."""
    return part.stem != "other" or (program >= 8 and not 24 <= program < 40 and program != 55)


def _programs(rng: np.random.Generator, part: Part) -> list[int]:
    """Programs to draw from: the written one, its family of eight, or any of the stem."""
    if part.stem in FAMILIES:
        family = list(FAMILIES[part.stem])
        if part.role == "power":
            return [29, 30]
        return [part.program] if part.program in family and rng.random() < 0.4 else family
    draw = rng.random()
    first = part.program // 8 * 8
    if draw < 0.4:
        return [part.program] if stem_other(part, part.program) and part.program < 112 else []
    if draw < 0.8:
        return [p for p in range(first, first + 8) if stem_other(part, p) and p < 112]
    return [p for p in range(8, 112) if stem_other(part, p)]


def play(rng: np.random.Generator, voice: Voice, part: Part, frames: int) -> Sound:
    """The part as the voice plays it: (frames, 2), at the voice's own loudness."""
    if voice.map is not None:
        low, high = voice.map.low, voice.map.high
        shift = 0 if part.stem == "drums" else round(voice.varispeed)
        notes = roots(part) if voice.map.name in CHORDS else part
        fitting = part if part.stem == "drums" else _folded(notes, low + max(shift, 0), high + min(shift, 0))
        return play_map(voice.map.path, fitting, frames, voice.varispeed)
    if voice.font is not None:
        return play_font(voice.font, voice.bank, voice.program, part, frames)
    if voice.patch is not None:
        return play_patch(rng, voice.patch, part, frames)
    if voice.kind == "singing":
        return singing.play(rng, part, frames, voice.people)
    return speech.play(rng, part, frames, voice.people[0] if voice.people else None)


def roots(part: Part) -> Part:
    """The part with the lowest of all notes that begin together."""
    kept: list[Note] = []
    for note in sorted(part.notes, key=lambda note: note.start):
        if kept and note.start - kept[-1].start < TOGETHER_S:
            kept[-1] = min(kept[-1], note, key=lambda one: one.key)
        else:
            kept.append(note)
    return replace(part, notes=tuple(kept))


def _folded(part: Part, low: int, high: int) -> Part:
    return replace(part, notes=folded(part.notes, low, high)) if high - low >= 12 else part
