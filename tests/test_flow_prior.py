"""Separation with flows as priors, and the training that makes them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric

from songs import put
from stemforge.cli.train_config import settings
from stemforge.errors import InputError, UsageError
from stemforge.models.glow import Flows, GlowConfig
from stemforge.separators.flow_prior import Fit, FlowSeparator, divergence, fitted, shares
from stemforge.train.config import TrainConfig
from stemforge.train.data import find_songs
from stemforge.train.flow import Pieces, loudest_db
from stemforge.train.recipes import batches_of, loss_of, optimizers_of, score_of, scores_of
from stemforge.train.trainer import fit, start

RATE = 8000
NETWORK = {
    "architecture": "glow", "rate": RATE, "n_fft": 64, "hop": 16, "rows": 34, "blocks": 3, "hidden": 12, "layers": 2,
    "kernel": 3, "seconds": 0.5,
}  # fmt: skip
CONFIG = TrainConfig(
    steps=60, batch_size=4, seconds=0.25, rate=3e-3, warmup=5, clip=4.0, ema=0.9, precision="32-true", excerpts=4
)


def low(seconds: float, seed: int) -> np.ndarray:
    """Notes below 800 Hz (time, 1)."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(0.1 * RATE)) / RATE
    notes = [0.3 * np.sin(2 * np.pi * rng.uniform(200, 700) * time) for _ in range(round(10 * seconds))]
    return np.concatenate(notes)[:, None].astype(np.float32)


def high(seconds: float, seed: int) -> np.ndarray:
    """Bursts of noise, most of it above 2 kHz (time, 1)."""
    rng = np.random.default_rng(seed)
    bursts = rng.standard_normal(round(seconds * RATE)) * np.tile(np.linspace(1, 0, 400), round(20 * seconds))
    return (0.15 * np.diff(bursts, prepend=0)[:, None]).astype(np.float32)


@pytest.fixture(scope="module")
def flows(tmp_path_factory: pytest.TempPathFactory) -> list[Flows]:
    """One flow of each kind, trained for two seconds on recordings of nothing else."""
    found = []
    for name, make in (("low", low), ("high", high)):
        folder = tmp_path_factory.mktemp(name)
        for k in range(3):
            put(folder / f"take {k}.wav", make(4, k), RATE)
        run = start(replace(CONFIG, network={**NETWORK, "names": [name]}))
        songs = find_songs(folder, (name,), RATE)
        batches = batches_of(songs, run.network, run.config, 0)
        losses = [step.loss for step in fit(run, batches, Fabric(accelerator="cpu"))]
        assert losses[-1] < losses[3] - 0.5
        found.append(run.network.eval().requires_grad_(False))
    return found


def song(seconds: float = 1.2) -> torch.Tensor:
    """Both kinds, never heard before, in stereo: (stem, channel, time)."""
    stems = np.stack([low(seconds, 9)[:, 0], high(seconds, 9)[:, 0]])
    return torch.from_numpy(np.stack([stems, 0.5 * stems], axis=1))


def test_the_right_flow_likes_it_best(flows: list[Flows]) -> None:
    """Each kind of sound is more likely under its own flow than under the other."""
    for k, stem in enumerate(song()):
        spectra = flows[0].magnitudes(flows[0].spectrum(stem[:1]))
        found = [each.nets[0].log_prob(spectra).item() for each in flows]
        assert found[k] > found[1 - k] + 1


@pytest.mark.parametrize("share, count", [(True, 80), (False, 5)])
def test_separation(flows: list[Flows], share: bool, count: int) -> None:
    """Stems of a mixture of both, 6 dB better than the mixture, summing to it; longer than a window, in stereo."""
    stems = song(0.8)
    mixture = stems.sum(0)
    steps: list[tuple[int, int]] = []
    separator = FlowSeparator(
        flows, Fit(iterations=count, rate=0.03, share=share), on_step=lambda *step: steps.append(step)
    )
    found = torch.cat(list(separator.stream(mixture.split(3000, dim=-1))), dim=-1)
    assert separator.names == (("low", "high") if share else ("low", "high", "residual"))
    assert (found.sum(0) - mixture).abs().max() < 1e-6
    assert steps[:2] == [(1, count), (2, count)] and len(steps) == 2 * count
    for stem, estimate in zip(stems, found, strict=False) if share else ():
        better = ((mixture - stem).square().sum() / (estimate - stem).square().sum()).log10() * 10
        assert better > 6


