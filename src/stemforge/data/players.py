"""Play one part with one instrument: SFZ maps through pysfizz, soundfonts through tinysoundfont.

Events are placed sample by sample; a note ends before the next one on the same key begins.
"""

from __future__ import annotations

import heapq
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemforge.data.extras import require
from stemforge.data.score import RATE, Note, Part
from stemforge.errors import InputError

Sound = NDArray[np.float32]
"""Samples (time, 2)."""
Event = tuple[int, int, str, int, float]
"""(frame, order within a frame, kind, key or controller, value): kinds off, control, bend, on."""
BLOCK = 256
BEND_RANGE = 12.0
DEFAULTS = ((7, 100), (10, 64), (11, 127), (64, 0), (1, 0))


def events_of(part: Part, frames: int) -> list[Event]:
    """All events of a part in the order in which they sound."""
    events: list[Event] = []
    sounding: dict[int, list[Note]] = {}
    for note in sorted(part.notes, key=lambda n: n.start):
        sounding.setdefault(note.key, []).append(note)
    for key, notes in sounding.items():
        for i, note in enumerate(notes):
            stop = note.start + note.length
            if i + 1 < len(notes):
                stop = min(stop, notes[i + 1].start)
            events.append((round(note.start * RATE), 3, "on", key, note.velocity))
            events.append((max(round(stop * RATE), round(note.start * RATE) + 64), 0, "off", key, 0))
    events += [(round(time * RATE), 1, "control", number, value) for time, number, value in part.controls]
    events += [(round(time * RATE), 2, "bend", 0, value) for time, value in part.bends]
    heapq.heapify(events)
    ordered = [heapq.heappop(events) for _ in range(len(events))]
    return [event for event in ordered if event[0] < frames]


def play_map(path: Path, part: Part, frames: int, varispeed: float = 0.0) -> Sound:
    """Play an SFZ map. varispeed: semitones (whole ones but for drums) by which samples run faster; keys stay.

    The instrument then sounds smaller (positive) or larger, as another instrument of its kind.
    Errors: InputError when the map does not load.
    """
    sfizz: Any = require("pysfizz._sfizz")
    shift = 0 if part.stem == "drums" else round(varispeed)
    synth = sfizz.Synth(round(RATE / 2 ** ((shift or varispeed) / 12)), BLOCK)
    synth.enable_freewheeling()
    synth.set_sample_quality(2)
    if not synth.load_sfz_file(str(path)):
        raise InputError(f"cannot load the instrument '{path}': the sampler refuses it. Remove it or fetch it again.")
    sound = np.zeros((frames + BLOCK, 2), np.float32)
    for control, default in DEFAULTS:
        synth.cc(0, control, default)
    events = events_of(part, frames)
    place = 0
    for start in range(0, frames, BLOCK):
        while place < len(events) and events[place][0] < start + BLOCK:
            _send(synth, events[place], start, shift)
            place += 1
        left, right = synth.render_block()
        sound[start : start + BLOCK, 0] = left
        sound[start : start + BLOCK, 1] = right
    return sound[:frames]


def _send(
    synth: Any,  # noqa: ANN401
    event: Event,
    start: int,
    shift: int,
) -> None:
    frame, _, kind, number, value = event
    delay = max(0, frame - start)
    if kind == "on":
        synth.note_on(delay, number - shift, int(value))
    elif kind == "off":
        synth.note_off(delay, number - shift, 0)
    elif kind == "control":
        synth.cc(delay, number, int(value))
    else:
        synth.pitch_wheel(delay, int(np.clip(value / BEND_RANGE, -1, 1) * 8191))


@lru_cache(maxsize=4)
def _font(path: Path) -> tuple[Any, int]:
    """A synthesizer with one font loaded; kept, because loading takes a second."""
    tinysoundfont: Any = require("tinysoundfont")
    synth = tinysoundfont.Synth(gain=-6, samplerate=RATE)
    try:
        return synth, synth.sfload(str(path))
    except Exception as error:
        raise InputError(f"cannot load the soundfont '{path}': {error}. Fetch it again.") from error


@lru_cache(maxsize=16)
def presets(path: Path, bank: int) -> dict[int, str]:
    """Programs of a bank that the font has, with their names (bank 128 holds drum kits)."""
    synth, font = _font(path)
    names = {program: synth.sfpreset_name(font, bank, program) for program in range(128)}
    return {program: name for program, name in names.items() if name}


def play_font(path: Path, bank: int, program: int, part: Part, frames: int) -> Sound:
    """Play a preset of a soundfont; drum kits are programs of bank 128."""
    synth, font = _font(path)
    channel = 9 if bank == 128 else 0
    synth.sounds_off()
    synth.generate(RATE // 10)
    synth.program_select(channel, font, bank, program, bank == 128)
    for control, default in DEFAULTS:
        synth.control_change(channel, control, default)
    synth.pitchbend_range(channel, BEND_RANGE)
    synth.pitchbend(channel, 8192)
    pieces: list[Sound] = []
    now = 0
    for frame, _, kind, number, value in events_of(part, frames):
        if frame > now:
            pieces.append(_generated(synth, frame - now))
            now = frame
        if kind == "on":
            synth.noteon(channel, number, int(value))
        elif kind == "off":
            synth.noteoff(channel, number)
        elif kind == "control":
            synth.control_change(channel, number, int(value))
        else:
            synth.pitchbend(channel, int(np.clip(8192 + value / BEND_RANGE * 8191, 0, 16383)))
    pieces.append(_generated(synth, frames - now))
    return np.concatenate(pieces)[:frames]


def _generated(
    synth: Any,  # noqa: ANN401
    frames: int,
) -> Sound:
    return np.frombuffer(bytes(synth.generate(frames)), np.float32).reshape(-1, 2)
