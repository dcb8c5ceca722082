"""Songs in the layouts that data sets have, each of a few seconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile


def tone(hz: float, seconds: float = 1.0, rate: int = 8000, channels: int = 2) -> np.ndarray:
    """(time, channel), a tenth of full scale."""
    wave = 0.1 * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)
    return np.stack([wave] * channels, axis=1).astype(np.float32)


def put(path: Path, samples: np.ndarray, rate: int = 8000) -> Path:
    """Write one file, its folders made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, rate)
    return path


def musdb(folder: Path, rate: int = 8000) -> Path:
    """One song of MUSDB18-HQ."""
    for k, name in enumerate(("vocals", "drums", "bass", "other", "mixture")):
        put(folder / "A - Song" / f"{name}.wav", tone(100 * (k + 1), rate=rate), rate)
    return folder


def msdm(folder: Path) -> Path:
    """Two tracks of the four-class layout, the second without a piano."""
    for track, names in (("Track00001", "bass drums guitar piano"), ("Track00002", "bass drums guitar")):
        for k, name in enumerate(names.split()):
            put(folder / track / f"{name}.wav", tone(100 * (k + 1), channels=1))
    return folder


def moises(folder: Path) -> Path:
    """One song of MoisesDB: two guitars, percussion beside the drums, strings."""
    song = folder / "0f3a"
    (song / "guitar").mkdir(parents=True)
    for k, place in enumerate(
        ("bass/a", "drums/b", "guitar/c", "guitar/d", "percussion/e", "bowed_strings/f", "vocals/g")
    ):
        put(song / f"{place}.wav", tone(100 * (k + 1)))
    (song / "data.json").write_text("{}")
    return folder


SLAKH = """
UUID: 1a2b
audio_dir: stems
stems:
  S00: {audio_rendered: true, inst_class: Bass, is_drum: false, program_num: 33}
  S01: {audio_rendered: true, inst_class: Drums, is_drum: true, program_num: 128}
  S02: {audio_rendered: true, inst_class: Guitar, is_drum: false, program_num: 27}
  S03: {audio_rendered: true, inst_class: Guitar, is_drum: false, program_num: 30}
  S04: {audio_rendered: true, inst_class: Strings (continued), is_drum: false, program_num: 48}
  S05: {audio_rendered: false, inst_class: Piano, is_drum: false, program_num: 0}
  S06: {audio_rendered: true, is_drum: false, program_num: 4}
"""


def slakh(folder: Path) -> Path:
    """One track of Slakh2100; a piano was not rendered, another is only known by its program."""
    track = folder / "Track00001"
    for k in (0, 1, 2, 3, 4, 6):
        put(track / "stems" / f"S0{k}.flac", tone(100 * (k + 1), channels=1))
    put(track / "mix.flac", tone(50, channels=1))
    (track / "metadata.yaml").write_text(SLAKH)
    return folder
