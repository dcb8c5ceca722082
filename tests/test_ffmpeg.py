"""What only ffmpeg can read, with a program that stands in for it."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from places import RATE, error, prepared, song
from stemforge.cli.main import main


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test works in a folder of its own."""
    return prepared(tmp_path, monkeypatch)


FFMPEG = """#!{python} -S
import sys, struct
arguments = sys.argv[1:]
open("asked", "a").write("\\0".join(arguments) + "\\n")
path = arguments[arguments.index("-i") + 1]
assert path.startswith("file:") and "-nostdin" in arguments and arguments[-1] == "pipe:1"
contents = open(path[5:], "rb").read()
if contents.startswith(b"SILENT"):
    sys.exit("Stream map '0:a:0' matches no streams.")
if contents.startswith(b"BAD"):
    sys.exit(path + ": Invalid data found when processing input")
if contents.startswith(b"TWO"):
    for n in (1, 2):
        print(f"  Stream #0:{{n}}[0x1](und): Audio: aac (LC), 44100 Hz, stereo", file=sys.stderr)
    if arguments[arguments.index("-map") + 1] > "0:a:1":
        sys.exit("Stream map '0:a:2' matches no streams.")
print("  Duration: 00:00:01.00, start: 0.000000, bitrate: 128 kb/s", file=sys.stderr)
sound = contents[8:8 + 8 * 64] if "-frames:a" in arguments else contents[8:]
out = sys.stdout.buffer
out.write(b"RIFF\\xff\\xff\\xff\\xffWAVEjunk" + struct.pack("<I", 3) + b"abc\\0")
out.write(b"LIST" + struct.pack("<I", 18) + b"INFOINAM" + struct.pack("<I", 5) + b"Song\\0\\0")
out.write(b"fmt " + struct.pack("<IHHIIHH", 16, 3, 2, 44100, 352800, 8, 32) + b"data\\xff\\xff\\xff\\xff")
out.write(sound)
if contents.startswith(b"TORN") and "-frames:a" not in arguments:
    out.flush()
    sys.exit("Error while decoding stream")
"""


@pytest.fixture
def ffmpeg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program `ffmpeg` that knows one format: eight letters, then float stereo samples."""
    program = tmp_path / "bin" / "ffmpeg"
    program.parent.mkdir()
    program.write_text(FFMPEG.format(python=sys.executable))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent))


def foreign(name: str, kind: bytes = b"SOUND", frames: int = RATE) -> np.ndarray:
    x = (0.2 * np.random.default_rng(3).standard_normal((frames, 2))).astype("<f4")
    Path(name).parent.mkdir(exist_ok=True)
    Path(name).write_bytes(kind.ljust(8) + x.tobytes())
    return x


@pytest.mark.skipif(os.name != "posix", reason="a script as a program")
def test_ffmpeg(ffmpeg: None, capsys: pytest.CaptureFixture[str]) -> None:
    """What only ffmpeg reads is separated with all its frames, whatever its name; a part of it as well."""
    name = "in/-i $(touch x); 'a\".M4A"
    x = foreign(name, frames=RATE + 321)
    foreign("in/film.mkv")
    assert main(["separate", "in"]) == 0
    (folder,) = Path("separated/bands").iterdir()
    assert np.abs(sum(sf.read(path, dtype="float32")[0] for path in folder.glob("*.wav")) - x).max() < 1e-6
    with sf.SoundFile(folder / "drums.wav") as file:
        assert file.title == "Song (drums)"
    assert main(["separate", name, "--start", "0.5", "--end", "0.75", "-o", "part", "-q"]) == 0
    found = sum(sf.read(path, dtype="float32")[0] for path in Path("part/bands", folder.name).glob("*.wav"))
    assert np.abs(found - x[RATE // 2 : RATE * 3 // 4]).max() < 1e-6
    assert not Path("x").exists() and "says" not in capsys.readouterr().err
    assert all("\0-protocol_whitelist\0file,pipe\0" in line for line in Path("asked").read_text().splitlines())


@pytest.mark.skipif(os.name != "posix", reason="a script as a program")
@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (b"SILENT", "has no audio stream"),
        (b"BAD", "ffmpeg cannot read it: Invalid data found when processing input. Convert"),
        (b"TORN", "ffmpeg cannot read it: Error while decoding stream. Convert"),
    ],
)
def test_ffmpeg_fails(ffmpeg: None, kind: bytes, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What ffmpeg says comes on one line, and nothing half-written stays."""
    foreign("x.mp4", kind)
    assert main(["separate", "x.mp4", "-q"]) == 4
    assert words in error(capsys)


