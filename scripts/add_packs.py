"""Flat SFZ maps of freely licensed instruments, from clones of their repositories.

    python scripts/add_packs.py CLONES ASSETS [NAME ...]

CLONES holds clones (or unpacked archives), named as the repositories are; `packs.toml` lists what is made of which,
docs/data.md whose they are and under which licence. Written to ASSETS/sfz/<stem>/<name>/: velocity layers keep their
loudness, two takes a note at most, tails cut with a fade, loops of held notes kept, no key-up noises.
"""

from __future__ import annotations

import re
import struct
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from clones import entries

KEYS = {"c": 0, "d": 2, "e": 4, "f": 5, "g": 7, "a": 9, "b": 11}
SHARPS = {"": 0, "b": -1, "s": 1, "#": 1, "-": 1}
LONGEST_LOOP = 9.0
"""Seconds after which a loop would have to end to be dropped."""


@dataclass(frozen=True)
class Region:
    """One sample of a map: keys and velocities it answers to, tuning in cents, gain in dB, its turn among takes.

    loop: first and last sample of the loop that its map gives it.
    """

    sample: Path
    low: int
    high: int
    center: int
    softest: int = 1
    loudest: int = 127
    tune: int = 0
    volume: float = 0.0
    turn: int = 1
    turns: int = 1
    loop: tuple[int, int] | None = None


