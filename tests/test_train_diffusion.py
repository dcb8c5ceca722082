"""The published training of MSDM and ISDM: its loss, its windows, its optimiser, its sizes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric

import official
from songs import put, tone
from stemforge.cli.train_config import settings, shipped
from stemforge.models.msdm import Isdm, Msdm, MsdmConfig
from stemforge.train.config import TrainConfig
from stemforge.train.data import find_songs
from stemforge.train.diffusion import Windows, diffusion_loss
from stemforge.train.recipes import loss_of, network_of, optimizers_of, pieces_of, score_of, scores_of
from stemforge.train.trainer import fit, start

CONFIG = MsdmConfig(names=official.NAMES, **official.TINY)
TABLE = {"architecture": "msdm-unet", "rate": 8000, "samples": 480, **official.TINY}


def batch(stems: int = 4, time: int = 96):
    """Clean stems, noise levels and noise."""
    torch.manual_seed(3)
    return 0.2 * torch.randn(2, stems, 1, time), torch.tensor([0.02, 0.7]), torch.randn(2, stems, 1, time)


def test_loss_is_that_of_the_published_code():
    """On a fixed batch with fixed noise, to 1e-5 of audio-diffusion-pytorch 0.0.43; the gradient as well."""
    torch.manual_seed(0)
    theirs, ours = official.model(CONFIG), Msdm(CONFIG)
    ours.net.load_state_dict(theirs.unet.state_dict())
    clean, sigma, noise = batch()
    theirs.diffusion.sigma_distribution = lambda num_samples, device: sigma
    expected = theirs.diffusion(clean[:, :, 0], noise=noise[:, :, 0])
    found, parts = diffusion_loss(ours, clean, sigma, noise)
    assert found.item() == pytest.approx(expected.item(), rel=1e-5) and parts["diffusion"] == found.detach()
    expected.backward()
    found.backward()
    for name, weight in theirs.unet.named_parameters():
        torch.testing.assert_close(ours.net.get_parameter(name).grad, weight.grad, rtol=1e-3, atol=1e-5)


def test_independent_networks_learn_as_if_alone():
    """The gradient of each network of ISDM is that of a published network of one stem."""
    config = MsdmConfig(names=("a", "b"), **official.TINY)
    joined = Isdm(config)
    clean, sigma, noise = batch(2)
    diffusion_loss(joined, clean, sigma, noise)[0].backward()
    for k, net in enumerate(joined.nets):
        alone = Msdm(MsdmConfig(names=("a",), **official.TINY))
        alone.net.load_state_dict(net.state_dict())
        diffusion_loss(alone, clean[:, [k]], sigma, noise[:, [k]])[0].backward()
        for name, weight in net.named_parameters():
            torch.testing.assert_close(weight.grad, alone.net.get_parameter(name).grad, rtol=1e-3, atol=1e-6)


@pytest.fixture
def songs(tmp_path):
    for k, seconds in enumerate((1.0, 2.0, 0.02)):
        for j, name in enumerate(official.NAMES):
            put(tmp_path / f"song{k}" / f"{name}.wav", tone(50 * (j + 1), seconds, 8000, 1))
    return find_songs(tmp_path, official.NAMES, 8000)


def test_each_pass_takes_every_window_once(songs, monkeypatch):
    """Windows tile the songs, in another order each pass; a moved window stays inside its song; short songs are out."""
    windows = Windows(songs, official.NAMES, 480, 5, 0)
    total = 24000 // 480
    taken, starts = [], []
    fill = Windows._fill
    monkeypatch.setattr(Windows, "_fill", lambda self, item, k, rng: (taken.append(k), fill(self, item, k, rng)))
    monkeypatch.setattr(type(songs[0].stems["bass"]), "read", lambda self, start, out: starts.append((self, start)))
    for step in range(2 * total // 5):
        windows.batch(step)
    assert sorted(taken[:total]) == sorted(taken[total:]) == list(range(total)) and taken[:total] != taken[total:]
    assert all(0 <= start <= stem.frames - 480 for stem, start in starts)
    lengths = {stem.frames for stem, _ in starts}
    assert lengths == {8000, 16000}
    moved = {start % 480 for _, start in starts}
    assert len(moved) > 50


def test_batches_depend_on_the_step_alone(songs):
    """The same step gives the same batch; noise levels are log-normal, one an item."""
    windows = Windows(songs, official.NAMES, 480, 64, 0)
    first, again = windows.batch(7), Windows(songs, official.NAMES, 480, 64, 0).batch(7)
    assert torch.equal(first.stems, again.stems) and torch.equal(first.sigma, again.sigma)
    assert first.stems.shape == (64, 4, 1, 480) and (first.sigma == first.sigma[:, :1]).all()
    logs = torch.cat([windows.batch(k).sigma[:, 0, 0].log() for k in range(8)])
    assert logs.mean().item() == pytest.approx(-3, abs=0.15) and logs.std().item() == pytest.approx(1, abs=0.12)


@pytest.mark.parametrize(("name", "rate", "batch_size"), [("msdm", 1e-4, 8), ("isdm", 1e-5, 16)])
def test_shipped_configs_are_the_published_ones(name, rate, batch_size):
    """Sizes, optimiser, no schedule, no clipping, no averaging."""
    config = settings(shipped()[name], [])
    with torch.device("meta"):
        network = network_of(config.network)
    count = sum(weight.numel() for weight in network.parameters())
    assert count == (405_497_700 if name == "msdm" else 4 * 405_491_100)
    assert (network.rate, network.config.samples, network.config.sigma_data) == (22050, 262144, 0.2)
    (adam,) = optimizers_of(network, config)
    group = adam.param_groups[0]
    assert type(adam) is torch.optim.Adam and group["betas"] == (0.9, 0.99) and group["weight_decay"] == 0
    assert (config.rate, config.batch_size, config.warmup, config.decay, config.clip, config.ema) == (
        rate,
        batch_size,
        0,
        0.0,
        0.0,
        0.0,
    )


@pytest.mark.parametrize("architecture", ["msdm-unet", "isdm-unet"])
def test_training_learns(songs, architecture):
    """The same loop trains them: on two tones, 8 steps lower the loss on fixed windows."""
    table = {**TABLE, "architecture": architecture, "names": ["bass", "drums"]}
    config = TrainConfig(
        steps=8, batch_size=8, rate=2e-3, warmup=0, decay=0.0, clip=0.0, ema=0.0, precision="32-true", network=table
    )
    run = start(config)
    pieces = pieces_of(songs, run.network, config)
    before = score_of(scores_of(run.network, pieces))
    steps = list(fit(run, Windows(songs, run.network.names, 480, 8, 0), Fabric(accelerator="cpu", devices=1)))
    assert all(np.isfinite(step.loss) and step.task == "diffuse" for step in steps)
    assert {step.learning_rate for step in steps} == {2e-3}
    after = score_of(scores_of(run.network, pieces))
    assert after > 0.9 * before and after == score_of(scores_of(run.average.module, pieces))
    assert loss_of(run.network, pieces[0])[0].requires_grad