@pytest.mark.skipif(os.name != "posix", reason="a script as a program")
def test_several_streams(ffmpeg: None, capsys: pytest.CaptureFixture[str]) -> None:
    """The first is taken with a warning, or that of --stream; one that is not there is told."""
    foreign("x.stem.mp4", b"TWO")
    assert main(["separate", "x.stem.mp4", "-q", "--stream", "3"]) == 4
    assert "has 2 audio streams, not 3. Choose another --stream" in error(capsys)
    assert main(["separate", "x.stem.mp4"]) == 0
    assert "has 2 audio streams, the first is taken; --stream chooses" in capsys.readouterr().err
    assert main(["separate", "x.stem.mp4", "--stream", "2", "-o", "two"]) == 0
    assert "has 2 audio" not in capsys.readouterr().err
    maps = [line.split("\0-map\0")[1].split("\0")[0] for line in Path("asked").read_text().splitlines()]
    assert maps == ["0:a:2", "0:a:0", "0:a:0", "0:a:1", "0:a:1"]


def test_without_ffmpeg(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its absence is told with what to do; the other songs are done."""
    monkeypatch.setenv("PATH", str(tmp_path))
    foreign("in/x.m4a")
    song("in/y.wav")
    assert main(["separate", "in"]) == 3
    assert "'in/x.m4a': needs ffmpeg to read .m4a. Install ffmpeg, or convert it" in capsys.readouterr().err


REAL = shutil.which("ffmpeg")


@pytest.mark.skipif(REAL is None, reason="no ffmpeg")
@pytest.mark.parametrize("ending", ["m4a", "wma", "mp4", "mkv", "aac"])
def test_the_program_itself(ending: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Stems of what ffmpeg itself has encoded are as long as the song and add up to what it decodes."""
    song("x.wav", 1.5)
    encode = [REAL, "-v", "error", "-i", "x.wav", "-metadata", "title=Song"]
    subprocess.run([*encode, f"y.{ending}"], check=True)
    assert main(["separate", f"y.{ending}", "-q", "-j", "2"]) == 0
    subprocess.run([REAL, "-v", "error", "-i", f"y.{ending}", "-c:a", "pcm_f32le", "y.wav"], check=True)
    stems = sum(sf.read(path, dtype="float32")[0] for path in Path("separated/bands/y").glob("*.wav"))
    wanted = sf.read("y.wav", dtype="float32")[0]
    assert stems.shape == wanted.shape and abs(len(stems) - 1.5 * RATE) < 4096
    assert np.abs(stems - wanted).max() < 1e-6
    with sf.SoundFile("separated/bands/y/bass.wav") as file:
        assert file.title == ("" if ending == "aac" else "Song (bass)")


@pytest.mark.skipif(REAL is None, reason="no ffmpeg")
def test_the_program_itself_with_faults(capsys: pytest.CaptureFixture[str]) -> None:
    """Films without sound, with two sounds, and files cut short, told by ffmpeg and passed on in one line."""
    song("x.wav", 1.0), song("long.wav", 1.4)
    run = functools.partial(subprocess.run, check=True)
    run([REAL, "-v", "error", "-f", "lavfi", "-i", "testsrc=d=1:s=64x64", "silent.mp4"])
    run([REAL, "-v", "error", "-i", "x.wav", "-i", "long.wav", "-map", "0:a", "-map", "1:a", "two.mka"])
    Path("two.mka").rename("two.mkv")
    run([REAL, "-v", "error", "-i", "x.wav", "cut.m4a"])
    Path("cut.m4a").write_bytes(Path("cut.m4a").read_bytes()[:4000])
    assert main(["separate", "silent.mp4", "-q"]) == 4 and "has no audio stream" in error(capsys)
    assert main(["separate", "two.mkv", "-q", "--stream", "3"]) == 4 and "has 2 audio streams, not 3" in error(capsys)
    assert main(["separate", "cut.m4a", "-q"]) == 4 and "ffmpeg cannot read it" in error(capsys)
    for number, seconds in ((None, 1.0), ("2", 1.4)):
        assert main(["separate", "two.mkv", "-y", *([] if number is None else ["--stream", number])]) == 0
        assert ("has 2 audio streams, the first is taken" in capsys.readouterr().err) == (number is None)
        assert abs(sf.info("separated/bands/two/bass.wav").duration - seconds) < 0.1
