"""Prompts as words: names of files for them, several in one, and the level of what an accompaniment is made for."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from stemforge.tasks.edit_files import MIX, Files
from stemforge.tasks.separate import RESIDUAL

if TYPE_CHECKING:
    from stemforge.models.registry import Joint

SONG = "song"
"""The stem that an accompaniment is made for."""
_LONGEST = 80
"""Bytes of a name; an ending, a number and what is put before hidden files come on top."""
_DEVICES = re.compile(r"con|prn|aux|nul|(com|lpt)[0-9¹²³]")


def names_of(prompts: Sequence[str], taken: Collection[str] = (MIX, RESIDUAL, SONG)) -> tuple[str, ...]:
    """A name for each prompt that can be that of a file anywhere: small letters, digits and hyphens, each once.

    Letters of all scripts are kept. taken: names that none gets.
    """
    found: list[str] = []
    for prompt in prompts:
        first = slug(prompt)
        used = {*taken, *found}
        number = next(n for n in range(1, len(used) + 2) if _numbered(first, n) not in used)
        found.append(_numbered(first, number))
    return tuple(found)


def slug(prompt: str) -> str:
    """One prompt as a name; `stem` where nothing of it can be kept."""
    words = re.sub(r"[\W_]+", "-", unicodedata.normalize("NFKC", prompt).lower())
    short = words.strip("-").encode()[:_LONGEST].decode(errors="ignore").strip("-") or "stem"
    return f"stem-{short}" if _DEVICES.fullmatch(short) else short


def _numbered(name: str, number: int) -> str:
    return name if number == 1 else f"{name}-{number}"


def joined(prompts: Sequence[str]) -> str:
    """What several prompts say together, as bass, drums and piano."""
    return " and ".join([*([", ".join(prompts[:-1])] if len(prompts) > 1 else []), *prompts[-1:]])


def gain_for(given: Files, network: Joint) -> float:
    """What brings given sound to the level that a network knows of mixtures; 1 for silence. Reads it once."""
    energy, count = 0.0, 0
    for block in given.stream():
        energy, count = energy + float(block.double().square().sum()), count + block.numel()
    level_db: float | None = getattr(network, "level_db", None)
    if level_db is None or energy <= 1e-10 * count:
        return 1.0
    return float(10 ** (level_db / 20) / (energy / count) ** 0.5)
