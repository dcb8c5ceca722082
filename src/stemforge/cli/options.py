"""Options that several commands share, so that they mean the same everywhere."""

from __future__ import annotations

import math
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stemforge.errors import UsageError

if TYPE_CHECKING:
    from stemforge.audio.writer import Encoding
    from stemforge.inference.settings import Sampling

_FORMAT, _ADVANCED, _RUN, _PROMPTS = "Format", "Advanced sampling", "Run", "Prompts"
_NUMBER = r"(\d+(?:\.\d*)?|\.\d+)"
_COLONS = re.compile(rf"(?:(?:(\d+):)?(\d+):)?{_NUMBER}s?")
_LETTERS = re.compile(rf"(?=\d)(?:(\d+)h)?(?:(\d+)m)?(?:{_NUMBER}s?)?")

Checkpoint = Annotated[
    str | None,
    typer.Option(
        "-n",
        "--name",
        "--model",
        "--checkpoint",
        envvar="STEMFORGE_MODEL",
        help="Name, or folder, of a checkpoint.",
    ),
]
Device = Annotated[
    str, typer.Option("-d", "--device", envvar="STEMFORGE_DEVICE", help="auto, cpu, cuda, cuda:N or mps.")
]
Seed = Annotated[str, typer.Option(help="Of the noise: a whole number, or random; it is kept in the sidecar.")]
Count = Annotated[int, typer.Option("-N", "--num-samples", min=1, help="How many; each with the next seed.")]

Steps = Annotated[
    int | None, typer.Option(help="Steps from noise to sound; time grows with them. Default: of the checkpoint.")
]
Segment = Annotated[
    float | None,
    typer.Option(help="Seconds of a window; shorter ones need less memory. Default: as suits the checkpoint."),
]
SamplerName = Annotated[
    str | None,
    typer.Option(
        "--sampler", help="euler, heun, dpmpp-2m, dpmpp-2m-sde, adpm2, ddim or ddpm.", rich_help_panel=_ADVANCED
    ),
]
Churn = Annotated[
    float | None, typer.Option(help="Noise added on the way down; euler only.", rich_help_panel=_ADVANCED)
]
Resamples = Annotated[
    int | None, typer.Option(help="How often each step is taken; euler only.", rich_help_panel=_ADVANCED)
]
SigmaMin = Annotated[float | None, typer.Option(help="Last noise level before 0.", rich_help_panel=_ADVANCED)]
SigmaMax = Annotated[float | None, typer.Option(help="First noise level.", rich_help_panel=_ADVANCED)]
Rho = Annotated[float | None, typer.Option(help="Bend of the schedule; 1 is straight.", rich_help_panel=_ADVANCED)]

Negative = Annotated[
    str | None,
    typer.Option(metavar="TEXT", help="What is not to be heard; needs --cfg above 1.", rich_help_panel=_PROMPTS),
]
Cfg = Annotated[
    float | None,
    typer.Option(
        help="How strongly prompts count (classifier-free guidance): 1 as learned, more is nearer to them and takes "
        "twice as long. Default: 3; to separate, 1.",
        rich_help_panel=_PROMPTS,
    ),
]
MixtureTerm = Annotated[
    str | None,
    typer.Option(
        help="How the sum of the stems is held to the prompt of all: shared, added, same, or none; see docs/text.md. "
        "Default: shared.",
        rich_help_panel=_PROMPTS,
    ),
]

Sketch = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Checkpoint that draws what is made before it is made sound, or none. Default: as suits the checkpoint.",
    ),
]

Format = Annotated[str | None, typer.Option(help="wav, flac, mp3, ogg or opus.", rich_help_panel=_FORMAT)]
Flac = Annotated[bool, typer.Option("--flac", help="Same as --format flac.", rich_help_panel=_FORMAT)]
Mp3 = Annotated[bool, typer.Option("--mp3", help="Same as --format mp3.", rich_help_panel=_FORMAT)]
Ogg = Annotated[bool, typer.Option("--ogg", help="Same as --format ogg.", rich_help_panel=_FORMAT)]
Mp3Bitrate = Annotated[int, typer.Option(help="kbit/s.", rich_help_panel=_FORMAT)]
Int16 = Annotated[bool, typer.Option("--int16", help="16 bits a sample.", rich_help_panel=_FORMAT)]
Int24 = Annotated[bool, typer.Option("--int24", help="24 bits a sample; default of flac.", rich_help_panel=_FORMAT)]
Float32 = Annotated[bool, typer.Option("--float32", help="Floating point; default of wav.", rich_help_panel=_FORMAT)]

ReportHtml = Annotated[
    bool,
    typer.Option(
        "--report-html", help="Write a page too: every stem to see and to hear, edits before and after, in one file."
    ),
]
Overwrite = Annotated[
    bool, typer.Option("-y", "--overwrite", help="Write anew what is there already.", rich_help_panel=_RUN)
]
OnExist = Annotated[
    str | None,
    typer.Option(
        help="Stems are there already: skip, overwrite or error. Default: skip what the same command made, error "
        "otherwise.",
        rich_help_panel=_RUN,
    ),
]
Progress = Annotated[str, typer.Option(help="auto, bar, plain or none.", rich_help_panel=_RUN)]
Json = Annotated[
    bool, typer.Option("--json", help="One JSON object a line on stdout, a summary last.", rich_help_panel=_RUN)
]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Errors only.", rich_help_panel=_RUN)]
Verbose = Annotated[int, typer.Option("-v", "--verbose", count=True, help="More.", rich_help_panel=_RUN)]


