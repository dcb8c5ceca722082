"""What is done to a song on the page: taken apart, a part of some stems made anew, stems made to go with the others.

Each takes what the browser has asked for, as it came, and gives a version of the song with a sidecar.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor

from stemforge import checkpoints
from stemforge.audio.feed import Feed
from stemforge.audio.writer import Encoding, StemWriter, Written
from stemforge.errors import UsageError
from stemforge.inference.settings import default
from stemforge.report.page import clock
from stemforge.report.songs import MIX
from stemforge.separators.diffusion import LONGEST, DiffusionSeparator
from stemforge.separators.flow_prior import FlowSeparator
from stemforge.tasks import files
from stemforge.tasks.edit import STRENGTH, Way, way_for
from stemforge.tasks.edit_files import Files, Patch, Patches, open_stems, write
from stemforge.tasks.edit_song import Job, Scene, Tail, begins, changes, steps_in
from stemforge.tasks.impute import Wish
from stemforge.tasks.impute import windows_in as windows_of_song
from stemforge.tasks.impute_files import accompanied, frames_in, gain_for, names_of, open_given, sketched
from stemforge.tasks.regions import checked
from stemforge.tasks.separate import Selection
from stemforge.tasks.sketched import Sketcher
from stemforge.types import Separator, Stems
from stemforge.ui.models import Choice, Models
from stemforge.ui.songs import Song, Version

if TYPE_CHECKING:
    from stemforge.models.registry import Joint

Tell: TypeAlias = Callable[[float], None]
"""Is told the share that is done, 0 to 1; raises to stop the work."""

Task: TypeAlias = Callable[[Models, Song, Mapping[str, Any], Path, Tell], str]
"""Writes a version of a song, as it is wished, into a folder; gives its title."""

FADE = 0.05
"""Seconds on both sides of a region in which old and new are cross-faded, as `edit` does."""


def separate(models: Models, song: Song, asked: Mapping[str, Any], folder: Path, tell: Tell) -> str:
    """Take a song apart: `checkpoint`, `stems` (none: all), `vocals`. Raises StemforgeError as separating does."""
    begun, choice = time.monotonic(), models.choice(_text(asked, "checkpoint"))
    stems, vocals = _names(asked, "stems"), asked.get("vocals") is True
    separator, voice = models.separator(choice, vocals=vocals), models.voice_for(choice) if vocals else None
    on_block = _watched(separator, song.source.seconds, tell)
    outcome = files.separate_file(song.source, folder, separator, selection=Selection(stems or None), on_block=on_block)
    settings = {"stems": list(stems)} if stems else {}
    before = None if voice is None else _stamp(voice)
    stamp = _stamp(choice.checkpoint)
    recipe = files.recipe(song.source.file, stamp["name"], stamp["sha256"], settings, song.name, before)
    facts = {"rate": song.source.rate, "channels": song.source.channels, **outcome.as_json()}
    _finish(models, folder, recipe, facts, begun)
    return f"Stems by {choice.name}" if voice is None else f"Stems by {voice.name} and {choice.name}"


def regenerate(models: Models, song: Song, asked: Mapping[str, Any], folder: Path, tell: Tell) -> str:
    """Make a part anew: `version`, `stems`, `from`, `to` in seconds, `strength`, `seed`, `checkpoint`.

    Raises StemforgeError as `edit` does.
    """
    begun, choice, base = time.monotonic(), models.choice(_text(asked, "checkpoint")), _base(song, asked)
    network, seed, stems = models.joint(choice), _whole(asked, "seed"), _names(asked, "stems")
    everything = open_stems(base.folder, base.stems)
    known = open_stems(base.folder, [name for name in base.stems if name in network.names])
    if not stems:
        raise UsageError("no stem is chosen. Choose those of which a part is made anew.")
    if strange := [name for name in stems if name not in known.names]:
        raise UsageError(f"stem '{strange[0]}': cannot be made by {choice.name}. Choose of {', '.join(known.names)}.")
    start, stop = _number(asked, "from"), _number(asked, "to")
    regions = checked([(start, stop)], known.rate, known.frames)
    job = Job(known, tuple(regions), round(FADE * known.rate), known.frames, stems)
    strength = _number(asked, "strength", STRENGTH)
    way = way_for(network, strength=strength, sketcher=models.gap_sketcher(choice, stems) if strength == 1 else None)
    steps = _Steps(steps_in(network, job, way), tell)
    found = _patches(models, network, job, way, seed, everything, steps)
    patches = Patches([begins(job, part) for part in job.parts], found)
    written = write(everything, patches, job.frames, folder, Encoding(), mix=True)
    recipe = {"checkpoint": _stamp(choice.checkpoint), "task": "edit regenerate", "input": song.name,
              "of": base.title, "regions": {name: [[start, stop]] for name in stems}, "strength": way.strength,
              "seed": seed, "method": way.method, "sampling": asdict(way.schedule),
              **_drawn(choice, way.drawer)}  # fmt: skip
    _finish(models, folder, recipe, _facts(written, known), begun)
    return f"{_listed(stems)} anew {clock(start, 1)} to {clock(stop, 1)}, seed {seed}"


def impute(models: Models, song: Song, asked: Mapping[str, Any], folder: Path, tell: Tell) -> str:
    """Make stems to go with the others: `version`, `stems` to make, `seed`, `checkpoint`.

    Stems of the version that the checkpoint does not know, a voice for one, are kept and not heard by it. Raises
    StemforgeError as `impute` does.
    """
    begun, choice, base = time.monotonic(), models.choice(_text(asked, "checkpoint")), _base(song, asked)
    network, seed, fill = models.joint(choice), _whole(asked, "seed"), _names(asked, "stems")
    keep = tuple(name for name in base.stems if name in network.names and name not in fill)
    if not fill or not keep:
        raise UsageError(f"{'every' if fill else 'no'} stem is chosen. Choose those that are made, and leave others.")
    given, strange = open_given(base.folder, keep), [name for name in base.stems if name not in network.names]
    wish = Wish(fill, {}, "condition" if network.conditional else "replace", None, seed)
    names, gain = names_of(given, network, wish), gain_for(given, network)
    sketcher = models.sketcher(choice, fill, keep)
    sampling = default("impute" if network.conditional else "replace", network.conditional)
    sampling = sampling if sketcher is None else sketcher.refining
    more = 0 if sketcher is None else sketcher.steps(frames_in(given, network), beside=True)
    steps = _Steps(more + sampling.steps * windows_of_song(network, given.frames / given.rate), tell)

    def on_step(done: int, total: int) -> None:
        steps.one()

    begins = None if sketcher is None else sketched(sketcher, network, given, gain, wish, on_step)
    made = accompanied(network, given, gain, sampling, wish, begun=begins, device=models.device, on_step=on_step)
    if strange:
        beside = Feed(open_stems(base.folder, strange).stream())
        made = (torch.cat([rows, beside.take(rows.shape[-1])]) for rows in made)
    written = _written(folder, (*names, *strange), given, made)
    drawn = _drawn(choice, sketcher)
    recipe = {"checkpoint": _stamp(choice.checkpoint), "task": "impute", "input": song.name, "of": base.title,
              "keep": [*keep, *strange], "fill": list(fill), "seed": seed, "method": wish.method,
              "sampling": asdict(sampling), **drawn}  # fmt: skip
    _finish(models, folder, recipe, _facts(written, given), begun)
    return f"New {_listed(fill)}, seed {seed}"


TASKS: Mapping[str, Task] = {"separate": separate, "regenerate": regenerate, "impute": impute}


def _drawn(choice: Choice, sketcher: Sketcher | None) -> dict[str, Any]:
    """What a recipe says of what it begins with."""
    name = choice.checkpoint.sketch
    return {} if sketcher is None or name is None else {"sketch": _stamp(checkpoints.find(name))}


def _watched(separator: Separator, seconds: float, tell: Tell) -> Callable[[float], None]:
    """What is to be told of each block; one that takes many steps for it tells those instead."""
    done = 0.0

    def add(more: float) -> None:
        nonlocal done
        done += more
        tell(min(1.0, done / seconds))

    if not isinstance(separator, DiffusionSeparator | FlowSeparator):
        return add
    longest = separator.segment if isinstance(separator, FlowSeparator) else LONGEST
    separator.on_step = lambda done, steps: add(min(longest, seconds) / steps)
    return lambda seconds: None


class _Steps:
    """So many steps, told one by one."""

    def __init__(self, total: int, tell: Tell) -> None:
        self._done, self._total, self._tell = 0, max(1, total), tell

    def one(self) -> None:
        self._done += 1
        self._tell(self._done / self._total)


def _patches(
    models: Models, network: Joint, job: Job, way: Way, seed: int, everything: Files, steps: _Steps
) -> Iterator[list[Patch]]:
    """What each part adds to all stems of the version, those that the network does not know too: to them nothing."""
    before: Tail | None = None
    rows = [everything.names.index(name) for name in job.piece.names]
    for index, part in enumerate(job.parts):
        scene = Scene(part, Stems(job.piece.names, job.piece.read(*part.span), job.piece.rate))
        found, before = changes(
            network, job, scene, way, before=before, seed=seed * 7919 + index, device=models.device,
            on_step=lambda done, total: steps.one(),
        )  # fmt: skip
        yield [Patch(patch.first, _among(patch.change, rows, len(everything.names))) for patch in found]


def _among(change: Tensor, rows: list[int], count: int) -> Tensor:
    """Rows (row, channel, time) at their places among `count` others, which are silent."""
    found = change.new_zeros(count, *change.shape[1:])
    found[rows] = change
    return found


def _written(folder: Path, names: tuple[str, ...], like: Files, made: Iterator[Tensor]) -> Written:
    """Stems in blocks (stem, channel, time), and their sum, as files."""
    writer = StemWriter(folder, (*names, MIX), like.rate, like.channels, Encoding(), frames=like.frames)
    with writer:
        for rows in made:
            writer.write(torch.cat([rows, rows.sum(dim=0, keepdim=True)]))
        with files.naming(files.Place(folder)):
            return writer.finish()


def _facts(written: Written, like: Files) -> dict[str, Any]:
    """What a sidecar says of the files."""
    outputs = {name: path.name for name, path in written.files.items()}
    return {"rate": like.rate, "channels": like.channels, "outputs": outputs, "frames": written.frames,
            "peak": written.peak}  # fmt: skip


def _finish(models: Models, folder: Path, recipe: Mapping[str, Any], facts: Mapping[str, Any], begun: float) -> None:
    """The sidecar."""
    elapsed = round(time.monotonic() - begun, 3)
    files.write_sidecar(folder, {"recipe": recipe, **facts, "device": str(models.device), "elapsed_s": elapsed})


def _stamp(checkpoint: checkpoints.Checkpoint) -> dict[str, str]:
    """Its name and the sha256 of its weights."""
    return {"name": checkpoint.name, "sha256": checkpoints.verify(checkpoint)[checkpoint.weights.name]}


def _base(song: Song, asked: Mapping[str, Any]) -> Version:
    """The version that is worked on, which has stems. Raises UsageError."""
    found = song.version(_whole(asked, "version"))
    if not found.stems:
        raise UsageError("the song is in one piece. Take it apart first.")
    return found


def _listed(names: tuple[str, ...]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def _text(asked: Mapping[str, Any], key: str) -> str:
    if not isinstance(value := asked.get(key), str):
        raise UsageError(f"{key}: is missing. Load the page again.")
    return value


def _names(asked: Mapping[str, Any], key: str) -> tuple[str, ...]:
    value = asked.get(key, [])
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise UsageError(f"{key}: is not a list of names. Load the page again.")
    return tuple(dict.fromkeys(value))


def _number(asked: Mapping[str, Any], key: str, otherwise: float | None = None) -> float:
    value = asked.get(key, otherwise)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UsageError(f"{key}: is not a number. Write one.")
    return float(value)


def _whole(asked: Mapping[str, Any], key: str) -> int:
    value = _number(asked, key, 0)
    if not 0 <= value < 2**31 or value != int(value):
        raise UsageError(f"{key} {value:g}: not a whole number from 0 on. Write one.")
    return int(value)
