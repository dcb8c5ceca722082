"""What a network that hears prompts is trained on: sounds with captions, and the embeddings of those."""

from __future__ import annotations

import logging
from contextlib import suppress
from pathlib import Path

import torch

from stemforge import prompts
from stemforge.errors import OutputError, UsageError
from stemforge.models.forge import SLOT
from stemforge.models.forge_config import ForgeConfig
from stemforge.models.sketch import SketchConfig
from stemforge.train.captioned import embedded, find_recordings, keep_prompts, kept_prompts, texts_of
from stemforge.train.data import Song

log = logging.getLogger("stemforge")


def recordings(place: Path, config: ForgeConfig | SketchConfig, rate: int, device: str = "cpu") -> list[Song]:
    """The captioned sounds of a folder or list as a network of `rate` Hz hears them, every caption with its embedding.

    Embeddings that lie beside the captions are taken from there, so that no encoder is needed; what is missing is
    asked of the encoder and put there, where that can be written.

    Raises:
        UsageError: the network has other slots, or its prompts another width, or a caption is too long.
        InputError: there are no captions, or no sounds. CheckpointError: the encoder was not pulled.
    """
    if config.names != (SLOT,):
        raise UsageError(f"[network] text = '{config.text}': a network that hears prompts has names = [\"{SLOT}\"].")
    songs = find_recordings(place, rate)
    known = kept_prompts(place, config.text)
    fresh = [text for text in texts_of(songs) if text not in known]
    if fresh:
        log.info("reading %d captions with %s", len(fresh), config.text)
        rows = prompts.embeddings(prompts.load_encoder(config.text, device), fresh, keep=False)
        known |= dict(zip(fresh, rows, strict=True))
        with suppress(OutputError):
            keep_prompts(place, config.text, list(known), torch.stack(list(known.values())))
    width = len(next(iter(known.values())))
    if width != config.prompt_width:
        raise UsageError(f"[network] prompt_width = {config.prompt_width}: '{config.text}' gives {width}. Write that.")
    return embedded(songs, known)
