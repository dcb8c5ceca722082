"""Data sets are recognised, their stems sorted, and any crop of any file is what the whole file would give."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st

from songs import moises, msdm, musdb, put, slakh, tone
from stemforge.errors import InputError
from stemforge.train.data import Crops, find_songs, quarantine_of
from stemforge.train.files import Quarantine, StemFile, stem_of
from stemforge.train.layouts import Wanted, find

FIVE = ("bass", "drums", "guitar", "piano", "other")


def names_of(folder: Path, wanted: Wanted) -> list[dict[str, list[str]]]:
    """For each song the file names of each stem."""
    songs = [wanted.of(song) for song in find(folder, wanted)]
    return [{name: [p.stem for p in paths] for name, paths in song.items()} for song in songs]


@pytest.mark.parametrize(
    ("make", "layout", "expected"),
    [
        (musdb, "plain", {"bass": ["bass"], "drums": ["drums"], "other": ["other", "vocals"]}),
        (moises, "folders", {"bass": ["a"], "drums": ["b", "e"], "guitar": ["c", "d"], "other": ["f", "g"]}),
        (
            slakh,
            "slakh",
            {"bass": ["S00"], "drums": ["S01"], "guitar": ["S02", "S03"], "piano": ["S06"], "other": ["S04"]},
        ),
    ],
)
def test_layouts(tmp_path, make, layout, expected):
    """Each data set is known by what is in it; several files make one stem, the voice and the rest go to other."""
    folder = make(tmp_path)
    assert [song.layout for song in find(folder, Wanted(FIVE))] == [layout]
    assert names_of(folder, Wanted(FIVE)) == [expected]


def test_four_classes_and_missing_stems(tmp_path):
    """The layout of MSDM: mono files, a song without a piano has none."""
    found = names_of(msdm(tmp_path), Wanted(FIVE[:4]))
    assert [sorted(song) for song in found] == [["bass", "drums", "guitar", "piano"], ["bass", "drums", "guitar"]]


def test_stems_of_the_network_decide(tmp_path):
    """A network with vocals gets them; one without other leaves the rest out; `parts` overrules both."""
    assert names_of(musdb(tmp_path), Wanted(("vocals", "drums")))[0] == {"vocals": ["vocals"], "drums": ["drums"]}
    assert set(names_of(tmp_path, Wanted(FIVE[:4]))[0]) == {"bass", "drums"}
    rest = Wanted(("vocals", "rest"), {"rest": ("bass", "drums", "other")})
    assert names_of(tmp_path, rest)[0] == {"vocals": ["vocals"], "rest": ["bass", "drums", "other"]}


def test_songs_lie_at_any_depth(tmp_path):
    """Songs below artists and albums are found once, hidden folders are not, and a folder that is a song is one."""
    put(tmp_path / "artist" / "album" / "song" / "Bass.WAV", tone(50))
    put(tmp_path / ".trash" / "song" / "bass.wav", tone(50))
    put(tmp_path / "demo.wav", tone(50))
    (tmp_path / "artist" / "loop").symlink_to(tmp_path)
    assert [song.folder.name for song in find(tmp_path, Wanted(FIVE))] == ["song"]
    assert len(find(tmp_path / "artist" / "album" / "song", Wanted(FIVE))) == 1


def test_splits_side_by_side_are_refused(tmp_path):
    """The root of a data set would mix training with test songs: one line says what to give."""
    musdb(tmp_path / "train"), musdb(tmp_path / "test")
    with pytest.raises(InputError, match=r"train and test side by side"):
        find(tmp_path, Wanted(FIVE))
    with pytest.raises(InputError, match="no such folder"):
        find(tmp_path / "gone", Wanted(FIVE))


def test_a_broken_table_of_slakh_is_passed_over(tmp_path, caplog):
    """metadata.yaml that cannot be read: a warning names it, the other tracks are used."""
    slakh(tmp_path)
    slakh(tmp_path / "more")
    (tmp_path / "Track00001" / "metadata.yaml").write_text("stems: [")
    assert len(find(tmp_path, Wanted(FIVE))) == 1
    assert "metadata.yaml" in caplog.text


def resampled(samples: np.ndarray, rate: int, to: int) -> np.ndarray:
    """The whole file at once."""
    return soxr.resample(samples, rate, to, quality="VHQ").T


@settings(max_examples=25, deadline=None)
@given(
    rate=st.sampled_from([8000, 16000, 22050, 44100, 48000]),
    to=st.sampled_from([8000, 22050, 44100]),
    place=st.floats(0, 1),
    count=st.integers(1, 5000),
)
def test_a_crop_is_that_of_the_whole_file(tmp_path_factory, rate, to, place, count):
    """At any pair of rates, at any place, the crop is within 1e-6 of the same crop of the file resampled whole."""
    path = tmp_path_factory.getbasetemp() / f"noise-{rate}.wav"
    if not path.exists():
        noise = np.random.default_rng(rate).uniform(-0.9, 0.9, (rate, 2))
        soundfile.write(path, noise, rate, subtype="FLOAT")
    whole = resampled(soundfile.read(path, dtype="float32")[0], rate, to)
    stem = stem_of((StemFile.open(path),), to)
    assert stem.frames == round(rate * to / rate) == to
    start = int(place * (stem.frames - 1))
    found = np.zeros((2, count), np.float32)
    stem.read(start, found)
    expected = np.zeros_like(found)
    cut = whole[:, start : start + count]
    expected[:, : cut.shape[1]] = cut
    assert np.abs(found - expected).max() < 1e-6


@pytest.mark.parametrize("suffix", ["wav", "flac", "mp3", "ogg"])
def test_formats(tmp_path, suffix):
    """A crop of each format is that of the file decoded from its beginning; libvorbis seeks a few milliseconds wide."""
    path = put(tmp_path / f"bass.{suffix}", tone(200, 4.0, 22050), 22050)
    whole = soundfile.read(path, dtype="float32")[0].T
    for start in (10000, 40000, 71234):
        found = np.zeros((2, 4000), np.float32)
        StemFile.open(path).read(start, found)
        if suffix != "ogg":
            np.testing.assert_allclose(found, whole[:, start : start + 4000], atol=1e-6)
        assert found.std() == pytest.approx(0.1 / 2**0.5, rel=0.05)


def test_channels(tmp_path):
    """Mono goes to both channels, stereo is averaged for a mono network; more than two are refused by name."""
    left, right = tone(100)[:, 0], tone(300)[:, 0]
    stereo = StemFile.open(put(tmp_path / "s.wav", np.stack([left, right], 1)))
    mono = StemFile.open(put(tmp_path / "m.wav", left[:, None]))
    both, one = np.zeros((2, 500), np.float32), np.zeros((1, 500), np.float32)
    mono.read(0, both)
    stereo.read(0, one)
    np.testing.assert_allclose(both, [left[:500]] * 2, atol=1e-4)
    np.testing.assert_allclose(one[0], (left + right)[:500] / 2, atol=1e-4)
    with pytest.raises(InputError, match=r"six\.wav.*6 channels"):
        StemFile.open(put(tmp_path / "six.wav", tone(100, channels=6)))


def test_several_files_add_up(tmp_path):
    """Two files of different lengths and rates are one stem: their sum, as long as the longer one."""
    paths = [put(tmp_path / "a.wav", tone(100, 2.0)), put(tmp_path / "b.wav", tone(300, 1.0, 16000), 16000)]
    stem = stem_of(tuple(map(StemFile.open, paths)), 8000)
    assert stem.frames == 16000
    out = np.zeros((2, 2000), np.float32)
    stem.read(3000, out)
    np.testing.assert_allclose(out, (tone(100, 2.0) + np.pad(tone(300), ((0, 8000), (0, 0))))[3000:5000].T, atol=1e-3)


def crops_of(folder: Path) -> Crops:
    songs = find_songs(folder, ("bass", "drums"), 8000)
    return Crops(songs, ("bass", "drums"), 8000, 0.25, 2, 0, (0.5, 0.5, 0, 0, 0), -20.0)


def four_songs(folder: Path) -> Path:
    for k in range(4):
        for j, name in enumerate(("bass", "drums")):
            put(folder / f"song{k}" / f"{name}.wav", tone(60 + 20 * k + 300 * j, 2.0))
    return folder


def test_lost_files_are_silent_counted_and_leave_batches_alone(tmp_path):
    """A file that vanishes is silence wherever it comes; all else stays, in whatever order the steps are asked for."""
    crops = crops_of(four_songs(tmp_path))
    before = [crops.batch(k) for k in range(6)]
    (tmp_path / "song1" / "drums.wav").unlink()
    after = [crops.batch(k) for k in range(6)]
    lost = quarantine_of(crops.songs)
    assert [path.name for path in lost.reasons] == ["drums.wav"]
    assert any(not np.array_equal(a.stems, b.stems) for a, b in zip(before, after, strict=True))
    same = [np.array_equal(a.stems[:, 0], b.stems[:, 0]) for a, b in zip(before, after, strict=True)]
    assert any(same)
    other = crops_of_again(crops)
    for k in reversed(range(6)):
        np.testing.assert_array_equal(other.batch(k).stems, after[k].stems)


def crops_of_again(crops: Crops) -> Crops:
    """The same songs with an empty quarantine, as a run that is resumed has."""
    quarantine_of(crops.songs).reasons.clear()
    return crops


def test_samples_that_are_not_finite_never_reach_a_batch(tmp_path):
    """A crop with NaN is silence and counted; a crop of the same file elsewhere is used."""
    samples = tone(100, 2.0)
    samples[3000] = np.nan
    path = tmp_path / "song" / "bass.wav"
    path.parent.mkdir()
    soundfile.write(path, samples, 8000, subtype="FLOAT")
    songs = find_songs(tmp_path, ("bass",), 8000)
    bad, good = np.zeros((2, 500), np.float32), np.zeros((2, 500), np.float32)
    songs[0].stems["bass"].read(2800, bad)
    songs[0].stems["bass"].read(8000, good)
    assert not bad.any() and good.any()
    assert "not finite" in next(iter(quarantine_of(songs).reasons.values()))


def test_files_that_cannot_be_opened(tmp_path):
    """One broken file among ten is set aside; when all are broken there is nothing to train on."""
    four_songs(tmp_path)
    (tmp_path / "song0" / "bass.wav").write_text("not sound")
    songs = find_songs(tmp_path, ("bass", "drums"), 8000)
    assert [sorted(song.stems) for song in songs] == [["drums"]] + [["bass", "drums"]] * 3
    for path in tmp_path.rglob("*.wav"):
        path.write_text("not sound")
    with pytest.raises(InputError, match="no file can be read"):
        find_songs(tmp_path, ("bass", "drums"), 8000)


def test_too_many_lost_files_end_the_run():
    """More than a tenth of the files gone is a disk that is gone."""
    quarantine = Quarantine(100)
    for k in range(10):
        quarantine.add(Path(f"{k}.wav"), "gone")
    quarantine.check()
    quarantine.add(Path("11.wav"), "gone")
    with pytest.raises(InputError, match=r"11 of 100 stem files cannot be read, first '0\.wav' \(gone\)"):
        quarantine.check()
