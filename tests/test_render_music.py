"""The songs themselves: chords, players, melodies, MIDI files, excerpts."""

from __future__ import annotations

from dataclasses import replace

import mido
import numpy as np
import pytest

from stemforge.data import guitars, keyboards, melodies, rhythm, songs
from stemforge.data.compose import RANGE, REGISTERS, compose, recast
from stemforge.data.harmony import KINDS, LOOPS, Chord, parse_loop, random_loop
from stemforge.data.midi import read_midi, stem_of
from stemforge.data.mma import Family, _tracks, chart_text
from stemforge.data.plans import STYLES, draw_plan
from stemforge.data.score import Note, Part, Score, excerpt, folded, humanise, scaled, swung, transposed
from stemforge.errors import InputError
from tiny_assets import write_song

METRES = (3, 4, 6)
PLAYERS = {
    **{f"{name} guitar": player for name, player in guitars.PLAYERS.items()},
    **{f"{name} piano": player for name, player in keyboards.PLAYERS.items()},
    "bass": rhythm.bass_line, "drums": rhythm.drum_beat, "pad": melodies.pad, "sequence": melodies.sequence,
    "stabs": melodies.stabs, "counter": melodies.counter,
}  # fmt: skip


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("loop", sorted({loop for loops in LOOPS.values() for loop in loops}))
def test_every_loop_is_made_of_known_chords(loop):
    """A loop parses in every metre, its chords start inside their bar, and all kinds have intervals."""
    for beats in METRES:
        for bar in parse_loop(loop, 7, beats):
            assert [start for start, _ in bar] == sorted({start for start, _ in bar})
            assert all(0 <= start < beats and chord.kind in KINDS for start, chord in bar)


def test_a_loop_is_transposed_to_its_key():
    """I vi IV V7 in E flat is Eb Cm Ab Bb7, and a comma halves the bar."""
    bars = parse_loop("0 9m 5 7:7,0", 3, 4)
    assert [chord.name for bar in bars for _, chord in bar] == ["Eb", "Cm", "Ab", "Bb7", "Eb"]
    assert [start for start, _ in bars[3]] == [0, 2]


@pytest.mark.parametrize("seed", range(6))
def test_random_loops_parse(seed):
    """Walks over the scale degrees give four or eight bars of known chords."""
    bars = parse_loop(random_loop(rng(seed), minor=seed % 2 == 0), 0, 4)
    assert len(bars) in (4, 8)
    assert all(chord.kind in KINDS for bar in bars for _, chord in bar)


@pytest.mark.parametrize("metre", METRES)
@pytest.mark.parametrize("name", PLAYERS)
def test_every_player_stays_inside_the_song(name, metre):
    """In any metre a player plays on the keys of MIDI, from the first bar to the last, and nothing has no length."""
    for seed in range(3):
        plan = draw_plan(rng(seed), 30.0, metre)
        notes = PLAYERS[name](rng(seed), plan)
        assert notes
        assert all(0 <= note.key <= 127 and 1 <= note.velocity <= 127 and note.length > 0 for note in notes)
        assert min(note.start for note in notes) >= 0
        assert max(note.start for note in notes) < len(plan.bars) * plan.beats


@pytest.mark.parametrize("bendy", [False, True])
def test_a_lead_stays_in_its_register(bendy):
    """A melody keeps to its range (grace notes and thirds a little below), and bends come in order within a tone."""
    low, high = REGISTERS["guitar"]
    for seed in range(5):
        plan = draw_plan(rng(seed), 40.0)
        notes, bends = melodies.lead(rng(seed), plan, low, high, bendy)
        assert all(low - 12 <= note.key <= high for note in notes)
        assert all(abs(semitones) <= 2 for _, semitones in bends)
        assert bendy or not bends


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_guitar_chord_has_the_notes_of_its_chord(kind):
    """Every key of a voicing is a tone of the chord, the lowest is the root, and it lies on a guitar."""
    for root in range(12):
        keys = guitars.voicing(Chord(root, kind), 40)
        assert keys[0] % 12 == root
        assert {key % 12 for key in keys} <= set(Chord(root, kind).pitches)
        assert 40 <= keys[0] <= 52
        assert keys[-1] <= 84