def spread(centers: list[int], lowest: int, highest: int) -> dict[int, tuple[int, int]]:
    """Each sampled key with the keys around it that it plays."""
    edges = [lowest - 1, *((a + b) // 2 for a, b in pairwise(centers)), highest]
    return {key: (edges[i] + 1, edges[i + 1]) for i, key in enumerate(centers)}


def key_of(name: str, octave: str) -> int:
    """The key of a note's name: c4 is 60, with b for flat, s, # or - for sharp."""
    return KEYS[name[0].lower()] + SHARPS[name[1:].lower()] + 12 * (int(octave) + 1)


def named(folder: Path, pattern: str, reach: int = 4) -> Iterator[Region]:
    """Samples whose names say the note: groups `note` and `octave` of the pattern, perhaps `layer`, softest first.

    Each sample plays the keys around it; the outermost ones `reach` keys further.
    """
    found: dict[int, dict[str, list[Path]]] = {}
    for path in sorted(folder.iterdir()):
        if match := re.fullmatch(pattern, path.stem, re.IGNORECASE):
            key = key_of(match["note"], match["octave"])
            found.setdefault(key, {}).setdefault(match.groupdict().get("layer") or "", []).append(path)
    keys = spread(sorted(found), min(found) - reach, max(found) + reach) if found else {}
    for key, layers in sorted(found.items()):
        for place, layer in enumerate(sorted(layers)):
            velocities = (127 * place // len(layers) + 1, 127 * (place + 1) // len(layers))
            for path in layers[layer]:
                yield Region(path, *keys[key], key, *velocities)


def headroom(clone: Path, microphone: str) -> Iterator[Region]:
    """A concert grand, close or from further away: five layers, with the gains of its own map."""
    layers = {1: (1, 59, 13.3), 2: (60, 89, 6.2), 3: (90, 105, 3.3), 4: (106, 119, 1.1), 5: (120, 127, 0.0)}
    for path in sorted((clone / "Samples").glob(f"*LEVEL? {microphone} *.flac")):
        layer, key = int(path.stem.split("LEVEL")[1][0]), int(path.stem.split()[-1])
        low, high, volume = layers[layer]
        yield Region(path, max(21, key - 1), min(108, key + 1), key, low, high, volume=volume)


def written(source: Path, samples: Path) -> Iterator[Region]:
    """The regions of a plain map: keys, velocities of their group, tuning and gain."""
    text = re.sub(r"//[^\n]*", "", source.read_text(encoding="utf-8")).replace(".$EXT", ".flac").replace("\\", "/")
    group: dict[str, str] = {}
    for header, body in re.findall(r"<(\w+)>([^<]*)", text):
        # values run to the next opcode: names of samples hold spaces
        opcodes = {name: value.strip() for name, value in re.findall(r"(\w+)=([^\n=]*?)(?=\s+\w+=|\s*\n|\s*$)", body)}
        if header == "group":
            group = opcodes
        elif header == "region" and (samples / opcodes.get("sample", "")).is_file():
            # a velocity may be a name that another file defines: the pack's table says it then
            o: dict[str, str] = {"lokey": "0", "hikey": "127"} | {
                k: v for k, v in {**group, **opcodes}.items() if "$" not in v
            }
            low, high = (int(o.get("key", o[edge])) for edge in ("lokey", "hikey"))
            yield Region(
                samples / o["sample"], low, high, int(o.get("pitch_keycenter", low)), int(o.get("lovel", 1)),
                int(o.get("hivel", 127)), round(float(o.get("tune", 0))), float(o.get("volume", 0)),
                loop=(int(o["loop_start"]), int(o["loop_end"])) if {"loop_start", "loop_end"} <= o.keys() else None,
            )  # fmt: skip


def loop_of(sample: Path) -> tuple[int, int] | None:
    """First and last sample of the loop that a WAV file, or a FLAC made of one, holds."""
    data = sample.read_bytes()
    at = data.find(b"smpl") + 4
    if at < 4 or at + 64 > len(data):
        return None
    size, loops = struct.unpack_from("<I", data, at)[0], struct.unpack_from("<I", data, at + 32)[0]
    first, last = struct.unpack_from("<II", data, at + 48)
    return (first, last) if 0 < loops <= 8 and size >= 36 + 24 * loops and first < last else None


def in_turns(regions: Iterable[Region], takes: int) -> list[Region]:
    """Regions for the same keys and velocities take turns, `takes` of them at most."""
    places: dict[tuple[int, int, int, int], list[Region]] = {}
    for region in regions:
        places.setdefault((region.low, region.high, region.softest, region.loudest), []).append(region)
    chosen = [same[:takes] for same in places.values()]
    return [replace(region, turn=turn, turns=len(same)) for same in chosen for turn, region in enumerate(same, 1)]


def closed(regions: list[Region]) -> list[Region]:
    """The same with no velocity left without a sound: the next louder layer plays what lacks, or the loudest."""
    layers: dict[tuple[int, int], set[tuple[int, int]]] = {}
    for region in regions:
        layers.setdefault((region.low, region.high), set()).add((region.softest, region.loudest))
    reach = {}
    for keys, found in layers.items():
        rows = sorted(found)
        for before, (softest, loudest) in pairwise([(0, 0), *rows]):
            last = (softest, loudest) == rows[-1]
            reach[keys, softest] = min(softest, before[1] + 1), 127 if last else loudest
    found = [(region, reach[(region.low, region.high), region.softest]) for region in regions]
    return [replace(region, softest=softest, loudest=loudest) for region, (softest, loudest) in found]


def store(sample: Path, target: Path, seconds: float, loop: tuple[int, int] | None) -> str:
    """Write one sample as OGG; the loop opcodes of its regions, if it is a loop that is short enough."""
    sound, rate = soundfile.read(sample, dtype="float32", always_2d=True)
    loop = loop or loop_of(sample)
    if loop and loop[1] < min(len(sound), LONGEST_LOOP * rate):
        sound, opcodes = sound[: loop[1] + 256], f" loop_mode=loop_continuous loop_start={loop[0]} loop_end={loop[1]}"
    else:
        opcodes = " loop_mode=no_loop"
        sound = sound[: int(seconds * rate)]
        fade = min(len(sound), int(0.3 * rate))
        sound[len(sound) - fade :] *= np.linspace(1, 0, fade, dtype=np.float32)[:, None]
    soundfile.write(target, sound, rate, format="OGG", subtype="VORBIS", compression_level=0.5)
    return opcodes


def write(regions: list[Region], target: Path, seconds: float, opcodes: str) -> None:
    """The map and its samples as OGG; a sample that several regions share is written once."""
    target.mkdir(parents=True, exist_ok=True)
    lines = [f"<control> hint_ram_based=1\n<global> {opcodes}"]
    loops: dict[str, str] = {}
    for region in regions:
        name = re.sub(r"[^A-Za-z0-9_-]+", "_", region.sample.stem.replace("#", "s")) + ".ogg"
        if name not in loops:
            loops[name] = store(region.sample, target / name, seconds, region.loop)
        lines.append(
            f"<region> sample={name} lokey={region.low} hikey={region.high} pitch_keycenter={region.center} "
            f"lovel={region.softest} hivel={region.loudest} tune={region.tune} volume={region.volume:g} "
            f"seq_length={region.turns} seq_position={region.turn}{loops[name]}"
        )
    (target / f"{target.name}.sfz").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"{target}: {len(regions)} regions, keys {min(r.low for r in regions)}-{max(r.high for r in regions)}")


def read(clone: Path, layer: dict[str, Any]) -> Iterator[Region]:
    """The regions of one layer of a pack, as its table says."""
    if "headroom" in layer:
        found = headroom(clone, layer["headroom"])
    elif "names" in layer:
        found = named(clone / layer.get("folder", ""), layer["names"], layer.get("reach", 4))
    else:
        source = next(clone.glob(layer["map"]))
        found = written(source, clone / layer["folder"] if "folder" in layer else source.parent)
    low, high = layer.get("keys", (0, 127))
    first, last = layer.get("velocities", (None, None))
    shift = layer.get("shift", 0)
    for region in found:
        moved = replace(region, low=region.low + shift, high=region.high + shift, center=region.center + shift)
        if re.search(layer.get("only", ""), region.sample.name) and moved.high >= low and moved.low <= high:
            yield replace(
                moved, low=max(moved.low, low), high=min(moved.high, high), tune=moved.tune + layer.get("tune", 0),
                softest=first or moved.softest, loudest=last or moved.loudest,
            )  # fmt: skip


def main(clones: Path, assets: Path, names: list[str]) -> None:
    """Write every pack (or those named) whose clone is there."""
    for name, pack, clone in entries("packs.toml", clones, names):
        regions = [region for layer in pack.get("layers", [pack]) for region in read(clone, layer)]
        if not regions:
            raise SystemExit(f"no samples of '{name}' in {clone}: another version of that repository?")
        target = assets / "sfz" / pack["stem"] / name
        write(in_turns(closed(regions), pack.get("takes", 2)), target, pack.get("seconds", 4.5), pack["opcodes"])
        for text in (*clone.glob("LICEN[SC]E*"), *clone.glob("[Rr][Ee][Aa][Dd][Mm][Ee]*"), *clone.glob("**/_readme*")):
            (target / text.name).write_bytes(text.read_bytes())


if __name__ == "__main__":
    if len(sys.argv) < 3:
        raise SystemExit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
