"""Rendering whole songs from assets of our own."""

from __future__ import annotations

import hashlib
import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from stemforge.cli.data import app
from stemforge.data import forbidden as listed
from stemforge.data.catalogue import HELD_OUT_MAPS, HELD_OUT_PRESETS, HELD_OUT_SONGS, Catalogue, open_catalogue
from stemforge.data.forbidden import Forbidden, forbidden, refuse_forbidden
from stemforge.data.levels import PEAK
from stemforge.data.mma import HELD_OUT_FAMILIES
from stemforge.data.render import render, render_song
from stemforge.data.score import STEMS
from stemforge.errors import InputError, OutputError, UsageError
from tiny_assets import tone, write_assets, write_instrument, write_song

LONGEST = 3.0
HOURS = 6 / 3600


@pytest.fixture(scope="module")
def assets(tmp_path_factory):
    return write_assets(tmp_path_factory.mktemp("assets"))


@pytest.fixture(scope="module")
def rendered(assets, tmp_path_factory):
    out = tmp_path_factory.mktemp("rendered")
    rows = []
    report = render(assets, out, HOURS, seed=5, format="npy", longest=LONGEST, on_song=lambda row, _: rows.append(row))
    return out, report, rows


def digests(out: Path) -> dict[str, str]:
    files = sorted(path for path in out.rglob("*") if path.is_file())
    return {str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_a_song_is_a_folder_of_int16_stems(rendered):
    """Each stem is int16 (time, 2), memory-mappable and as long as the others; song.json is beside them."""
    out, _, rows = rendered
    assert len(rows) >= 2
    for row in rows:
        folder = out / f"{row['index']:06d}"
        stems = {path.stem: np.load(path, mmap_mode="r") for path in folder.glob("*.npy")}
        assert set(stems) == set(row["stems"]) <= set(STEMS)
        assert {stem.dtype for stem in stems.values()} == {np.dtype(np.int16)}
        assert {stem.shape for stem in stems.values()} == {(round(row["seconds"] * 44100), 2)}
        assert json.loads((folder / "song.json").read_text()) == row


def test_the_sum_of_the_stems_is_a_mixture_that_does_not_clip(rendered):
    """The int16 stems add up within the common peak, and the loudest of mixture and stems uses it or stays below."""
    out, _, rows = rendered
    for row in rows:
        stems = [np.load(path).astype(np.int32) for path in (out / f"{row['index']:06d}").glob("*.npy")]
        assert np.abs(sum(stems)).max() <= PEAK * 32767 + len(stems)
        assert max(np.abs(stem).max() for stem in stems) > 1000


def test_levels_are_those_of_the_manifest(rendered):
    """The active RMS of each written stem is its drawn level and the common gain, within the fades."""
    _, _, rows = rendered
    for row in rows:
        for stem, level in row["loudness_db"].items():
            assert level == pytest.approx(row["stems"][stem]["level_db"] + row["gain_db"], abs=1.5)


def test_manifest_and_report_agree_with_the_songs(rendered):
    """manifest.jsonl has one line a song in order; the report counts them and their stems."""
    out, report, rows = rendered
    lines = [json.loads(line) for line in (out / "manifest.jsonl").read_text().splitlines()]
    assert [line["folder"] for line in lines] == [f"{i:06d}" for i in range(len(rows))]
    assert report == json.loads((out / "report.json").read_text())
    assert report["songs"] == len(rows)
    assert report["hours"] == pytest.approx(sum(row["seconds"] for row in rows) / 3600, abs=1e-4)
    assert 0 <= report["share_of_time_with_4_stems"] <= report["share_of_time_with_2_stems"] <= 1
    for stem, found in report["stems"].items():
        assert found["songs"] == sum(stem in row["stems"] for row in rows)
    cuts = [(row, stem) for row in rows for stem, made in row["stems"].items() if made["cut_hz"]]
    assert cuts
    assert all("bass" in row["stems"] and stem in ("piano", "other") for row, stem in cuts)


def test_two_processes_give_the_same_bytes(assets, rendered, tmp_path):
    """Everything written with two jobs is bit-identical to what one job wrote."""
    render(assets, tmp_path, HOURS, seed=5, jobs=2, format="npy", longest=LONGEST)
    assert digests(tmp_path) == digests(rendered[0])


def test_a_song_depends_on_its_number_and_the_seed_alone(assets, rendered, tmp_path):
    """Song 1 rendered alone equals song 1 of a run; with another seed it differs."""
    catalogue = open_catalogue(assets, "train", tmp_path)
    stems, _ = render_song(catalogue, 5, 1, LONGEST)
    for stem, samples in stems.items():
        assert np.array_equal(samples, np.load(rendered[0] / "000001" / f"{stem}.npy"))
    assert render_song(catalogue, 6, 1, LONGEST)[1] != render_song(catalogue, 5, 1, LONGEST)[1]


def test_a_stopped_run_goes_on(assets, rendered, tmp_path):
    """Finished songs are kept as they are, missing ones are made, and the result is that of one run."""
    out = tmp_path / "out"
    render(assets, out, 1 / 3600, seed=5, format="npy", longest=LONGEST)
    before = (out / "000000" / "song.json").stat().st_mtime_ns
    (out / ".000001.99999").mkdir()
    render(assets, out, HOURS, seed=5, format="npy", longest=LONGEST)
    assert (out / "000000" / "song.json").stat().st_mtime_ns == before
    assert digests(out) == digests(rendered[0])


def test_songs_of_another_seed_are_not_mixed_in(assets, tmp_path):
    """A folder that holds songs of another seed is refused."""
    render(assets, tmp_path, 1 / 3600, seed=5, format="npy", longest=LONGEST)
    with pytest.raises(OutputError, match="another seed"):
        render(assets, tmp_path, 1 / 3600, seed=6, format="npy", longest=LONGEST)


@pytest.mark.parametrize("format", ["wav", "flac"])
def test_sound_files_hold_the_same_samples(assets, rendered, tmp_path, format):
    """WAV and FLAC stems are 44.1 kHz stereo and equal the npy ones."""
    render(assets, tmp_path, 1 / 3600, seed=5, format=format, longest=LONGEST)
    for path in sorted((tmp_path / "000000").glob(f"*.{format}")):
        samples, rate = soundfile.read(path, dtype="int16", always_2d=True)
        assert rate == 44100
        assert np.array_equal(samples, np.load(rendered[0] / "000000" / f"{path.stem}.npy"))


def test_train_and_valid_share_no_song_and_no_held_out_sound(assets, tmp_path):
    """A held-out song is only in valid, all others only in train; presets are split likewise."""
    write_instrument(tmp_path / "assets" / "sfz" / "meatbass", "meatbass_pizz")
    write_instrument(tmp_path / "assets" / "sfz" / "pastabass", "linguine")
    for name in ("first", "d_e1m3"):
        write_song(tmp_path / "assets" / "midi" / f"{name}.mid")
    train = open_catalogue(tmp_path / "assets", "train", tmp_path / "work")
    valid = open_catalogue(tmp_path / "assets", "valid", tmp_path / "work")
    assert [path.stem for path in train.songs] == ["first"]
    assert [path.stem for path in valid.songs] == ["d_e1m3"]
    assert [made.name for made in train.maps] == ["linguine"]
    assert [made.name for made in valid.maps] == ["meatbass_pizz"]
    for font, stems in HELD_OUT_PRESETS.items():
        for stem in stems:
            for program in range(128):
                assert train.allows(font, stem, program) != valid.allows(font, stem, program)


def test_held_out_lists_have_no_doubles():
    """The lists of what validation alone uses name each thing once."""
    for names in (HELD_OUT_MAPS, HELD_OUT_SONGS, HELD_OUT_FAMILIES):
        assert len(set(names)) == len(names)


def test_one_font_never_plays_other(tmp_path):
    """sf_GMbank is of the family that plays `other` in the final test: it plays the other four stems alone."""
    fonts = (tmp_path / "FluidR3Mono_GM.sf3", tmp_path / "sf_GMbank.sf2")
    for split in ("train", "valid"):
        catalogue = Catalogue(split, fonts, (), {}, (), tmp_path)
        assert [path.stem for path in catalogue.fonts_of("other")] == ["FluidR3Mono_GM"]
        assert "sf_GMbank" in [path.stem for path in catalogue.fonts_of("bass")]


@pytest.mark.parametrize(
    "name",
    [
        "fonts/GeneralUser GS v1.471.sf2", "fonts/TimGM6mb.sf3", "fonts/MuseScore_General_Lite.sf3",
        "sfz/emilyguitar/a.sfz",
        "sfz/karoryfer.growlybass/a.sfz", "sfz/SplendidGrandPiano/a.sfz", "sfz/gogodze-phu-vol-2/a.sfz",
        "midi/48-Techno-movement.mid", "midi/my copies/be_sharp_bw_redfarn.MID",
    ],
)  # fmt: skip
def test_test_material_is_refused_by_name(tmp_path, name):
    """A forbidden font, pack or song anywhere under the assets stops the run with a line that names it."""
    path = tmp_path / name
    path.parent.mkdir(parents=True)
    path.write_bytes(b"anything")
    with pytest.raises(InputError, match=r"refused '.*test material") as error:
        refuse_forbidden(tmp_path)
    assert path.name in str(error.value)


def test_test_material_is_refused_by_its_bytes(assets, tmp_path, monkeypatch):
    """A renamed copy of a forbidden file is found by sha256 before anything is rendered."""
    copy = tmp_path / "assets" / "midi" / "harmless.mid"
    write_song(copy)
    digest = hashlib.sha256(copy.read_bytes()).hexdigest()
    refuse_forbidden(tmp_path / "assets")
    monkeypatch.setattr(listed, "forbidden", lambda: Forbidden((), frozenset(), {digest: "the song X"}))
    with pytest.raises(InputError, match=r"harmless\.mid.*the song X"):
        render(tmp_path / "assets", tmp_path / "out", HOURS)
    assert not (tmp_path / "out").exists()


def test_the_list_of_test_material_is_whole():
    """It has the songs of both games, five kinds of soundfonts or more, the dev clips, and well-formed hashes."""
    table = forbidden()
    assert len(table.songs) == 84
    assert all(len(digest) == 64 and int(digest, 16) for digest in table.hashes)
    kinds = [" ".join(what.split()[:2]) for what in table.hashes.values()]
    assert kinds.count("the simutrans") == 53
    assert kinds.count("the OpenMSX") == 31
    assert kinds.count("the soundfont") >= 5
    assert kinds.count("the dev") >= 40


@pytest.mark.parametrize("package", ["pysfizz", "pedalboard", "mido", "tinysoundfont"])
def test_a_missing_package_is_named_with_its_command(assets, tmp_path, monkeypatch, package):
    """Without one of the packages that rendering needs the error says which one and how to install it."""
    copy = write_assets(tmp_path / "assets")
    (copy / "fonts").mkdir()
    (copy / "fonts" / "any.sf2").write_bytes(b"RIFF")
    monkeypatch.setitem(sys.modules, package, None)
    for name in ("pysfizz", "pedalboard", "mido"):
        if name != package:
            monkeypatch.setitem(sys.modules, name, sys)
    with pytest.raises(InputError, match=rf"'{package}' is missing.*make data-env.*pip install") as error:
        render(copy, tmp_path / "out", HOURS)
    assert ("--no-deps" in str(error.value)) == (package == "tinysoundfont")


def test_fonts_are_not_needed(assets, rendered):
    """Assets without fonts render without tinysoundfont: all voices are sampled maps or our synthesizer."""
    voices = {part["voice"] for row in rendered[2] for made in row["stems"].values() for part in made["parts"]}
    assert all(voice.startswith(("tiny-", "synth", "sung", "espeak")) for voice in voices)


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"hours": 0.0}, UsageError, "hours must be above 0"),
        ({"jobs": 0}, UsageError, "jobs at least 1"),
        ({"split": "test"}, UsageError, "train, valid"),
        ({"format": "mp3"}, UsageError, "npy, wav, flac"),
        ({"assets": Path("nowhere")}, InputError, "docs/data.md"),
    ],
)
def test_impossible_requests_are_refused(assets, tmp_path, changes, error, words):
    """Values that make no sense, and assets that are not there, give one clear line."""
    arguments = {"assets": assets, "out": tmp_path / "out", "hours": HOURS, **changes}
    with pytest.raises(error, match=words):
        render(**arguments)


