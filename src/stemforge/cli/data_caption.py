"""The work of `stemforge data caption`: mix, write captions, keep their embeddings where that is wished."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stemforge.cli import console
from stemforge.data.mixtures import CAPTIONS, Wish, mix_songs


def run(renders: Path, out: Path, wish: Wish, format: str, text: str | None, *, quiet: bool) -> dict[str, Any]:
    """The report of what was written into `out`. An encoder that is not there is told before anything is written."""
    with console.Report(verbosity=-1 if quiet else 0) as report:
        encoder = None
        if text is not None:
            from stemforge import prompts

            encoder = prompts.load_encoder(text)
        report.song(f"{renders} to {out}", 0.0)
        found = mix_songs(renders, out, wish, format, report.advance)
        if encoder is not None:
            from stemforge.train.captioned import keep_prompts, read_list

            report.note(f"reading captions with {encoder.name}")
            texts = list(dict.fromkeys(said for line in read_list(out / CAPTIONS) for said in line.captions))
            keep_prompts(out, encoder.name, texts, prompts.embeddings(encoder, texts, keep=False))
    return found


def told(found: dict[str, Any], out: Path) -> list[str]:
    """The report on captioned mixtures in a few lines."""
    sizes = ", ".join(f"{share:.0%} with {size}" for size, share in found["share_by_stems_heard"].items())
    return [
        f"{out}: {found['songs']} songs, {found['sections']} sections, {found['hours']:.2f} h",
        f"stems heard at a time: {sizes}",
        f"{found['captions']} captions, {found['different_captions']} different ones, as:",
        *(f"  {line}" for line in found["examples"]),
    ]
