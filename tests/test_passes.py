"""Several passes: the same song at other pitches, and the mean of what is found."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch
from torch import Tensor

from places import prepared, song
from shares import Shares, make_checkpoint
from stemforge import checkpoints
from stemforge.cli.main import main
from stemforge.errors import UsageError
from stemforge.models.forge import Forge
from stemforge.models.forge_config import ForgeConfig
from stemforge.separators.network import NetworkSeparator
from stemforge.separators.passes import MOST, SPEEDS, played, separate
from tiny import tiny_network

RATE = 44100


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test works in a folder of its own."""
    return prepared(tmp_path, monkeypatch)


def tone(hz: float, seconds: float = 1.0) -> Tensor:
    """(1, 2, time)"""
    wave = 0.5 * torch.sin(2 * math.pi * hz * torch.arange(int(seconds * RATE)) / RATE)
    return wave.expand(1, 2, -1)


class Combs(Shares):
    """Gives all of an odd frequency in hertz to the first stem, all of an even one to the second."""

    def separate(self, mixture: Tensor, **how: object) -> Tensor:
        spectrum = torch.fft.rfft(mixture)
        low = spectrum.clone()
        low[..., ::2] = 0
        stem = torch.fft.irfft(low, n=mixture.shape[-1])
        return torch.stack([stem, mixture - stem], dim=1)


class Halves(Shares):
    """Gives every stem a fixed part of everything, whatever the pitch."""

    def separate(self, mixture: Tensor, **how: object) -> Tensor:
        return torch.stack([0.5 * mixture, 0.25 * mixture, 0.25 * mixture], dim=1)


@pytest.mark.parametrize("passes", [1, 2, 3, 4])
@pytest.mark.parametrize("time", [1, 7, 500, 20001])
def test_stems_add_up_to_the_mixture(passes: int, time: int) -> None:
    """To 1e-6 at any length, noise up to the highest frequency in it."""
    mixture = 0.3 * torch.randn(2, 2, time, generator=torch.Generator().manual_seed(time))
    stems = separate(Shares({}), mixture, passes)
    assert stems.shape == (2, 3, 2, time)
    assert (stems.sum(dim=1) - mixture).abs().max() < 1e-6


def test_one_pass_is_the_network_itself() -> None:
    """Bit for bit."""
    mixture = torch.randn(1, 2, 3000, generator=torch.Generator().manual_seed(1))
    assert torch.equal(separate(Shares({}), mixture, 1), Shares({}).separate(mixture))


@pytest.mark.parametrize("passes", [2, 3, 4])
def test_what_does_not_depend_on_pitch_stays(passes: int) -> None:
    """A network of fixed parts gives the same however often it hears: nothing is lost on the way there and back."""
    mixture = torch.randn(1, 2, 30000, generator=torch.Generator().manual_seed(2))
    assert (separate(Halves({}), mixture, passes) - Halves({}).separate(mixture)).abs().max() < 1e-6


@pytest.mark.parametrize(("passes", "low"), [(1, 1.0), (2, 1 / 2), (3, 2 / 3), (4, 3 / 4)])
def test_each_pass_hears_another_pitch(passes: int, low: float) -> None:
    """A tone of 800 Hz is below the border of 919 Hz at its own pitch, 3 semitones down and 1 up, but not 3 up."""
    mixture = tone(800)
    middle = slice(5000, -5000)
    stems = separate(Shares({}), mixture, passes)[..., middle]
    assert (stems[:, 0] - low * mixture[..., middle]).abs().max() < 2e-3
    assert (stems[:, 1] - (1 - low) * mixture[..., middle]).abs().max() < 2e-3


@pytest.mark.parametrize("passes", [2, 3, 4])
def test_hiss_is_left_to_the_first_pass(passes: int) -> None:
    """Noise above 9 kHz is what one pass makes of it; below 7 kHz it is not."""
    noise = torch.fft.rfft(0.2 * torch.randn(1, 2, RATE, generator=torch.Generator().manual_seed(3)))
    for cut, same in ((slice(9000), True), (slice(7000, None), False)):
        spectrum = noise.clone()
        spectrum[..., cut] = 0
        mixture = torch.fft.irfft(spectrum, n=RATE)
        change = separate(Combs({}), mixture, passes) - Combs({}).separate(mixture)
        assert (change.square().mean().sqrt() < 1e-3) == same


