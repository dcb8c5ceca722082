"""Recorded people in rendered songs: found, cut out, heard where they should be, and kept apart by split."""

import json

import numpy as np
import pytest
import soundfile

from stemforge.data import people, singing, songs, sounds, speech
from stemforge.data.catalogue import HELD_OUT_PEOPLE, Catalogue, open_catalogue
from stemforge.data.people import Person
from stemforge.data.render import render
from stemforge.data.score import RATE, Note, Part, Score
from tiny_assets import write_assets

SPEECH = Part("vocals", "speech", 54, (Note(0.5, 1.0, 60, 100), Note(2.5, 0.5, 60, 100)), name="speech")


def rng(seed=0):
    return np.random.default_rng(seed)


def recording(path, hz=220.0, seconds=2.0, rate=16000):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, 0.3 * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate), rate)
    return path


def catalogue_of(tmp_path, *everybody):
    return Catalogue("train", (), (), {}, (), tmp_path, people=everybody)


def spectral_peak(sound):
    return np.argmax(np.abs(np.fft.rfft(sound * np.hanning(len(sound))))) * RATE / len(sound)


def test_everybody_is_found_with_all_their_files(tmp_path):
    """One folder a person, speakers first; what is no sound, and an empty folder, do not count."""
    first, second = recording(tmp_path / "spoken/ann/b.wav"), recording(tmp_path / "spoken/ann/deeper/a.flac")
    sung = recording(tmp_path / "sung/bo/la.ogg", rate=44100)
    (tmp_path / "spoken/ann/LICENSE").write_text("CC0")
    (tmp_path / "spoken/nobody").mkdir()
    sizes = [first.stat().st_size + second.stat().st_size, sung.stat().st_size]
    assert people.find(tmp_path) == (
        Person("ann", (first, second), False, sizes[0]),
        Person("bo", (sung,), True, sizes[1]),
    )
    assert people.find(tmp_path / "not there") == ()


def test_who_said_more_is_heard_more_often():
    """Sixteen times as much is four times as often."""
    ann, bo = Person("ann", (), size=1600), Person("bo", (), size=100)
    drawn = [people.somebody(rng(seed), (ann, bo)) for seed in range(500)]
    assert abs(drawn.count(ann) / 500 - 0.8) < 0.06


def test_an_excerpt_of_a_long_recording_has_the_length_asked_for(tmp_path):
    """Its own rate, mono, cut at random places, eased at both ends."""
    soundfile.write(tmp_path / "long.wav", np.stack([np.linspace(0, 1, 80000), np.ones(80000)], axis=1) / 2, 8000)
    person = Person("x", (tmp_path / "long.wav",))
    first, rate = people.excerpt(rng(0), person, 2.0)
    second, _ = people.excerpt(rng(1), person, 2.0)
    assert (rate, first.shape, second.shape) == (8000, (16000,), (16000,))
    assert first[0] == first[-1] == 0 and abs(first[8000] - second[8000]) > 1e-3
    assert np.allclose(np.diff(first[100:-100]), 0.5 / 80000 / 2, atol=1e-4)


def test_short_recordings_are_joined_and_others_rates_left_out(tmp_path):
    """Words of 0.3 s make two seconds; files of another rate than the first are not joined to it."""
    files = tuple(recording(tmp_path / f"{k}.wav", seconds=0.3, rate=16000) for k in range(3))
    odd = recording(tmp_path / "odd.wav", seconds=9.0, rate=8000)
    assert len(people.excerpt(rng(), Person("x", files), 2.0)[0]) == 32000
    for seed in range(6):
        words, rate = people.excerpt(rng(seed), Person("x", (*files, odd)), 2.0)
        assert len(words) == 2 * rate


def test_what_cannot_be_read_is_passed_over(tmp_path):
    """A broken file, an empty one and one that went away cost nothing; nothing but those is silence."""
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"RIFF....")
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), 16000)
    bad = (broken, tmp_path / "gone.wav", tmp_path / "empty.wav")
    good = recording(tmp_path / "good.wav")
    assert np.abs(people.excerpt(rng(), Person("x", (*bad, good)), 1.0)[0]).max() > 0.2
    assert not people.excerpt(rng(), Person("x", bad), 1.0)[0].any()


