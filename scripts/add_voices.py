"""Recorded voices under free licences, from clones of their repositories, as `stemforge data render` finds them.

    python scripts/add_voices.py CLONES ASSETS [NAME ...]

CLONES holds clones (or unpacked archives), named as the repositories are; `voices.toml` lists what is taken of which,
docs/data.md whose voices they are and under which licence. Linked, or copied where links cannot be, to
ASSETS/voices/<kind>/<person>/, with the licence beside them.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from clones import entries, files


def put(source: Path, target: Path) -> None:
    """The same file in two places."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def main(clones: Path, assets: Path, names: list[str]) -> None:
    """Link the voices of every entry (or those named) whose clone is there."""
    for name, entry, clone in entries("voices.toml", clones, names):
        chosen = files(name, entry, clone)
        licences = [*clone.glob("LICEN[SC]E*"), *clone.glob("[Rr][Ee][Aa][Dd][Mm][Ee]*")]
        people = set()
        for path in chosen:
            person = f"{name}-{path.parent.name}" if entry.get("person") == "folder" else name
            folder = assets / "voices" / entry["kind"] / person
            for file in (path, *(licences if person not in people else ())):
                put(file, folder / file.name)
            people.add(person)
        print(f"{name}: {len(chosen)} files of {len(people)} people, {entry['kind']}")


if __name__ == "__main__":
    if len(sys.argv) < 3:
        raise SystemExit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
