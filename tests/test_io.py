"""Sound files in: every format that is promised, and every fault by name."""

from __future__ import annotations

import logging
import os
import re
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch

from stemforge.audio.io import blocks, probe, read
from stemforge.errors import InputError

RATE = 44100


def sound(frames: int = RATE, channels: int = 2) -> np.ndarray:
    return (0.3 * np.random.default_rng(0).standard_normal((frames, channels))).clip(-1, 1).astype(np.float32)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.wav", {"subtype": "FLOAT"}),
        ("a.wav", {"subtype": "PCM_16"}),
        ("a.flac", {"subtype": "PCM_24"}),
        ("a.aiff", {"subtype": "PCM_24"}),
        ("a.ogg", {}),
        ("a.mp3", {}),
        ("a.rf64", {"format": "RF64", "subtype": "FLOAT"}),
    ],
)
@pytest.mark.parametrize("channels", [1, 2])
def test_formats(tmp_path: Path, name: str, options: dict[str, str], channels: int) -> None:
    """All frames of every format arrive as (channel, time) float32."""
    x = sound(channels=channels)
    sf.write(tmp_path / name, x, RATE, **options)
    audio = read(tmp_path / name)
    assert audio.rate == RATE and audio.samples.dtype == torch.float32
    assert audio.samples.shape == (channels, RATE) and audio.seconds == 1
    if name not in ("a.ogg", "a.mp3"):
        assert np.abs(audio.samples.numpy().T - x).max() < 1e-4


def test_blocks_follow_each_other(tmp_path: Path) -> None:
    """A long file comes in blocks of a few seconds, without gaps."""
    x = sound(400000, 1)
    sf.write(tmp_path / "a.wav", x, RATE, subtype="FLOAT")
    parts = list(blocks(probe(tmp_path / "a.wav")))
    assert len(parts) > 2
    assert np.array_equal(torch.cat(parts, dim=-1).numpy().T, x)


