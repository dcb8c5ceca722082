"""The checkpoints of a server: which there are, and the network that was used last."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from stemforge import checkpoints, wheels
from stemforge.devices import LOADING, choose, memory_errors
from stemforge.errors import UsageError
from stemforge.inference.settings import default
from stemforge.models.registry import refuse_sketches
from stemforge.separators.folded import FoldedSeparator
from stemforge.tasks.cascade import VOICE, Cascade
from stemforge.tasks.sketched import AROUND, GUIDANCE, Sketcher

if TYPE_CHECKING:
    import torch

    from stemforge.models.registry import Joint
    from stemforge.models.sketch import Sketch
    from stemforge.types import Separator


@dataclass(frozen=True)
class Choice:
    """A checkpoint as it is offered: its stems, whether it makes new ones, and whether a voice can be taken out before.

    Without stems only loading it tells them.
    """

    checkpoint: checkpoints.Checkpoint
    stems: tuple[str, ...]
    makes: bool
    vocals: bool

    @property
    def name(self) -> str:
        """Of the checkpoint."""
        return self.checkpoint.name


class Models:
    """What computes, one thing at a time: not for several threads.

    Args:
        default: name or folder of the checkpoint that is offered first; None for the default one.
        device: auto, cpu, cuda, cuda:N or mps.

    Raises:
        UsageError, CheckpointError: there is no such checkpoint.
    """

    def __init__(self, default: str | Path | None = None, device: str = "auto") -> None:
        first = checkpoints.find(default)
        known = {**wheels.separators(), **checkpoints.available()}
        here = [found for name, found in known.items() if name != first.name and _separates(found)]
        voices = [found for found in (first, *here) if VOICE in found.shown]
        self._voice = min(voices, key=lambda found: len(found.stems or ()), default=None)
        self.choices = {found.name: self._choice(found) for found in (first, *here)}
        self._device_name = device
        self._kept: tuple[str, Any] | None = None
        self._sketch: tuple[str, Sketch] | None = None

    @cached_property
    def device(self) -> torch.device:
        """Chosen when it is needed. Raises DeviceError."""
        return choose(self._device_name)

    def choice(self, name: str) -> Choice:
        """The checkpoint of that name. Raises UsageError for one that is not offered."""
        if name not in self.choices:
            raise UsageError(f"checkpoint '{name}': is not among {', '.join(self.choices)}. Choose one of them.")
        return self.choices[name]

    def separator(self, choice: Choice, *, vocals: bool) -> Separator:
        """What takes a song apart; with `vocals` behind one that takes the voice out. Raises as `load` does."""
        network = self._network(choice)
        if hasattr(network, "separate"):
            from stemforge.separators.network import NetworkSeparator

            found: Separator = NetworkSeparator(network, device=self.device)
        else:
            found = checkpoints.build(choice.checkpoint, self._device_name)
        if not vocals and choice.checkpoint.folds:
            return FoldedSeparator(found, choice.checkpoint.folds)
        voice = self.voice_for(choice) if vocals else None
        return found if voice is None else Cascade(checkpoints.build(voice, self._device_name), found)

    def voice_for(self, choice: Choice) -> checkpoints.Checkpoint | None:
        """The checkpoint that takes the voice out before this one hears the song, if that can be."""
        return self._voice if choice.vocals else None

    def joint(self, choice: Choice) -> Joint:
        """The network that makes stems. Raises UsageError for one that only separates, and as `load` does."""
        network = self._network(choice)
        if not hasattr(network, "denoise"):
            raise UsageError(f"checkpoint '{choice.name}': cannot make stems, only separate. Choose another one.")
        return cast("Joint", network)

    def sketcher(self, choice: Choice, made: Sequence[str], given: Sequence[str]) -> Sketcher | None:
        """What draws those stems beside the given ones, if something does. Raises as `load` does."""
        found = self._drawer(choice, GUIDANCE)
        return found if found is not None and found.can(made, self.joint(choice).rate, given) else None

    def gap_sketcher(self, choice: Choice, names: Sequence[str]) -> Sketcher | None:
        """What draws a gap in those stems, of as many as it knows, if something does. Raises as `load` does."""
        found = self._drawer(choice, AROUND)
        return found if found is not None and found.can_fill(names, self.joint(choice).rate) else None

    def _drawer(self, choice: Choice, guidance: float) -> Sketcher | None:
        name = choice.checkpoint.sketch
        if name is None:
            return None
        if self._sketch is None or self._sketch[0] != name:
            self._sketch = name, cast("Sketch", checkpoints.network_of(checkpoints.find(name)).to(self.device))
        conditional = self.joint(choice).conditional
        sound = default("sketched" if conditional else "replace", conditional)
        return Sketcher(self._sketch[1], guidance=guidance, device=self.device, sound=sound)

    def _network(self, choice: Choice) -> Any:  # noqa: ANN401 (what it can do is asked where it is used)
        """On the device; the one before is forgotten."""
        if self._kept is None or self._kept[0] != choice.name:
            self._kept = None
            with memory_errors(self.device, LOADING):
                network = checkpoints.network_of(choice.checkpoint).to(self.device)
            refuse_sketches(network, choice.name)
            self._kept = choice.name, network
        return self._kept[1]

    def _choice(self, found: checkpoints.Checkpoint) -> Choice:
        tasks = found.table.get("tasks", ["separate"] if found.table else ["separate", "impute"])
        own = found.shown
        vocals = VOICE in found.folds or bool(self._voice and own and VOICE not in own)
        return Choice(found, own, "impute" in tasks, vocals)


def _separates(found: checkpoints.Checkpoint) -> bool:
    """True for a checkpoint that is on this machine and takes songs apart."""
    return "separate" in found.table.get("tasks", ["separate"]) and checkpoints.state(found) != "not pulled"
