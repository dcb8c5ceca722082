"""Flat SFZ maps of freely licensed guitars and pianos, from clones of their repositories.

    python scripts/add_packs.py CLONES ASSETS

CLONES holds clones (or unpacked archives), named as the repositories are: `karoryfer.shinyguitar` (CC0) and
`BengtNilsson.HeadroomPiano` (CC-BY-4.0), `GregSullivan.E-Pianos` (CC-BY-3.0) of github.com/sfzinstruments, and
`spanish-classical-guitar` (CC0) of github.com/freepats. Written to ASSETS/sfz/<stem>/<name>/: the loudness of velocity
layers is kept, two takes a note at most, tails cut with a fade, no key-up noises.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import soundfile

KEYS = {"c": 0, "db": 1, "d": 2, "eb": 3, "e": 4, "f": 5, "gb": 6, "g": 7, "ab": 8, "a": 9, "bb": 10, "b": 11}


@dataclass(frozen=True)
class Region:
    """One sample of a map: keys and velocities it answers to, tuning in cents, gain in dB, its turn among takes."""

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


def spread(centers: list[int], lowest: int, highest: int) -> dict[int, tuple[int, int]]:
    """Each sampled key with the keys around it that it plays."""
    edges = [lowest - 1, *((a + b) // 2 for a, b in pairwise(centers)), highest]
    return {key: (edges[i] + 1, edges[i + 1]) for i, key in enumerate(centers)}


def shiny(clone: Path, kind: str) -> Iterator[Region]:
    """An archtop guitar, by microphone (acoustic) or pickup (electric): four layers, two takes."""
    take = {"acoustic": 1, "electric": 2}[kind]
    found = {}
    for path in (clone / "Samples" / kind).glob(f"*_vl*_rr[12]_{take}.wav"):
        name, layer, turn = re.findall(rf"([a-g]b?\d)_vl(\d)_rr(\d)_{take}", path.stem)[0]
        found[KEYS[name[:-1]] + 12 * (int(name[-1]) + 1), int(layer), int(turn)] = path
    keys = spread(sorted({key for key, _, _ in found}), 36, 86)
    layers = max(layer for _, layer, _ in found)
    for (key, layer, turn), path in sorted(found.items()):
        velocities = (127 * (layer - 1) // layers + 1, 127 * layer // layers)
        yield Region(path, *keys[key], key, *velocities, turn=turn, turns=2)


def headroom(clone: Path, microphone: str) -> Iterator[Region]:
    """A concert grand, close or from further away: five layers, with the gains of its own map."""
    layers = {1: (1, 59, 13.3), 2: (60, 89, 6.2), 3: (90, 105, 3.3), 4: (106, 119, 1.1), 5: (120, 127, 0.0)}
    for path in sorted((clone / "Samples").glob(f"*LEVEL? {microphone} *.flac")):
        layer, key = int(path.stem.split("LEVEL")[1][0]), int(path.stem.split()[-1])
        low, high, volume = layers[layer]
        yield Region(path, max(21, key - 1), min(108, key + 1), key, low, high, volume=volume)


def written(source: Path, samples: Path) -> Iterator[Region]:
    """The regions of a plain map: keys, velocities of their group, tuning and gain."""
    text = re.sub(r"//[^\n]*", "", source.read_text(encoding="utf-8")).replace(".$EXT", ".flac")
    group: dict[str, str] = {}
    for header, body in re.findall(r"<(\w+)>([^<]*)", text):
        # values run to the next opcode: names of samples hold spaces
        opcodes = {name: value.strip() for name, value in re.findall(r"(\w+)=([^\n=]*?)(?=\s+\w+=|\s*\n|\s*$)", body)}
        if header == "group":
            group = opcodes
        elif header == "region" and (samples / opcodes.get("sample", "")).is_file():
            o = {"lokey": "0", "hikey": "127", **group, **opcodes}
            low, high = (int(o.get("key", o[edge])) for edge in ("lokey", "hikey"))
            yield Region(
                samples / o["sample"], low, high, int(o.get("pitch_keycenter", low)), int(o.get("lovel", 1)),
                int(o.get("hivel", 127)), round(float(o.get("tune", 0))), float(o.get("volume", 0)),
            )  # fmt: skip


def write(regions: list[Region], target: Path, seconds: float, opcodes: str) -> None:
    """The map and its samples as OGG; a sample that several regions share is written once."""
    target.mkdir(parents=True, exist_ok=True)
    lines = [f"<control> hint_ram_based=1\n<global> {opcodes}"]
    for region in regions:
        name = re.sub(r"[^A-Za-z0-9_-]+", "_", region.sample.stem.replace("#", "s")) + ".ogg"
        if not (target / name).exists():
            sound, rate = soundfile.read(region.sample, dtype="float32", always_2d=True)
            sound = sound[: int(seconds * rate)]
            fade = min(len(sound), int(0.3 * rate))
            sound[-fade:] *= np.linspace(1, 0, fade, dtype=np.float32)[:, None]
            soundfile.write(target / name, sound, rate, format="OGG", subtype="VORBIS", compression_level=0.5)
        lines.append(
            f"<region> sample={name} lokey={region.low} hikey={region.high} pitch_keycenter={region.center} "
            f"lovel={region.softest} hivel={region.loudest} tune={region.tune} volume={region.volume:g} "
            f"seq_length={region.turns} seq_position={region.turn}"
        )
    (target / f"{target.name}.sfz").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"{target}: {len(regions)} regions, keys {min(r.low for r in regions)}-{max(r.high for r in regions)}")


def main(clones: Path, assets: Path) -> None:
    """Write every pack whose clone is there."""

    def found(name: str) -> Path | None:
        return next((path for path in sorted(clones.iterdir()) if path.name.endswith(name)), None)

    if clone := found("karoryfer.shinyguitar"):
        for kind in ("acoustic", "electric"):
            target = assets / "sfz" / "guitar" / f"shiny_{kind}"
            write(list(shiny(clone, kind)), target, 4.5, "ampeg_release=0.25")
    if clone := found("spanish-classical-guitar"):
        source = next(clone.glob("*.sfz"))
        regions = [replace(r, low=max(r.low, 38)) for r in written(source, clone) if r.high >= 40]
        write(regions, assets / "sfz" / "guitar" / "spanish_classical", 4.5, "ampeg_release=0.3")
    if clone := found("BengtNilsson.HeadroomPiano"):
        for microphone in ("CLOSE", "DECCA"):
            target = assets / "sfz" / "piano" / f"headroom_{microphone.lower()}"
            write(list(headroom(clone, microphone)), target, 8.0, "ampeg_release=0.4 amp_veltrack=90")
    if clone := found("GregSullivan.E-Pianos"):
        for folder, name in (("CP80", "cp80"), ("Pianet T", "pianet"), ("Wurlitzer EP200", "wurlitzer")):
            source = next((clone / folder).glob("*.sfz"))
            regions = list(written(source, clone / folder / "Samples"))
            write(regions, assets / "sfz" / "piano" / name, 8.0, "ampeg_release=0.15 amp_veltrack=100")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