@pytest.mark.parametrize(
    ("name", "contents", "message"),
    [
        ("a.wav", b"", "empty file"),
        ("a.wav", b"these are words, not sound\n" * 50, "not a recognised audio format"),
        ("a.m4a", b"\0\0\0\x20ftypM4A " * 50, r"needs ffmpeg to read \.m4a|ffmpeg cannot read it"),
    ],
)
def test_what_is_no_sound(tmp_path: Path, name: str, contents: bytes, message: str) -> None:
    """A file that is no sound is named with the reason, on one line."""
    path = tmp_path / name
    path.write_bytes(contents)
    with pytest.raises(InputError, match=message) as caught:
        probe(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("subtype", ["mp3", "ogg", "opus", "flac"])
def test_blocks_are_what_a_decoder_gives_that_never_seeks(tmp_path: Path, subtype: str) -> None:
    """The blocks of a lossy file are the samples of the same file read at once, at the edges of blocks as well."""
    path, rate = tmp_path / f"a.{subtype}", 48000
    x = np.tile(np.arange(-0.5, 0.5, 1 / rate)[:, None], (8, 2))  # so simple that an mp3 keeps bits for later
    sf.write(path, x, rate, **({"format": "OGG", "subtype": "OPUS"} if subtype == "opus" else {}))
    whole = sf.read(path, dtype="float32")[0]
    found = torch.cat(list(blocks(probe(path))), dim=-1).T.numpy()
    assert found.shape == whole.shape
    assert np.abs(found - whole).max() == 0


def test_missing_files(tmp_path: Path) -> None:
    """What is not there, or is a folder, is told apart."""
    with pytest.raises(InputError, match="no such file"):
        probe(tmp_path / "song.wav")
    with pytest.raises(InputError, match="pattern"):
        probe(tmp_path / "*.wav")
    with pytest.raises(InputError, match="is a folder"):
        probe(tmp_path)


def test_no_frames(tmp_path: Path) -> None:
    """A header without samples contains no audio."""
    sf.write(tmp_path / "a.wav", np.zeros((0, 2)), RATE)
    with pytest.raises(InputError, match="contains no audio"):
        probe(tmp_path / "a.wav")


def test_too_many_channels(tmp_path: Path) -> None:
    """Six channels are an error that names their number."""
    sf.write(tmp_path / "a.wav", np.zeros((100, 6)), RATE)
    with pytest.raises(InputError, match="6 channels"):
        probe(tmp_path / "a.wav")


@pytest.mark.parametrize("container", ["WAV", "RF64"])
def test_wav_cut_short(tmp_path: Path, caplog: pytest.LogCaptureFixture, container: str) -> None:
    """What is there of a wav that was cut short is used, with a warning of the seconds missing; strict refuses it."""
    path = tmp_path / "a.wav"
    sf.write(path, sound(10 * RATE), RATE, subtype="PCM_16", format=container)
    os.truncate(path, path.read_bytes().index(b"data") + 8 + 4 * RATE * 4)
    with caplog.at_level(logging.WARNING):
        assert read(path).seconds == pytest.approx(4)
    assert "6.0 s are missing" in caplog.text
    with pytest.raises(InputError, match=r"6\.0 s are missing"):
        probe(path, strict=True)


def test_sizes_that_cannot_be(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Headers that promise 2^40 frames cost neither memory nor time: what is there is used, or refused."""
    path = tmp_path / "a.wav"
    sizes = struct.pack("<QQQI", 2**43 + 100, 2**43, 2**40, 0)
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 3, 2, RATE, 8 * RATE, 8, 32)
    head = b"RF64\xff\xff\xff\xffWAVEds64" + struct.pack("<I", len(sizes)) + sizes + form
    path.write_bytes(head + b"data\xff\xff\xff\xff" + bytes(8000))
    assert read(path).samples.shape == (2, 1000)
    assert "is cut short" in caplog.text
    path = tmp_path / "a.flac"
    sf.write(path, sound(5000), RATE)
    data = bytearray(path.read_bytes())
    data[21:26] = bytes((data[21] | 15, 255, 255, 255, 255))
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"damaged after 0\.1 s of 15582"):
        read(path)


def test_wav_of_a_stream(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A size of 2^32 - 1 in the header, as programs write that stream, is no warning."""
    path = tmp_path / "a.wav"
    sf.write(path, sound(RATE), RATE, subtype="PCM_16")
    data = bytearray(path.read_bytes())
    at = data.index(b"data") + 4
    data[at : at + 4] = b"\xff\xff\xff\xff"
    path.write_bytes(data)
    assert read(path).seconds == 1
    assert caplog.text == ""


@pytest.mark.parametrize("damage", ["cut", "overwritten"])
def test_damaged_flac(tmp_path: Path, damage: str) -> None:
    """A flac that was cut, or overwritten in the middle, is an error that says where."""
    path = tmp_path / "a.flac"
    sf.write(path, sound(10 * RATE), RATE)
    size = path.stat().st_size
    if damage == "cut":
        os.truncate(path, size // 2)
    else:
        with path.open("rb+") as file:
            file.seek(size // 2)
            file.write(bytes(size // 8))
    with pytest.raises(InputError, match=r"damaged after \d+\.\d s of 10\.0 s"):
        read(path)


def test_samples_that_are_not_finite(tmp_path: Path) -> None:
    """The first one is named with its time; sanitize sets them to zero and touches nothing else."""
    x = sound(5 * RATE)
    x[int(3.25 * RATE), 1] = np.nan
    x[4 * RATE, 0] = np.inf
    sf.write(tmp_path / "a.wav", x, RATE, subtype="FLOAT")
    source = probe(tmp_path / "a.wav")
    with pytest.raises(InputError, match=re.escape("non-finite samples at 3.2 s")):
        list(blocks(source))
    y = torch.cat(list(blocks(source, sanitize=True)), dim=-1).numpy().T
    assert np.array_equal(y, np.where(np.isfinite(x), x, 0))


def test_huge_scale_is_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Integers in a float file are told of, and kept."""
    sf.write(tmp_path / "a.wav", sound() * 32768, RATE, subtype="FLOAT")
    with caplog.at_level(logging.WARNING):
        peak = read(tmp_path / "a.wav").samples.abs().max()
    assert peak > 10000
    assert "times full scale" in caplog.text


@pytest.mark.skipif(os.name != "posix", reason="names are text there")
@pytest.mark.parametrize("name", [b"\xff\xfe.wav", b" a [x] (b).wav", "Übung 音楽 🎵.wav".encode(), b"-a\n'\".wav"])
def test_strange_names(tmp_path: Path, name: bytes) -> None:
    """Brackets, line ends, emoji and bytes that are no text are names like others."""
    path = tmp_path / os.fsdecode(name)
    sf.write(os.fsencode(path), sound(100), RATE, format="WAV")
    assert read(path).samples.shape == (2, 100)
