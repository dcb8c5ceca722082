"""Several windows a call: the same stems for any number, and smaller groups when the memory is not enough."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path

import pytest
import soundfile as sf
import torch
from torch import Tensor

from places import prepared, song
from shares import Shares, make_checkpoint
from stemforge.cli.main import main
from stemforge.errors import DeviceError, UsageError
from stemforge.models.registry import ARCHITECTURES
from stemforge.separators.batches import AUTO_ELSEWHERE, Batches
from stemforge.separators.network import NetworkSeparator
from tiny import tiny_network


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test works in a folder of its own."""
    return prepared(tmp_path, monkeypatch)


class Small(Shares):
    """Shares on a device that holds so many windows; `calls` are the sizes that were asked for."""

    most = 2

    def __init__(self, config: dict) -> None:
        super().__init__(config)
        self.asked: list[int] = []

    def separate(self, mixture: Tensor, **how) -> Tensor:
        self.asked.append(len(mixture))
        if len(mixture) > self.most:
            raise torch.OutOfMemoryError("no")
        return super().separate(mixture, **how)


def stems(separator: NetworkSeparator, x: Tensor) -> Tensor:
    return torch.cat(list(separator.stream(x.split(999, dim=-1))), dim=-1)


@pytest.mark.parametrize("seconds", [0.3, 0.5, 2.0, 3.17])
def test_any_number_gives_the_same_stems(seconds: float) -> None:
    """To 1e-6 for songs of one window, of whole windows and of any length; they add up."""
    torch.manual_seed(0)
    network = tiny_network()
    x = 0.2 * torch.randn(2, int(8000 * seconds))
    one = stems(NetworkSeparator(network, batch_size=1), x)
    for count in (2, 3, 64):
        several = stems(NetworkSeparator(network, batch_size=count), x)
        assert several.shape == one.shape and (several - one).abs().max() < 1e-6
        assert (several.sum(0) - x).abs().max() < 1e-5


def test_a_longer_song_begins_as_a_shorter_one() -> None:
    """Where the windows are the same, so are the samples: up to the last window of the shorter song."""
    torch.manual_seed(0)
    separator = NetworkSeparator(tiny_network(), steps=2)
    x = 0.2 * torch.randn(2, 8000 * 9)
    whole = stems(separator, x)
    for seconds in (3.2, 5.0):
        part = stems(separator, x[:, : int(8000 * seconds)])
        same = part.shape[-1] - 2 * 4000
        assert torch.equal(part[..., :same], whole[..., :same])


def test_noise_does_not_depend_on_the_number() -> None:
    """With several steps every window has its own noise, whatever else is computed."""
    x = torch.randn(2, 44100 * 2, generator=torch.Generator().manual_seed(0))
    one, four = (stems(NetworkSeparator(Shares({}), steps=2, seed=5, batch_size=n), x) for n in (1, 4))
    assert torch.equal(one, four)


def test_out_of_memory_halves_for_good(caplog: pytest.LogCaptureFixture) -> None:
    """8, 4, 2, and 2 from then on for later songs too; nothing is lost, each step is told once."""
    network, x = Small({}), torch.randn(2, 44100 * 5)
    separator = NetworkSeparator(network, batch_size=8)
    with caplog.at_level(logging.WARNING):
        found = stems(separator, x)
    assert network.asked[:3] == [8, 4, 2] and set(network.asked[3:]) <= {1, 2}
    assert torch.allclose(found, stems(NetworkSeparator(Shares({}), batch_size=1), x), atol=1e-6)
    assert [record.getMessage().rpartition(":")[2] for record in caplog.records] == [
        " out of memory, 4 windows a call from here on.", " out of memory, 2 windows a call from here on."]  # fmt: skip
    network.asked.clear()
    stems(separator, x)
    assert max(network.asked) == 2


def test_defaults_and_what_is_impossible() -> None:
    """One on a CPU, several elsewhere; less than one is refused, other errors go through."""
    assert Batches(None, torch.device("cpu")).size == 1
    assert Batches(None, torch.device("cuda")).size == Batches(None, torch.device("mps")).size == AUTO_ELSEWHERE
    with pytest.raises(UsageError, match="--batch-size"):
        Batches(0, torch.device("cpu"))

    def broken(group: Sequence[int]) -> list[Tensor]:
        raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match="shapes differ"):
        list(Batches(4, torch.device("cpu")).run([1, 2], str, broken))

    def full(group: Sequence[int]) -> list[Tensor]:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    with pytest.raises(DeviceError, match="single window"):
        list(Batches(4, torch.device("cpu")).run([1, 2], str, full))


def test_on_the_command_line(place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """--batch-size changes no file and no sidecar; too little memory for one window is exit code 6 for each song."""
    monkeypatch.setitem(ARCHITECTURES, "small", Small)
    make_checkpoint(place / "ck" / "small", architecture="small")
    song("in/a.wav", 2), song("in/b.wav", 2)
    command = ["separate", "in", "-n", str(place / "ck" / "small"), "--json"]
    assert main([*command, "--batch-size", "4"]) == 0
    out, err = capsys.readouterr()
    assert "2 windows a call" in err and err.count("out of memory") == 1
    assert len(json.loads(out.splitlines()[0])["warnings"]) == 1 and not json.loads(out.splitlines()[1])["warnings"]
    assert main([*command, "--batch-size", "1"]) == 0 and '"skipped": 2' in capsys.readouterr().out
    assert main([*command, "-o", "one", "--batch-size", "1"]) == 0
    for name in ("a/bass", "b/drums"):
        several, one = (sf.read(f"{out}/small/{name}.wav", dtype="float32")[0] for out in ("separated", "one"))
        assert abs(several - one).max() < 1e-6
    monkeypatch.setattr(Small, "most", 0)
    capsys.readouterr()
    assert main([*command, "-o", "none"]) == 6
    err = capsys.readouterr().err
    assert err.count("out of memory with a single window. Try a shorter --segment, or -d cpu.") == 2
    assert not Path("none").exists()
