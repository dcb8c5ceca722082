"""scripts/showcase.py: one page with all that the tool does, small enough to be sent, the same for the same seed."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest
import soundfile

from songs import put, tone
from stemforge import checkpoints, devices
from tiny import tiny_default

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "showcase.html"


@pytest.fixture
def song(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A song of 20 s, and a tiny network as the default checkpoint."""
    monkeypatch.setattr(devices, "keep_memory", lambda: None)
    for name in ("STEMFORGE_MODEL", "STEMFORGE_OUT"):
        monkeypatch.setenv(name, "")  # so that what the script removes is put back
    tiny_default(tmp_path, monkeypatch, ("bass", "drums", "piano"), name="tiny")
    return put(tmp_path / "song.wav", sum(tone(hz, 20.0) for hz in (80, 400, 1500)))


def test_it_shows_every_command(song: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Five versions on one page, which needs nothing beside it, and the commands that made them."""
    out = song.with_name("page.html")
    runpy.run_path(str(ROOT / "scripts" / "showcase.py"))["main"](
        ["--song", str(song), "--out", str(out), "--steps", "1"]
    )
    text, said = out.read_text(encoding="utf-8"), capsys.readouterr().out
    assert re.findall(r'<section aria-label="([\w ]+)">', text) == [
        "The song", "Taken apart", "Accompanied anew", "Edited", "Generated"]  # fmt: skip
    lanes = re.findall(r'class="lane" data-group="(\d)".*?data-name="([^"]+)"', text)
    assert [name for group, name in lanes if group == "1"] == ["bass", "drums", "piano"]
    assert [name for group, name in lanes if group == "2"] == ["bass + drums", "piano"]
    assert not re.findall(r'(?:src|href)="(?!data:)', text) and text.count("data:audio/mpeg") == len(lanes)
    assert 'title="Region 0:04.80 to 0:09.60"' in text
    for command in ("separate", "impute", "edit regenerate", "generate"):
        assert f"stemforge {command}" in said and f"stemforge {command}" in text


def test_the_page_of_the_site_is_one_of_these() -> None:
    """docs/showcase.html has at most 2 MB, was made by the checkpoint that is shipped, and is linked."""
    assert PAGE.stat().st_size <= 2_000_000
    text = PAGE.read_text(encoding="utf-8")
    assert checkpoints.find().sha256[checkpoints.WEIGHTS].removeprefix("sha256:")[:16] in text
    assert "showcase.html" in (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    assert soundfile.info(ROOT / "examples" / "demo.flac").duration > 4.8 + 14.4
