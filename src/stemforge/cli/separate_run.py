"""The work of `stemforge separate`: check everything that can be checked, then song by song."""

from __future__ import annotations

import os
import sys
import time
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import zip_longest
from pathlib import Path
from typing import Any

from stemforge import checkpoints, flows
from stemforge.audio.io import Source
from stemforge.cli import console, ledger, lists, prompted
from stemforge.cli.inputs import Gathered, Item, check_writable, gather
from stemforge.cli.layout import DEFAULT, Layout
from stemforge.cli.layout import check as check_layout
from stemforge.cli.separate_each import is_far, opened, separate_one, use_temporary
from stemforge.cli.separate_flow import Flow
from stemforge.cli.separate_prompted import separator_of
from stemforge.cli.separate_request import Request
from stemforge.cli.separate_vocals import Stages, stages
from stemforge.errors import SpaceError, StemforgeError, UsageError
from stemforge.separators.diffusion import DiffusionSeparator, Likelihood
from stemforge.separators.flow_prior import FlowSeparator, Prior
from stemforge.separators.folded import FoldedSeparator
from stemforge.separators.network import NetworkSeparator, Options
from stemforge.separators.prompted import Extractor
from stemforge.storage import located
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
    def last(self) -> NetworkSeparator | DiffusionSeparator | FlowSeparator | Extractor:
        """The separator of the checkpoint, built when the first song needs it."""
        r = self.request
        options: Options = {name: getattr(r, name) for name in Options.__annotations__}  # type: ignore[assignment]
        options["steps"] = 1 if r.steps is None else r.steps
        given: Likelihood = {**r.likelihood, "steps": r.steps}
        separator: NetworkSeparator | DiffusionSeparator | FlowSeparator | Extractor
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
        """0 all done, 3 some failed, otherwise the code that all failures share, or 4."""
        if not self.codes:
            return 0
        if self.done or self.skipped:
            return 3
        return self.codes[0] if len(set(self.codes)) == 1 else 4


def run(request: Request) -> int:
    """Separate all songs of a request; the exit code. Raises StemforgeError for what concerns no single song."""
    request = replace(request, out=located(request.out))
    request.check()
    if request.wish is not None:
        request = replace(request, checkpoint=prompted.named(request.checkpoint))
    chosen = stages(request)
    prompted.check(request.wish, chosen.main, fetched=not request.dry_run)
    if chosen.stems is not None:
        request.selection.check(chosen.stems)
    layout = Layout(request.out, chosen.name, request.seed, DEFAULT if request.filename is None else request.filename)
    gathered = _gathered(request)
    far = is_far(request, gathered.items)
    if far and request.dry_run:
        raise UsageError("--dry-run: would have to fetch every song from object storage. Leave it out.")
    kept = None if chosen.stems is None else request.selection.names(chosen.stems)
    check_layout(layout, gathered.items, kept, request.encoding.container)
    if request.to_stdout:
        _check_stdout(gathered)
    which, count = request.part
    if count > 1:
        gathered.items = lists.part_of(gathered.items, which, count)
        gathered.failed = gathered.failed if which == 1 else []
    with ExitStack() as stack:
        report = stack.enter_context(console.Report(request.progress, -1 if request.quiet else request.verbose))
        flow = stack.enter_context(Flow(request.jobs, sanitize=request.sanitize))
        work = Run(request, chosen, report, layout, flow)
        if far or request.to_stdout or any(item.path == lists.STDIN for item in gathered.items):
            use_temporary(work, Path(stack.enter_context(lists.temporary())))
        if request.to_stdout:
            work.layout = replace(layout, top=work.temporary)
        if request.report is not None and not request.dry_run:
            work.ledger = stack.enter_context(closing(ledger.Ledger(request.report)))
        return _all_songs(work, gathered)


def _check_stdout(gathered: Gathered) -> None:
    """Raises UsageError unless one song can go to stdout."""
    if len(gathered.items) != 1:
        raise UsageError(f"-o -: {len(gathered.items)} songs, but only one can go to stdout. Name one.")
    if sys.stdout.isatty():
        raise UsageError("-o -: stdout is a terminal. Write into a pipe or a file, or choose another --out.")


