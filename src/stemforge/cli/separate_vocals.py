"""`--vocals`: which checkpoint takes the voice out before the other stems are separated, if any.

One that has no vocals needs another before it. One that has them is taken as it is, unless `voice` in its table names
a checkpoint that knows voices better; then what it finds itself in the rest is added.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from stemforge import checkpoints
from stemforge.errors import UsageError
from stemforge.tasks.cascade import VOICE
from stemforge.tasks.prompted import names_of
from stemforge.tasks.separate import all_names

if TYPE_CHECKING:
    from stemforge.cli.separate_request import Request

DEFAULT, FLOWS = "spleeter-2stem", "flows"
"""What takes the voice out, and the flows, where nothing else is named."""


@dataclass(frozen=True)
class Stages:
    """`main` gives the stems. With a `voice`, that one takes the vocals out before, and `main` hears the rest.

    vocals: they are asked for, so that those which `main` has are not folded into another stem.
    """

    main: checkpoints.Checkpoint
    voice: checkpoints.Checkpoint | None = None
    vocals: bool = False

    @property
    def all(self) -> tuple[checkpoints.Checkpoint, ...]:
        """One or two."""
        return (self.main,) if self.voice is None else (self.voice, self.main)

    @property
    def name(self) -> str:
        """Of the folder that the stems go to: the checkpoints in the order of their work."""
        return "+".join(checkpoint.name for checkpoint in self.all)

    @property
    def stems(self) -> tuple[str, ...] | None:
        """Names of all that can be written, None when only loading the checkpoint tells them."""
        return None if self.main.stems is None else self.named(self.main.stems)

    def named(self, stems: tuple[str, ...]) -> tuple[str, ...]:
        """The same for a main checkpoint with these stems."""
        if self.voice is not None:
            return all_names((VOICE, *(stem for stem in stems if stem != VOICE)))
        return all_names(tuple(stem for stem in stems if stem not in self.folds))

    @property
    def folds(self) -> dict[str, str]:
        """Which stems of `main` are heard as part of which."""
        return {} if self.vocals else self.main.folds


def _main(request: Request) -> checkpoints.Checkpoint:
    """The checkpoint of the stems. With further flows, or a residual, only loading all of them tells their names."""
    flows, name = request.prior["flows"] if request.prior is not None else {}, request.checkpoint
    if name is None and (flows or request.method == "flow"):
        name = FLOWS if request.rest else next(iter(flows.values()), FLOWS)
    found = checkpoints.find(name)
    if request.wish is not None:
        return replace(found, stems=names_of(request.wish.stems))
    return replace(found, stems=None) if flows or not request.share else found


def stages(request: Request) -> Stages:
    """The checkpoints of a request. Where nothing but vocals is asked for, the one that knows them is enough.

    Raises as `checkpoints.find` does, and UsageError for a voice that cannot be had as it is asked for.
    """
    main, chosen = _main(request), request.selection
    own, better = VOICE in (main.stems or ()), main.table.get("voice")
    asked = main.stems is not None and VOICE in (chosen.two_stems, *(chosen.stems or ()))
    if not (request.vocals or request.vocals_with or asked):
        return Stages(main)
    if own and (better is None or request.vocals_with == main.name):
        if request.vocals_with not in (None, main.name):
            raise UsageError(
                f"--vocals-with {request.vocals_with}: checkpoint '{main.name}' has {VOICE} itself. Leave it out."
            )
        return Stages(main, vocals=True)
    voice = checkpoints.find(request.vocals_with or better or DEFAULT)
    if VOICE not in (voice.stems or (VOICE,)):
        raise UsageError(
            f"--vocals-with {request.vocals_with}: has no stem {VOICE}, but {', '.join(voice.stems or ())}. "
            f"See stemforge checkpoints list --stem {VOICE}."
        )
    alone = chosen.two_stems == VOICE or chosen.stems == (VOICE,)
    return Stages(voice, vocals=True) if alone else Stages(main, voice, vocals=True)
