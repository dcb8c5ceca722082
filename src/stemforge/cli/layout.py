"""Where stems go: the template of --filename, and that no two files of a run get one name."""

from __future__ import annotations

import os
import string
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from stemforge.cli.inputs import Item, track_name
from stemforge.errors import UsageError
from stemforge.tasks.files import SIDECAR, Place

DEFAULT = "{reldir}/{track}/{stem}.{ext}"
FIELDS = ("track", "stem", "ext", "reldir", "model", "seed", "trackext")


@dataclass(frozen=True)
class Layout:
    """The template of one run: `top` is --out, `model` the checkpoint; a template without {model} starts below it."""

    top: Path
    model: str
    seed: int
    template: str = DEFAULT

    def __post_init__(self) -> None:
        """Raises UsageError for a template that names something unknown, or leads out of the folder."""
        template = self.template
        try:
            used = [part[1:] for part in string.Formatter().parse(template)]
        except ValueError as error:
            raise UsageError(f"--filename '{template}': {error}. Write for example {DEFAULT}.") from None
        for name, form, conversion in used:
            if name is not None and (name not in FIELDS or form or conversion):
                shown = ", ".join(f"{{{field}}}" for field in FIELDS)
                raise UsageError(f"--filename '{template}': {{{name}}} is unknown. There are {shown}.")
        parts = PurePosixPath(template.replace("\\", "/")).parts
        if Path(template).is_absolute() or PureWindowsPath(template).anchor or ".." in parts or "\0" in template:
            raise UsageError(f"--filename '{template}': leads out of --out. Choose another --out instead.")
        if not parts or template.endswith(("/", "\\")) or "{" not in parts[-1]:
            raise UsageError(f"--filename '{template}': every stem needs a name. Write for example {DEFAULT}.")

    @property
    def is_default(self) -> bool:
        """True for the template that is taken when none is given."""
        return self.template == DEFAULT

    def place(self, item: Item) -> Place:
        """Where the stems of a song go. The sidecar is in the deepest folder that all of them share."""
        parts = self._parts()
        first = next((n for n, part in enumerate(parts) if "{stem}" in part), len(parts) - 1)
        shared = parts[: min(first, len(parts) - 1)]
        folder = self._root / Path(*self._filled(shared, item))
        own = any("{track}" in part for part in shared)
        above = () if any("{reldir}" in part for part in shared) else item.track.parent.parts
        sidecar = SIDECAR if own else "~".join((*above, f"{item.track.name}.{SIDECAR}"))
        return Place(folder, sidecar, lambda stem, ending: self.path(item, stem, ending))

    def path(self, item: Item, stem: str, ending: str) -> Path:
        """The file of one stem. Raises UsageError when its name comes out empty, or leads elsewhere."""
        parts = [*self._filled(self._parts(), item, stem, ending)]
        return self._root / Path(*parts)

    @property
    def _root(self) -> Path:
        return self.top if "{model}" in self.template else self.top / self.model

    def _parts(self) -> tuple[str, ...]:
        return tuple(part for part in self.template.split("/") if part not in ("", "."))

    def _filled(self, parts: Iterable[str], item: Item, stem: str = "", ending: str = "") -> Iterator[str]:
        """The parts with their fields filled in; {reldir} alone may become several, or none."""
        values = {
            "track": item.track.name,
            "stem": track_name(stem),
            "ext": ending,
            "reldir": "_".join(item.track.parent.parts),
            "model": track_name(self.model),
            "seed": str(self.seed),
            "trackext": track_name(item.path.suffix[1:]),
        }
        for part in parts:
            if part == "{reldir}":
                yield from item.track.parent.parts
                continue
            filled = part.format(**values)
            if filled.strip(" .") == "":
                raise UsageError(f"--filename '{self.template}': gives '{filled}' for '{item.path}'. Change it.")
            yield filled


def check(layout: Layout, items: list[Item], stems: tuple[str, ...] | None, ending: str) -> None:
    """Raises UsageError when two stems of a run would have one file, or a stem that of a song.

    `stems` are those that will be written, None when they are not known yet.
    """
    names = stems or ("stem", "other stem")
    inputs = {item.path.absolute(): item for item in items}
    owner: dict[Path, tuple[Item, str]] = {}
    for item in items:
        place = layout.place(item)
        for stem, path in [("", place.manifest), *((name, layout.path(item, name, ending)) for name in names)]:
            other, name = owner.setdefault(Path(os.path.normcase(path.absolute())), (item, stem))
            if other is item and name != stem:
                raise UsageError(
                    f"--filename '{layout.template}': {name} and {stem} would both be written to '{path}'. "
                    "Put {stem} into it."
                )
            if other is not item:
                _collide(layout, other, item, place.folder if layout.is_default else path)
            if path.absolute() in inputs:
                raise UsageError(f"'{path}': is a song, and a stem would be written there. Choose another --out.")


def _collide(layout: Layout, one: Item, other: Item, path: Path) -> None:
    advice = "Rename one, or separate them in two runs with different --out."
    if not layout.is_default and "{reldir}" not in layout.template:
        advice = "Put {reldir} into --filename, or separate them in two runs with different --out."
    raise UsageError(f"'{one.path}' and '{other.path}': both would be written to '{path}'. {advice}")