@dataclass(frozen=True)
class Output:
    """The options of format and depth, under their names on the command line."""

    format: str | None
    flac: bool
    mp3: bool
    ogg: bool
    mp3_bitrate: int
    int16: bool
    int24: bool
    float32: bool

    @classmethod
    def of(cls, options: dict[str, Any]) -> Output:
        """Those among the options of a command."""
        return cls(**{name: options[name] for name in cls.__annotations__})

    def encoding(self) -> Encoding:
        """What they ask for together; UsageError when they exclude each other."""
        from stemforge.audio.writer import CONTAINERS, encoding

        containers = [name for name in ("flac", "mp3", "ogg") if getattr(self, name)]
        container = one_of([*containers, *([self.format] if self.format else [])], CONTAINERS, "format")
        depths = [name for name in ("int16", "int24", "float32") if getattr(self, name)]
        return encoding(container or "wav", one_of(depths, ("int16", "int24", "float32"), "depth"), self.mp3_bitrate)


def choice(value: str | None, known: tuple[str, ...], option: str) -> str | None:
    """The value, which must be one of those known. Raises UsageError."""
    if value is not None and value not in known:
        raise UsageError(f"{option} {value}: unknown. Give one of {', '.join(known)}.")
    return value


def policy(on_exist: str | None, *, overwrite: bool, known: tuple[str, ...]) -> str | None:
    """What --on-exist and --overwrite say together; None is to skip the same and refuse others. Raises UsageError."""
    if overwrite and on_exist not in (None, "overwrite"):
        raise UsageError(f"--overwrite and --on-exist {on_exist}: exclude each other. Give one of them.")
    return "overwrite" if overwrite else choice(on_exist, known, "--on-exist")


def one_of(values: list[str], known: tuple[str, ...], what: str) -> str | None:
    """The only value, if any. Raises UsageError for several different ones, or one that is not known."""
    if len(set(values)) > 1:
        raise UsageError(f"{' and '.join(values)}: only one {what} can be written. Give one of them.")
    return choice(values[0], known, what) if values else None


def listed(text: str | None, option: str) -> tuple[str, ...] | None:
    """Names separated by commas; None stays None. Raises UsageError for an empty list."""
    if text is None:
        return None
    found = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if not found:
        raise UsageError(f"{option}: names no stem. Give for example {option} bass,drums.")
    return found


def seed_of(text: str) -> int:
    """A whole number from 0 on, or a random one. Raises UsageError."""
    import secrets

    if text == "random":
        return secrets.randbelow(2**31)
    if not text.isdecimal():
        raise UsageError(f"seed '{text}': not a whole number from 0 on. Give one, or random.")
    return int(text)


def sampling_of(base: Sampling, options: dict[str, Any]) -> Sampling:
    """The default settings with what the command line changes. Raises UsageError for impossible ones."""
    names = ("sampler", "steps", "churn", "resamples", "sigma_min", "sigma_max", "rho")
    return base.changed(**{name: options[name] for name in names})


def seconds(text: str, option: str) -> float:
    """Seconds, as 75, 75.5s, 1:15, 0:01:15.5, 1m15 or 1h1m15s. Raises UsageError."""
    match = _COLONS.fullmatch(text) or _LETTERS.fullmatch(text)
    if match is None:
        raise UsageError(f"{option} {text}: not a time. Write seconds, or minutes and seconds as 1:15.5.")
    hours, minutes, rest = (float(part or 0) for part in match.groups())
    return 3600 * hours + 60 * minutes + rest


def region_of(text: str) -> tuple[float, float]:
    """`FROM:TO`, both as `seconds` takes them; an empty start or end is that of the song. Raises UsageError."""
    parts = text.split(":")
    middle = len(parts) // 2 if len(parts) % 2 == 0 else len(parts) - 1 if text.endswith(":") else 1
    start, stop = ":".join(parts[:middle]), ":".join(parts[middle:])
    clear = len(parts) > 1 and (len(parts) % 2 == 0 or not start or not stop)
    first, last = -1.0, -1.0
    with suppress(UsageError):
        first, last = seconds(start, "") if start else 0.0, seconds(stop, "") if stop else math.inf
    if not clear or not 0 <= first < last:
        raise UsageError(
            f"region '{text}': not a part of a song. Write FROM:TO, as 30:34.5 in seconds, 1m10:1m20 or 1:10:1:20."
        )
    return first, last


def output_folder(folder: Path, *, overwrite: bool) -> Path:
    """The folder, unless finished stems are in it. Raises OutputError."""
    from stemforge.errors import OutputError

    if (folder / "stemforge.json").exists() and not overwrite:
        raise OutputError(f"'{folder}': exists. Give --overwrite, another --seed or another --out.")
    return folder
