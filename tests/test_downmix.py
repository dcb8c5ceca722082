"""More than two channels: refused, or mixed to two when that is asked for."""

from __future__ import annotations

import math
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch

from places import RATE, error, prepared, tree
from stemforge.audio.downmix import LAYOUTS, downmixed, from_vorbis
from stemforge.audio.io import _opus_family, blocks, probe
from stemforge.cli.main import main
from stemforge.errors import InputError
from stemforge.separators.middle import MiddleSeparator
from stemforge.tasks.separate import separate
from stemforge.types import Audio


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
    """Nine channels are refused whatever is asked for, and so is Opus that does not say which channels it has."""
    surround("x.wav", 9)
    with pytest.raises(InputError, match="has 9 channels, at most 8 are known"):
        probe(Path("x.wav"), channels="downmix")
    sf.write("y.wav", np.full((9, 1), 0.5), RATE)
    assert [block.shape for block in blocks(probe(Path("y.wav"), channels="downmix"))] == [(1, 9)]
    sf.write("x.opus", np.zeros((4800, 4)), 48000, format="OGG", subtype="OPUS")
    assert probe(Path("x.opus"), channels="downmix").vorbis
    assert _opus_family(Path("x.opus")) == 1 and _opus_family(Path("y.wav")) == 255


HERTZ = (300, 500, 700, 900, 1100, 1300, 1500, 1700)
PLACES = {
    3: "L C R",
    4: "L R Lb Rb",
    5: "L C R Lb Rb",
    6: "L C R Lb Rb LFE",
    7: "L C R Ls Rs B LFE",
    8: "L C R Ls Rs Lb Rb LFE",
}
"""Channels in the order of Vorbis, as its specification lists them."""
WAV = {
    3: "L R C",
    4: "L R Lb Rb",
    5: "L R C Lb Rb",
    6: "L R C LFE Lb Rb",
    7: "L R C LFE B Ls Rs",
    8: "L R C LFE Lb Rb Ls Rs",
}


def tones(count: int) -> np.ndarray:
    """A tone of its own in each channel, (time, channel)."""
    return 0.1 * np.sin(2 * np.pi * np.arange(24000)[:, None] / 48000 * np.array(HERTZ[:count]))


def heard(x: np.ndarray) -> np.ndarray:
    """How much of each tone is in each channel, (channel, tone), as a share of what was put in."""
    waves = np.exp(-2j * np.pi * np.arange(len(x))[:, None] / 48000 * np.array(HERTZ))
    return np.abs(x.T @ waves) * 2 / len(x) / 0.1


@pytest.mark.parametrize("kind", ["VORBIS", "OPUS"])
@pytest.mark.parametrize("count", sorted(LAYOUTS))
def test_surround_in_ogg(kind: str, count: int) -> None:
    """Vorbis and Opus have an order of their own; after it each loudspeaker is where it is in a wav."""
    where = [PLACES[count].split().index(place) for place in WAV[count].split()]
    mixed = torch.arange(count)[:, None].repeat(1, 3)
    assert from_vorbis(mixed)[:, 0].tolist() == where
    x = np.empty((24000, count))
    x[:, where] = tones(count)
    if kind == "OPUS" and "LFE" in WAV[count]:
        x[:, -1] = 0  # a channel of low frequencies keeps nothing else
    sf.write("x.ogg", x, 48000, format="OGG", subtype=kind)
    found = torch.cat(list(blocks(probe(Path("x.ogg"), channels="downmix"))), dim=-1).T.numpy()
    weights = np.zeros((2, len(HERTZ)))
    weights[:, :count] = np.array(LAYOUTS[count]).T
    assert np.abs(heard(found) - weights).max() < 0.12


@pytest.mark.skipif(not shutil.which("ffmpeg"), reason="needs ffmpeg")
@pytest.mark.parametrize("codec", ["libvorbis", "libopus"])
def test_surround_that_another_program_wrote(codec: str) -> None:
    """A 5.1 wav that ffmpeg turned into ogg has its left and right where they were."""
    sf.write("x.wav", tones(6), 48000, format="WAVEX")
    command = ["ffmpeg", "-v", "error", "-channel_layout", "5.1", "-i", "x.wav", "-c:a", codec, "-b:a", "384k", "x.ogg"]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    found = torch.cat(list(blocks(probe(Path("x.ogg"), channels="downmix"))), dim=-1).T.numpy()
    left, right = heard(found)
    assert left[0] > 0.8 > 0.1 > left[1] and right[1] > 0.8 > 0.1 > right[0], "left and right"
    assert min(left[2], right[2], left[4], right[5]) > 0.5 > 0.1 > max(left[5], right[4], left[3], right[3])


def test_the_middle_of_a_song() -> None:
    """The network hears the mean of both sides, stems are alike on both, and the rest has what the sides differ by."""
    seen: list[torch.Tensor] = []

    class Ears:
        names, rate, channels = ("bass", "drums", "other"), RATE, 2

        def stream(self, found):
            for block in found:
                seen.append(block)
                yield torch.stack([0.25 * block, 0.5 * block, 0.25 * block])

    x = torch.randn(2, 5000, generator=torch.Generator().manual_seed(0))
    stems = separate(Audio(x, RATE), MiddleSeparator(Ears()))
    middle = x.mean(dim=0)
    assert torch.equal(seen[0], middle.expand(2, -1)) and (stems.samples.sum(dim=0) - x).abs().max() < 1e-6
    assert torch.allclose(stems["drums"].samples, 0.5 * middle.expand(2, -1))
    assert torch.allclose(stems["other"].samples, x - 0.75 * middle, atol=1e-6)
    assert torch.equal(separate(Audio(x[:1], RATE), MiddleSeparator(Ears())).samples, separate(
        Audio(x[:1], RATE), Ears()
    ).samples)  # fmt: skip


def test_mid_on_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Stereo stems, of which all but other are the same on both sides, add up; another choice is another recipe."""
    x = surround("x.wav", 2)
    assert main(["separate", "x.wav", "-q", "--channels", "mid"]) == 0
    stems = {name: sf.read(f"separated/bands/x/{name}.wav")[0] for name in ("bass", "drums", "other")}
    assert np.array_equal(stems["drums"][:, 0], stems["drums"][:, 1]) and np.abs(stems["drums"]).max() > 0
    assert not np.array_equal(stems["other"][:, 0], stems["other"][:, 1])
    assert np.abs(sum(stems.values()) - x).max() < 1e-6
    assert main(["separate", "x.wav", "-q"]) == 7 and 'channels was "mid"' in capsys.readouterr().err
    surround("six.wav", 6)
    assert main(["separate", "six.wav", "-q", "--channels", "mid"]) == 4
    assert "has 6 channels" in capsys.readouterr().err