def test_a_guess_saves_iterations(flows: list[Flows]) -> None:
    """Begun with the true stems, no iteration is needed; their spectra come back from the latents."""
    stems = song(0.5)
    separator = FlowSeparator(flows, Fit(iterations=0), guess=lambda mixture: stems)
    found = next(separator.stream([stems.sum(0)]))
    assert (found - stems).square().sum() < 0.1 * stems.square().sum()


@pytest.mark.parametrize("fit", [Fit(), Fit(weight=0.1), Fit(weight=0.01, space="x", spread=0.1), Fit(gate=True)])
def test_objective_falls(flows: list[Flows], fit: Fit) -> None:
    """Its mean over 20 iterations falls throughout, with either prior and without."""
    y = flows[0].magnitudes(flows[0].spectrum(song(0.4).sum(0)))
    losses: list[float] = []
    z = fit.spread * torch.randn(2, *y.shape, generator=torch.Generator().manual_seed(0))
    nets = [each.nets[0] for each in flows]
    x = fitted(nets, y, replace(fit, iterations=80), z, losses.append)
    means = np.array(losses).reshape(4, 20).mean(1)
    assert (np.diff(means[: 1 if fit.gate else 4]) < 0).all() and x.shape == z.shape
    assert divergence(y, x.sum(0)) < divergence(y, torch.zeros_like(y))


def test_prior_pulls_latents_in(flows: list[Flows]) -> None:
    """With its weight the same mixture is explained by smaller latents."""
    y = flows[0].magnitudes(flows[0].spectrum(song(0.3).sum(0)))
    nets = [each.nets[0] for each in flows]

    def energy(weight: float) -> float:
        x = fitted(nets, y, Fit(iterations=60, rate=0.05, weight=weight), torch.zeros(2, *y.shape))
        return sum(float(net(part)[0].square().mean()) for net, part in zip(nets, x, strict=True))

    assert energy(3.0) < 0.8 * energy(0.0)


def test_divergence() -> None:
    """Zero where both are equal, the closed form elsewhere, finite and with finite gradients at zeros."""
    y = torch.tensor([[2.0, 0.0, 5.0]])
    assert divergence(y, y).item() == pytest.approx(0, abs=1e-6)
    total = torch.tensor([[1.0, 3.0, 7.0]], requires_grad=True)
    loss = divergence(y, total)
    assert loss.item() == pytest.approx((2 * np.log(2) - 2 + 1 + 3) / 2)
    loss.backward()
    assert torch.isfinite(total.grad).all() and total.grad[0, 2] == 0


def test_shares() -> None:
    """They add up to 1 everywhere, follow the magnitudes, and above the models those of the upper half."""
    x = torch.tensor([[1.0, -1, 0, 3, 9], [3.0, 2, 0, 1, 9]])[:, None]
    found = shares(x, 4, 7)
    torch.testing.assert_close(found.sum(0), torch.ones(1, 7))
    torch.testing.assert_close(found[0, 0], torch.tensor([0.25, 0, 0.5, 0.75, 0.75, 0.75, 0.75]), atol=1e-6, rtol=0)


def test_silence_and_one_sample(flows: list[Flows]) -> None:
    """Silence gives silence without any fitting, one sample gives one sample."""
    separator = FlowSeparator(flows, Fit(iterations=5))
    assert next(separator.stream([torch.zeros(2, 900)])).abs().max() == 0
    one = next(separator.stream([torch.full((2, 1), 0.5)]))
    assert one.shape == (2, 2, 1) and (one.sum(0) - 0.5).abs().max() < 1e-6


def test_bad_flows(flows: list[Flows]) -> None:
    """Names twice, spectra of two kinds, and impossible settings are refused."""
    with pytest.raises(UsageError, match="named twice"):
        FlowSeparator([flows[0], flows[0]])
    other = Flows(GlowConfig(names=("third",), n_fft=32, hop=8, rows=18, blocks=1, hidden=4, rate=RATE))
    with pytest.raises(UsageError, match="spectra differ"):
        FlowSeparator([flows[0], other])
    for wrong in ({"iterations": -1}, {"rate": 0.0}, {"space": "y"}, {"weight": -1.0}):
        with pytest.raises(UsageError):
            Fit(**wrong)


