"""scripts/release_check.py: what it refuses; the whole of it is `make release-check`."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

SCRIPT = runpy.run_path(str(Path(__file__).parents[1] / "scripts" / "release_check.py"), run_name="release_check")
HEAD = "# Changelog\n\n## [Unreleased]\n{}\n## [0.2.0]{}\n\n### Added\n- This.\n\n## [0.1.0] - 2026-01-01\n"


@pytest.mark.parametrize(
    ("text", "version", "problems"),
    [
        (HEAD.format("", " - 2026-11-21"), "0.2.0", []),
        (HEAD.format("", ""), "0.2.0", ["CHANGELOG.md: [0.2.0] has no date"]),
        (
            HEAD.format("\n### Fixed\n- That.\n- More.\n", " - 2026-11-21"),
            "0.2.0",
            ["CHANGELOG.md: 2 entries are still unreleased"],
        ),
        (HEAD.format("", " - 2026-11-21"), "0.3.0", ["CHANGELOG.md: no section [0.3.0]"]),
    ],
)
def test_changelog(text: str, version: str, problems: list[str]) -> None:
    """A version needs a section with a date, and nothing that waits above it."""
    assert SCRIPT["changelog_problems"](text, version) == problems


def test_wheels_that_are_too_large() -> None:
    """95 MB and no more; PyPI takes 100."""
    assert SCRIPT["size_problems"]({"a.whl": 95_000_000}) == []
    assert SCRIPT["size_problems"]({"a.whl": 95_100_001}) == ["a.whl: 95.1 MB, more than 95"]
    with pytest.raises(SystemExit, match="release check: a; b"):
        SCRIPT["check"](["a", "b"])


def test_nothing_of_this_environment_is_handed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths, settings and constraints are left behind; where commands are tried there is no network."""
    for name in ("PYTHONPATH", "STEMFORGE_MODEL", "PIP_CONSTRAINT", "VIRTUAL_ENV", "HF_HOME"):
        monkeypatch.setenv(name, "x")
    found = SCRIPT["plain"](offline=True)
    assert "x" not in found.values() and found["HTTPS_PROXY"].endswith(":9") and found["PATH"]
    assert "HTTPS_PROXY" not in SCRIPT["plain"]() or not SCRIPT["plain"]()["HTTPS_PROXY"].endswith(":9")
