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
}
_LINK = re.compile(r"(?<=\]\()(?!\w+:|#)([^)#\s]+)")
_BLOCK = re.compile(r'<div class="arithmatex">\s*\\\[(.*?)\\\]\s*</div>', re.DOTALL)
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


def on_page_content(content: str, page: Any, config: Any, files: Files) -> str:  # noqa: ANN401
    """Draw the equations."""
    return drawn(content)


def drawn(page: str) -> str:
    """A page with its equations as MathML; a wide one scrolls by itself."""

    def block(match: re.Match[str]) -> str:
        return f'<div style="overflow-x: auto">{convert(html.unescape(match[1]).strip(), display="block")}</div>'

    page = _BLOCK.sub(block, page)
    return _INLINE.sub(lambda match: convert(html.unescape(match[1])), page)


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
