"""The work of `stemforge separate`: check everything that can be checked, then song by song."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from stemforge import checkpoints
from stemforge.audio.io import EXTENSIONS, Source, probe
from stemforge.audio.writer import CLIP_MODES, Encoding, sweep
from stemforge.cli import console
from stemforge.cli.inputs import Gathered, Item, check_writable, gather
from stemforge.cli.options import Output, choice
from stemforge.devices import check_name
from stemforge.errors import OutputError, SpaceError, StemforgeError, UsageError
from stemforge.separators.diffusion import LONGEST, METHODS, DiffusionSeparator, Likelihood
from stemforge.separators.network import NetworkSeparator, Options
from stemforge.tasks import files
from stemforge.tasks.separate import Selection, all_names

ON_EXIST = ("skip", "overwrite", "error", "rename")


@dataclass(frozen=True)
class Request:
    """The options of the command, under their names there."""

    inputs: list[Path]
    checkpoint: str | None
    out: Path
    recursive: bool
    ext: str | None
    stems: str | None
    two_stems: str | None
    other_method: str
    device: str
    precision: str
    segment: float | None
    overlap: float
    steps: int | None
    seed: int
    method: str
    sampler: str | None
    churn: float | None
    resamples: int | None
    sigma_min: float | None
    sigma_max: float | None
    rho: float | None
    pinned: str | None
    gamma: float | None
    factor: float | None
    format: str | None
    flac: bool
    mp3: bool
    ogg: bool
    mp3_bitrate: int
    int16: bool
    int24: bool
    float32: bool
    clip_mode: str | None
    on_exist: str | None
    overwrite: bool
    strict: bool
    sanitize: bool
    fail_fast: bool
    dry_run: bool
    progress: str
    json: bool
    quiet: bool
    verbose: int

    @cached_property
    def encoding(self) -> Encoding:
        """What the format and depth options ask for together; UsageError when they exclude each other."""
        return Output.of(vars(self)).encoding()

    @cached_property
    def selection(self) -> Selection:
        """Which stems are asked for."""
        stems = None if self.stems is None else tuple(name.strip() for name in self.stems.split(",") if name.strip())
        if stems == ():
            raise UsageError("--stems: names no stem. Give for example --stems bass,drums.")
        return Selection(stems, self.two_stems, self.other_method)

    @cached_property
    def policy(self) -> str | None:
        """What to do with a folder that has stems already; None is to skip the same and refuse others."""
        if self.overwrite and self.on_exist not in (None, "overwrite"):
            raise UsageError(f"--overwrite and --on-exist {self.on_exist}: exclude each other. Give one of them.")
        return "overwrite" if self.overwrite else choice(self.on_exist, ON_EXIST, "--on-exist")

    @property
    def settings(self) -> dict[str, Any]:
        """The options that the samples depend on."""
        names = (*Options.__annotations__, "two_stems", "other_method", "sanitize", "clip_mode")
        sampling = {"method": self.method, **self.likelihood} if self.method != "auto" or self.likelihood else {}
        return {
            **{name: getattr(self, name) for name in names},
            "steps": self.steps or 1,
            **sampling,
            "stems": sorted(self.selection.stems) if self.selection.stems else None,
            "format": self.encoding.label,
        }

    @property
    def likelihood(self) -> Likelihood:
        """What is changed of the settings of a sampling method."""
        names = (name for name in Likelihood.__annotations__ if name != "steps" or self.method in METHODS)
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}  # type: ignore[return-value]

    def check(self) -> None:
        """Raises UsageError for what can be told impossible without any file."""
        check_name(self.device)
        choice(self.method, ("auto", "conditional", *METHODS), "--method")
        if self.method == "conditional" and self.likelihood:
            first = next(iter(self.likelihood)).replace("_", "-")
            raise UsageError(f"--{first} with --method conditional: is of the sampling methods. Leave it out.")
        choice(self.clip_mode, CLIP_MODES, "--clip-mode")
        choice(self.progress, console.PROGRESS, "--progress")
        _ = self.encoding, self.selection, self.policy


@dataclass
class Run:
    """One run over all songs: what is built once, and the tally."""

    request: Request
    checkpoint: checkpoints.Checkpoint
    report: console.Report
    done: int = 0
    skipped: int = 0
    codes: list[int] = field(default_factory=list)
    warned: dict[Path, list[str]] = field(default_factory=dict)

    @cached_property
    def sha256(self) -> str:
        """Of the weights, fetched first if they are not here, and verified."""
        if checkpoints.state(self.checkpoint) == "not pulled":
            self.report.note(f"checkpoint {self.checkpoint.name}: downloading")
        return checkpoints.verify(self.checkpoint)[checkpoints.WEIGHTS]

    @cached_property
    def separator(self) -> NetworkSeparator | DiffusionSeparator:
        """Built when the first song needs it."""
        r = self.request
        options: Options = {name: getattr(r, name) for name in Options.__annotations__}  # type: ignore[assignment]
        options["steps"] = 1 if r.steps is None else r.steps
        given: Likelihood = {**r.likelihood, "steps": r.steps}
        separator = checkpoints.build(self.checkpoint, r.device, method=r.method, likelihood=given, **options)
        r.selection.check(all_names(separator.names))
        level = 0 if r.device == "auto" else 1
        self.report.note(f"checkpoint {self.checkpoint.name} on {separator.device}", level)
        return separator

    def folder_of(self, item: Item) -> Path:
        """Where the stems of a song go."""
        return self.request.out / self.checkpoint.name / item.track

    def failed(self, path: Path, error: StemforgeError) -> None:
        """Tell and count a song that failed."""
        message = str(error) if str(path) in str(error) else f"'{path}': {error}"
        self.codes.append(error.exit_code)
        self.report.error(message)
        self.tell(path, "failed", error={"code": error.exit_code, "message": message})

    def tell(self, path: Path, status: str, **fields: object) -> None:
        """One JSON line about a song, if these are wanted."""
        warnings = [*self.warned.pop(path, []), *self.report.taken_warnings()]
        if self.request.json:
            name = os.fsencode(path).decode("utf-8", "surrogateescape")
            console.result_json("song", status=status, input=name, **fields, warnings=warnings)

    def exit_code(self) -> int:
        """0 all done, 3 some failed, otherwise the code that all failures share, or 4."""
        if not self.codes:
            return 0
        if self.done or self.skipped:
            return 3
        return self.codes[0] if len(set(self.codes)) == 1 else 4


def run(request: Request) -> int:
    """Separate all songs of a request; the exit code. Raises StemforgeError for what concerns no single song."""
    request.check()
    checkpoint = checkpoints.find(request.checkpoint)
    if checkpoint.stems is not None:
        request.selection.check(all_names(checkpoint.stems))
    extensions = frozenset(e.strip(" .").lower() for e in request.ext.split(",")) if request.ext else EXTENSIONS
    gathered = gather(request.inputs, request.out, extensions, recursive=request.recursive)
    verbosity = -1 if request.quiet else request.verbose
    with console.Report(request.progress, verbosity) as report:
        return _all_songs(Run(request, checkpoint, report), gathered)


def _all_songs(run: Run, gathered: Gathered) -> int:
    """Every song in turn, then the summary."""
    begun = time.monotonic()
    if gathered.ignored:
        run.report.note(f"{gathered.ignored} files with other endings ignored", level=1)
    sources = _probed(run, gathered)
    run.report.begin(len(sources), sum(source.seconds for _, source in sources))
    if sources and not run.request.dry_run:
        check_writable(run.request.out)
    for item, source in sources:
        if run.codes and run.request.fail_fast:
            break
        try:
            _song(run, item, source)
        except SpaceError as error:
            run.failed(item.path, error)
            run.report.note(f"stopped; {run.done} finished songs are kept")
            return error.exit_code
    if run.request.json:
        counts = {"ok": run.done, "skipped": run.skipped, "failed": len(run.codes)}
        elapsed = round(time.monotonic() - begun, 3)
        console.result_json("summary", **counts, exit_code=run.exit_code(), elapsed_s=elapsed)
    elif len(gathered.items) + len(gathered.failed) > 1:
        run.report.note(f"{run.done} separated, {run.skipped} already there, {len(run.codes)} failed")
    return run.exit_code()


def _probed(run: Run, gathered: Gathered) -> list[tuple[Item, Source]]:
    """The songs that can be opened, with what their headers say; the others are told."""
    for path, error in gathered.failed:
        run.failed(path, error)
    sources = []
    for item in gathered.items:
        try:
            sources.append((item, probe(item.path, strict=run.request.strict)))
            run.warned[item.path] = run.report.taken_warnings()
        except StemforgeError as error:
            run.failed(item.path, error)
    return sources


def _song(run: Run, item: Item, source: Source) -> None:
    """Separate one song, or skip it; a failure is told and counted. Errors of the checkpoint concern the whole run."""
    folder = run.folder_of(item)
    if run.request.dry_run:
        return _plan(run, item, source, folder)
    recipe = files.recipe(item.path, run.checkpoint.name, run.sha256, run.request.settings)
    try:
        target = _place(run, folder, recipe)
    except StemforgeError as error:
        return run.failed(item.path, error)
    if target is None:
        run.skipped += 1
        run.report.note(f"{item.path.name}: already there")
        run.tell(item.path, "skipped", folder=str(folder))
        return None if run.request.json else console.result(str(folder))
    separator = run.separator
    try:
        _separate(run, item, source, target, separator, recipe)
    except SpaceError:
        raise
    except StemforgeError as error:
        run.failed(item.path, error)
    return None


def _plan(run: Run, item: Item, source: Source, folder: Path) -> None:
    """What would be done with a song."""
    names = run.request.selection.names(all_names(run.checkpoint.stems or ()))
    outputs = [f"{name}.{run.request.encoding.container}" for name in names]
    run.done += 1
    run.tell(item.path, "planned", folder=str(folder), outputs=outputs, seconds=source.seconds)
    if not run.request.json:
        console.result(f"{item.path} -> {folder}: {', '.join(outputs)}")


def _place(run: Run, folder: Path, recipe: dict[str, Any]) -> Path | None:
    """The folder to write to, or None when its stems are there already.

    Raises OutputError when others are there, or another process writes them.
    """
    ending = run.request.encoding.container
    unfinished = any(files.SIDECAR in name for name in sweep(folder))
    has_sidecar = (folder / files.SIDECAR).exists()
    exists = not unfinished and (has_sidecar or any(folder.glob(f"*.{ending}")))
    policy = run.request.policy
    if not exists or policy == "overwrite":
        return folder
    if policy == "rename":
        return next(new for n in range(2, 10**9) if not (new := folder.with_name(f"{folder.name}-{n}")).exists())
    if policy == "skip" and has_sidecar:
        return None
    if policy == "error":
        raise OutputError(f"'{folder}': exists. Leave out --on-exist error, or choose another --out.")
    why = files.difference(folder, recipe) if has_sidecar else "its files were not made by stemforge"
    if why is None:
        return None
    raise OutputError(f"'{folder}': exists, but {why}. Give --overwrite, or choose another --out.")


def _separate(
    run: Run,
    item: Item,
    source: Source,
    folder: Path,
    separator: NetworkSeparator | DiffusionSeparator,
    recipe: dict[str, Any],
) -> None:
    """Read, separate, write, tell."""
    request, begun = run.request, time.monotonic()
    run.report.song(item.path.name, source.seconds)
    on_block = run.report.advance
    if isinstance(separator, DiffusionSeparator):
        separator.on_step = lambda done, steps: run.report.advance(min(LONGEST, source.seconds) / steps)
        on_block = _nothing
    outcome = files.separate_file(
        source,
        folder,
        separator,
        selection=request.selection,
        encoding=request.encoding,
        clip_mode=request.clip_mode,
        sanitize=request.sanitize,
        on_block=on_block,
    )
    elapsed = time.monotonic() - begun
    facts = {
        "rate": source.rate,
        "channels": source.channels,
        **outcome.as_json(),
        "seed": request.seed,
        "device": str(separator.device),
        "elapsed_s": round(elapsed, 3),
    }
    files.remove_stale(folder, keep=set(facts["outputs"].values()))
    files.write_sidecar(folder, {"recipe": recipe, **facts})
    run.done += 1
    _tell_done(run, item, source, folder, facts)


def _nothing(seconds: float) -> None:
    """Progress is told step by step."""


def _tell_done(run: Run, item: Item, source: Source, folder: Path, facts: dict[str, Any]) -> None:
    """The result of a song: its folder, or one JSON line, and what the user ought to know."""
    name, request = item.path.name, run.request
    if facts["gain"] != 1:
        run.report.note(f"{name}: all stems turned down by one gain of {facts['gain']:.3f}, one would clip")
    elif facts["clipped"] and not (request.encoding.is_float and request.clip_mode != "clamp"):
        run.report.note(f"{name}: samples beyond full scale were cut")
    speed = facts["elapsed_s"] / source.seconds
    run.report.note(f"{name}: {facts['elapsed_s']:.1f} s, {speed:.2f} times its duration")
    run.tell(
        item.path,
        "ok",
        folder=str(folder),
        checkpoint=run.checkpoint.name,
        checkpoint_sha256=run.sha256,
        seconds=source.seconds,
        **facts,
    )
    if not request.json:
        console.result(str(folder))
