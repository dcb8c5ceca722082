"""What libsndfile cannot decode, through the `ffmpeg` program when there is one: m4a, wma, mp4 and their like.

ffmpeg gets a list of arguments, never a shell; it may open this one file and nothing else, no playlist and no network.
It writes a float wav into a pipe, so memory and disk do not grow with the length.
"""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

import numpy as np

from stemforge.errors import InputError

SOUND = frozenset(("m4a", "m4b", "aac", "wma", "ape", "wv"))
VIDEO = frozenset(("mp4", "mov", "mkv", "webm", "avi"))
ENDINGS = SOUND | VIDEO

_FLOAT = 4
_TAGS = {b"INAM": "title", b"IART": "artist", b"IPRD": "album", b"ICRD": "date", b"IGNR": "genre",
         b"IPRT": "tracknumber", b"ICOP": "copyright"}  # fmt: skip
_PATIENCE = 60.0


@dataclass(frozen=True)
class Stream:
    """A stream of sound in a file: rate in Hz, channels, seconds as the file says (0: it does not), tags.

    `streams` is how many of them the file has.
    """

    rate: int
    channels: int
    tags: dict[str, str]
    seconds: float = 0.0
    streams: int = 1


def is_foreign(path: Path) -> bool:
    """True for a file that ffmpeg is asked about, by its ending."""
    return path.suffix[1:].lower() in ENDINGS


def probe(path: Path, number: int = 1) -> Stream:
    """What ffmpeg says of a file and its stream of that number, from 1 on.

    Raises InputError: no ffmpeg, no such stream in it, or not readable.
    """
    command = _command(path, number, "info", last=("-frames:a", "1"))
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=_PATIENCE)
    except subprocess.TimeoutExpired:
        raise InputError(f"'{path}': ffmpeg does not come to an end with it. Convert it to wav or flac.") from None
    streams = len(re.findall(rb"^ +Stream #0:\d+.*: Audio:", done.stderr.partition(b"Output #0")[0], re.MULTILINE))
    if b"matches no streams" in done.stderr and streams:
        raise InputError(f"'{path}': has {streams} audio streams, not {number}. Choose another --stream.")
    if b"matches no streams" in done.stderr:
        raise InputError(f"'{path}': has no audio stream. Name a file with sound.")
    with tempfile.TemporaryFile() as file:
        file.write(done.stdout)
        file.seek(0)
        stream = _header(file, path, done.stderr)
    said = re.search(rb"Duration: (\d+):(\d\d):(\d\d(?:\.\d+)?)", done.stderr)
    seconds = sum(float(part) * unit for part, unit in zip(said.groups(), (3600, 60, 1), strict=True)) if said else 0.0
    return replace(stream, seconds=seconds, streams=max(streams, 1))


def decoded(path: Path, count: int, number: int = 1) -> Iterator[np.ndarray]:
    """The samples of a stream as float32 blocks (time, channel) of `count` frames; InputError for a damaged file."""
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            _command(path, number, "error", first=("-xerror",)),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=said,
        )
        pipe = process.stdout
        assert pipe is not None
        try:
            channels = _header(pipe, path, b"").channels
            while len(block := pipe.read(count * channels * _FLOAT)) >= channels * _FLOAT:
                whole = len(block) // (channels * _FLOAT) * channels
                yield np.frombuffer(block, "<f4", whole).reshape(-1, channels)
            pipe.close()
            if process.wait():
                said.seek(0)
                raise _unreadable(path, said.read())
        finally:
            pipe.close()
            process.kill()
            process.wait()


def _command(
    path: Path, number: int, level: str, *, first: tuple[str, ...] = (), last: tuple[str, ...] = ()
) -> list[str]:
    """A stream of sound as a float wav on stdout. `file:` keeps names from being read as addresses."""
    program = shutil.which("ffmpeg")
    if program is None:
        raise InputError(
            f"'{path}': needs ffmpeg to read {path.suffix.lower()}. Install ffmpeg, or convert it to wav or flac."
        )
    before = ["-nostdin", "-hide_banner", "-v", level, "-protocol_whitelist", "file,pipe", *first]
    after = ["-map", f"0:a:{number - 1}", "-c:a", "pcm_f32le", *last, "-f", "wav", "pipe:1"]
    return [program, *before, "-i", f"file:{path}", *after]


def _header(file: IO[bytes], path: Path, said: bytes) -> Stream:
    """What a wav says before its first sample, up to which it is read."""
    rate = channels = 0
    tags: dict[str, str] = {}
    if file.read(12)[8:] == b"WAVE":
        while len(chunk := file.read(8)) == 8:
            name, size = struct.unpack("<4sI", chunk)
            if name == b"data":
                break
            contents = file.read(size + size % 2)
            if name == b"fmt " and len(contents) >= 16:
                _, channels, rate = struct.unpack_from("<HHI", contents)
            if name == b"LIST" and contents[:4] == b"INFO":
                tags = _tags(contents[4:])
    if not rate or not channels:
        raise _unreadable(path, said)
    return Stream(rate, channels, tags)


def _tags(contents: bytes) -> dict[str, str]:
    """The known texts of an INFO list."""
    tags = {}
    while len(contents) >= 8:
        name, size = struct.unpack_from("<4sI", contents)
        if name in _TAGS:
            tags[_TAGS[name]] = contents[8 : 8 + size].split(b"\0")[0].decode("utf-8", "replace")
        contents = contents[8 + size + size % 2 :]
    return tags


def _unreadable(path: Path, said: bytes) -> InputError:
    lines = said.decode("utf-8", "replace").strip().splitlines()
    why = re.sub(r"^(\[[^]]*\] ?)+|^file:.*?: ", "", lines[-1].strip()) if lines else "it gave no sound"
    return InputError(f"'{path}': ffmpeg cannot read it: {why.rstrip('.')}. Convert it to wav or flac.")
