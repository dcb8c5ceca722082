"""`stemforge doctor`: what is there, what is not, and which settings a run would have."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from huggingface_hub import constants

from places import prepared
from shares import make_checkpoint
from stemforge import checkpoints
from stemforge.cli.main import main


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A table of one checkpoint, an empty cache, no ffmpeg."""
    prepared(tmp_path, monkeypatch)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def seen(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> dict:
    assert main(["doctor", "--json", *arguments]) == code
    (line,) = capsys.readouterr().out.splitlines()
    return json.loads(line)


def test_all_is_well(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Versions, devices, cache, checkpoints and settings are told; a lack of ffmpeg is a warning and no more."""
    found = seen(capsys, "--strict")
    assert found["event"] == "doctor" and found["schema"] == 1 and found["problems"] == []
    assert {"stemforge", "python", "torch", "soundfile", "libsndfile", "soxr"} <= found["versions"].keys()
    assert found["devices"]["cpu"]["threads"] >= 1 and found["device"] in ("cpu", "cuda", "mps")
    assert found["checkpoints"]["bands"] == "folder, whole" and "embedded, whole" in found["checkpoints"].values()
    assert found["cache"]["path"] == str(place / "cache") and found["cache"]["writable"] is True
    assert found["ffmpeg"] == "none" and "m4a" in found["warnings"][0]
    assert not (place / "cache").exists(), "nothing is changed"
    assert main(["doctor"]) == 0
    out, err = capsys.readouterr()
    assert "  bands: folder, whole\n" in out and "nothing is in the way of a run" in out and "ffmpeg" in err


def test_which_setting_won(place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Option before environment before checkpoints.toml before default."""
    found = seen(capsys)["settings"]
    assert found["device"] == {"value": "auto", "from": "default"}
    assert found["checkpoint"] == {"value": "bands", "from": "checkpoints.toml"}
    assert found["color"] == {"value": "auto", "from": "default"}
    monkeypatch.setenv("STEMFORGE_DEVICE", "cpu")
    monkeypatch.setenv("STEMFORGE_MODEL", "forge")
    monkeypatch.setenv("STEMFORGE_OUT", "stems")
    monkeypatch.setenv("NO_COLOR", "1")
    found = seen(capsys)["settings"]
    assert {found[name]["from"] for name in ("device", "checkpoint", "out", "tables", "color")} == {"environment"}
    assert (found["checkpoint"]["value"], found["out"]["value"], found["color"]["value"]) == ("forge", "stems", "never")
    found = seen(capsys, "-n", "bands", "-d", "auto", "--color", "always")["settings"]
    assert [found[name] for name in ("checkpoint", "device", "color")] == [
        {"value": value, "from": "option"} for value in ("bands", "auto", "always")
    ]


def test_what_is_in_the_way(place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint that was changed, a device that is not there and a cache that cannot be: 0, strictly 5 or 6."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    found = seen(capsys, "-d", "cuda")
    assert [problem["code"] for problem in found["problems"]] == [6] and "device" not in found
    seen(capsys, "-d", "cuda", "--strict", code=6)
    assert main(["doctor", "-d", "cuda"]) == 0
    out, err = capsys.readouterr()
    assert "stemforge: error: device 'cuda'" in err and "in the way" not in out
    (place / "file").touch()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(place / "file" / "cache"))
    found = seen(capsys, "--strict", code=5)
    assert found["cache"]["writable"] is False and "Set HF_HOME" in found["problems"][0]["message"]
    found = seen(capsys, "-n", "nonsense", "--strict", code=5)
    assert "unknown" in found["problems"][0]["message"]


def test_checkpoints_that_are_not_whole(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """That of the run is a problem, another one a warning."""
    make_checkpoint(place / "ck" / "odd")
    entries = [checkpoints.entry_for(place / "ck" / name, default=name == "bands") for name in ("odd", "bands")]
    (place / "ck" / "own.toml").write_text("\n".join(entries))
    (place / "ck" / "odd" / "config.json").write_text("{}")
    found = seen(capsys, "--strict")
    assert found["checkpoints"]["odd"] == "folder, not whole"
    assert any("checkpoint 'odd'" in text for text in found["warnings"])
    assert seen(capsys, "-n", "odd", "--strict", code=5)["problems"][0]["code"] == 5


def test_offline(place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint of the Hub that is not in the cache cannot be had without a network."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    found = seen(capsys, "-n", "hf://org/repo", "--strict", code=5)
    assert found["cache"]["offline"] is True and found["checkpoints"]["repo"] == "not pulled"
    assert "HF_HUB_OFFLINE" in found["problems"][0]["message"]
