"""One page that shows an edit: spectrograms before and after with the regions marked, and a player for each.

Pictures and sounds are inside the page, so it can be sent as one file and needs no network.
"""

from __future__ import annotations

import base64
import html
import io
import os
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import soundfile
import torch
from torch import Tensor

from stemforge.audio.writer import output_errors
from stemforge.tasks.edit_files import Patch, patched
from stemforge.tasks.edit_song import Job
from stemforge.tasks.regions import Region

LONGEST_S = 30.0
"""Seconds of a span that are shown."""

_WIDTH, _HEIGHT = 900, 160
_LOWEST_HZ, _RANGE_DB = 40.0, 80.0
_COLOURS = np.array([(0, 0, 4), (66, 10, 104), (147, 38, 103), (221, 81, 58), (252, 165, 10), (252, 255, 164)])
_STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
figure { margin: 0 0 1.5rem; }
.sound { position: relative; }
img { display: block; width: 100%; height: 10rem; image-rendering: auto; }
.region { position: absolute; top: 0; bottom: 0; border: 2px solid #4cf; border-width: 0 2px; background: #4cf2; }
audio { width: 100%; margin-top: .3rem; }
"""


def page(title: str, job: Job, variations: Mapping[str, Sequence[Patch]]) -> str:
    """The page as HTML: for every span of a job the sound before, then each variation by its name."""
    body = [f"<h1>{html.escape(title)}</h1>"]
    for span in job.spans:
        shown = Region(span.first, min(span.last, span.first + round(LONGEST_S * job.piece.rate)))
        rows = job.piece.read(shown.first, shown.last)
        body.append(f"<h2>{_clock(shown.first, job)} to {_clock(shown.last, job)}</h2>")
        for name, patches in {"before": (), **variations}.items():
            sound = patched(rows, shown.first, patches).sum(dim=0)
            body += _figure(name, sound, job, shown)
    head = f'<meta charset="utf-8"><title>{html.escape(title)}</title><style>{_STYLE}</style>'
    return "\n".join(
        ["<!doctype html>", '<html lang="en">', f"<head>{head}</head>", "<body>", *body, "</body>", "</html>", ""]
    )


def write_page(path: Path, text: str) -> None:
    """Write it in one piece. Raises OutputError."""
    with output_errors(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.{os.getpid()}.part")
        part.write_text(text, encoding="utf-8")
        part.replace(path)


def _figure(name: str, sound: Tensor, job: Job, span: Region) -> Iterator[str]:
    """A spectrogram with the regions over it, and a player."""
    picture = base64.b64encode(png(spectrogram(sound, job.piece.rate))).decode()
    alt = f"spectrogram, {html.escape(name)}"
    yield f'<figure><figcaption>{html.escape(name)}</figcaption><div class="sound">'
    yield f'<img alt="{alt}" src="data:image/png;base64,{picture}">'
    for region in job.regions:
        first, last = max(region.first, span.first), min(region.last, span.last)
        if first < last:
            left, width = (100 * x / span.length for x in (first - span.first, last - first))
            yield f'<div class="region" style="left: {left:.3f}%; width: {width:.3f}%"></div>'
    data = base64.b64encode(_flac(sound, job.piece.rate)).decode()
    yield f'</div><audio controls src="data:audio/flac;base64,{data}"></audio></figure>'


def _flac(sound: Tensor, rate: int) -> bytes:
    """Sound (channel, time) as 16 bit flac, turned down where it would clip."""
    file = io.BytesIO()
    level = max(1.0, float(sound.abs().max()))
    soundfile.write(file, (sound / level).T.numpy(), rate, format="FLAC", subtype="PCM_16")
    return file.getvalue()


def spectrogram(sound: Tensor, rate: int) -> np.ndarray:
    """Colours (height, width, 3), uint8, of the level in dB over time and the logarithm of frequency."""
    wave = sound.mean(dim=0)
    size = 2048
    hop = max(1, -(-wave.shape[-1] // _WIDTH))
    padded = torch.nn.functional.pad(wave, (size // 2, size // 2 + hop))
    framed = padded.unfold(-1, size, hop)[:_WIDTH]
    power = torch.fft.rfft(framed * torch.hann_window(size)).abs().square().numpy()
    edges = np.geomspace(_LOWEST_HZ, rate / 2, _HEIGHT + 1) / (rate / size)
    low = np.floor(edges[:-1]).astype(int).clip(0, size // 2)
    high = np.maximum(low + 1, np.ceil(edges[1:]).astype(int)).clip(1, size // 2 + 1)
    bands = np.stack([power[:, a:b].mean(axis=1) for a, b in zip(low, high, strict=True)][::-1])
    level = 10 * np.log10(bands + 1e-9)
    share = ((level - 40 + _RANGE_DB) / _RANGE_DB).clip(0, 1) * (len(_COLOURS) - 1)
    steps = np.arange(len(_COLOURS))
    return np.stack([np.interp(share, steps, column) for column in _COLOURS.T], axis=-1).astype(np.uint8)


def png(pixels: np.ndarray) -> bytes:
    """An image (height, width, 3) of uint8 as a PNG file."""
    height, width = pixels.shape[:2]
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")


def _clock(sample: int, job: Job) -> str:
    minutes, seconds = divmod(sample / job.piece.rate, 60)
    return f"{minutes:.0f}:{seconds:05.2f}"
