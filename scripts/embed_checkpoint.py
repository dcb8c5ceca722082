"""Put the averaged weights of a run into the package, fp16, with their entry in checkpoints.toml, whose words stay.

python scripts/embed_checkpoint.py runs/forge --name forge --default
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import tomllib
from pathlib import Path

from safetensors.torch import load_file, save_file

from stemforge import checkpoints

ROOT = Path(__file__).parents[1]
KEPT = ("description", "folds", "joins", "sketch", "voice")
"""Keys of an entry that its files do not tell."""


def main() -> None:
    """Copy, halve, hash, write the entry."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--name", default="forge")
    parser.add_argument("--default", action="store_true")
    args = parser.parse_args()
    target = ROOT / "src" / "stemforge" / "embedded" / args.name
    target.mkdir(parents=True, exist_ok=True)
    weights = load_file(args.run / checkpoints.WEIGHTS)
    halved = {name: w.half() if w.is_floating_point() else w for name, w in weights.items()}
    save_file(halved, target / checkpoints.WEIGHTS)
    shutil.copyfile(args.run / checkpoints.CONFIG, target / checkpoints.CONFIG)
    entry = checkpoints.entry_for(target, name=args.name, default=args.default)
    table = ROOT / "checkpoints.toml"
    parts = re.split(r"(?m)^(?=\[)", table.read_text(encoding="utf-8"))
    place = next((i for i, part in enumerate(parts) if part.startswith(f"[{args.name}]")), len(parts))
    kept = tomllib.loads(parts[place])[args.name] if place < len(parts) else {}
    entry = entry.rstrip() + "".join(f"\n{key} = {_toml(kept[key])}" for key in KEPT if key in kept)
    parts[place : place + 1] = [entry]
    table.write_text("\n\n".join(part.strip() for part in parts) + "\n", encoding="utf-8")
    print(entry)


def _toml(value: str | dict[str, str]) -> str:
    """A string, or a table of strings in one line."""
    if isinstance(value, str):
        return json.dumps(value)
    return "{ " + ", ".join(f"{key} = {json.dumps(each)}" for key, each in value.items()) + " }"


if __name__ == "__main__":
    main()
