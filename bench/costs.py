"""What a second of music costs: operations of the network, and time and bytes of its stems in each format.

    python bench/costs.py [--song examples/demo.flac] [--checkpoint NAME]

Operations are the products of matrices that torch counts in one network call, divided by the seconds that a window
moves on; Fourier transforms are not among them. Times are those of one core: decoding the song, encoding its stems.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import soundfile as sf
import torch
from torch.utils.flop_counter import FlopCounterMode

from stemforge import checkpoints
from stemforge.audio.io import probe
from stemforge.tasks.files import separate_file

SONG = Path(__file__).parents[1] / "examples" / "demo.flac"
OVERLAP = 0.25
FORMATS = {"wav": ("WAV", "FLOAT"), "flac 24": ("FLAC", "PCM_24"), "flac 16": ("FLAC", "PCM_16"), "mp3": ("MP3", None)}


def operations(network: torch.nn.Module) -> float:
    """Multiplications and additions for a second of music."""
    window = torch.zeros(1, 2, int(network.segment * network.rate))
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        network.separate(window)
    return counter.get_total_flops() / (network.segment * (1 - OVERLAP))


def encoded(stem: Path, folder: Path, container: str, subtype: str | None) -> tuple[float, int]:
    """Processor time and bytes of one stem in a format."""
    x, rate = sf.read(stem, dtype="float32")
    begun = time.process_time()
    sf.write(folder / "stem", x, rate, format=container, subtype=subtype)
    return time.process_time() - begun, (folder / "stem").stat().st_size


def main() -> None:
    """Measure, and print one JSON object a line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--song", type=Path, default=SONG)
    parser.add_argument("--checkpoint")
    args = parser.parse_args()
    torch.set_num_threads(1)
    found = checkpoints.find(args.checkpoint)
    separator = checkpoints.build(found, "cpu", overlap=OVERLAP)
    print(json.dumps({"operations": operations(checkpoints.network_of(found))}))
    begun = time.process_time()
    seconds = len(sf.read(args.song)[0]) / sf.info(args.song).samplerate
    print(json.dumps({"decode_s": round((time.process_time() - begun) / seconds, 5)}))
    with tempfile.TemporaryDirectory(prefix="stemforge-bench-") as name:
        folder = Path(name)
        separate_file(probe(args.song), folder / "stems", separator)
        stems = sorted((folder / "stems").glob("*.wav"))
        for label, (container, subtype) in FORMATS.items():
            times, sizes = zip(*(encoded(stem, folder, container, subtype) for stem in stems), strict=True)
            row = {"stems": len(stems), "format": label, "encode_s": round(sum(times) / seconds, 4)}
            print(json.dumps({**row, "bytes": round(sum(sizes) / seconds)}))


if __name__ == "__main__":
    main()
