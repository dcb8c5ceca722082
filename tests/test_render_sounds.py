"""What the songs are played with: players, the synthesizer, unpacked instruments, effects, levels."""

from __future__ import annotations

import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

from stemforge.data import effects, levels, players, sounds
from stemforge.data.catalogue import Catalogue
from stemforge.data.players import events_of, play_font, play_map
from stemforge.data.score import Note, Part
from stemforge.data.synth import FORMANTS, Patch, draw_patch, play_patch
from stemforge.data.unpack import draw_kit, hydrogen_map, key_range, one_shots, piano_map, pitched_maps, unpack_map
from stemforge.errors import InputError
from tiny_assets import tone, write_instrument

RATE = 44100


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def part_of(*notes: Note, stem: str = "guitar", **fields) -> Part:
    return Part(stem, "comp", 25, notes, **fields)


def pitch_of(sound: np.ndarray) -> float:
    """Frequency of the highest peak of the spectrum, in Hz."""
    mono = sound.mean(axis=1) if sound.ndim == 2 else sound
    spectrum = np.abs(np.fft.rfft(mono * np.hanning(len(mono)), 8 * len(mono)))
    return float(spectrum.argmax()) * RATE / (8 * len(mono))


@pytest.fixture
def tiny(tmp_path):
    return unpack_map("guitar", "tiny", write_instrument(tmp_path / "pack", "tiny"), tmp_path / "work")


@pytest.mark.parametrize(("key", "varispeed"), [(69, 0), (69, 2), (69, -2), (57, 0), (64, 1)])
def test_a_sampled_instrument_plays_in_tune(tiny, key, varispeed):
    """The pitch is that of the key, also when the samples run faster or slower."""
    sound = play_map(tiny.path, part_of(Note(0.0, 0.8, key, 100)), RATE, varispeed)
    assert sound.shape == (RATE, 2)
    assert pitch_of(sound) == pytest.approx(440 * 2 ** ((key - 69) / 12), rel=0.004)


def test_notes_begin_on_their_sample(tiny):
    """Silence until the note's start, within a millisecond, and notes anywhere in a block."""
    for start in (0.1, 0.2003, 0.31415):
        sound = play_map(tiny.path, part_of(Note(start, 0.3, 69, 127)), RATE)
        first = np.flatnonzero(np.abs(sound).max(axis=1) > 1e-4)[0]
        assert first == pytest.approx(start * RATE, abs=60)


def test_bends_and_volume_are_heard(tiny):
    """A bend of two semitones raises the pitch by two; a lower volume controller is quieter."""
    note = Note(0.0, 0.8, 69, 100)
    bent = play_map(tiny.path, part_of(note, bends=((0.0, 2.0),)), RATE)
    assert pitch_of(bent) == pytest.approx(440 * 2 ** (2 / 12), rel=0.004)
    loud = play_map(tiny.path, part_of(note, controls=((0.0, 7, 127),)), RATE)
    quiet = play_map(tiny.path, part_of(note, controls=((0.0, 7, 50),)), RATE)
    assert np.abs(quiet).max() < 0.7 * np.abs(loud).max()


def test_a_key_is_let_go_before_it_is_struck_again():
    """Overlapping notes on one key: off, then on, in the order of time."""
    events = events_of(part_of(Note(0.0, 5.0, 60, 90), Note(1.0, 1.0, 60, 80)), 10 * RATE)
    assert [(frame, kind) for frame, _, kind, _, _ in events] == [
        (0, "on"), (RATE, "off"), (RATE, "on"), (2 * RATE, "off"),
    ]  # fmt: skip


def test_a_map_that_does_not_load_is_named(tmp_path):
    """A missing map gives one line with its path."""
    with pytest.raises(InputError, match=r"gone\.sfz"):
        play_map(tmp_path / "gone.sfz", part_of(Note(0, 1, 60, 90)), RATE)


