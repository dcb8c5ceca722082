"""Prompts: the text encoder that a checkpoint names, and embeddings of texts, kept in the user's cache."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from stemforge import wheels
from stemforge.errors import CheckpointError, UsageError
from stemforge.models import text
from stemforge.models.text import Encoder, TextEncoder
from stemforge.remembered import recalled, remember


def load_encoder(name: str, device: str | torch.device = "cpu") -> TextEncoder:
    """The text encoder of that name; nothing is fetched from a network but a t5 or clap that was never used here.

    Args:
        name: minilm (`stemforge checkpoints pull minilm`), or t5:PLACE or clap:PLACE, a name on the Hub or a folder.
        device: a torch device.

    Raises:
        UsageError: there is none of that name, or the package transformers is not installed.
        CheckpointError: it was not pulled, is damaged, or cannot be had.
    """
    kind, colon, place = name.partition(":")
    if name != "minilm" and (kind not in ("t5", "clap") or not place):
        raise UsageError(
            f"text encoder '{name}': unknown. Give minilm, or t5:NAME or clap:NAME with a name on the Hub or a folder."
        )
    if find_spec("transformers") is None:
        raise UsageError(f"text encoder '{name}': transformers is not installed. Run pip install 'stemforge[text]'.")
    found: Encoder = (text.t5 if kind == "t5" else text.clap)(place) if colon else text.minilm(wheels.find("minilm"))
    found.network.to(device)
    return found


def embeddings(encoder: TextEncoder, texts: Sequence[str], *, keep: bool = True) -> Tensor:
    """(text, width) float32 on the CPU, each of unit length; those that were ever asked for come from the cache.

    Spaces at the ends and more than one between words do not count. keep: whether new ones go into the cache, a small
    file each.

    Raises:
        UsageError: a text is empty, or longer than the encoder reads.
    """
    tidy = [" ".join(each.split()) for each in texts]
    if "" in tidy:
        raise UsageError("prompt '': is empty. Say what is to be heard, or leave the option out.")
    folder = _folder(encoder)
    rows = {each: _cached(folder, each, encoder.width) for each in dict.fromkeys(tidy)}
    fresh = [each for each, row in rows.items() if row is None]
    for each, count in zip(fresh, encoder.tokens(fresh) if fresh else [], strict=True):
        if count > encoder.limit:
            start = each[:40].rstrip()
            raise UsageError(
                f"prompt '{start}…': has {count} tokens, {encoder.name} reads {encoder.limit}. Say it in fewer words."
            )
    for each, row in zip(fresh, encoder.encode(fresh) if fresh else torch.empty(0), strict=True):
        rows[each] = row
        if keep and folder is not None:
            remember(_path(folder, each), row.numpy())
    found = [row for each in tidy if (row := rows[each]) is not None]
    return torch.stack(found) if found else torch.empty(0, encoder.width)


def _folder(encoder: TextEncoder) -> Path | None:
    """Where the embeddings of this encoder are kept; None without a cache."""
    with suppress(CheckpointError):
        return wheels.cache() / "prompts" / f"{re.sub(r'[^A-Za-z0-9.-]+', '_', encoder.name)}-{encoder.stamp}"
    return None


def _path(folder: Path, prompt: str) -> Path:
    return folder / f"{hashlib.sha256(prompt.encode()).hexdigest()}.npy"


def _cached(folder: Path | None, prompt: str, width: int) -> Tensor | None:
    """The embedding from the cache, None where it is not there whole."""
    row = None if folder is None else recalled(_path(folder, prompt))
    if row is None or row.shape != (width,) or row.dtype != np.float32:
        return None
    return torch.from_numpy(row)
