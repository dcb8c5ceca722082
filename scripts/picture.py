"""The picture of the README: a song and the stems that `stemforge separate` takes out of it, as spectrograms.

    python scripts/picture.py [SONG] [STEMS] [--out docs/stems.webp] [--from 4.8] [--seconds 14.4]

SONG and STEMS: by default the example song and what `make demo` wrote of it.
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from stemforge.audio.io import read
from stemforge.report.colours import colour_of
from stemforge.report.pictures import RANGE_DB, Spectrum, painted

ROOT = Path(__file__).parents[1]
WIDTH, HEIGHT, GAP, MARGIN = 900, 84, 6, 116
EDGE = 8  # columns at both ends in which the cut itself would be seen
BACK, INK = (17, 18, 22), (226, 228, 234)


def levels(path: Path, first: float, seconds: float) -> np.ndarray:
    """(band, column) in dB of a part of a sound."""
    sound = read(path)
    frames = round(seconds * sound.rate)
    spectrum = Spectrum(WIDTH + 2 * EDGE, frames, sound.rate)
    spectrum.add(sound.samples[:, round(first * sound.rate) :][:, :frames])
    return spectrum.levels()[:, EDGE:-EDGE]


def main() -> None:
    """Read, paint the rows under each other, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("song", type=Path, nargs="?", default=ROOT / "examples" / "demo.flac")
    parser.add_argument("stems", type=Path, nargs="?", default=ROOT / "separated" / "forge" / "demo")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "stems.webp")
    parser.add_argument("--from", dest="first", type=float, default=4.8)
    parser.add_argument("--seconds", type=float, default=14.4)
    args = parser.parse_args()
    rows = {"song": args.song} | {
        path.stem: path for path in sorted(args.stems.glob("*.wav"), key=lambda p: (p.stem == "other", p))
    }
    found = {name: levels(path, args.first, args.seconds) for name, path in rows.items()}
    top = max(float(level.max()) for level in found.values())
    picture = Image.new("RGB", (MARGIN + WIDTH + GAP, GAP + len(rows) * (HEIGHT + GAP)), BACK)
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(size=22)
    for row, (name, level) in enumerate(found.items()):
        colour = colour_of("mixture" if name == "song" else name)
        strip = Image.open(io.BytesIO(painted(level, top - 0.1 * RANGE_DB, colour)))
        at = GAP + row * (HEIGHT + GAP)
        picture.paste(strip.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC), (MARGIN, at))
        draw.text((14, at + HEIGHT / 2), name, fill=INK if name == "song" else colour.on_dark, font=font, anchor="lm")
    picture.save(args.out, "WEBP", quality=78, method=6)


if __name__ == "__main__":
    main()