def test_pieces(tmp_path: Path) -> None:
    """Pieces sound, come from songs of the stem alone, are the same for a step, and move in level at most 6 dB."""
    loud = np.concatenate([np.zeros((5 * RATE, 1), np.float32), low(1, 0)])
    put(tmp_path / "one" / "low.wav", loud, RATE)
    put(tmp_path / "two" / "drums.wav", high(1, 0), RATE)
    songs = find_songs(tmp_path, ("low",), RATE)
    pieces = Pieces(songs, ("low",), RATE, 0.5, 6, seed=0)
    batch = pieces.batch(3)
    assert batch.stems.shape == (6, 1, 1, 4000) and torch.equal(batch.stems, pieces.batch(3).stems)
    assert torch.equal(pieces.batch(3, (1, 2)).stems, batch.stems[1::2])
    levels = [loudest_db(item[0].numpy(), RATE) for item in batch.stems]
    assert max(levels) <= -13.4 + 6 and sum(level > -50 for level in levels) >= 4
    with pytest.raises(InputError, match="none has a stem 'piano'"):
        _ = Pieces(songs, ("low", "piano"), RATE, 0.5, 6, seed=0).batch(0)


def test_several_flows_learn_as_if_alone() -> None:
    """Two flows in one run share neither weights nor gradients; the score is minus the mean of their losses."""
    table = {**NETWORK, "names": ["low", "high"]}
    run = start(replace(CONFIG, network=table))
    put_songs = [low(1, 0), high(1, 0)]
    batch = _batch(run, put_songs)
    loss, parts = loss_of(run.network, batch)
    assert loss.item() == pytest.approx(sum(value.item() for value in parts.values()))
    parts_alone = []
    for k, net in enumerate(run.network.nets):
        alone = Flows(GlowConfig(**{**{k: v for k, v in NETWORK.items() if k != "architecture"}, "names": ("x",)}))
        alone.nets[0].load_state_dict(net.state_dict())
        parts_alone.append(loss_of(alone, replace(batch, stems=batch.stems[:, [k]], seed=batch.seed))[0].item())
    assert parts_alone[0] == pytest.approx(parts["low"].item(), rel=1e-3)
    figures = scores_of(run.network, [batch])
    assert score_of(figures) == pytest.approx(-loss.item() / 2, rel=1e-5)
    assert optimizers_of(run.network, run.config)[0].param_groups[0]["betas"] == (0.9, 0.999)


def _batch(run, stems):
    """A batch of whole stems (time, 1)."""
    from stemforge.train.data import Batch

    x = torch.from_numpy(np.stack([stem[:4000].T for stem in stems]))[None]
    return Batch("flow", x, torch.zeros(1, 2, 1), torch.zeros(1, 2, dtype=torch.bool), 7)


def test_a_folder_of_takes(tmp_path: Path) -> None:
    """For a network of one stem every sound file is a song where nothing bears its name; mixtures are not."""
    put(tmp_path / "monday" / "take 1.wav", low(1, 0), RATE)
    put(tmp_path / "take 2.wav", low(1, 1), RATE)
    put(tmp_path / "mix.wav", low(1, 1), RATE)
    assert len(find_songs(tmp_path, ("strings",), RATE)) == 2
    with pytest.raises(InputError):
        find_songs(tmp_path, ("strings", "flute"), RATE)
    put(tmp_path / "song" / "strings.wav", low(1, 1), RATE)
    assert len(find_songs(tmp_path, ("strings",), RATE)) == 1


def test_shipped_config() -> None:
    """`stem=` names the one stem; the compact flow is 1.3 million numbers, 3 MB at most in fp16."""
    config = settings(Path("flow"), ["stem=strings"])
    network = Flows.from_config(config.network)
    count = sum(weight.numel() for weight in network.state_dict().values())
    assert network.names == ("strings",) and 2 * count < 3e6