def test_a_person_is_heard_at_the_notes_and_nowhere_else(tmp_path):
    """A phrase lasts as long as its note; its pitch is that of the recording, moved by two semitones at the most."""
    person = Person("x", (recording(tmp_path / "a.wav", hz=440.0, seconds=5.0),))
    sound = speech.play(rng(), SPEECH, 4 * RATE, person)
    heard = np.abs(sound[:, 0]).reshape(-1, RATE // 20).max(axis=1) > 0.05
    assert np.array_equal(np.flatnonzero(heard), [*range(10, 30), *range(50, 60)])
    assert abs(12 * np.log2(spectral_peak(sound[round(0.6 * RATE) : round(1.4 * RATE), 0]) / 440)) < 2.1
    assert np.array_equal(sound[:, 0], sound[:, 1])


@pytest.mark.skipif(not singing.available((Person("x", ()),)), reason="pyworld is not installed")
def test_a_recorded_person_sings_a_melody(tmp_path):
    """Pulses at 140 Hz, as of a throat, come out at the pitch of the note that is held."""
    rate = 22050
    pulses = np.zeros(4 * rate)
    pulses[:: rate // 140] = 1
    ringing = np.exp(-np.arange(200) / 30) * np.cos(2 * np.pi * 700 / rate * np.arange(200))
    soundfile.write(tmp_path / "a.wav", 0.3 * np.convolve(pulses, ringing)[: 4 * rate], rate)
    person = Person("x", (tmp_path / "a.wav",))
    part = Part("vocals", "vowels", 54, (Note(0.2, 2.0, 60, 110),))
    singer = singing.Singer(person, 1.0, 0.0, 5.0, 4)
    sung = singing._sung(rng(), singer, part, list(part.notes))
    held = sung[round(0.8 * RATE) : round(1.6 * RATE)].astype(np.float64)
    line = np.fft.irfft(np.abs(np.fft.rfft(held, 2 * len(held))) ** 2)
    lags = np.arange(RATE // 500, RATE // 90)
    hz = RATE / lags[np.argmax(line[lags] * (1 - lags / len(held)))]
    assert abs(12 * np.log2(hz / 261.63)) < 0.5


def test_recorded_people_need_no_programs(tmp_path, monkeypatch):
    """Without espeak-ng people speak, and the manifest names who."""
    monkeypatch.setattr(speech.shutil, "which", lambda name: None)
    ann, bo = (
        Person("ann", (recording(tmp_path / "a.wav"),)),
        Person("bo", (recording(tmp_path / "b.wav"),), sings=True),
    )
    catalogue = catalogue_of(tmp_path, ann, bo)
    assert {sounds.choose(rng(s), SPEECH, catalogue, tmp_path).people for s in range(9)} == {(ann,)}
    phrases = speech.draw_part(rng(), 60.0, sung=True)
    voice = sounds.choose(rng(), phrases, catalogue, tmp_path)
    assert (voice.label, voice.people) == ("recorded singing", (bo,))
    assert {speech.draw_speaker(rng(s), (ann, bo)) for s in range(9)} == {ann, bo}
    assert np.abs(sounds.play(rng(), voice, phrases, 60 * RATE)).max() > 0.2


def test_songs_hold_more_voices_where_there_are_people(tmp_path, monkeypatch):
    """Their share of songs, and of sung phrases among them; without anybody no song has speech."""
    monkeypatch.setattr(speech.shutil, "which", lambda name: None)
    song = Score("x", 60.0, (Part("bass", "bass", 33, (Note(0, 30, 40, 90),)),))
    ann, bo = Person("ann", ()), Person("bo", (), sings=True)

    def names(*everybody):
        made = [songs._with_speech(rng(seed), song, everybody) for seed in range(400)]
        return [score.parts[-1].name for score in made if len(score.parts) > 1]

    assert names() == []
    both = names(ann, bo)
    assert abs(len(both) / 400 - songs.WITH_PEOPLE) < 0.07
    assert abs(both.count("singing") / len(both) - songs.AS_SUNG) < 0.13
    assert set(names(ann)) == {"speech"} and set(names(bo)) == {"singing"}


def test_each_person_belongs_to_one_split(tmp_path):
    """Those who are held out are heard in validation songs only, all others in training songs only."""
    assets = write_assets(tmp_path / "assets")
    for name in ("ann", *HELD_OUT_PEOPLE):
        recording(assets / f"voices/spoken/{name}/a.wav", seconds=0.2)
    names = {
        split: {p.name for p in open_catalogue(assets, split, tmp_path / split).people} for split in ("train", "valid")
    }
    assert names == {"train": {"ann"}, "valid": set(HELD_OUT_PEOPLE)}


def test_a_rendered_song_says_who_speaks_in_it(tmp_path, monkeypatch):
    """`data render` with recorded people: a stem vocals, and their names in song.json."""
    monkeypatch.setattr(songs, "WITH_PEOPLE", 1.0)
    monkeypatch.setattr(speech, "RECORDED", 1.0)
    assets = write_assets(tmp_path / "assets")
    recording(assets / "voices/spoken/person1/a.wav", seconds=4.0)
    render(assets, tmp_path / "out", 10 / 3600, seed=3, format="npy", longest=12.0)
    rows = [json.loads(path.read_text()) for path in sorted((tmp_path / "out").glob("*/song.json"))]
    said = [part for row in rows for part in row["stems"].get("vocals", {}).get("parts", ()) if "people" in part]
    assert said and all(part["voice"] == "recorded speech" and part["people"] == ["person1"] for part in said)
