"""Hooks of mkdocs: pages from outside of docs/ are pages of the site, links lead to them, equations become MathML.

Equations are written as GitHub shows them, in fences called math and between $` and `$. Every browser draws MathML by
itself, so the site needs no script and no font for them.
"""

from __future__ import annotations

import html
import posixpath
import re
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
OUTSIDE = {
    "README.md": "overview.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "LICENSE": "license.md",
    "examples/README.md": "example.md",
    "src/stemforge/embedded/flows/README.md": "model-card-flows.md",
    "src/stemforge/embedded/sketch/README.md": "model-card-sketch.md",
    "src/stemforge/embedded/forge/README.md": "model-card-forge.md",
}
_LINK = re.compile(r"(?<=\]\()(?!\w+:|#)([^)#\s]+)")
_INLINE = re.compile(r"\$<code>(.*?)</code>\$")


def on_files(files: Files, config: Any) -> Files:  # noqa: ANN401
    """Add the pages from outside."""
    for place, page in OUTSIDE.items():
        text = (ROOT / place).read_text(encoding="utf-8")
        content = moved(text, place) if place.endswith(".md") else f"# Licence\n\n```\n{text}\n```\n"
        files.append(File.generated(config, page, content=content))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:  # noqa: ANN401
    """Lead links of a page in docs/ to pages that were outside to where they are now."""
    return markdown if page.file.generated_by else moved(markdown, f"docs/{page.file.src_uri}")


def on_config(config: Any) -> Any:  # noqa: ANN401
    """Draw the fences called math."""
    fence = {"name": "math", "class": "math", "format": lambda text, *_, **__: drawn(text, "block")}
    config["mdx_configs"].setdefault("pymdownx.superfences", {})["custom_fences"] = [fence]
    return config


def on_page_content(content: str, page: Any, config: Any, files: Files) -> str:  # noqa: ANN401
    """Draw the equations within lines."""
    return _INLINE.sub(lambda match: drawn(html.unescape(match[1])), content)


def drawn(equation: str, display: str = "inline") -> str:
    """TeX as MathML; a block that is too wide scrolls by itself."""
    found: str = convert(equation.strip(), display=display)
    return f'<div style="overflow-x: auto; margin: 1em 0">{found}</div>' if display == "block" else found


def moved(markdown: str, place: str) -> str:
    """A page that lies at `place` in the repository, its links as they are on the site."""
    here = page_of(place)

    def link(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(place), match[1]))
        return posixpath.relpath(page_of(target), posixpath.dirname(here) or ".")

    return _LINK.sub(link, markdown)


def page_of(place: str) -> str:
    """Where on the site a file of the repository is."""
    return OUTSIDE.get(place, place.removeprefix("docs/"))