def _gathered(request: Request) -> Gathered:
    """All songs that the request names, in whatever way."""
    paths = lists.expanded(request.inputs or [], null=request.null)
    if request.files_from is not None:
        paths += lists.listed(request.files_from, null=request.null)
    again = ledger.failed_in(request.retry_failed) if request.retry_failed is not None else []
    paths += [item.path for item in again if item.path.is_dir()]
    known = [replace(item, path=located(item.path)) for item in again if not item.path.is_dir()]
    paths = [located(path) for path in paths]
    return gather(paths, request.out, request.extensions, recursive=request.recursive, known=known)


def _all_songs(run: Run, gathered: Gathered) -> int:
    """Every song, then the summary."""
    begun = time.monotonic()
    if gathered.ignored:
        run.report.note(f"{gathered.ignored} files with other endings ignored", level=1)
    if not gathered.items and not gathered.failed:
        run.report.note("nothing to do")
    for path, error in gathered.failed:
        run.failed(Item(path, Path(path.name or "folder")), error)
    if run.request.engine == "ray" and not run.request.dry_run:
        _on_ray(run, gathered.items)
    elif is_far(run.request, gathered.items):
        _one_by_one(run, gathered.items)
    else:
        _in_turn(run, gathered.items)
    run.flow.settle(wait=True)
    if run.full is not None:
        run.report.note(f"stopped; {run.done} finished songs are kept")
        return run.full.exit_code
    if run.request.json:
        counts = {"ok": run.done, "skipped": run.skipped, "failed": len(run.codes)}
        elapsed = round(time.monotonic() - begun, 3)
        console.result_json("summary", **counts, exit_code=run.exit_code(), elapsed_s=elapsed)
    elif len(gathered.items) + len(gathered.failed) > 1:
        run.report.note(f"{run.done} separated, {run.skipped} already there, {len(run.codes)} failed")
    return run.exit_code()


def _in_turn(run: Run, items: list[Item]) -> None:
    """Songs of this machine: all are opened first, and each is read while the one before is computed."""
    from stemforge.cli.separate_song import separate_song

    sources = _probed(run, items)
    run.report.begin(len(sources), sum(source.seconds for _, source in sources))
    if sources and not run.request.dry_run:
        check_writable(run.layout.top)
    following = [source for _, source in sources[1:]]
    for (item, source), after in zip_longest(sources, following):
        if run.request.fail_fast:
            run.flow.settle(wait=True)
            if run.codes:
                break
        separate_song(run, item, source, after)
        if run.full is not None:
            break


def _one_by_one(run: Run, items: list[Item]) -> None:
    """Songs from or to object storage: each is fetched when its turn comes."""
    if items:
        _check_out(run)
    for item in items:
        separate_one(run, item)
        if run.full is not None or (run.request.fail_fast and run.codes):
            break


def _on_ray(run: Run, items: list[Item]) -> None:
    """Songs on the workers of a cluster."""
    from stemforge.cli.separate_ray import separate_all

    run.report.begin(len(items), len(items))
    if items and not (run.request.fail_fast and run.codes):
        _check_out(run)
        separate_all(run, items)


def _check_out(run: Run) -> None:
    """Raises OutputError unless stems can be written where they shall go."""
    if run.mirror is not None:
        run.mirror.check()
    else:
        check_writable(run.layout.top)


def _probed(run: Run, items: list[Item]) -> list[tuple[Item, Source]]:
    """The songs that can be opened, with what their headers say; the others are told."""
    sources = []
    for item in items:
        run.current = item.path
        try:
            contents = lists.spooled(run.temporary) if item.path == lists.STDIN else None
            sources.append((item, opened(run.request, item.path, contents)))
            run.sort_warnings()
        except StemforgeError as error:
            run.failed(item, error)
    return sources


def _text(path: Path) -> str:
    """A name for JSON, bytes that are no text as lone surrogates."""
    return os.fsencode(path).decode("utf-8", "surrogateescape")