def test_close_voicings_move_little():
    """The next chord is taken in the inversion near the last one."""
    before = keyboards.close_voicing(Chord(0, ""), [], 60, 3)
    after = keyboards.close_voicing(Chord(5, ""), before, 60, 3)
    assert {key % 12 for key in after} == {0, 5, 9}
    assert abs(np.mean(after) - np.mean(before)) <= 4


@pytest.mark.parametrize("style", sorted(STYLES))
def test_plans_fill_the_time_they_are_given(style, monkeypatch):
    """The bars of a plan last about as long as asked, and each begins its sections at place 0."""
    monkeypatch.setattr("stemforge.data.plans.STYLES", {style: STYLES[style]})
    plan = draw_plan(rng(3), 60.0)
    assert plan.style == style
    assert plan.seconds == pytest.approx(60.0, abs=12.0)
    assert [bar.index for bar in plan.bars] == list(range(len(plan.bars)))
    assert {bar.section for bar in plan.bars if bar.place == 0} == set(range(len(plan.form)))


def test_swing_moves_the_off_beat_alone():
    """With swing 2/3 the second eighth comes at two thirds; beats stay; lengths stay positive."""
    straight = [Note(beat / 2, 0.5, 60, 90) for beat in range(4)]
    assert [note.start for note in swung(straight, 2 / 3)] == pytest.approx([0, 2 / 3, 1, 5 / 3])
    assert sum(note.length for note in swung(straight, 2 / 3)) == pytest.approx(2.0)
    assert swung(straight, 0.5) == straight


def test_human_timing_is_as_wide_as_asked():
    """Deviations in beats are the seconds asked for at the tempo of the song."""
    notes = [Note(float(i), 1.0, 60, 90) for i in range(1, 2001)]
    moved = humanise(notes, rng(), tempo=120.0, timing=0.01, force=5.0)
    shifts = [after.start - before.start for before, after in zip(notes, moved, strict=True)]
    assert np.std(shifts) == pytest.approx(0.02, rel=0.1)
    assert np.std([note.velocity for note in moved]) == pytest.approx(5.0, rel=0.1)


def test_composed_songs_depend_on_their_generator_alone(monkeypatch):
    """The same generator state gives the same song; another one gives another."""
    monkeypatch.setattr("stemforge.data.mma.draw_family", lambda generator, held_out: None)
    assert compose(rng(1), 20.0, False) == compose(rng(1), 20.0, False)
    assert compose(rng(1), 20.0, False) != compose(rng(2), 20.0, False)


def test_most_songs_have_all_rhythm_stems_and_some_lack_one(monkeypatch):
    """Of our own songs 80 to 95 in 100 have bass, drums, guitar and piano together."""
    monkeypatch.setattr("stemforge.data.mma.draw_family", lambda generator, held_out: None)
    full = [{"bass", "drums", "guitar", "piano"} <= compose(rng(i), 12.0, False).stems() for i in range(100)]
    assert 80 <= sum(full) <= 95


def test_a_chart_names_a_chord_a_beat():
    """The chart has a groove for each section and one mark for each beat of each bar."""
    plan = draw_plan(rng(4), 30.0, 4)
    text = chart_text(rng(4), plan, Family("stdlib/x", 4, ("XA", "XB"), ("XIntro",), ("XFill",)))
    lines = text.splitlines()
    bars = [line.split() for line in lines if line[0].isdigit()]
    assert lines[2] == "Use stdlib/x"
    assert [int(bar[0]) for bar in bars] == list(range(1, len(plan.bars) + 1))
    assert all(len(bar) == 5 and bar[1] == plan.bars[i].chords[0][1].name for i, bar in enumerate(bars))
    assert any(line.startswith("Groove X") for line in lines)


