"""What `stemforge edit restyle` wishes of the sound: to resemble a reference, to have tags."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stemforge import embedders
from stemforge.audio.io import read
from stemforge.cli.options import listed
from stemforge.errors import InputError, UsageError
from stemforge.inference.guidance import Loss, total
from stemforge.tasks import wishes

if TYPE_CHECKING:
    import torch

    from stemforge.models.embedders import Ear


def check(options: dict[str, Any]) -> None:
    """Raises UsageError without a wish, InputError for a reference that is not there."""
    if options["reference"] is None and options["tag"] is None:
        raise UsageError("restyle: towards what? Give --reference SONG, --tag guitar, or both.")
    if options["reference"] is not None and not Path(options["reference"]).is_file():
        raise InputError(f"'{options['reference']}': no such file. Check the spelling.")
    listed(options["tag"], "--tag")


def wish_of(options: dict[str, Any], rate: int, device: torch.device) -> Loss:
    """The loss of stems (batch, stem, channel, time) at `rate` Hz. Raises StemforgeError as `embedders.load` does."""
    ear = embedders.load(options["embedder"], device)
    parts: list[tuple[float, Loss]] = []
    if options["reference"] is not None:
        parts.append((1.0, wishes.like(ear, read(options["reference"]), rate, device)))
    if (tags := listed(options["tag"], "--tag")) is not None:
        places = [_place(ear, tag, options["embedder"]) for tag in tags]
        parts.append((1.0, wishes.tagged(ear, places, rate)))
    return total(*parts)


def _place(ear: Ear, tag: str, name: str) -> int:
    """The number of a tag. Raises UsageError."""
    lower = [known.lower() for known in ear.tags]
    if tag.lower() in lower:
        return lower.index(tag.lower())
    near = difflib.get_close_matches(tag.lower(), lower, n=1, cutoff=0.5)
    guess = f" Did you mean {near[0]}?" if near else f" There are {', '.join(lower[:12])}, …" if lower else ""
    raise UsageError(f"--tag {tag}: embedder {name} has no such tag.{guess}")
