"""What commands do with prompts: the wish that their options are, the checkpoint that hears them, their embeddings."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stemforge import checkpoints
from stemforge.errors import CheckpointError, InputError, UsageError
from stemforge.models.forge import SLOT
from stemforge.tasks.prompted import joined

if TYPE_CHECKING:
    from torch import Tensor

    from stemforge.inference.prompted import Prompts

CHECKPOINT = "forge-text"
"""What is taken where no checkpoint is named, if it is there."""
METHOD = "text"
"""Of `separate`."""
CFG = 3.0
TERM = "shared"
OPTIONS = ("prompt", "stem", "add", "song_prompt", "negative", "cfg", "mixture_term", "prompts_file", "extract")
"""All of them, under their names in the commands."""
_KEYS = {"prompt", "stems", "negative", "cfg"}
_LINE = '{"prompt": "slow jazz trio", "stems": ["piano", "upright bass"]}'


@dataclass(frozen=True)
class Wish:
    """What is wanted in words: each stem, all of them together (None: nothing holds them), what is not to be.

    An empty text is the prompt that says nothing. cfg: scale of the guidance; term: of the mixture. Where one prompt is
    all that there is, it is both the stem and the mixture.
    """

    stems: tuple[str, ...]
    mixture: str | None = None
    negative: str | None = None
    cfg: float = CFG
    term: str = TERM

    @property
    def texts(self) -> tuple[str, ...]:
        """All that has to be understood."""
        return tuple(dict.fromkeys(text for text in (*self.stems, self.mixture, self.negative) if text))

    def told(self, extract: bool) -> dict[str, Any]:
        """For the settings in a sidecar of `separate`."""
        return {"prompts": list(self.stems), "cfg": self.cfg, "negative": self.negative, "extract": extract or None}

    def prompts(self, known: Mapping[str, Tensor]) -> Prompts:
        """The same as embeddings; known: (feature,) of each text."""
        import torch

        from stemforge.inference.prompted import Prompts

        empty = torch.zeros_like(next(iter(known.values())))
        stems = torch.stack([known[text] if text else empty for text in self.stems])
        mixture = known[self.mixture] if self.mixture else None
        negative = known[self.negative] if self.negative else None
        return Prompts(stems, mixture, negative, self.cfg, self.term)


def wish_of(
    stems: Sequence[str], mixture: str | None, options: Mapping[str, Any], cfg: float = CFG, negative: str | None = None
) -> Wish:
    """A wish with what the options say of guidance. Raises UsageError where they contradict each other."""
    from stemforge.inference.prompted import check as check_guidance

    found = options["cfg"] if options.get("cfg") is not None else cfg
    negative = negative or options.get("negative")
    term = options.get("mixture_term") or TERM
    check_guidance(found, term)
    if negative and found == 1:
        raise UsageError("--negative with a --cfg of 1: would not be heard. Give --cfg 3 too.")
    for text in (*stems, *([] if mixture is None else [mixture])):
        if not text.strip():
            raise UsageError("prompt '': is empty. Say what is to be heard, or leave the option out.")
    return Wish(tuple(stems), mixture, negative, float(found), term)


def piece(prompt: str | None, stems: Sequence[str], options: Mapping[str, Any], **more: Any) -> Wish:  # noqa: ANN401
    """What `generate` makes: one sound, or a set of stems that go together as the prompt says. Raises UsageError."""
    if len(stems) == 1 and prompt is not None:
        raise UsageError(f"--stem '{stems[0]}' with --prompt: one stem is all of it. Name further ones, or none.")
    if prompt is None:
        return wish_of(stems, joined(stems) if len(stems) > 1 else None, options, **more)
    return wish_of(stems or [prompt], prompt, options, **more)


def pieces(options: Mapping[str, Any]) -> list[Wish]:
    """What the options of `generate` ask for, or the lines of a file.

    Raises UsageError: they exclude each other; InputError: the file has something else in it.
    """
    path: Path | None = options["prompts_file"]
    if path is None:
        return [piece(options["prompt"], options["stem"] or (), options)]
    if options["prompt"] is not None or options["stem"]:
        raise UsageError(f"--prompts-file '{path}' with --prompt or --stem: give the one or the others.")
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = (error.strerror if isinstance(error, OSError) else None) or "it is no text"
        raise InputError(f"'{path}': cannot be read: {why}. Check the name of the list.") from None
    found = [_line(path, number, line, options) for number, line in enumerate(lines, 1) if line.strip()]
    if not found:
        raise InputError(f"'{path}': has no prompt in it. Write lines as {_LINE}.")
    return found


def _line(path: Path, number: int, line: str, options: Mapping[str, Any]) -> Wish:
    try:
        found = json.loads(line)
        prompt, stems, negative = found.get("prompt"), found.get("stems", []), found.get("negative")
        good = set(found) <= _KEYS and isinstance(stems, list) and (prompt is not None or stems)
        good = good and all(isinstance(text, str) for text in (prompt or "", negative or "", *stems))
        cfg = float(found.get("cfg", CFG if options["cfg"] is None else options["cfg"]))
    except (ValueError, TypeError, AttributeError):
        good = False
    if not good:
        raise InputError(f"'{path}': line {number} is no wish. Write it as {_LINE}.")
    return piece(prompt, stems, {**options, "cfg": cfg}, negative=negative)


def apart(options: Mapping[str, Any]) -> Wish | None:
    """What the options of `separate` say of its stems; None without prompts. Raises UsageError."""
    stems, method = options["stem"] or [], options["method"]
    if not stems:
        if method == METHOD:
            raise UsageError(f"--method {METHOD}: which stems? Give --stem drums --stem 'the rest'.")
        refuse({name: options[name] or None for name in ("extract", "negative", "cfg")}, "--stem TEXT")
        return None
    if method not in ("auto", METHOD):
        raise UsageError(f"--stem with --method {method}: is for prompts. Give --method {METHOD}, or leave that out.")
    if len(stems) == 1:
        raise UsageError(f"--stem '{stems[0]}': alone it would be the whole song. Add what else there is: --stem rest.")
    return wish_of(stems, None, options, 1.0)


def refuse(options: Mapping[str, Any], hint: str) -> None:
    """Raises UsageError where a command without prompts is told something about them."""
    for name, value in options.items():
        if name in OPTIONS and value not in (None, []):
            raise UsageError(f"--{name.replace('_', '-')}: is for prompts. Give {hint} too, or leave it out.")


def named(checkpoint: str | None) -> str | None:
    """The checkpoint for prompts: the one that is named, else the one that hears them if it is there."""
    return CHECKPOINT if checkpoint is None and CHECKPOINT in checkpoints.names() else checkpoint


def encoder_of(checkpoint: checkpoints.Checkpoint) -> tuple[str, int]:
    """Name of the text encoder of a checkpoint, and how many numbers it reads. Raises UsageError when it has none."""
    folder = checkpoints.fetch(checkpoint).folder
    try:
        config = json.loads((folder / checkpoints.CONFIG).read_text(encoding="utf-8"))
        name, width = str(config["text"]), int(config["prompt_width"])
    except (OSError, ValueError, KeyError, TypeError):
        name, width = "", 0
    if not name:
        raise UsageError(
            f"checkpoint '{checkpoint.name}': hears no prompts, it was not trained with text. Give -n one that was; "
            "see docs/text.md."
        )
    return name, width


def check(wish: Wish | None, checkpoint: checkpoints.Checkpoint, *, fetched: bool) -> None:
    """Raises UsageError for prompts that a checkpoint does not hear, or one that knows nothing without them.

    fetched: what is not on this machine may be brought here to find out.
    """
    if wish is None and checkpoint.stems == (SLOT,):
        raise UsageError(
            f"checkpoint '{checkpoint.name}': knows stems by prompts only. Give --stem drums --stem 'the rest'."
        )
    if wish is not None and fetched:
        encoder_of(checkpoint)


def encoded(checkpoint: checkpoints.Checkpoint, texts: Sequence[str]) -> dict[str, Tensor]:
    """The embedding (feature,) of each text, as a checkpoint was trained to hear them.

    Raises UsageError: it was not, or a text is too long; CheckpointError: the encoder is not here, or another one.
    """
    from stemforge import prompts

    name, width = encoder_of(checkpoint)
    rows = prompts.embeddings(prompts.load_encoder(name), texts)
    if rows.shape[1] != width:
        raise CheckpointError(
            f"checkpoint '{checkpoint.name}': reads {width} numbers a prompt, text encoder '{name}' gives "
            f"{rows.shape[1]}. Copy it again."
        )
    return dict(zip(texts, rows, strict=True))
