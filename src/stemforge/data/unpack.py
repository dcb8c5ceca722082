"""Sampled instruments as WAV files with maps that the sampler loads at once: decoding OGG again for each song is slow.

Everything lands in a working folder of one run: `sfz/…` copies of the maps, and maps of our own for loose samples.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from stemforge.errors import InputError

BENDS = "bend_up=1200 bend_down=-1200"
NOTES = {"C": 0, "D#": 3, "F#": 6, "A": 9}
SAMPLE = re.compile(r"\bsample=(.+?)(?=\s+\w+=|\s*$)")
LONGEST = 10.0
"""Seconds of a piano sample that are kept."""
ROLES: dict[str, tuple[int, ...]] = {
    "kick": (35, 36), "rim": (37,), "snare": (38, 40), "clap": (39,), "closed": (42, 44), "open": (46,),
    "low tom": (41, 43), "mid tom": (45, 47), "high tom": (48, 50), "crash": (49, 52, 55, 57), "ride": (51, 53, 59),
    "shaker": (54, 69, 70, 82), "cowbell": (56, 67, 68), "hand": (60, 61, 62, 63, 64, 65, 66), "wood": (75, 76, 77),
    "bell": (80, 81),
}  # fmt: skip
ONE_SHOTS: dict[str, tuple[str, ...]] = {
    "kick": ("bd_*", "drum_heavy_kick", "drum_bass_*", "elec_hollow_kick", "elec_soft_kick"),
    "rim": ("elec_tick", "elec_wood", "perc_snap*", "tbd_perc_tap_*"),
    "snare": ("sn_*", "drum_snare_*", "elec_*snare"),
    "clap": ("perc_snap*", "elec_filt_snare", "elec_hi_snare"),
    "closed": ("hat_*", "drum_cymbal_closed", "tbd_perc_hat"),
    "open": ("drum_cymbal_open", "drum_cymbal_soft", "hat_metal", "hat_zild", "hat_noiz"),
    "low tom": ("drum_tom_lo_*", "elec_fuzz_tom"), "mid tom": ("drum_tom_mid_*", "elec_bong"),
    "high tom": ("drum_tom_hi_*", "elec_flip"), "crash": ("drum_splash_*", "drum_cymbal_hard", "elec_cymbal"),
    "ride": ("ride_*", "drum_cymbal_soft"), "shaker": ("hat_tap", "hat_snap", "hat_len", "tbd_perc_hat"),
    "cowbell": ("drum_cowbell", "elec_ping"), "hand": ("tabla_*", "perc_till", "tbd_perc_tap_*"),
    "wood": ("elec_wood", "elec_plip", "perc_snap"), "bell": ("elec_triangle", "perc_bell*", "elec_chime"),
}  # fmt: skip
PITCHED = {"bass_hard_c": 24, "bass_thick_c": 36, "bass_trance_c": 36, "bass_voxy_c": 36,
           "bass_woodsy_c": 36}  # fmt: skip
"""Single notes of the Sonic Pi samples that play a bass line, with their keys."""
KIT_WORDS: dict[str, tuple[str, ...]] = {
    "kick": ("kick", "bass drum 1", "bass drum"), "rim": ("stick", "rim"), "snare": ("snare",), "clap": ("clap",),
    "closed": ("closed",), "open": ("open",), "low tom": ("tom low", "low tom"), "mid tom": ("tom mid", "middle tom"),
    "high tom": ("tom hi", "high tom"), "crash": ("crash",), "ride": ("ride", "cymbal"), "cowbell": ("cowbell",),
    "shaker": ("pedal",),
}  # fmt: skip


@dataclass(frozen=True)
class Map:
    """A playable SFZ map: its stem, its name in manifests, the file, and the keys it sounds on."""

    stem: str
    name: str
    path: Path
    low: int = 0
    high: int = 127


def unpack_map(stem: str, name: str, source: Path, work: Path) -> Map:
    """Copy one SFZ map with its samples decoded to WAV; bends widened to an octave.

    Errors: InputError when a file that the map names is missing or unreadable.
    """
    text = _flat(source, source.parent)
    folder = work / "sfz" / f"{stem}-{name}"
    lines = []
    prefix = ""
    for line in text.splitlines():
        prefix = "".join(re.findall(r"\bdefault_path=(\S+)", line)[-1:]) or prefix
        line = re.sub(r"\bdefault_path=\S+", "", line)
        found = SAMPLE.search(line)
        if found and not found[1].startswith("*"):
            sample = (prefix + found[1].strip()).replace("\\", "/")
            _to_wav(source.parent / sample, folder / _wav_name(sample))
            line = f"{line[: found.start()]}sample={_wav_name(sample)}{line[found.end() :]}"
        lines.append(line)
    text = "\n".join(lines) + "\n"
    if "<global>" in text:
        text = text.replace("<global>", f"<global> {BENDS}", 1)
    else:
        text = re.sub(r"(<group>|<region>)", rf"<global> {BENDS}\n\1", text, count=1)
    if "hint_ram_based" not in text:
        text = f"<control> hint_ram_based=1\n{text}"
    target = folder / "map.sfz"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text, encoding="utf-8")
    low, high = key_range(text)
    return Map(stem, name, target, low, high)


def _flat(source: Path, root: Path, depth: int = 0) -> str:
    """The text of a map with #include lines replaced by those files and #define names by their values."""
    try:
        text = source.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise InputError(f"cannot read '{source}': {error.strerror}. Fetch the pack again.") from error
    if depth < 8:
        text = re.sub(r'#include\s+"([^"]+)"', lambda m: _flat(root / m[1].replace("\\", "/"), root, depth + 1), text)
    if depth == 0:
        names = dict(re.findall(r"#define\s+(\$\w+)\s+(\S+)", text))
        text = re.sub(r"#define\s+\$\w+\s+\S+", "", text)
        for name in sorted(names, key=len, reverse=True):
            text = text.replace(name, names[name])
        text = re.sub(r"\s*(<\w+>)", r"\n\1", re.sub(r"//[^\n]*", "", text))
    return text


