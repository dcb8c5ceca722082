"""What `generate` and `impute` begin with, where a checkpoint draws it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from stemforge import checkpoints
from stemforge.cli.options import sampling_of
from stemforge.cli.synthesis import NO_SKETCH, Session
from stemforge.errors import UsageError
from stemforge.inference.settings import Sampling, default
from stemforge.tasks.sketched import AROUND, GUIDANCE, STRENGTH, Sketcher


def refuse(options: Mapping[str, Any]) -> None:
    """Raises UsageError where a command that draws nothing is told something about it."""
    for name in ("sketch", "strength"):
        if options[name] not in (None, NO_SKETCH):
            raise UsageError(f"--{name}: is not for prompts. Leave it out.")


def check(session: Session, others: str = "") -> None:
    """Raises UsageError for a sketch that there is not, and a strength that cannot be or that nothing has.

    others: options that give something to begin with, too, as "--from LIBRARY or ".
    """
    strength = session.options["strength"]
    Sampling().begun(STRENGTH if strength is None else strength)
    if session.sketching is None and strength is not None:
        raise UsageError(
            f"--strength: how far from what it begins with, but it begins with noise. Give {others}--sketch NAME too."
        )


def stamp(session: Session) -> dict[str, str] | None:
    """Name and sha256 of the checkpoint that draws, if one does."""
    found = session.sketching
    return None if found is None else {"name": found.name, "sha256": checkpoints.verify(found)[checkpoints.WEIGHTS]}


def sketcher(
    session: Session, made: Sequence[str], given: Sequence[str] | None = None, *, task: str = "sketched"
) -> Sketcher | None:
    """What draws those stems, beside the given ones if there are any; None where nothing does.

    task: whose defaults the sound has. Raises UsageError when one was asked for by name, or a strength was given, and
    it cannot.
    """
    asked = session.options["strength"]
    drawing = _drawing(session, STRENGTH if asked is None else asked, GUIDANCE, task)
    if drawing is None or drawing.can(made, session.network.rate, given):
        return drawing
    _check_unasked(session, drawing, must=asked is not None)
    return None


def gap_sketcher(session: Session, names: Sequence[str]) -> Sketcher | None:
    """What draws a gap in those stems, of as many as it knows; None where nothing does.

    Raises UsageError when one was asked for by name and it cannot.
    """
    drawing = _drawing(session, STRENGTH, AROUND, "sketched")
    if drawing is None or drawing.can_fill(names, session.network.rate):
        return drawing
    _check_unasked(session, drawing)
    return None


def _drawing(session: Session, strength: float, guidance: float, task: str) -> Sketcher | None:
    network, options = session.sketch, session.options
    if network is None:
        return None
    codes, sound = default("generate", conditional=True), default(task, session.network.conditional)
    codes, sound = (sampling_of(sampling, options) for sampling in (codes, sound))
    return Sketcher(network, codes, strength, guidance, session.device, sound)


def _check_unasked(session: Session, drawing: Sketcher, *, must: bool = False) -> None:
    if not must and session.options["sketch"] is None:
        return
    name, network = session.sketching and session.sketching.name, drawing.network
    raise UsageError(
        f"--sketch {name}: draws {', '.join(network.names)} at {network.config.sound_rate} Hz, which is not what is "
        "wanted here. Give --sketch none, and no --strength."
    )


def told(session: Session, sketcher: Sketcher | None) -> dict[str, Any]:
    """What the recipe of a sidecar says of it."""
    if sketcher is None:
        return {}
    how = {"strength": sketcher.strength, "guidance": sketcher.guidance, "sampling": asdict(sketcher.sampling)}
    return {"sketch": {**(stamp(session) or {}), **how}}
