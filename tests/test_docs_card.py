"""The model card of the embedded checkpoint says what README, config and the list of sounds say."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "src" / "stemforge" / "embedded" / "forge"
CARD = (FOLDER / "README.md").read_text(encoding="utf-8")


def test_stems_and_scores_are_those_of_the_readme() -> None:
    """The row of active improvements has the stems that are written unasked and the figures of README."""
    stems, active = (re.search(rf"^\| {row}\| (.*) \|$", CARD, re.MULTILINE)[1] for row in ("", "active "))
    names, figures = stems.split(" | "), active.replace("*", "").split(" | ")
    folds = tomllib.loads((ROOT / "checkpoints.toml").read_text(encoding="utf-8"))["forge"].get("folds", {})
    own = json.loads((FOLDER / "config.json").read_text())["names"]
    assert names == [*(name for name in own if name not in folds), "all"]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    each = re.search(r"^\| bass / .*? \| ([\d ./-]+) \|", readme, re.MULTILINE)[1].split(" / ")
    whole = re.search(r"^\| active, mean .*?\*\*([\d.-]+)\*\*", readme, re.MULTILINE)[1]
    assert figures == [*each, whole]


def test_every_licence_of_the_sounds_is_told() -> None:
    """Each licence in the list of docs/data.md is in the card, which says that there is no singer."""
    rows = re.findall(r"^\| [^|]+ \| ([^|]+) \| [^|]+ \|$", (ROOT / "docs/data.md").read_text(encoding="utf-8"), re.M)
    known = {found for row in rows for found in re.findall(r"CC0|CC-BY-[\d.]+|BSD-3-Clause|MIT|GPL|public domain", row)}
    assert len(known) >= 6
    assert [licence for licence in sorted(known) if licence not in CARD] == []
    assert "no real singer" in CARD and "## Limits" in CARD