@pytest.mark.parametrize(("speed", "semitones"), list(zip(SPEEDS, (3, -3, 1), strict=True)))
def test_speeds_are_whole_semitones(speed: tuple[int, int], semitones: int) -> None:
    """Within 2 cents, by their ratio and by the pitch of a tone; the way back is the way there."""
    assert abs(12 * math.log2(speed[0] / speed[1]) - semitones) < 0.02
    there = played(tone(1000), speed)
    assert there.shape[-1] == math.ceil(RATE * speed[1] / speed[0])
    hz = np.argmax(np.abs(np.fft.rfft(there[0, 0].numpy() * np.hanning(there.shape[-1])))) * RATE / there.shape[-1]
    assert abs(12 * math.log2(hz / 1000) - semitones) < 0.05
    back = played(there, speed[::-1])[..., :RATE]
    assert (back - tone(1000))[..., 2000:-2000].abs().max() < 1e-3


def test_forge_and_windows() -> None:
    """Windows of a song through the network several times still add up to it, in both precisions."""
    torch.manual_seed(0)
    network, x = tiny_network(), 0.2 * torch.randn(2, 20000)
    for precision in ("fp32", "bf16"):
        separator = NetworkSeparator(network, passes=3, precision=precision)
        stems = torch.cat(list(separator.stream(x.split(999, dim=-1))), dim=-1)
        assert stems.shape[-1] == 20000 and (stems.sum(dim=0) - x).abs().max() < 2e-6
        once = torch.cat(list(NetworkSeparator(network, passes=1, precision=precision).stream([x])), dim=-1)
        assert (stems - once).abs().max() > 1e-4


def test_the_checkpoint_says_how_many() -> None:
    """`passes` of its config, one where there is none; an option goes before it."""
    assert NetworkSeparator(Forge(ForgeConfig(passes=2, width=16, heads=2, hidden=16, layers=1, rank=8))).passes == 2
    assert NetworkSeparator(Shares({})).passes == 1
    assert NetworkSeparator(Forge(ForgeConfig(passes=2, width=16, heads=2, hidden=16, layers=1)), passes=1).passes == 1


@pytest.mark.parametrize("passes", [0, -1, MOST + 1])
def test_other_numbers_are_refused(passes: int) -> None:
    """With the range."""
    with pytest.raises(UsageError, match=f"passes {passes}: not from 1 to 4. Try --passes 2"):
        NetworkSeparator(Shares({}), passes=passes)


def test_on_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    """--passes 2 writes the mean, says so in the sidecar, and is another result than without."""
    make_checkpoint(Path("model"), segment=1.0)
    song("song.wav", seconds=1.0)
    for out, more in (("one", []), ("two", ["--passes", "2"])):
        assert main(["separate", "song.wav", "-n", "model", "-o", out, "--float32", "--precision", "fp32", *more]) == 0
    mixture, _ = sf.read("song.wav", always_2d=True, dtype="float32")
    network = checkpoints.network_of(checkpoints.find("model"))
    with torch.no_grad():
        wanted = separate(network, torch.from_numpy(mixture.T.copy())[None], 2)[0, 0]
    found = {each: sf.read(f"{each}/model/song/bass.wav", dtype="float32")[0].T for each in ("one", "two")}
    assert np.abs(found["two"] - wanted.numpy()).max() < 1e-6 and np.abs(found["two"] - found["one"]).max() > 1e-3
    sidecars = [json.loads(Path(f"{each}/model/song/stemforge.json").read_text()) for each in ("one", "two")]
    assert ["passes" in json.dumps(each) for each in sidecars] == [False, True]
    capsys.readouterr()


def test_only_where_there_is_one_call_a_pitch(capsys: pytest.CaptureFixture[str]) -> None:
    """Sampling methods and flows refuse it, exit 2."""
    song("song.wav")
    for method in ("dirac", "flow"):
        assert main(["separate", "song.wav", "--method", method, "--passes", "2"]) == 2
        assert "--passes: is of the conditional method" in capsys.readouterr().err
