"""The options of `stemforge separate`, and what they mean together."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from stemforge import checkpoints
from stemforge.audio import ffmpeg
from stemforge.audio.io import CHANNELS, EXTENSIONS
from stemforge.audio.writer import CLIP_MODES, Encoding
from stemforge.cli import console, lists, pages, prompted
from stemforge.cli.layout import DEFAULT
from stemforge.cli.options import Output, choice, listed, policy, seconds
from stemforge.cli.prompted import Wish
from stemforge.devices import check_name
from stemforge.errors import UsageError
from stemforge.separators.diffusion import METHODS, Likelihood
from stemforge.separators.flow_prior import Fit, Prior
from stemforge.separators.network import Options
from stemforge.storage import Url
from stemforge.tasks.separate import Selection

ON_EXIST = ("skip", "overwrite", "error", "rename")
ENGINES = ("local", "ray")
DEMUCS = re.compile(r"(h|ht)?demucs.*|mdx(_\w+)?")


@dataclass(frozen=True)
class Request:
    """The options of the command, under their names there."""

    inputs: list[Path] | None
    files_from: Path | None
    null: bool
    checkpoint: str | None
    out: Path
    filename: str | None
    recursive: bool
    ext: str | None
    stems: str | None
    two_stems: str | None
    vocals: bool
    vocals_with: str | None
    other_method: str
    device: str
    precision: str
    segment: float | None
    overlap: float
    batch_size: int | None
    passes: int | None
    shifts: int
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
    flow: list[str] | None
    warm: str | None
    rest: str | None
    iterations: int | None
    lr: float | None
    spread: float | None
    prior_weight: float | None
    prior_space: str | None
    gate: bool
    share: bool
    format: str | None
    flac: bool
    mp3: bool
    ogg: bool
    mp3_bitrate: int
    int16: bool
    int24: bool
    float32: bool
    clip_mode: str | None
    channels: str
    loudness: float | None
    on_exist: str | None
    overwrite: bool
    start: str | None
    end: str | None
    max_duration: str | None
    stream: int | None
    shard: str | None
    report_html: bool
    report: Path | None
    retry_failed: Path | None
    jobs: int
    strict: bool
    sanitize: bool
    fail_fast: bool
    dry_run: bool
    progress: str
    json: bool
    quiet: bool
    verbose: int
    engine: str = "local"
    address: str | None = None
    workers: int | None = None
    stem: list[str] | None = None
    extract: bool = False
    negative: str | None = None
    cfg: float | None = None

    @cached_property
    def encoding(self) -> Encoding:
        """What the format and depth options ask for together; UsageError when they exclude each other."""
        return Output.of(vars(self)).encoding()

    @cached_property
    def selection(self) -> Selection:
        """Which stems are asked for."""
        return Selection(listed(self.stems, "--stems"), self.two_stems, self.other_method)

    @cached_property
    def wish(self) -> Wish | None:
        """What the stems are in words, None where they have names."""
        return prompted.apart(vars(self))

    @cached_property
    def policy(self) -> str | None:
        """What to do with a folder that has stems already; None is to skip the same and refuse others."""
        return policy(self.on_exist, overwrite=self.overwrite, known=ON_EXIST)

    @property
    def to_stdout(self) -> bool:
        """True when the one stem goes to stdout."""
        return self.out == lists.STDIN

    @cached_property
    def span(self) -> tuple[float, float | None]:
        """From where to where each song is taken, in seconds; None is its end."""
        start = 0.0 if self.start is None else seconds(self.start, "--start")
        end = None if self.end is None else seconds(self.end, "--end")
        if end is not None and end <= start:
            raise UsageError(f"--end {self.end}: is not after --start {self.start or 0}. Give a later one.")
        return start, end

    @cached_property
    def longest(self) -> float | None:
        """Seconds beyond which a song is refused."""
        return None if self.max_duration is None else seconds(self.max_duration, "--max-duration")

    @cached_property
    def part(self) -> tuple[int, int]:
        """(I, N): which part of the songs is done here."""
        return lists.shard(self.shard) if self.shard else (1, 1)

    @property
    def extensions(self) -> frozenset[str]:
        """Endings that are taken in a folder."""
        if self.ext is None:
            return EXTENSIONS | ffmpeg.SOUND
        return frozenset(ending.strip(" .").lower() for ending in self.ext.split(","))

    @property
    def settings(self) -> dict[str, Any]:
        """The options that the samples and the names depend on. Newer ones are left out where they change nothing."""
        sound = (name for name in Options.__annotations__ if name not in ("batch_size", "passes"))
        names = (*sound, "two_stems", "other_method", "sanitize", "clip_mode")
        sampling = {"method": self.method, **self.likelihood} if self.method != "auto" or self.likelihood else {}
        newer = {
            **({} if self.wish is None else self.wish.told(self.extract)),
            "prior": None if self.prior is None else {**self.prior, "fit": asdict(self.prior["fit"])},
            "passes": self.passes,
            "shifts": self.shifts if self.shifts > 1 else None,
            "start": self.span[0] or None,
            "end": self.span[1],
            "loudness": self.loudness,
            "stream": self.stream if self.stream != 1 else None,
            "channels": None if self.channels == "input" else self.channels,
            "filename": None if self.filename == DEFAULT else self.filename,
        }
        return {
            **{name: getattr(self, name) for name in names},
            "steps": self.steps or 1,
            **sampling,
            **{name: value for name, value in newer.items() if value is not None},
            "stems": sorted(self.selection.stems) if self.selection.stems else None,
            "format": self.encoding.label,
        }

    @property
    def likelihood(self) -> Likelihood:
        """What is changed of the settings of a sampling method."""
        names = (name for name in Likelihood.__annotations__ if name != "steps" or self.method in METHODS or self.stem)
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}  # type: ignore[return-value]

    @cached_property
    def prior(self) -> Prior | None:
        """What is asked for of flows, None where nothing is. Raises UsageError."""
        flows: dict[str, str] = {}
        for text in self.flow or ():
            name, sign, place = text.partition("=")
            if not (sign and name and place) or name in flows:
                raise UsageError(f"--flow {text}: not a stem and its checkpoint. Write --flow bass=runs/bass/best.")
            flows[name] = place
        changes = {
            "iterations": self.iterations,
            "rate": self.lr,
            "spread": self.spread,
            "weight": self.prior_weight,
            "space": self.prior_space,
            "gate": self.gate or None,
            "share": None if self.share else False,
        }
        given: dict[str, Any] = {name: value for name, value in changes.items() if value is not None}
        if not (flows or given or self.warm or self.rest or self.method == "flow"):
            return None
        if self.rest and not flows:
            raise UsageError(f"--rest {self.rest}: hears what --flow leaves. Give --flow NAME=CHECKPOINT too.")
        found: Prior = {"flows": flows, "fit": Fit(**given), "warm": self.warm}
        if self.rest:
            found["rest"] = self.rest
        return found

    def check(self) -> None:
        """Raises UsageError for what can be told impossible without any file."""
        check_name(self.device)
        choice(self.method, ("auto", "conditional", *METHODS, prompted.METHOD, "flow"), "--method")
        if self.prior is not None and (self.wish is not None or self.method not in ("auto", "flow")):
            method = self.method if self.wish is None else prompted.METHOD
            raise UsageError(f"--method {method}: fits no flows. Give --method flow, or leave out what is for it.")
        if self.method == "conditional" and self.likelihood:
            first = next(iter(self.likelihood)).replace("_", "-")
            raise UsageError(f"--{first} with --method conditional: is of the sampling methods. Leave it out.")
        if self.passes and (self.method in METHODS or self.prior is not None or self.wish is not None):
            raise UsageError("--passes: is of the conditional method, one network call a pitch. Leave it out.")
        if self.shifts < 0 or self.jobs < 1:
            name, value = ("shifts", self.shifts) if self.shifts < 0 else ("jobs", self.jobs)
            raise UsageError(f"--{name} {value}: too few. Leave it out.")
        if self.loudness is not None and not -70 <= self.loudness <= 0:
            raise UsageError(f"--loudness {self.loudness:g}: not from -70 to 0 LUFS. Try --loudness -14.")
        choice(self.clip_mode, CLIP_MODES, "--clip-mode")
        choice(self.channels, CHANNELS, "--channels")
        choice(self.progress, console.PROGRESS, "--progress")
        _ = self.encoding, self.selection, self.policy, self.span, self.longest, self.part
        pages.check(self.report_html)
        foreign = self.checkpoint and DEMUCS.fullmatch(self.checkpoint)
        if foreign and self.checkpoint not in checkpoints.names() and not Path(str(self.checkpoint)).exists():
            raise UsageError(
                f"checkpoint '{self.checkpoint}': is of demucs, which stemforge cannot run. Leave out -n "
                f"{self.checkpoint}, or see stemforge checkpoints list."
            )
        self._check_inputs()
        if self.to_stdout:
            self._check_stdout()
        self._check_engine()
        if isinstance(self.out, Url):
            self._check_storage()

    def _check_engine(self) -> None:
        """Raises UsageError for what an engine cannot do, or that is not installed."""
        choice(self.engine, ENGINES, "--engine")
        if self.engine == "local":
            for name, value in (("address", self.address), ("workers", self.workers)):
                if value is not None:
                    raise UsageError(f"--{name} {value}: is for --engine ray. Give that too, or leave it out.")
            return
        if find_spec("ray") is None:
            raise UsageError("--engine ray: Ray is not installed. Run `pip install 'stemforge[cluster]'`.")
        if self.to_stdout or lists.STDIN in (self.inputs or []):
            raise UsageError("- with --engine ray: workers have no stdin and no stdout. Leave out --engine.")
        if ":" in self.device:
            raise UsageError(f"-d {self.device} with --engine ray: Ray gives each worker its own. Give -d cuda.")

    def _check_storage(self) -> None:
        """Raises UsageError for what can only be done on a disk."""
        if self.filename is not None or self.policy == "rename":
            name = "--on-exist rename" if self.filename is None else "--filename"
            raise UsageError(f"{name} with --out {self.out}: is for stems on a disk. Leave it out.")

    def _check_inputs(self) -> None:
        """Raises UsageError for sources of names that exclude each other, or when there is none."""
        if not self.inputs and self.files_from is None and self.retry_failed is None:
            raise UsageError("no input: name songs or folders, or give --files-from. See stemforge separate --help.")
        if self.files_from == lists.STDIN and lists.STDIN in (self.inputs or []):
            raise UsageError("- and --files-from -: stdin is either a song or a list. Give one of them.")
        if self.null and self.files_from is None and not any(str(path).startswith("@") for path in self.inputs or []):
            raise UsageError("-0: is for --files-from, or for @list. Give one of these.")

    def _check_stdout(self) -> None:
        """Raises UsageError unless one stem of one song is all that goes to stdout."""
        count = len(set(self.selection.stems or ())) if self.two_stems is None else 1 + (self.other_method != "none")
        if count != 1:
            raise UsageError("-o -: only one stem can go to stdout. Give --stems with one name.")
        if self.json or self.dry_run:
            raise UsageError(
                f"-o - with --{'json' if self.json else 'dry-run'}: both write to stdout. Give one of them."
            )
        if self.report_html:
            raise UsageError("-o - with --report-html: there is no folder for a page. Give one of them.")
        if self.filename is not None:
            raise UsageError("-o - with --filename: nothing is there to be named. Give one of them.")