def test_a_soundfont_is_played_event_by_event(tmp_path, monkeypatch):
    """Drum kits go to channel 10, time is generated between events, and the length is that asked for."""
    calls = []

    class Synth:
        def __init__(self, gain, samplerate):
            calls.append(("new", samplerate))

        def generate(self, samples):
            calls.append(("generate", samples))
            return memoryview(np.full(2 * samples, 0.25, np.float32))

        def __getattr__(self, name):
            return lambda *values: calls.append((name, *values))

    monkeypatch.setitem(sys.modules, "tinysoundfont", SimpleNamespace(Synth=Synth))
    players._font.cache_clear()
    part = part_of(Note(0.5, 0.25, 38, 99), stem="drums", bends=((0.0, 12.0),))
    sound = play_font(tmp_path / "x.sf2", 128, 8, part, RATE)
    players._font.cache_clear()
    assert sound.shape == (RATE, 2)
    assert ("pitchbend", 9, 16383) in calls
    on, off = calls.index(("noteon", 9, 38, 99)), calls.index(("noteoff", 9, 38))
    assert calls[on - 1] == ("generate", RATE // 2)
    assert calls[off - 1] == ("generate", RATE // 4)
    assert calls[-1] == ("generate", RATE // 4)


@pytest.mark.parametrize("wave", ["saw", "square", "pulse", "fm"])
def test_the_synthesizer_plays_in_tune_and_stops(wave):
    """A patch sounds at the pitch of its key and is silent after its release."""
    patch = Patch(wave, index=0.3, high_cut=500.0, low_cut=400.0)
    sound = play_patch(rng(), patch, part_of(Note(0.0, 0.8, 69, 100)), 2 * RATE)
    assert pitch_of(sound[:RATE]) == pytest.approx(440, rel=0.004)
    assert np.abs(sound[: RATE // 2]).max() > 0.05
    assert np.abs(sound[round(1.0 * RATE) :]).max() == 0


def test_a_vowel_has_its_formants():
    """Sung on A2 the vowels differ where their formants are: `a` is stronger than `i` around 1080 Hz, weaker at 290."""

    def band(vowel: str, hertz: float) -> float:
        patch = Patch("vowel", attack=0.02, release=0.05, vowels=vowel * 4)
        sound = play_patch(rng(), patch, part_of(Note(0.0, 1.0, 45, 100)), RATE).mean(axis=1)
        spectrum = np.abs(np.fft.rfft(sound)) ** 2
        near = slice(round(hertz - 80), round(hertz + 80))
        return float(spectrum[near].sum() / spectrum.sum())

    assert set(FORMANTS) == set("aeiou")
    assert band("a", 1080) > 4 * band("i", 1080)
    assert band("i", 290) > 2 * band("a", 290)


@pytest.mark.parametrize("role", ["lead", "pad", "bass", "comp", "vowels"])
def test_random_patches_sound(role):
    """Patches of every role give finite, audible sound that does not explode."""
    for seed in range(4):
        notes = (Note(0.0, 0.6, 60, 100), Note(0.3, 0.6, 67, 100))
        sound = play_patch(rng(seed), draw_patch(rng(seed), role), part_of(*notes, bends=((0.0, 0.5),)), RATE)
        assert np.isfinite(sound).all()
        assert 0.01 < np.abs(sound).max() < 20


def test_a_pack_is_unpacked_once_and_keeps_its_range(tmp_path):
    """Samples become WAV beside a map that asks for RAM and for bends of an octave."""
    soundfile.write(tmp_path / "a b#1.ogg", tone(440.0, 0.3), RATE)
    (tmp_path / "x.sfz").write_text("<global> ampeg_release=0.1\n<region> sample=a b#1.ogg lokey=40 hikey=60\n")
    made = unpack_map("bass", "x", tmp_path / "x.sfz", tmp_path / "work")
    text = made.path.read_text()
    assert (made.low, made.high) == (40, 60)
    assert "hint_ram_based=1" in text
    assert "bend_up=1200" in text
    assert "sample=a_bs1.wav" in text
    assert (made.path.parent / "a_bs1.wav").is_file()
    assert key_range("<region> sample=x.wav key=33") == (33, 33)


def test_a_pack_may_include_and_define(tmp_path):
    """#include, #define, default_path, comments, several regions a line and a shifted range are understood."""
    (tmp_path / "deep").mkdir()
    soundfile.write(tmp_path / "deep" / "one two.wav", tone(440.0, 0.3), RATE)
    (tmp_path / "regions.txt").write_text(
        "<region> sample=one two.wav lokey=c4 hikey=$TOP pitch_keycenter=81 <region> sample=one two.wav key=a4\n"
    )
    (tmp_path / "x.sfz").write_text(
        '// a pack\n#define $TOP g#4\n<control> default_path=deep/ note_offset=-12\n#include "regions.txt"\n'
    )
    made = unpack_map("bass", "x", tmp_path / "x.sfz", tmp_path / "work")
    assert (made.low, made.high) == (48, 57)
    assert made.path.read_text().count("sample=deep_one_two.wav") == 2
    sound = play_map(made.path, part_of(Note(0.0, 0.3, 55, 100)), RATE // 3)
    assert np.abs(sound).max() > 0.01


def test_an_unreadable_sample_is_named(tmp_path):
    """A pack with a broken sample gives one line with the sample's name."""
    (tmp_path / "bad.ogg").write_bytes(b"nothing")
    (tmp_path / "x.sfz").write_text("<region> sample=bad.ogg key=60\n")
    with pytest.raises(InputError, match=r"bad\.ogg"):
        unpack_map("bass", "x", tmp_path / "x.sfz", tmp_path / "work")


def test_the_piano_is_mapped_from_its_file_names(tmp_path):
    """Notes and velocity sets are read from names as `F#3v10.ogg`; each sample covers three keys in tune."""
    for name, hertz in (("A4", 440.0), ("C4", 261.63), ("F#3", 185.0)):
        for velocity in (6, 10):
            soundfile.write(tmp_path / f"{name}v{velocity}.ogg", tone(hertz, 0.8), RATE)
    made = piano_map(tmp_path, (6, 10), tmp_path / "work")
    assert made is not None
    assert made.path.read_text().count("<region>") == 6
    for key in (54, 59, 61, 69, 70):
        sound = play_map(made.path, part_of(Note(0.0, 0.7, key, 90), stem="piano"), RATE)
        assert pitch_of(sound) == pytest.approx(440 * 2 ** ((key - 69) / 12), rel=0.006)
    assert piano_map(tmp_path, (14,), tmp_path / "work") is None


def test_a_hydrogen_kit_is_mapped_by_its_names(tmp_path):
    """Instruments land on the percussion keys of General MIDI by what they are called."""
    kit = tmp_path / "Kit"
    kit.mkdir()
    names = ("Kick", "Snare Rock", "Closed HH", "Open HH", "Crash", "Tom Low")
    for place, _ in enumerate(names):
        soundfile.write(kit / f"{place}.flac", tone(100.0 * (place + 1), 0.2), RATE)
    blocks = "".join(
        f"<instrument><name>{name}</name><filename>{place}.flac</filename></instrument>"
        for place, name in enumerate(names)
    )
    (kit / "drumkit.xml").write_text(f"<drumkit_info><name>Kit</name>{blocks}</drumkit_info>")
    made = hydrogen_map(kit, tmp_path / "work")
    assert made is not None
    for key, hertz in ((36, 100.0), (38, 200.0), (42, 300.0), (46, 400.0), (49, 500.0), (41, 600.0)):
        sound = play_map(made.path, part_of(Note(0.0, 0.2, key, 110), stem="drums"), RATE // 4)
        assert pitch_of(sound) == pytest.approx(hertz, rel=0.02)


def test_drum_kits_are_drawn_from_loose_samples(tmp_path):
    """One sample a role, the same for the same generator; kits sound on kick and snare."""
    folder = tmp_path / "samples"
    folder.mkdir()
    for name in ("bd_one", "bd_two", "sn_one", "hat_one", "drum_tom_lo_hard", "bass_thick_c"):
        soundfile.write(folder / f"{name}.flac", tone(200.0, 0.2), RATE)
    shots = one_shots(folder, tmp_path / "work")
    kits = [draw_kit(rng(seed), shots, tmp_path / f"{i}.sfz") for i, seed in enumerate((1, 1, 2))]
    assert kits[0].path.read_text() == kits[1].path.read_text() != kits[2].path.read_text()
    for key in (36, 38, 42):
        part = part_of(Note(0.0, 0.2, key, 110), stem="drums")
        assert np.abs(play_map(kits[0].path, part, RATE // 4)).max() > 0.01
    assert [made.name for made in pitched_maps(folder, tmp_path / "work")] == ["one-shot-bass_thick_c"]
    assert one_shots(tmp_path / "nowhere", tmp_path / "work") == {}


def test_voices_come_from_what_the_split_has(tmp_path, tiny):
    """Without fonts a guitar is the sampled pack, `other` is the synthesizer, and vowels are sung."""
    catalogue = Catalogue("train", (), (tiny,), {}, (), tmp_path)
    note = Note(0.0, 0.2, 60, 90)
    guitar = part_of(note)
    other = Part("other", "pad", 48, (note,))
    vowels = Part("other", "vowels", 54, (note,))
    assert sounds.choose(rng(), guitar, catalogue, tmp_path).label == "tiny"
    assert sounds.choose(rng(), other, catalogue, tmp_path).kind == "synth"
    assert sounds.choose(rng(), vowels, catalogue, tmp_path).label in ("sung vowels", "sung words")


def test_sampled_chords_are_for_power_chords(tmp_path, tiny):
    """A pack of chords plays parts of that role only, and of each chord the lowest note."""
    chords = replace(tiny, name=sounds.CHORDS[0])
    catalogue = Catalogue("train", (), (chords,), {}, (), tmp_path)
    chord = (Note(0.01, 0.4, 47, 90), Note(0.0, 0.5, 40, 92), Note(0.5, 0.2, 52, 70), Note(0.52, 0.2, 45, 70))
    strum = part_of(*chord)
    power = replace(strum, role="power")
    assert {sounds.choose(rng(seed), power, catalogue, tmp_path).label for seed in range(9)} >= {chords.name}
    assert chords.name not in {sounds.choose(rng(seed), strum, catalogue, tmp_path).label for seed in range(9)}
    assert [(note.start, note.key) for note in sounds.roots(power).notes] == [(0.0, 40), (0.52, 45)]


@pytest.mark.parametrize("stem", ["bass", "drums", "guitar", "piano", "other"])
def test_random_effects_keep_length_and_stay_finite(stem):
    """Chains of any stem and role play on a second of tone without changing its length."""
    sound = np.stack([tone(220.0), tone(330.0)], axis=1)
    for seed in range(12):
        role = ("comp", "lead", "power", "human")[seed % 4]
        chain = effects.draw_chain(rng(seed), stem, role, 29, sampled=seed % 2 == 0)
        made = effects.apply(chain, sound)
        assert made.shape == sound.shape
        assert np.isfinite(made).all()
        assert np.abs(made).max() > 1e-3


def test_lows_are_cut_by_18_db_an_octave():
    """A cut at 60 Hz: 9 dB there, 18 dB more an octave of two below, nothing at 2 kHz; 0 Hz leaves the very samples."""

    def loss(hz: float) -> float:
        sound = np.repeat(tone(hz)[:, None], 2, axis=1)
        cut = effects.without_lows(sound, 60.0)
        return float(20 * np.log10(np.std(sound[RATE // 2 :]) / np.std(cut[RATE // 2 :])))

    assert loss(60.0) == pytest.approx(9.0, abs=0.5)
    assert loss(15.0) - loss(30.0) == pytest.approx(18.0, abs=3.0)
    assert loss(2000.0) == pytest.approx(0.0, abs=0.1)
    sound = np.stack([tone(220.0), tone(330.0)], axis=1)
    assert effects.without_lows(sound, 0.0) is sound
    drawn = [effects.draw_cut(rng(seed)) for seed in range(200)]
    assert 70 < sum(cut_hz == 0 for cut_hz in drawn) < 130
    assert all(cut_hz == 0 or 40 <= cut_hz <= 90 for cut_hz in drawn)


def test_pan_and_width():
    """Full left leaves the right side silent, width 0 is mono, and pan 0 with width 1 changes nothing."""
    sound = np.stack([tone(220.0), tone(330.0)], axis=1)
    assert np.abs(effects.placed(sound, -1.0, 1.0)[:, 1]).max() < 1e-6
    mono = effects.placed(sound, 0.0, 0.0)
    assert np.allclose(mono[:, 0], mono[:, 1])
    assert np.allclose(effects.placed(sound, 0.0, 1.0), sound, atol=1e-6)


def test_active_level_ignores_rests():
    """A sine that sounds half of the time has the level of the sine, amplitude a at 20 log10(a / sqrt 2)."""
    sine = (0.5 * np.sin(2 * np.pi * 100 * np.arange(RATE) / RATE)).astype(np.float32)
    sound = np.repeat(np.concatenate([sine, np.zeros(RATE, np.float32)])[:, None], 2, axis=1)
    assert levels.active_rms(sound) == pytest.approx(20 * np.log10(0.5 / np.sqrt(2)), abs=0.01)
    assert levels.active_rms(levels.to_level(sound, -30.0)) == pytest.approx(-30.0, abs=0.01)
    assert levels.active_rms(np.zeros((RATE, 2), np.float32)) == -np.inf


def test_common_gain_brings_the_peak_to_its_limit():
    """The sum of two loud stems peaks at 0.9; quiet ones are left as they are."""
    loud = np.full((10, 2), 0.8, np.float32)
    gain = levels.common_gain({"bass": loud, "drums": loud})
    assert gain * 1.6 == pytest.approx(levels.PEAK)
    assert levels.common_gain({"bass": loud * np.float32(0.1)}) == 1.0


def test_peaks_are_bent_below_the_crest():
    """A spike is brought to the crest over the active level; what is below half of it is untouched."""
    sound = np.repeat((0.05 * rng().standard_normal(RATE)).astype(np.float32)[:, None], 2, axis=1)
    sound[1000] = 1.0
    level = levels.active_rms(sound)
    top = 10 ** ((level + 14.0) / 20)
    tamed = levels.tamed(sound, 14.0)
    assert np.abs(tamed).max() <= top * 1.0001
    quiet = np.abs(sound) < top / 2
    assert np.array_equal(tamed[quiet], sound[quiet])


def test_drawn_levels_are_around_the_usual_ones():
    """Means over many songs are those of the table, and none is further than 8 dB away."""
    for stem, usual in levels.TARGETS.items():
        drawn = np.asarray([levels.draw_level(rng(seed), stem) for seed in range(300)])
        assert drawn.mean() == pytest.approx(usual, abs=0.6)
        assert np.abs(drawn - usual).max() <= 8
