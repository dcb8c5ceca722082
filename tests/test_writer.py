"""Stems out: encodings, the one gain, and nothing half-written."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import CancelledError
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch

from stemforge.audio import writer as module
from stemforge.audio.writer import BITRATES, Encoding, StemWriter, encoding, sweep, write
from stemforge.errors import OutputError, SpaceError, UsageError
from stemforge.types import Stems

RATE = 44100


def stems(gain: float = 0.3, frames: int = 20000) -> Stems:
    generator = torch.Generator().manual_seed(0)
    return Stems(("bass", "other"), gain * torch.randn(2, 2, frames, generator=generator).clamp(-3, 3), RATE)


def samples(path: Path) -> torch.Tensor:
    return torch.from_numpy(sf.read(path, dtype="float64", always_2d=True)[0].T)


@pytest.mark.parametrize(
    ("code", "subtype", "error"),
    [
        (encoding(), "FLOAT", 0),
        (encoding("wav", "int16"), "PCM_16", 2**-16),
        (encoding("wav", "int24"), "PCM_24", 2**-24),
        (encoding("flac"), "PCM_24", 2**-24),
        (encoding("flac", "int16"), "PCM_16", 2**-16),
        (encoding("mp3"), "MPEG_LAYER_III", None),
        (encoding("ogg"), "VORBIS", None),
    ],
)
def test_encodings(tmp_path: Path, code: Encoding, subtype: str, error: float | None) -> None:
    """Every encoding holds all frames; integers are rounded to the nearest, float keeps every bit."""
    song = stems(0.2)
    written = write(song, tmp_path / "out", code)
    for i, name in enumerate(song.names):
        path = tmp_path / "out" / f"{name}.{code.container}"
        assert written.files[name] == path
        assert sf.info(path).subtype == subtype
        y = samples(path)
        assert y.shape == (2, 20000)
        if error is not None:
            assert (y - song.samples[i]).abs().max() <= error
    assert written.gain == 1 and not written.clipped
    assert len(list((tmp_path / "out").iterdir())) == 2


@pytest.mark.parametrize("bitrate", BITRATES[::3])
def test_mp3_bitrate(tmp_path: Path, bitrate: int) -> None:
    """The mp3 has the bit rate asked for."""
    write(stems(frames=3 * RATE), tmp_path, encoding("mp3", bitrate=bitrate))
    assert (tmp_path / "bass.mp3").stat().st_size * 8 / 3000 == pytest.approx(bitrate, rel=0.06)


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 22050, 24000, 32000, 48000])
@pytest.mark.parametrize("frames", [1, 5000])
def test_mp3_keeps_the_length(tmp_path: Path, rate: int, frames: int) -> None:
    """At every rate of mp3 and the lowest bit rate, all frames come back and no more."""
    written = write(Stems(("bass",), torch.zeros(1, 1, frames), rate), tmp_path, encoding("mp3", bitrate=64))
    assert sf.info(written.files["bass"]).frames == len(sf.read(written.files["bass"])[0]) == frames


@pytest.mark.parametrize(
    ("container", "depth", "bitrate"),
    [("flac", "float32", 320), ("mp3", "int16", 320), ("mp3", None, 100), ("wma", None, 320), ("wav", "int8", 320)],
)
def test_impossible_encodings(container: str, depth: str | None, bitrate: int) -> None:
    """What a container cannot hold is a usage error."""
    with pytest.raises(UsageError):
        encoding(container, depth, bitrate)


def test_mp3_has_a_highest_rate(tmp_path: Path) -> None:
    """mp3 at 96 kHz is refused before anything is made."""
    with pytest.raises(UsageError, match="48000"):
        StemWriter(tmp_path / "out", ("bass",), 96000, 2, encoding("mp3"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("depth", ["int16", "int24"])
def test_one_gain_for_all_stems(tmp_path: Path, depth: str) -> None:
    """When a stem would clip, all stems get the same gain, so that they still sum to the mixture at that gain."""
    song = stems(0.6)
    written = write(song, tmp_path, encoding("wav", depth))
    top = float(song.samples.abs().max())
    assert written.clipped and written.peak == pytest.approx(top)
    assert written.gain == pytest.approx(1 / top, rel=1e-4)
    bits = 16 if depth == "int16" else 24
    for i, name in enumerate(song.names):
        assert (samples(tmp_path / f"{name}.wav") - written.gain * song.samples[i]).abs().max() <= 2.0**-bits * 1.01


def test_float_keeps_overshoot_and_clamp_cuts_it(tmp_path: Path) -> None:
    """Float keeps samples beyond full scale as they are; `clamp` cuts them, `rescale` turns all down."""
    song = stems(0.6)
    assert write(song, tmp_path / "a").gain == 1
    assert torch.equal(samples(tmp_path / "a" / "bass.wav"), song.samples[0].double())
    write(song, tmp_path / "b", clip_mode="clamp")
    assert torch.equal(samples(tmp_path / "b" / "bass.wav"), song.samples[0].double().clamp(-1, 1))
    gain = write(song, tmp_path / "c", clip_mode="rescale").gain
    assert gain < 1
    assert (samples(tmp_path / "c" / "bass.wav") - gain * song.samples[0].double()).abs().max() < 1e-6
    assert write(song, tmp_path / "d", encoding("wav", "int16"), "none").gain == 1
    with pytest.raises(UsageError, match="clip mode"):
        write(song, tmp_path / "e", clip_mode="tanh")


@pytest.mark.parametrize("code", [encoding(), encoding("flac"), encoding("mp3")])
def test_same_samples_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: Encoding) -> None:
    """Written twice, at another second, a stem is the same file bit by bit."""
    write(stems(), tmp_path / "a", code)
    program = "import time; start = time.time()\nwhile int(time.time()) == int(start): time.sleep(0.02)"
    subprocess.run([sys.executable, "-c", program], check=True)
    write(stems(), tmp_path / "b", code)
    for name in ("bass", "other"):
        file = f"{name}.{code.container}"
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_failure_leaves_nothing(tmp_path: Path) -> None:
    """When the block inside fails, files and folders that were made are gone; what was there stays."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "mine.txt").write_text("mine")
    folder = tmp_path / "a" / "b" / "c"
    with pytest.raises(KeyboardInterrupt), StemWriter(folder, ("bass",), RATE, 1, Encoding()) as writer:
        writer.write(torch.zeros(1, 1, 100))
        assert list(folder.iterdir())
        raise KeyboardInterrupt
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["mine.txt"]