def test_assets_without_instruments_are_refused(tmp_path):
    """An empty folder is not silently rendered as silence."""
    (tmp_path / "assets").mkdir()
    with pytest.raises(InputError, match="no instruments"):
        render(tmp_path / "assets", tmp_path / "out", HOURS)


def test_the_command_prints_the_report(assets, tmp_path):
    """`stemforge data render` renders and prints songs, hours and loudness; with --json as one object."""
    options = ["--assets", str(assets), "--hours", "0.0003", "--seed", "5", "--longest", "3", "-o", str(tmp_path)]
    plain = CliRunner().invoke(app, ["render", *options, "-q"])
    assert plain.exit_code == 0, plain.output
    assert "songs" in plain.stdout
    assert "dBFS" in plain.stdout
    found = json.loads(CliRunner().invoke(app, ["render", *options, "-q", "--json"]).stdout)
    assert found["event"] == "rendered"
    assert found["songs"] == len(list(tmp_path.glob("0*/song.json")))


def test_a_slim_copy_of_the_assets_has_the_same_instruments(tmp_path, monkeypatch):
    """The copy for a machine without a network holds whole instruments, and they open."""
    full, slim = tmp_path / "full", tmp_path / "slim"
    write_instrument(full / "sfz" / "pastabass", "linguine")
    write_song(full / "midi" / "first.mid")
    shots, piano = full / "samples" / "sonic-pi", full / "samples" / "salamander"
    for folder, names in ((shots, ("bd_a", "sn_a", "hat_a", "bass_thick_c")), (piano, ("A4v6", "A4v10"))):
        folder.mkdir(parents=True)
        for name in names:
            soundfile.write(folder / f"{name}.{'flac' if folder is shots else 'ogg'}", tone(220.0), 44100)
    (full / "fonts").mkdir()
    monkeypatch.setattr(sys, "argv", ["slim_assets.py", str(full), str(slim)])
    runpy.run_path(str(Path(__file__).parents[1] / "scripts" / "slim_assets.py"), run_name="__main__")
    catalogues = [open_catalogue(folder, "train", tmp_path / f"work-{folder.name}") for folder in (full, slim)]
    assert [made.name for made in catalogues[0].maps] == [made.name for made in catalogues[1].maps]
    assert [len(paths) for paths in catalogues[0].shots.values()] == [len(p) for p in catalogues[1].shots.values()]
    assert len(catalogues[1].songs) == 1
