"""Read Standard MIDI Files into parts: one part for each channel and program, all controllers kept."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import mido

from stemforge.data.score import DRUM_CHANNEL, Note, Part, Score
from stemforge.errors import InputError

KEPT_CONTROLS = (1, 7, 10, 11, 64)


def stem_of(program: int, channel: int) -> str:
    """Stem of a General MIDI program (0-127): channel 10 drums, 0-7 piano, 24-31 guitar, 32-39 bass, the rest other."""
    if channel == DRUM_CHANNEL:
        return "drums"
    return {0: "piano", 3: "guitar", 4: "bass"}.get(program // 8, "other")


@dataclass
class _Channel:
    """What a channel is doing while the file is read."""

    program: int = 0
    bend_range: float = 2.0
    bends: list[tuple[float, float]] = field(default_factory=list)
    controls: list[tuple[float, int, int]] = field(default_factory=list)
    parameter: dict[int, int] = field(default_factory=dict)


def read_midi(path: Path) -> Score:
    """All parts of a MIDI file in seconds.

    Errors: InputError when the file is missing, no MIDI, or has no notes.
    """
    try:
        file = mido.MidiFile(path)
        timed = list(file)
    except (OSError, EOFError, ValueError, KeyError, IndexError) as error:
        raise InputError(f"cannot read '{path}': {error}. It must be a Standard MIDI File.") from error
    channels: dict[int, _Channel] = defaultdict(_Channel)
    notes: dict[tuple[int, int], list[Note]] = defaultdict(list)
    sounding: dict[tuple[int, int], list[tuple[float, int, int]]] = defaultdict(list)
    now = 0.0
    for message in timed:
        now += message.time
        if message.type in ("note_on", "note_off"):
            _note(message, now, channels[message.channel], sounding, notes)
        elif message.type == "program_change":
            channels[message.channel].program = message.program
        elif message.type == "pitchwheel":
            channel = channels[message.channel]
            channel.bends.append((now, message.pitch / 8192 * channel.bend_range))
        elif message.type == "control_change":
            _control(message, now, channels[message.channel])
    if not any(notes.values()):
        raise InputError(f"cannot use '{path}': it has no notes.")
    parts = tuple(_part(key, found, channels[key[0]]) for key, found in sorted(notes.items()))
    return Score(path.stem, max(part.end for part in parts), parts, {"tracks": [track.name for track in file.tracks]})


def _note(
    message: mido.Message,
    now: float,
    channel: _Channel,
    sounding: dict[tuple[int, int], list[tuple[float, int, int]]],
    notes: dict[tuple[int, int], list[Note]],
) -> None:
    waiting = sounding[message.channel, message.note]
    if message.type == "note_on" and message.velocity > 0:
        waiting.append((now, message.velocity, channel.program))
    elif waiting:
        start, velocity, program = waiting.pop(0)
        key = (message.channel, 0 if message.channel == DRUM_CHANNEL else program)
        notes[key].append(Note(start, max(0.02, now - start), message.note, velocity))


def _control(message: mido.Message, now: float, channel: _Channel) -> None:
    number, value = message.control, message.value
    if number in KEPT_CONTROLS:
        channel.controls.append((now, number, value))
    elif number in (100, 101):
        channel.parameter[number] = value
    elif number == 6 and channel.parameter.get(100) == 0 and channel.parameter.get(101) == 0:
        channel.bend_range = float(min(value, 24)) or 2.0


def _part(key: tuple[int, int], notes: list[Note], channel: _Channel) -> Part:
    number, program = key
    ordered = tuple(sorted(notes, key=lambda n: (n.start, n.key)))
    bends = () if number == DRUM_CHANNEL else tuple(channel.bends)
    return Part(
        stem_of(program, number), "human", program, ordered, bends, tuple(channel.controls), f"channel {number + 1}"
    )