def test_samples_that_are_not_finite_are_never_written(tmp_path: Path) -> None:
    """A block with NaN is a mistake of the caller, and leaves nothing."""
    with (
        pytest.raises(ValueError, match="finite"),
        StemWriter(tmp_path / "a", ("bass",), RATE, 1, Encoding()) as writer,
    ):
        writer.write(torch.full((1, 1, 10), float("nan")))
    assert not (tmp_path / "a").exists()


def test_dropped_stem_and_large_files(tmp_path: Path) -> None:
    """A stem to drop is not named; beyond 4 GB a wav is RF64."""
    with StemWriter(tmp_path, ("bass", "residual"), RATE, 2, Encoding(), frames=2**30) as writer:
        writer.write(stems().samples)
        written = writer.finish(drop=("residual",))
    assert [path.name for path in tmp_path.iterdir()] == ["bass.wav"]
    assert written.frames == 20000
    assert sf.info(tmp_path / "bass.wav").format == "RF64"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="limits are of posix")
def test_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write that the disk refuses is told as such, and leaves nothing."""

    def refuse(self: sf.SoundFile, data: np.ndarray) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(module.soundfile.SoundFile, "write", refuse)
    with pytest.raises(SpaceError, match="no space left"):
        write(stems(), tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_folder_that_is_a_file(tmp_path: Path) -> None:
    """A file in the place of the folder is an output error."""
    (tmp_path / "a").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        write(stems(), tmp_path / "a" / "b")


def test_sweep(tmp_path: Path) -> None:
    """Hidden files of writers go, all others stay; with a prefix, only those of that song."""
    assert sweep(tmp_path / "none") == []
    for name in (".bass.12.part", ".0a1b.bass.2.13.part", "bass.wav", ".mine", "x.7.part"):
        (tmp_path / name).write_text("")
    assert sweep(tmp_path, "0a1b.") == [".0a1b.bass.2.13.part"]
    assert sweep(tmp_path) == [".bass.12.part"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [".mine", "bass.wav", "x.7.part"]


def test_other_names(tmp_path: Path) -> None:
    """Stems can be given paths of their own; folders made for them go when writing fails."""
    names = ("bass", "other")
    files = {name: tmp_path / "new" / name / "song.wav" for name in names}
    with StemWriter(tmp_path / "new", names, RATE, 2, Encoding(), files=files, prefix="ab.", jobs=2) as writer:
        writer.write(stems().samples)
        assert sorted(path.name.split(".")[1] for path in (tmp_path / "new").iterdir()) == ["ab", "ab"]
        writer.finish()
    assert torch.equal(samples(files["bass"]).float(), stems().samples[0])
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.*")) == [
        "new/bass/song.wav",
        "new/other/song.wav",
    ]


@pytest.mark.parametrize("name", ["../bass", "a/b", "a\\b", "", "..", ".bass", "C:x", "a\nb"])
def test_stem_names_stay_in_the_folder(tmp_path: Path, name: str) -> None:
    """A stem of a strange checkpoint cannot lead out of the folder."""
    with pytest.raises(OutputError, match="cannot be the name of a file"):
        StemWriter(tmp_path / "out", (name,), RATE, 2, Encoding())


@pytest.mark.parametrize("container", ["wav", "flac", "mp3", "ogg"])
def test_tags(tmp_path: Path, container: str) -> None:
    """Tags of the song are those of its stems, with the stem behind the title; the samples are the same."""
    tags = {"title": "A\nB", "artist": "Früh", "date": "1999", "software": "x", "comment": "y"}
    found = {}
    for name, given in (("a", tags), ("b", {})):
        code = encoding(container)
        with StemWriter(tmp_path / name, ("bass", "other"), RATE, 2, code, tags=given) as writer:
            writer.write(stems().samples)
            found[name] = writer.finish().files["other"]
    with sf.SoundFile(found["a"]) as file:
        kept = {name: getattr(file, name) for name in ("title", "artist", "date")}
    assert kept == {"title": "AB (other)", "artist": "" if container == "mp3" else "Früh", "date": "1999"}
    assert torch.equal(samples(found["a"]), samples(found["b"]))


def test_opus(tmp_path: Path) -> None:
    """Opus is written at its own rates with all frames, and refused at others."""
    sound = Stems(("bass",), stems(frames=48000).samples[:1], 48000)
    written = write(sound, tmp_path, encoding("opus"))
    assert sf.info(written.files["bass"]).subtype == "OPUS" and written.files["bass"].suffix == ".opus"
    with pytest.raises(UsageError, match="opus at 44100 Hz"):
        write(stems(), tmp_path, encoding("opus"))


def test_cancelled(tmp_path: Path) -> None:
    """A writer that is told to give up while it encodes leaves nothing."""
    with (
        pytest.raises(CancelledError),
        StemWriter(tmp_path / "new", ("bass", "other"), RATE, 1, Encoding("flac", 16)) as writer,
    ):
        writer.write(torch.zeros(2, 1, 9))
        writer.cancel()
        writer.finish()
    assert not list(tmp_path.iterdir())