def _wav_name(sample: str) -> str:
    plain = re.sub(r"[^A-Za-z0-9_.-]+", "_", sample.replace("#", "s").replace("\\", "/").replace("/", "_"))
    return f"{Path(plain).stem}.wav"


def key_range(text: str) -> tuple[int, int]:
    """Lowest and highest key of a map's text (MIDI numbers), with the shift of its note_offset."""
    marks = re.findall(r"\b(?:lokey|hikey|key)=([A-Ga-g]?[#b]?-?\d+)", text)
    shift = sum(int(offset) for offset in re.findall(r"\bnote_offset=(-?\d+)", text)[:1])
    keys = [_key(mark) + shift for mark in marks if _key(mark) >= 0]
    return (max(0, min(keys)), min(127, max(keys))) if keys else (0, 127)


def _key(mark: str) -> int:
    """A key as number, or as a name where c4 is 60."""
    if not mark[0].isalpha():
        return int(mark)
    tone = {"c": 0, "d": 2, "e": 4, "f": 5, "g": 7, "a": 9, "b": 11}[mark[0].lower()]
    accidental = {"#": 1, "b": -1}.get(mark[1], 0)
    return tone + accidental + 12 * (int(mark[2 if accidental else 1 :]) + 1)


def _to_wav(source: Path, target: Path, longest: float | None = None) -> None:
    if target.exists():
        return
    try:
        samples, rate = soundfile.read(source, dtype="float32", always_2d=True)
    except (OSError, RuntimeError) as error:
        raise InputError(f"cannot read the sample '{source}': {error}. Fetch the pack again.") from error
    if longest and len(samples) > longest * rate:
        samples = samples[: int(longest * rate)]
        fade = np.linspace(1, 0, rate)[:, None].astype(np.float32)
        samples[-rate:] *= fade
    target.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(target, samples, rate, subtype="PCM_16")


def piano_map(folder: Path, velocities: tuple[int, ...], work: Path) -> Map | None:
    """The Salamander grand with the given velocity sets; None when its samples are not there."""
    lines = [f"<control> hint_ram_based=1\n<global> ampeg_release=0.35 amp_veltrack=80 {BENDS}"]
    edges = [1, *(64 + 40 * i for i in range(len(velocities) - 1)), 128]
    for place, velocity in enumerate(velocities):
        samples = {_piano_key(path.stem): path for path in sorted(folder.glob(f"*v{velocity}.ogg"))}
        if not samples:
            return None
        for key, path in sorted(samples.items()):
            target = work / "samples" / "salamander" / _wav_name(path.name)
            _to_wav(path, target, LONGEST)
            lines.append(
                f"<region> sample=../../samples/salamander/{target.name} lokey={key - 1} hikey={key + 1} "
                f"pitch_keycenter={key} lovel={edges[place]} hivel={edges[place + 1] - 1}"
            )
    name = "salamander-" + "-".join(str(v) for v in velocities)
    return _written(work, Map("piano", name, work / "sfz" / name / "map.sfz", 21, 108), lines)