def test_tracks_of_the_band_go_to_stems_by_name_then_program():
    """Drums and basses are known by their track names, whatever their program; the others by program."""
    file = mido.MidiFile(ticks_per_beat=192)
    for name, channel, program in (
        ("Drum-Kick", 9, 0),
        ("Bass", 1, 26),
        ("Walk", 2, 33),
        ("Chord", 3, 26),
        ("Solo", 4, 73),
    ):
        track = mido.MidiTrack([mido.MetaMessage("track_name", name=name)])
        track.append(mido.Message("program_change", channel=channel, program=program))
        track.append(mido.Message("note_on", channel=channel, note=40, velocity=80, time=192))
        track.append(mido.Message("note_off", channel=channel, note=40, time=96))
        file.tracks.append(track)
    parts = _tracks(file)
    assert [part.stem for part in parts] == ["drums", "bass", "bass", "guitar", "other"]
    assert [part.program for part in parts[1:3]] == [33, 33]
    assert all(part.notes == (Note(1.0, 0.5, 40, 80),) for part in parts)


@pytest.mark.parametrize(
    ("program", "channel", "stem"),
    [(0, 0, "piano"), (7, 1, "piano"), (24, 2, "guitar"), (31, 3, "guitar"), (32, 4, "bass"), (39, 5, "bass"),
     (8, 0, "other"), (16, 0, "other"), (40, 0, "other"), (127, 0, "other"), (25, 9, "drums")],
)  # fmt: skip
def test_programs_belong_to_stems(program, channel, stem):
    """General MIDI families as the data format defines them."""
    assert stem_of(program, channel) == stem


def test_a_midi_file_is_read_in_seconds(tmp_path):
    """Tempo, programs, controllers and bends of a file come out as parts in seconds."""
    file = mido.MidiFile(ticks_per_beat=480)
    track = mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=1_000_000)])
    track.append(mido.Message("program_change", channel=2, program=30))
    for control, value in ((101, 0), (100, 0), (6, 12), (64, 127)):
        track.append(mido.Message("control_change", channel=2, control=control, value=value))
    track.append(mido.Message("pitchwheel", channel=2, pitch=4096, time=480))
    track.append(mido.Message("note_on", channel=2, note=50, velocity=70))
    track.append(mido.Message("note_on", channel=2, note=50, velocity=0, time=240))
    file.tracks.append(track)
    file.save(tmp_path / "a.mid")
    (part,) = read_midi(tmp_path / "a.mid").parts
    assert (part.stem, part.program) == ("guitar", 30)
    assert part.notes == (Note(1.0, 0.5, 50, 70),)
    assert part.bends == ((1.0, 6.0),)
    assert part.controls == ((0.0, 64, 127),)


@pytest.mark.parametrize("content", [b"", b"MThd", b"no midi at all"])
def test_a_broken_midi_file_is_named(tmp_path, content):
    """What is no MIDI file gives one line with its name."""
    (tmp_path / "bad.mid").write_bytes(content)
    with pytest.raises(InputError, match=r"bad\.mid"):
        read_midi(tmp_path / "bad.mid")


def test_an_excerpt_remembers_its_controllers():
    """A cut keeps what sounds in it, moved to its start, with the last controller and bend from before."""
    notes = (Note(0.0, 1.0, 60, 90), Note(1.5, 1.0, 62, 90), Note(3.0, 1.0, 64, 90))
    part = Part("piano", "human", 0, notes, bends=((0.5, 1.0), (2.5, 0.0)), controls=((0.1, 64, 127), (1.0, 7, 80)))
    cut = excerpt(Score("x", 4.0, (part,)), 2.0, 1.5).parts[0]
    assert cut.notes == (Note(0.0, 0.5, 62, 90), Note(1.0, 0.5, 64, 90))
    assert cut.controls == ((0.0, 7, 80), (0.0, 64, 127))
    assert cut.bends == ((0.0, 1.0), (0.5, 0.0))


