"""Damaged files and senseless command lines: one line and an exit code, never a traceback, nothing outside of --out."""

from __future__ import annotations

import io
import random
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from places import RATE, prepared, song, tree
from stemforge.audio.io import blocks, probe
from stemforge.cli.main import main
from stemforge.errors import InputError

CODES = {0, 2, 3, 4, 5, 7}


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test works in a folder of its own."""
    return prepared(tmp_path, monkeypatch)


def originals() -> list[tuple[str, bytes]]:
    """A short song in each format."""
    x = 0.2 * np.random.default_rng(0).standard_normal((4000, 2))
    kinds = [("WAV", "PCM_16"), ("WAV", "FLOAT"), ("WAV", "PCM_24"), ("RF64", "PCM_16"), ("W64", "PCM_16"),
             ("AIFF", "PCM_16"), ("CAF", "PCM_16"), ("FLAC", "PCM_16"), ("FLAC", "PCM_24"), ("OGG", "VORBIS"),
             ("MP3", "MPEG_LAYER_III")]  # fmt: skip
    found = []
    for kind, subtype in kinds:
        memory = io.BytesIO()
        sf.write(memory, x, RATE, format=kind, subtype=subtype)
        found.append((kind.lower(), memory.getvalue()))
    return found


def mutated(contents: bytes, chance: random.Random) -> bytes:
    """A few bytes of the header changed, removed, doubled or set to extremes, or the file cut."""
    data = bytearray(contents)
    for _ in range(chance.randint(1, 6)):
        at = chance.randrange(min(len(data), 120))
        match chance.randrange(6):
            case 0 | 1:
                data[at] = chance.randrange(256)
            case 2:
                data[at : at + 4] = chance.choice(
                    [b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f"]
                )
            case 3:
                del data[at : at + chance.randint(1, 8)]
            case 4:
                data[at:at] = data[at : at + chance.randint(1, 8)]
            case 5:
                del data[chance.randrange(1, len(data)) :]
        if not data:
            break
    return bytes(data)


@pytest.mark.parametrize("count", [100, pytest.param(2000, marks=pytest.mark.slow)])
def test_mutated_headers(count: int) -> None:
    """What is read of a damaged file is finite and bounded; what is not readable is told on one line.

    `pytest -rP` shows the counts.
    """
    chance, read = random.Random(0), 0
    for number in range(count):
        ending, contents = chance.choice(ORIGINALS)
        path = Path(f"x.{ending}")
        path.write_bytes(mutated(contents, chance))
        try:
            source = probe(path)
            frames = 0
            for block in blocks(source):
                assert block.isfinite().all() and block.shape[0] == source.channels <= 2
                frames += block.shape[-1]
                if frames > 10**6:
                    break
            read += 1
        except InputError as error:
            assert "\n" not in str(error) and f"'{path}'" in str(error), number
    print(f"{count} damaged headers: {read} read, {count - read} refused")
    assert count // 10 < read < count


ORIGINALS = originals()

WORDS = {
    "--filename": [
        "{track}/{stem}.{ext}",
        "../{stem}",
        "{stem}",
        "/{stem}",
        "{track}",
        "{",
        "\0",
        "{stem}" * 60,
        "~/{stem}",
    ],
    "--stems": ["bass", "bass,drums", ",", "../bass", "Bass", ""],
    "--two-stems": ["drums", "vocals", ""],
    "--shard": ["1/2", "2/2", "0/0", "auto", "x", "9/1"],
    "--start": ["0", "0.05", "1:00", "-1", "1e9", ""],
    "--end": ["0.1", "0", "9:9:9"],
    "--max-duration": ["0.01", "10", "inf"],
    "--segment": ["0.2", "0", "-1", "nan", "inf"],
    "--overlap": ["0", "0.5", "1", "-1", "nan"],
    "--steps": ["1", "2", "0", "-3"],
    "--shifts": ["2", "-1"],
    "--jobs": ["2", "3", "0"],
    "--channels": ["downmix", "mono", "x"],
    "--stream": ["1", "0"],
    "--batch-size": ["1", "3", "0"],
    "--seed": ["1", "-1", "99999999999999999999"],
    "--format": ["flac", "opus", "aiff"],
    "--mp3-bitrate": ["320", "1"],
    "--clip-mode": ["clamp", "none", "x"],
    "--on-exist": ["skip", "rename", "overwrite", "error", "x"],
    "--method": ["conditional", "x"],
    "--ext": ["wav", "", ",,"],
    "--files-from": ["list.txt", "none", "."],
    "--retry-failed": ["list.txt", "old.jsonl", "."],
    "--report": ["out/r.jsonl", "in"],
    "--progress": ["none", "bar", "x"],
    "--precision": ["fp32", "fp16"],
}
FLAGS = ["--mp3", "--flac", "--ogg", "--int16", "--int24", "--float32", "--strict", "--sanitize", "--fail-fast",
         "--dry-run", "--json", "-q", "-v", "-0", "--no-recursive", "--nonsense"]  # fmt: skip
INPUTS = [
    "in",
    "in",
    "x.wav",
    "x.wav",
    "none.wav",
    "@list.txt",
    "@none",
    "bad.wav",
    "in/a.flac",
    "",
    ".",
    "*.wav",
    "-x",
    "i*",
]


@pytest.mark.parametrize("count", [25, pytest.param(500, marks=pytest.mark.slow)])
def test_senseless_command_lines(count: int, capsys: pytest.CaptureFixture[str], place: Path) -> None:
    """Whatever is typed ends with an exit code of the table, no traceback, and no file but below --out.

    `pytest -rP` shows the counts.
    """
    song("in/a.flac", 0.1), song("in/b/c.wav", 0.1), song("x.wav", 0.1)
    Path("bad.wav").write_bytes(b"RIFF\xff\xff\xff\x7fWAVEfmt ")
    Path("list.txt").write_text("x.wav\nin\nmissing.wav\n")
    Path("old.jsonl").write_text('{"input": "x.wav", "track": "../../x", "status": "failed"}\n')
    before = {path for path in place.rglob("*") if "out" not in path.parts}
    chance, codes = random.Random(1), []
    for _ in range(count):
        options = [part for name in chance.sample(sorted(WORDS), chance.choice([0, 0, 1, 1, 2, 4]))
                   for part in (name, chance.choice(WORDS[name]))]  # fmt: skip
        flags = chance.sample(FLAGS, chance.choice([0, 0, 1, 2]))
        line = ["separate", *chance.sample(INPUTS, chance.choice([0, 1, 1, 2])), *options, *flags, "-o", "out"]
        line += ["-y"] * (chance.random() < 0.7)
        codes.append(main(line))
        err = capsys.readouterr().err
        assert codes[-1] in CODES, (line, err)
        assert "Traceback" not in err and "unexpected" not in err, (line, err)
        assert codes[-1] == 0 or "error: " in err, line
        assert {path for path in place.rglob("*") if "out" not in path.parts} == before, line
        assert not Path("out").exists() or not [name for name in tree("out") if name.endswith((".part", ".lock"))], line
        if chance.random() < 0.3:
            shutil.rmtree("out", ignore_errors=True)
    print(f"{count} command lines, exit codes: {dict(sorted(Counter(codes).items()))}")
    assert len(set(codes)) >= 3
