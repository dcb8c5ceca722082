"""What `generate` and `impute` share: the network, and stems to files."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from stemforge import checkpoints
from stemforge.audio.windows import split
from stemforge.audio.writer import Encoding, StemWriter, Written
from stemforge.cli import console, pages
from stemforge.cli.options import Output, choice, seed_of
from stemforge.devices import LOADING, check_name, choose, keep_memory, memory_errors
from stemforge.errors import UsageError
from stemforge.models.registry import refuse_sketches
from stemforge.report import songs
from stemforge.tasks import files

if TYPE_CHECKING:
    from collections.abc import Iterable

    import torch
    from torch import Tensor

    from stemforge.models.registry import Joint
    from stemforge.models.sketch import Sketch

MIX, NO_SKETCH = "mix", "none"
_PART = 1 << 20


@dataclass(frozen=True)
class Rows:
    """Stems that are being made: blocks (stem, channel, time) of `frames` samples in all, rate in Hz."""

    names: tuple[str, ...]
    rate: int
    channels: int
    frames: int
    blocks: Iterable[Tensor]


@dataclass
class Session:
    """One run: the options of the command, the checkpoint, where messages go. prompted: prompts say what is made."""

    options: dict[str, Any]
    checkpoint: checkpoints.Checkpoint
    report: console.Report
    encoding: Encoding
    seed: int
    asked: dict[str, Any] = field(default_factory=dict)
    prompted: bool = False

    @classmethod
    def begin(cls, options: dict[str, Any], *, prompted: bool = False) -> Session:
        """Checks all that can be checked without the network. Raises StemforgeError."""
        check_name(options["device"])
        pages.check(bool(options.get("report_html")))
        choice(options["progress"], console.PROGRESS, "--progress")
        if (segment := options["segment"]) is not None and not 0 < segment < math.inf:
            raise UsageError(
                f"--segment {segment:g}: must be more than 0 s. Leave it out for what suits the checkpoint."
            )
        verbosity = -1 if options["quiet"] else options["verbose"]
        report = console.Report(options["progress"], verbosity)
        found = checkpoints.find(options["checkpoint"])
        seed = seed_of(options["seed"])
        return cls(options, found, report, Output.of(options).encoding(), seed, prompted=prompted)

    @cached_property
    def device(self) -> torch.device:
        """Chosen when it is needed."""
        return choose(self.options["device"])

    @cached_property
    def sha256(self) -> str:
        """Of the weights, fetched first if they are not here, and verified."""
        if checkpoints.state(self.checkpoint) == "not pulled":
            self.report.note(f"checkpoint {self.checkpoint.name}: downloading")
        return checkpoints.verify(self.checkpoint)[checkpoints.WEIGHTS]

    @cached_property
    def network(self) -> Joint:
        """Built when it is needed. Raises CheckpointError, and UsageError for a network that cannot sample."""
        _ = self.sha256
        if self.device.type == "cpu":
            keep_memory()
        with memory_errors(self.device, LOADING):
            network = checkpoints.network_of(self.checkpoint).to(self.device)
        if not self.prompted:
            refuse_sketches(network, self.checkpoint.name)
        if not hasattr(network, "denoise"):
            raise UsageError(f"checkpoint '{self.checkpoint.name}': cannot generate, only separate. Name another one.")
        self.report.note(f"checkpoint {self.checkpoint.name} on {self.device}", 1)
        return cast("Joint", network)

    @cached_property
    def sketching(self) -> checkpoints.Checkpoint | None:
        """What draws what is made, before it is sound; None: nothing does. Raises UsageError: there is no such one."""
        asked = self.options.get("sketch") or self.checkpoint.sketch or NO_SKETCH
        return None if asked == NO_SKETCH else checkpoints.find(asked)

    @cached_property
    def sketch(self) -> Sketch | None:
        """Its network, built when it is needed. Raises CheckpointError, and UsageError for one of sound."""
        from stemforge.models.sketch import Sketch

        found = self.sketching
        if found is None:
            return None
        with memory_errors(self.device, LOADING):
            network = checkpoints.network_of(found).to(self.device)
        if not isinstance(network, Sketch):
            raise UsageError(f"--sketch {found.name}: makes sound, no sketches. Name another one, or none.")
        return network

    def check_stems(self, names: tuple[str, ...] | None) -> None:
        """Raises UsageError for a stem that the checkpoint has not, before its weights are read."""
        known = self.checkpoint.stems
        for name in names or ():
            if known is not None and name not in known:
                raise UsageError(f"stem '{name}': this checkpoint has {', '.join(known)}.")

    def write(self, folder: Path, rows: Rows, *, mix: bool) -> Written:
        """Stems, and their sum as `mix`, with one gain for all. Raises as StemWriter does."""
        import torch

        names = (*rows.names, MIX) if mix else rows.names
        writer = StemWriter(folder, names, rows.rate, rows.channels, self.encoding, frames=rows.frames)
        with writer:
            for part, valid in split(rows.blocks, _PART, _PART):
                stems = part[..., :valid].contiguous()
                writer.write(torch.cat([stems, stems.sum(dim=0, keepdim=True)]) if mix else stems)
            with files.naming(files.Place(folder)):
                return writer.finish()

    def finish(self, folder: Path, written: Written, recipe: dict[str, Any], begun: float, **fields: object) -> None:
        """The sidecar, then the result: the folder, or one JSON line."""
        facts = {
            "outputs": {name: path.name for name, path in written.files.items()},
            "frames": written.frames,
            "gain": written.gain,
            "peak": written.peak,
            "device": str(self.device),
            "elapsed_s": round(time.monotonic() - begun, 3),
            **fields,
        }
        checkpoint = {"name": self.checkpoint.name, "sha256": self.sha256}
        files.remove_stale(folder, keep={path.name for path in written.files.values()})
        files.write_sidecar(folder, {"recipe": {"checkpoint": checkpoint, **recipe, **self.asked}, **facts})
        if self.options.get("report_html"):
            facts["report"] = songs.write(files.Place(folder))
        if written.gain != 1:
            self.report.note(f"{folder.name}: all stems turned down by one gain of {written.gain:.3f}, one would clip")
        if self.options["json"]:
            console.result_json("song", status="ok", folder=str(folder), **recipe, **facts)
        else:
            console.result(str(folder))
