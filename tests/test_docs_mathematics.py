"""docs/mathematics.md: what it says of the code is there, and its equations can be drawn."""

from __future__ import annotations

import re
import runpy
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "mathematics.md").read_text(encoding="utf-8")
NAME = re.compile(r"(?<!\$)`((?:audio|inference|models|separators|tasks|train|types)\.[\w.]+)`")


@pytest.mark.parametrize("name", sorted(set(NAME.findall(TEXT))))
def test_functions_that_are_named_exist(name: str) -> None:
    """Each name of the page leads to a function or class of the package, with a docstring of its own."""
    parts = name.split(".")
    depth = next(k for k, part in enumerate(parts) if part[0].isupper() or k == 2 or len(parts) - 1 == k)
    found = import_module(".".join(["stemforge", *parts[:depth]]))
    for part in parts[depth:]:
        found = getattr(found, part)
    assert name == "types.Denoise" or found.__doc__


def test_every_equation_says_where_it_is() -> None:
    """Behind each equation, or the last of some that follow each other, comes a paragraph that names code."""
    behind = re.findall(r"```math\n.*?\n```\n\n(.*?)(?:\n\n|\Z)", TEXT, re.DOTALL)
    assert len(behind) > 40
    for paragraph in behind:
        assert paragraph.startswith("```math") or NAME.search(paragraph), paragraph


def test_equations_become_mathml() -> None:
    """Fences and what is between $` and `$ are drawn without a script, and nothing of their TeX is left."""
    pytest.importorskip("latex2mathml", reason="latex2mathml")
    pytest.importorskip("mkdocs", reason="mkdocs-material")
    drawn = runpy.run_path(str(ROOT / "scripts" / "site_hooks.py"))["drawn"]
    for text in re.findall(r"```math\n(.*?)```", TEXT, re.DOTALL):
        found = drawn(text, "block")
        assert 'display="block"' in found and "\\" not in found, text
    for text in re.findall(r"\$`(.*?)`\$", TEXT):
        assert drawn(text).startswith("<math") and "\\" not in drawn(text), text
