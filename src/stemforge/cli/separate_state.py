"""One run of `stemforge separate` over all songs: what is built once, and the tally."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from stemforge import checkpoints, flows
from stemforge.audio.io import Source
from stemforge.cli import console, ledger
from stemforge.cli.common import exit_code
from stemforge.cli.inputs import Item
from stemforge.cli.layout import Layout
from stemforge.cli.separate_flow import Flow
from stemforge.cli.separate_prompted import separator_of
from stemforge.cli.separate_request import Request
from stemforge.cli.separate_vocals import Stages
from stemforge.errors import SpaceError, StemforgeError
from stemforge.separators.diffusion import DiffusionSeparator, Likelihood
from stemforge.separators.flow_prior import FlowSeparator, Prior
from stemforge.separators.folded import FoldedSeparator
from stemforge.separators.network import NetworkSeparator, Options
from stemforge.separators.pictured import PicturedSeparator
from stemforge.separators.prompted import Extractor
from stemforge.tasks import files
from stemforge.tasks.cascade import Cascade
from stemforge.tasks.mirror import Mirror
from stemforge.tasks.separate import all_names
from stemforge.types import Separator


@dataclass
class Run:
    """One run over all songs: what is built once, and the tally."""

    request: Request
    stages: Stages
    report: console.Report
    layout: Layout
    flow: Flow
    ledger: ledger.Ledger | None = None
    temporary: Path = Path()
    mirror: Mirror | None = None
    current: Path = Path()
    full: SpaceError | None = None
    done: int = 0
    skipped: int = 0
    codes: list[int] = field(default_factory=list)
    warned: dict[Path, list[str]] = field(default_factory=dict)

    @property
    def checkpoint(self) -> checkpoints.Checkpoint:
        """That of the stems, but for vocals that were taken out before."""
        return self.stages.main

    @cached_property
    def sha256(self) -> str:
        """Of the weights, fetched first if they are not here, and verified."""
        return self._sha256(self.checkpoint)

    @cached_property
    def voice(self) -> dict[str, str] | None:
        """Name and sha256 of the checkpoint that takes the vocals out before, as a sidecar says it."""
        found = self.stages.voice
        return None if found is None else {"name": found.name, "sha256": self._sha256(found)}

    @cached_property
    def prior(self) -> Prior | None:
        """What is asked for of flows, with those that join the checkpoint by themselves."""
        return flows.joined(self.checkpoint, self.request.prior)

    @cached_property
    def flows(self) -> dict[str, str] | None:
        """sha256 of the weights of further flows, and of the checkpoint that guesses, as a sidecar says it."""
        prior = self.prior
        if prior is None:
            return None
        more = {"warm": prior["warm"], "rest": prior.get("rest")}
        places = {**prior["flows"], **{name: place for name, place in more.items() if place is not None}}
        return {name: self._sha256(checkpoints.find(place)) for name, place in places.items()}

    def _sha256(self, checkpoint: checkpoints.Checkpoint) -> str:
        if checkpoint.repo and checkpoints.state(checkpoint) == "not pulled":
            self.report.note(f"checkpoint {checkpoint.name}: downloading")
        return checkpoints.verify(checkpoint)[checkpoint.weights.name]

    def recipe(self, item: Item, source: Source) -> dict[str, Any]:
        """All that the stems of a song depend on."""
        voice, settings = self.voice, self.request.settings
        if self.flows:
            settings = {**settings, "flows": self.flows}
        return files.recipe(source.file, self.checkpoint.name, self.sha256, settings, name=item.path.name, vocals=voice)

    @cached_property
    def last(self) -> NetworkSeparator | DiffusionSeparator | PicturedSeparator | FlowSeparator | Extractor:
        """The separator of the checkpoint, built when the first song needs it."""
        r = self.request
        options: Options = {name: getattr(r, name) for name in Options.__annotations__}  # type: ignore[assignment]
        options["steps"] = 1 if r.steps is None else r.steps
        given: Likelihood = {**r.likelihood, "steps": r.steps}
        separator: NetworkSeparator | DiffusionSeparator | PicturedSeparator | FlowSeparator | Extractor
        if r.wish is not None:
            separator = separator_of(r, r.wish, self.checkpoint)
        elif self.prior is None:
            separator = checkpoints.build(self.checkpoint, r.device, method=r.method, likelihood=given, **options)
        else:
            separator = flows.build(
                self.checkpoint, r.device, prior=self.prior, segment=r.segment, overlap=r.overlap, seed=r.seed,
                precision=r.precision,
            )  # fmt: skip
        level = 0 if r.device == "auto" else 1
        self.report.note(f"checkpoint {self.stages.name} on {separator.device}", level)
        if r.shifts > 1:
            self.report.note(f"{r.shifts} shifts: every song takes {r.shifts} times as long")
        return separator

    @cached_property
    def separator(self) -> Separator:
        """The same, before the one that hears what its flows leave, and behind the one that takes the vocals out."""
        r, voice = self.request, self.stages.voice
        separator: Separator = self.last
        if r.rest is not None and r.prior is not None:
            rest = checkpoints.load(r.rest, r.device, overlap=r.overlap, precision=r.precision)
            separator = Cascade(separator, rest, tuple(r.prior["flows"]))
        if voice is not None:
            first = checkpoints.build(
                voice, r.device, overlap=r.overlap, precision=r.precision, batch_size=r.batch_size
            )
            separator = Cascade(first, separator)
        elif self.stages.folds:
            separator = FoldedSeparator(separator, self.stages.folds)
        r.selection.check(all_names(separator.names))
        return separator

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Of all stems that can be written."""
        return self.stages.stems or all_names(self.separator.names)

    def failed(self, item: Item, error: StemforgeError) -> None:
        """Tell and count a song that failed; where the disk is full the run is over."""
        self.flow.settle(wait=True)
        self.full = error if isinstance(error, SpaceError) else self.full
        message = str(error) if str(item.path) in str(error) else f"'{item.path}': {error}"
        self.codes.append(error.exit_code)
        self.report.error(message)
        self.tell(item, "failed", error={"code": error.exit_code, "message": message})

    def tell(self, item: Item, status: str, **fields: object) -> None:
        """One JSON line about a song."""
        self.sort_warnings()
        warnings = self.warned.pop(item.path, [])
        names = {"input": _text(item.path), "track": _text(Path(item.track.as_posix()))}
        self.say(console.json_line("song", status=status, **names, **fields, warnings=warnings))

    def say(self, line: str) -> None:
        """One JSON line, on stdout and in the report, where these are wanted."""
        if self.request.json:
            console.result(line)
        if self.ledger is not None:
            self.ledger.add(line)

    def sort_warnings(self) -> None:
        """Give the new warnings to their songs: that of the thread, or the one that is worked on."""
        for thread, text in self.report.taken_warnings():
            self.warned.setdefault(self.flow.owners.get(thread, self.current), []).append(text)

    def result(self, text: str) -> None:
        """One line of the result, unless stdout is for JSON or for sound."""
        if not self.request.json and not self.request.to_stdout:
            console.result(text)

    def shown(self, folder: Path) -> str:
        """The name of a folder of stems: its address, where they go to object storage."""
        return str(folder if self.mirror is None else self.mirror.far(folder))

    def exit_code(self) -> int:
        """Of all that was done, there already, or failed."""
        return exit_code(self.codes, self.done + self.skipped)


def _text(path: Path) -> str:
    """A name for JSON, bytes that are no text as lone surrogates."""
    return os.fsencode(path).decode("utf-8", "surrogateescape")