def test_a_human_song_is_cast_anew(tmp_path):
    """Tempo and key change together for all but the drums, and the cast stays among the six stems; some sing."""
    song = read_midi(write_song(tmp_path / "song.mid"))
    drums = next(part for part in song.parts if part.stem == "drums")
    seen, sung = set(), 0
    for seed in range(12):
        made = recast(rng(seed), song)
        factor, shift = made.details["tempo_factor"], made.details["transposed"]
        seen.add((factor, shift))
        assert 0.85 <= factor <= 1.15
        assert made.seconds == pytest.approx(song.seconds / factor, rel=1e-3)
        kept = [part for part in made.parts if part.stem == "drums"]
        assert all([n.key for n in part.notes] == [n.key for n in drums.notes] for part in kept)
        assert made.stems() <= {"bass", "drums", "guitar", "piano", "other", "vocals"}
        for part in made.parts:
            if part.stem == "vocals":
                assert part.role == "vowels" and all(RANGE[0] <= note.key <= RANGE[1] for note in part.notes)
                sung += 1
    assert len(seen) == 12 and 1 <= sung <= 11


def test_only_lines_are_sung():
    """A part of chords stays with its instrument, whatever is drawn."""
    chords = tuple(Note(beat, 1.0, key, 90) for beat in range(8) for key in (60, 64, 67))
    song = Score("x", 8.0, (Part("other", "human", 48, chords), Part("drums", "drums", 0, chords)))
    assert not any("vocals" in recast(rng(seed), song).stems() for seed in range(40))


def test_a_lacking_stem_is_handed_over_from_other(tmp_path):
    """A song without guitar often gets one from a part of `other`."""
    song = read_midi(write_song(tmp_path / "song.mid", programs=(33, 48, 56, 0)))
    with_guitar = ["guitar" in recast(rng(seed), song).stems() for seed in range(20)]
    assert 8 <= sum(with_guitar) <= 20


def test_keys_are_moved_safely():
    """Folding is by octaves into the range; transposition leaves drums alone and drops what leaves MIDI."""
    notes = (Note(0, 1, 20, 90), Note(0, 1, 60, 90), Note(0, 1, 100, 90))
    assert [note.key for note in folded(notes, 40, 70)] == [44, 60, 64]
    part = Part("guitar", "human", 25, (*notes, Note(0, 1, 126, 90)))
    assert [note.key for note in transposed(part, 5).notes] == [25, 65, 105]
    drums = replace(part, stem="drums")
    assert transposed(drums, 5) == drums


def test_a_faster_song_is_shorter_throughout():
    """Notes, bends and controllers scale together."""
    part = Part("bass", "human", 33, (Note(2, 1, 40, 90),), bends=((2.0, 1.0),), controls=((4.0, 7, 90),))
    fast = scaled(Score("x", 10.0, (part,)), 2.0)
    assert fast.seconds == 5.0
    assert fast.parts[0].notes == (Note(1, 0.5, 40, 90),)
    assert fast.parts[0].bends == ((1.0, 1.0),)
    assert fast.parts[0].controls == ((2.0, 7, 90),)


def test_now_and_then_a_part_plays_in_another_octave():
    """A bass higher, guitars lower or higher, pianos either way, about one part in twelve; the others never."""
    note = (Note(1.0, 0.5, 50, 90),)
    stems = ("bass", "drums", "guitar", "other", "piano")
    song = Score("x", 9.0, tuple(Part(stem, "comp", 0, note) for stem in stems))
    steps = {part.stem: [] for part in song.parts}
    for seed in range(600):
        for part in songs._moved(rng(seed), song).parts:
            steps[part.stem].append(part.notes[0].key - 50)
            assert (part.notes[0].start, part.notes[0].length) == (1.0, 0.5)
    assert set(steps["drums"]) == set(steps["other"]) == {0}
    assert (set(steps["bass"]), set(steps["guitar"]), set(steps["piano"])) == ({0, 12}, {0, -12, 12}, {0, -12, 12})
    assert all(abs(np.mean(np.array(steps[stem]) != 0) - songs.MOVED) < 0.04 for stem in songs.OCTAVES)