def _piano_key(stem: str) -> int:
    note, octave = stem.split("v")[0][:-1], int(stem.split("v")[0][-1])
    return NOTES[note] + 12 * (octave + 1)


def _written(work: Path, made: Map, lines: list[str]) -> Map:
    made.path.parent.mkdir(parents=True, exist_ok=True)
    made.path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return made


def hydrogen_map(folder: Path, work: Path) -> Map | None:
    """A Hydrogen drum kit, its instruments assigned to percussion keys by their names; None when it is none."""
    text = (folder / "drumkit.xml").read_text(encoding="utf-8", errors="replace")
    found: dict[str, list[Path]] = {}
    for block in text.split("<instrument>")[1:]:
        name = "".join(re.findall(r"<name>([^<]*)</name>", block)[:1]).lower()
        files = re.findall(r"<filename>([^<]+)</filename>", block)
        role = next((role for role, words in KIT_WORDS.items() if any(word in name for word in words)), None)
        if role and files:
            found.setdefault(role, []).append(folder / files[-1])
    if not {"kick", "snare", "closed"} <= set(found):
        return None
    samples = {role: [_decoded(path, work, folder.name) for path in paths] for role, paths in found.items()}
    name = folder.name.split()[0].lower()
    return _written(work, Map("drums", name, work / "sfz" / name / "map.sfz", 35, 82), kit_lines(samples))


def _decoded(path: Path, work: Path, pack: str) -> Path:
    target = work / "samples" / _wav_name(pack)[:-4] / _wav_name(path.name)
    _to_wav(path, target)
    return target


def kit_lines(samples: dict[str, list[Path]], tunes: dict[str, int] | None = None) -> list[str]:
    """An SFZ drum map: each role's samples on its keys, in turn; closed and open hats stop each other."""
    lines = ["<control> hint_ram_based=1\n<global> loop_mode=one_shot pitch_keytrack=0 amp_veltrack=90"]
    for role, keys in ROLES.items():
        paths = samples.get(role) or samples.get({"mid tom": "low tom", "high tom": "low tom"}.get(role, ""))
        if not paths:
            continue
        choke = " group=1 off_by=1 off_mode=normal ampeg_release=0.05" if role in ("closed", "open") else ""
        for place, key in enumerate(keys):
            tune = (tunes or {}).get(role, 0) + (200 * place if "tom" in role else 0)
            lines.append(f"<region> sample={paths[place % len(paths)]} key={key} tune={tune}{choke}")
    return lines


def one_shots(folder: Path, work: Path) -> dict[str, list[Path]]:
    """The loose drum samples by role, decoded; empty when the folder is not there."""
    found: dict[str, list[Path]] = {}
    for role, patterns in ONE_SHOTS.items():
        paths = sorted({path for pattern in patterns for path in _samples(folder, pattern)})
        found[role] = [_decoded(path, work, "one-shots") for path in paths]
    return found if found.get("kick") and found.get("snare") else {}


def _samples(folder: Path, pattern: str) -> list[Path]:
    return [path for ending in ("flac", "ogg", "wav") for path in folder.glob(f"{pattern}.{ending}")]


def pitched_maps(folder: Path, work: Path) -> list[Map]:
    """One bass map for each pitched one-shot that is there."""
    maps = []
    for name, key in sorted(PITCHED.items()):
        for path in _samples(folder, name)[:1]:
            sample = _decoded(path, work, "one-shots")
            lines = [
                f"<control> hint_ram_based=1\n<region> sample={sample} lokey=24 hikey=60 pitch_keycenter={key} "
                f"ampeg_release=0.08 {BENDS}"
            ]
            maps.append(_written(work, Map("bass", f"one-shot-{name}", work / "sfz" / name / "map.sfz", 26, 60), lines))
    return maps


def draw_kit(rng: np.random.Generator, shots: dict[str, list[Path]], path: Path) -> Map:
    """A drum kit of one random sample a role, each tuned by up to two semitones."""
    chosen = {role: [paths[int(rng.integers(len(paths)))]] for role, paths in shots.items() if paths}
    tunes = {role: int(rng.integers(-200, 201)) for role in chosen}
    path.write_text("\n".join(kit_lines(chosen, tunes)) + "\n", encoding="utf-8")
    return Map("drums", "one-shots " + " ".join(paths[0].stem for paths in chosen.values()), path, 35, 82)
