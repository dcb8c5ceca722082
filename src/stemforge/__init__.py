"""stemforge: one generative model of the stems of a song together, to separate, impute, generate and edit.

import stemforge
separator = stemforge.load("forge")
stems = stemforge.separate(stemforge.read("song.wav"), separator)
stemforge.write(stems, "stems")
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stemforge.audio.io import read as read
    from stemforge.audio.writer import write as write
    from stemforge.checkpoints import load as load
    from stemforge.errors import StemforgeError as StemforgeError
    from stemforge.tasks.cascade import Cascade as Cascade
    from stemforge.tasks.separate import separate as separate
    from stemforge.types import Audio as Audio
    from stemforge.types import Stems as Stems

__version__ = "0.7.3"

_PUBLIC = {
    "Audio": "types",
    "Cascade": "tasks.cascade",
    "Stems": "types",
    "StemforgeError": "errors",
    "load": "checkpoints",
    "read": "audio.io",
    "separate": "tasks.separate",
    "write": "audio.writer",
}

__all__ = ["Audio", "Cascade", "StemforgeError", "Stems", "load", "read", "separate", "write"]


def __getattr__(name: str) -> object:
    """Public names are imported when they are first used, so that `import stemforge` does not load torch."""
    if name not in _PUBLIC:
        raise AttributeError(f"module 'stemforge' has no attribute {name!r}")
    return getattr(import_module(f"stemforge.{_PUBLIC[name]}"), name)


def __dir__() -> list[str]:
    return sorted((*globals(), *_PUBLIC))
