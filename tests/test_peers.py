"""Conv-TasNet and Hybrid Demucs of torchaudio, trained and used as any other network."""

from __future__ import annotations

import json
import math

import pytest
import soundfile as sf
import torch
import torchaudio.models
from lightning_fabric import Fabric

from songs import put, tone
from stemforge import devices
from stemforge.cli.main import main
from stemforge.cli.train_config import settings, shipped
from stemforge.errors import UsageError
from stemforge.models.peers import Peer
from stemforge.train.config import TrainConfig
from stemforge.train.data import find_songs
from stemforge.train.recipes import batches_of, network_of, pieces_of, scores_of
from stemforge.train.trainer import fit, start
from stemforge.train.waveform import waveform_loss
from tiny import tiny_songs

NAMES = ["bass", "drums", "other"]
TASNET = {"enc_kernel_size": 16, "enc_num_feats": 32, "msk_num_feats": 16, "msk_num_hidden_feats": 32}
SMALL = {
    "conv-tasnet": {**TASNET, "msk_num_layers": 3, "msk_num_stacks": 1},
    "hdemucs": {"channels": 8, "nfft": 256, "depth": 4},
}
KINDS = pytest.mark.parametrize("kind", list(SMALL))


def table(kind: str) -> dict:
    return {"architecture": kind, "names": NAMES, "rate": 8000, "segment": 0.5, "arguments": SMALL[kind]}


@KINDS
@pytest.mark.parametrize("time", [1, 999, 4000, 12001])
def test_stems_have_the_form_of_the_mixture_and_add_up(kind, time):
    """Whatever the length, and whatever the level."""
    torch.manual_seed(0)
    network, mixture = network_of(table(kind)).eval(), 0.1 * torch.randn(2, 2, time)
    with torch.no_grad():
        stems = network.separate(mixture)
        loud = network.separate(20 * mixture)
    assert stems.shape == (2, 3, 2, time)
    assert (stems.sum(dim=1) - mixture).abs().max() < 1e-5
    assert torch.allclose(loud, 20 * stems, atol=1e-4)


def test_channels_of_conv_tasnet_do_not_know_each_other():
    """torchaudio's network hears one channel: what it says of the left does not change with the right."""
    network, mixture = network_of(table("conv-tasnet")).eval(), 0.1 * torch.randn(1, 2, 8000)
    with torch.no_grad():
        both = network(mixture)
        left = torchaudio.models.ConvTasNet.forward(network.net, mixture[:, :1])
    rest = mixture[:, 0] - left[0].sum(dim=0)
    assert torch.allclose(both[0, :, 0], left[0] + rest / 3, atol=1e-6)


@KINDS
def test_the_config_builds_the_same_network(kind):
    """to_config through JSON and back."""
    network = network_of(table(kind))
    again = Peer.from_config(json.loads(json.dumps(network.to_config())))
    assert again.config == network.config
    again.load_state_dict(network.state_dict())


def test_impossible_arguments_are_named():
    with pytest.raises(UsageError, match="wide"):
        network_of(table("hdemucs") | {"arguments": {"wide": 3}})
    with pytest.raises(UsageError, match="colour"):
        network_of(table("hdemucs") | {"colour": 3})


def test_loss_in_closed_form():
    """A stem that is a tenth off counts -10 log10(1e-2 + tau), a silent one by what is heard of it."""
    torch.manual_seed(0)
    stems = torch.randn(1, 3, 2, 4000)
    stems[:, 2] = 0
    mixture = stems.sum(dim=1)
    estimates = 0.9 * stems
    estimates[:, 2] = 0.1 * mixture
    loss, parts = waveform_loss(lambda heard: estimates, mixture, stems)
    off = 10 * math.log10(0.01 + 1e-3)
    assert parts["snr_db"].item() == pytest.approx(-off, abs=1e-4)
    assert loss.item() == pytest.approx(off, abs=1e-4)
    perfect, _ = waveform_loss(lambda heard: stems, mixture, stems)
    assert perfect.item() == pytest.approx(-30, abs=1e-3)


@KINDS
def test_it_learns(kind, tmp_path):
    """Forty steps on two songs lower the loss and raise the score on them."""
    wanted = {"clip": 5.0, "ema": 0.8, "precision": "32-true", "shares": (0.0, 1.0, 0.0, 0.0, 0.0)}
    config = TrainConfig(steps=40, batch_size=4, seconds=0.5, rate=3e-3, warmup=2, augment=0.0, excerpts=2,
                         network=table(kind), **wanted)  # fmt: skip
    songs = find_songs(tiny_songs(tmp_path / "songs", seconds=10.0), tuple(NAMES))
    run = start(config)
    batches = batches_of(songs, run.network, config, seed=0)
    assert {batches.batch(k).task for k in range(5)} == {"separate"}
    pieces = pieces_of(songs, run.network, config)
    before = scores_of(run.network.eval(), pieces)
    run.network.train()
    losses = [step.loss for step in fit(run, batches, Fabric(accelerator="cpu"))]
    assert sum(losses[-8:]) / 8 < sum(losses[:4]) / 4 - 2
    assert scores_of(run.average.module.eval(), pieces)["all"] > before["all"] + 2


def test_from_the_command_line(tmp_path, monkeypatch):
    """`train` writes a checkpoint of it, goes on from there, and `separate` takes a song apart with it."""
    monkeypatch.setattr(devices, "keep_memory", lambda: None)
    monkeypatch.chdir(tmp_path)
    tiny_songs(tmp_path / "songs"), tiny_songs(tmp_path / "valid", seconds=9.0)
    lines = [f"{key} = {json.dumps(value)}" for key, value in table("conv-tasnet").items() if key != "arguments"]
    own = [f"{key} = {value}" for key, value in SMALL["conv-tasnet"].items()]
    (tmp_path / "small.toml").write_text("\n".join(["[network]", *lines, "[network.arguments]", *own]) + "\n")
    changes = ["batch_size=2", "seconds=0.25", "excerpts=1", "precision=32-true", "validate_every=2", "save_every=2"]
    words = ["train", "small.toml", *changes, "--data", "songs", "--valid", "valid", "--out", "run", "-d", "cpu"]
    assert main([*words, "steps=2"]) == 0
    assert main([*words, "steps=4"]) == 0
    put(tmp_path / "song.wav", tone(8000, seconds=1.5), 8000)
    assert main(["separate", "song.wav", "-n", "run", "--float32", "-o", "out"]) == 0
    stems = [sf.read(tmp_path / "out" / "run" / "song" / f"{name}.wav")[0] for name in NAMES]
    assert abs(sum(stems) - sf.read(tmp_path / "song.wav")[0]).max() < 1e-4


@pytest.mark.parametrize("name", ["conv-tasnet", "hdemucs"])
def test_shipped_configs(name):
    """They build; their sizes are those that docs/benchmarks.md tells."""
    config = settings(shipped()[name], [])
    millions = {"conv-tasnet": 3.0, "hdemucs": 21.0}
    count = sum(weight.numel() for weight in network_of(config.network).parameters())
    assert count / 1e6 == pytest.approx(millions[name], abs=0.05)
