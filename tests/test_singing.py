"""Words sung to a melody: in tune, in time, and left out where the programs lack."""

import numpy as np
import pytest

from stemforge.data import singing, sounds, speech
from stemforge.data.catalogue import Catalogue
from stemforge.data.score import RATE, Note, Part

needs_voice = pytest.mark.skipif(not singing.available(), reason="espeak-ng or pyworld is not installed")


def rng(seed=0):
    return np.random.default_rng(seed)


def part_of(*notes, **kwargs):
    return Part("other", "vowels", 54, tuple(notes), **kwargs)


def pitch(sound, start, stop):
    """MIDI key of a stretch of sound by its autocorrelation."""
    x = sound[round(start * RATE) : round(stop * RATE)].astype(np.float64)
    x = x[: len(x) // 2 * 2]
    spectrum = np.abs(np.fft.rfft(x * np.hanning(len(x)), 2 * len(x))) ** 2
    line = np.fft.irfft(spectrum)
    lags = np.arange(RATE // 500, RATE // 90)
    return 69 + 12 * np.log2(RATE / lags[np.argmax(line[lags] * (1 - lags / len(x)))] / 440)


def test_a_phrase_ends_with_a_breath_and_chords_become_a_line():
    """A pause of half a second or LONGEST notes end a phrase; of two notes at once the first is sung."""
    notes = [Note(k * 0.5, 0.5, 60 + k % 3, 90) for k in range(singing.LONGEST + 2)]
    split = singing.phrases((*notes, Note(20.0, 1.0, 60, 90), Note(20.01, 1.0, 64, 90)))
    assert [len(phrase) for phrase in split] == [singing.LONGEST, 2, 1]
    assert split[-1] == [Note(20.0, 1.0, 60, 90)]


@needs_voice
def test_words_are_sung_in_tune_and_in_time():
    """Held notes are within a fifth of a semitone of their keys (median); before the first is silence."""
    keys = (57, 60, 64, 62, 59, 57)
    notes = tuple(Note(1.0 + 1.0 * k, 1.0, key, 100) for k, key in enumerate(keys))
    heard = []
    for seed in range(3):
        sound = singing.play(rng(seed), part_of(*notes), 9 * RATE)
        assert sound.shape == (9 * RATE, 2) and np.isfinite(sound).all()
        assert np.abs(sound[: RATE - 500]).max() == 0
        assert np.abs(sound[RATE:-RATE]).max() > 0.01
        heard += [pitch(sound[:, 0], n.start + 0.5, n.start + 0.9) - n.key for n in notes]
    assert abs(np.median(heard)) < 0.2
    assert np.mean(np.abs(heard) < 0.6) > 0.7


@needs_voice
def test_a_short_note_is_sung_too():
    """A phrase of one note of 50 ms, and one of 5 ms, neither fail nor last longer than they should."""
    for length in (0.05, 0.005):
        sound = singing.play(rng(), part_of(Note(0.5, length, 60, 100)), RATE)
        assert np.isfinite(sound).all()
        assert np.abs(sound[int(0.7 * RATE) :]).max() == 0


@needs_voice
def test_a_bend_is_sung():
    """A bend of two semitones from the middle of a note on is heard."""
    part = part_of(Note(0.0, 2.4, 60, 100), bends=((0.0, 0.0), (1.2, 0.0), (1.25, 2.0), (2.4, 2.0)))
    made = [singing.play(rng(seed), part, 3 * RATE)[:, 0] for seed in range(4)]
    rise = [pitch(sound, 1.6, 2.0) - pitch(sound, 0.7, 1.1) for sound in made]
    assert abs(np.median(rise) - 2.0) < 0.5


@needs_voice
def test_most_sung_parts_have_words(tmp_path):
    """A part of vowels is sung with words in about WORDS of the draws."""
    catalogue = Catalogue("train", (), (), {}, (), tmp_path)
    part = part_of(Note(0.0, 0.2, 60, 90))
    kinds = [sounds.choose(rng(seed), part, catalogue, tmp_path).kind for seed in range(60)]
    assert abs(kinds.count("singing") / 60 - sounds.WORDS) < 0.2
    assert set(kinds) == {"singing", "synth"}


def test_without_the_programs_vowels_are_synthesized(tmp_path, monkeypatch):
    """No speech program: the synthesizer's vowels, and no speaker is asked for."""
    monkeypatch.setattr(speech.shutil, "which", lambda name: None)
    part = part_of(Note(0.0, 0.2, 60, 90))
    catalogue = Catalogue("train", (), (), {}, (), tmp_path)
    assert {sounds.choose(rng(seed), part, catalogue, tmp_path).label for seed in range(9)} == {"sung vowels"}


@pytest.mark.skipif(not speech.available(), reason="espeak-ng is not installed")
def test_speakers_say_words_at_their_own_pitch():
    """Each program that is here speaks; a phrase is longer than a tenth of a second."""
    for seed in range(4):
        speaker = speech.draw_speaker(rng(seed))
        samples, rate = speech.spoken(rng(seed), speaker, 3)
        assert len(samples) > rate // 2
        assert np.abs(samples).max() > 0.05
