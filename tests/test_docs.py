"""The documents: the reference is that of the commands, links lead somewhere, nothing is left undocumented."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import soundfile

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").glob("*.md")])


def test_cli_reference_is_current() -> None:
    """docs/cli.md is what the commands say of themselves; `make docs` writes it."""
    written = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    assert written == runpy.run_path(str(ROOT / "scripts" / "write_cli_reference.py"))["reference"]()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    """Every relative link of a page is a file or folder of the repository."""
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8")):
        if not target.startswith(("http:", "https:", "mailto:")):
            assert (page.parent / target).exists(), target


def test_every_page_is_in_the_index() -> None:
    """docs/index.md leads to each page beside it."""
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    for page in (ROOT / "docs").glob("*.md"):
        assert page.name == "index.md" or f"({page.name})" in index, page.name


def test_site_builds_without_a_warning(tmp_path: Path) -> None:
    """`make docs`: every page becomes one of the site, links between them hold, nothing is fetched from elsewhere."""
    pytest.importorskip("mkdocs", reason="mkdocs-material")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and "WARNING" not in done.stderr, done.stderr
    for page in (ROOT / "docs").rglob("*.md"):
        built = tmp_path / "site" / page.relative_to(ROOT / "docs").with_suffix(".html")
        loaded = re.findall(r'<(?:script|link|img)[^>]*(?:src|href)="(https?:[^"]+)', built.read_text(encoding="utf-8"))
        assert loaded == []
    overview = (tmp_path / "site" / "overview.html").read_text(encoding="utf-8")
    assert 'href="cli.html"' in overview and 'href="example.html"' in overview


def test_make_targets_of_the_readme_exist() -> None:
    """What README and CONTRIBUTING ask to type is in the Makefile."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for name in ("README.md", "CONTRIBUTING.md"):
        for target in re.findall(r"(?:`|^)make ([a-z-]+)", (ROOT / name).read_text(encoding="utf-8"), re.M):
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_commands_of_the_readme_exist() -> None:
    """Every `stemforge COMMAND` of the README is a command of the reference."""
    known = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    for command in re.findall(r"stemforge ([a-z]+) ", (ROOT / "README.md").read_text(encoding="utf-8")):
        assert f"## `stemforge {command}`" in known, command


def test_version_is_in_the_changelog() -> None:
    """The version of the package has its section in the changelog."""
    from stemforge import __version__

    assert f"## [{__version__}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_tested_pair_is_within_the_asked_range() -> None:
    """constraints.txt pins torch and torchaudio to one and the same version."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if "==" in line)
    assert pins["torch"] == pins["torchaudio"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert {"torch>=2.8,<2.12", "torchaudio>=2.8,<2.12"} <= set(project["dependencies"])


def test_example_song() -> None:
    """The example is a 44.1 kHz stereo song of 20 to 30 s in at most 3 MB, with its licence beside it."""
    path = ROOT / "examples" / "demo.flac"
    info = soundfile.info(path)
    assert (info.samplerate, info.channels) == (44100, 2)
    assert 20 <= info.duration <= 30
    assert path.stat().st_size <= 3_000_000
    assert "CC0" in (ROOT / "examples" / "README.md").read_text(encoding="utf-8")
