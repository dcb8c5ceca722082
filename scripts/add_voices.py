"""Recorded voices under free licences, from clones of their repositories, as `stemforge data render` finds them.

    python scripts/add_voices.py CLONES ASSETS [NAME ...]

CLONES holds clones (or unpacked archives), named as the repositories are; `voices.toml` lists what is taken of which,
docs/data.md whose voices they are and under which licence. Linked, or copied where links cannot be, to
ASSETS/voices/<kind>/<person>/, with the licence beside them.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import tomllib
from pathlib import Path


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
    table = tomllib.loads(Path(__file__).with_name("voices.toml").read_text(encoding="utf-8"))
    for name, entry in table.items():
        clone = next((path for path in sorted(clones.iterdir()) if path.name.endswith(entry["clone"])), None)
        if clone is None or (names and name not in names):
            continue
        found = [path for path in sorted(clone.glob(entry["files"])) if path.is_file()]
        chosen = [path for path in found if not re.search(entry.get("skip", "(?!)"), path.name)]
        if not chosen:
            raise SystemExit(f"no voices of '{name}' in {clone}: another version of that repository?")
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
