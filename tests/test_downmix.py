"""More than two channels: refused, or mixed to two when that is asked for."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch

from places import RATE, error, prepared, tree
from stemforge.audio.downmix import LAYOUTS, downmixed
from stemforge.audio.io import blocks, probe
from stemforge.cli.main import main
from stemforge.errors import InputError


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test works in a folder of its own."""
    return prepared(tmp_path, monkeypatch)


def surround(name: str, channels: int, frames: int = RATE // 4) -> np.ndarray:
    x = np.random.default_rng(channels).uniform(-0.2, 0.2, (frames, channels))
    sf.write(name, x, RATE, subtype="PCM_24")
    return sf.read(name, dtype="float32")[0]


def test_weights_of_the_recommendation() -> None:
    """5.1: left + 0.71 centre + 0.71 left surround, the channel of low frequencies left out."""
    x = torch.eye(6)
    half = math.sqrt(0.5)
    left, right = downmixed(x, 2)
    assert torch.allclose(left, torch.tensor([1, 0, half, 0, half, 0]))
    assert torch.allclose(right, torch.tensor([0, 1, half, 0, 0, half]))
    assert torch.allclose(downmixed(x, 1)[0], (left + right) / 2)


@pytest.mark.parametrize("channels", sorted(LAYOUTS))
def test_both_sides_are_treated_alike(channels: int) -> None:
    """What is to the left in a layout has its counterpart to the right; one and two channels stay as they are."""
    weights = torch.tensor(LAYOUTS[channels])
    assert weights.shape == (channels, 2) and sorted(weights[:, 0].tolist()) == sorted(weights[:, 1].tolist())
    for count in (1, 2):
        x = torch.randn(count, 9)
        assert downmixed(x, count) is x


@pytest.mark.parametrize("ending", ["wav", "flac"])
def test_a_song_of_six_channels(ending: str, capsys: pytest.CaptureFixture[str]) -> None:
    """An error that says what to give; with it, stereo stems that add up to the downmix, in parts too."""
    x = surround(f"x.{ending}", 6)
    assert main(["separate", f"x.{ending}", "-q"]) == 4
    assert "has 6 channels, one or two can be separated. Give --channels downmix" in error(capsys)
    mixed = downmixed(torch.from_numpy(x.T.copy()), 2).T.numpy()
    assert main(["separate", f"x.{ending}", "-q", "--channels", "downmix", "-j", "2"]) == 0
    assert (
        np.abs(sum(sf.read(f"separated/bands/x/{n}.wav")[0] for n in ("bass", "drums", "other")) - mixed).max() < 1e-6
    )
    assert main(["separate", f"x.{ending}", "-q", "--channels", "mono"]) == 7
    assert 'channels was "downmix" and is now "mono"' in capsys.readouterr().err
    command = ["separate", f"x.{ending}", "-q", "--channels", "mono", "-o", "one", "--start", "0.1"]
    assert main(command) == 0 and len(tree("one")) == 4
    one = sum(sf.read(f"one/bands/x/{n}.wav")[0] for n in ("bass", "drums", "other"))
    assert np.abs(one - mixed.mean(axis=1)[RATE // 10 :]).max() < 1e-6


def test_more_than_are_known() -> None:
    """Nine channels are refused whatever is asked for, and so are surround sounds in ogg."""
    surround("x.wav", 9)
    with pytest.raises(InputError, match="has 9 channels, at most 8 are known"):
        probe(Path("x.wav"), channels="downmix")
    sf.write("x.ogg", np.zeros((RATE, 3)), RATE)
    with pytest.raises(InputError, match="known in wav and flac alone"):
        probe(Path("x.ogg"), channels="downmix")
    sf.write("y.wav", np.full((9, 1), 0.5), RATE)
    assert [block.shape for block in blocks(probe(Path("y.wav"), channels="downmix"))] == [(1, 9)]
