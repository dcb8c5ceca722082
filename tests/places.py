"""What the tests of many songs share: a folder with a table of one checkpoint, and songs."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from shares import Shares, make_checkpoint
from stemforge import checkpoints
from stemforge.models.registry import ARCHITECTURES

RATE = 44100


def prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder, with a table of one checkpoint, `bands`, which is the default."""
    monkeypatch.setitem(ARCHITECTURES, "shares", Shares)
    make_checkpoint(tmp_path / "ck" / "bands")
    (tmp_path / "ck" / "own.toml").write_text(checkpoints.entry_for(tmp_path / "ck" / "bands", default=True))
    monkeypatch.setenv("STEMFORGE_CHECKPOINTS", str(tmp_path / "ck" / "own.toml"))
    monkeypatch.setenv("STEMFORGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    for name in ("STEMFORGE_MODEL", "STEMFORGE_OUT", "STEMFORGE_DEVICE"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path


def song(name: str, seconds: float = 0.2) -> np.ndarray:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    x = (0.2 * np.random.default_rng(len(name)).standard_normal((int(seconds * RATE), 2))).astype(np.float32)
    sf.write(os.fsencode(path), x, RATE, format=path.suffix[1:].upper(), subtype="PCM_16")
    return sf.read(os.fsencode(path), dtype="float32")[0]


def tree(folder: str = "separated") -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in Path(folder).rglob("*") if path.is_file())


def error(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line of a refusal; nothing was written and nothing is on stdout."""
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and err.startswith("stemforge: error: ")
    assert not Path("separated").exists()
    return err
