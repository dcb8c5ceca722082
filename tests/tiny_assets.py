"""A folder of assets that tests make themselves: one-sample SFZ instruments and a few MIDI songs."""

from __future__ import annotations

from pathlib import Path

import mido
import numpy as np
import soundfile

RATE = 44100


def tone(hertz: float, seconds: float = 1.0, level: float = 0.5):
    """A decaying sine, mono."""
    time = np.arange(round(seconds * RATE)) / RATE
    return (level * np.sin(2 * np.pi * hertz * time) * np.exp(-time)).astype(np.float32)


def write_instrument(folder: Path, name: str, drums: bool = False) -> Path:
    """An SFZ map with one sample: 440 Hz on key 69, or a click on all keys for drums."""
    folder.mkdir(parents=True, exist_ok=True)
    sound = np.random.default_rng(0).normal(0, 0.2, 4000).astype(np.float32) if drums else tone(440.0)
    soundfile.write(folder / f"{name}.wav", sound, RATE, subtype="PCM_16")
    keys = "lokey=0 hikey=127" + (" pitch_keytrack=0" if drums else " pitch_keycenter=69")
    path = folder / f"{name}.sfz"
    path.write_text(f"<group> {keys}\n<region> sample={name}.wav\n")
    return path


def write_song(path: Path, programs: tuple[int, ...] = (33, 27, 0, 48), bars: int = 8) -> Path:
    """A MIDI song at 120 beats a minute: drums, and one channel for each program, quarter notes throughout."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = mido.MidiFile(ticks_per_beat=480)
    for place, program in enumerate((*programs, None)):
        channel = 9 if program is None else place
        track = mido.MidiTrack()
        if program is not None:
            track.append(mido.Message("program_change", channel=channel, program=program))
        track.append(mido.Message("control_change", channel=channel, control=7, value=90))
        for beat in range(bars * 4):
            key = (36, 38)[beat % 2] if program is None else 40 + 7 * place + (0, 3, 5, 7)[beat % 4]
            track.append(mido.Message("note_on", channel=channel, note=key, velocity=90))
            track.append(mido.Message("note_off", channel=channel, note=key, time=480))
        file.tracks.append(track)
    file.save(path)
    return path


def write_assets(folder: Path) -> Path:
    """One instrument for each stem and three songs, one of them a held-out one."""
    for stem in ("bass", "drums", "guitar", "piano", "other"):
        write_instrument(folder / "sfz" / stem, f"tiny-{stem}", drums=stem == "drums")
    for name in ("first", "second", "d_e1m3"):
        write_song(folder / "midi" / f"{name}.mid")
    return folder
