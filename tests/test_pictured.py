"""Pictures that add up: their sum and its slope, the smallest change that fits it, and stems found and made by it."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from songs import put
from stemforge.audio.metrics import si_sdr
from stemforge.errors import UsageError
from stemforge.inference.pictured import adding_up, believed, fitted, known
from stemforge.inference.prompted import Prompted, Prompts, each_alone
from stemforge.inference.settings import Sampling
from stemforge.models.bands import SILENCE, SPAN_DB, Bands, summed
from stemforge.models.sketch import Sketch
from stemforge.separators.diffusion import Likelihood
from stemforge.separators.pictured import PicturedSeparator
from stemforge.separators.prompted import extractor, separator
from stemforge.tasks.generate import generate
from stemforge.train.captioned import embedded, find_recordings
from stemforge.train.config import TrainConfig
from stemforge.train.recipes import batches_of
from test_sketch import SAMPLING, learned, small
from worded import WORDS


def sdr(est: Tensor, ref: Tensor) -> float:
    return si_sdr(est.flatten().numpy(), ref.flatten().numpy())


def hearing() -> Sketch:
    """Hears prompts of six numbers, which matter, and has codes of real sounds."""
    network, _ = learned(**WORDS)
    torch.nn.init.normal_(network.read_prompt[-1].weight, std=0.3)
    return network


def drawn(*shape: int, seed: int = 0) -> Tensor:
    """Pictures of all levels, a few of them silent."""
    return 3 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).clamp(min=-0.6) + 0.8


def test_powers_add_up():
    """Twice the same is 3 dB more; what is silent adds nothing; noises of their own add up as their pictures do."""
    one = drawn(1, 24, 50).clamp(min=1.0)
    total, shares = summed(torch.cat([one, one]))
    assert torch.allclose((total - one[0]) * SPAN_DB, torch.full_like(total, 3.0103), atol=0.01)
    assert torch.allclose(shares, torch.full_like(shares, 0.5), atol=1e-3)
    alone, shares = summed(torch.cat([one, torch.full_like(one, SILENCE), torch.full_like(one, SILENCE - 2)]))
    assert torch.allclose(alone, one[0], atol=1e-5) and (shares[0] > 0.99).all() and (shares[1:] < 0.01).all()
    noise = torch.randn(2, 44100 * 20, generator=torch.Generator().manual_seed(1)) * torch.tensor([[1.0], [0.4]])
    bands = Bands()
    gap = (summed(bands.read(noise))[0] - bands.read(noise.sum(dim=0))).mean(dim=1) * SPAN_DB
    assert gap[80:].abs().max() < 0.3 and gap.abs().max() < 1.5  # the mean of a logarithm is lower for a single bin


def test_shares_are_the_slope_of_the_sum():
    pictures = drawn(3, 4, 5).double().clamp(min=SILENCE + 1e-3).requires_grad_()
    total, shares = summed(pictures)
    (slope,) = torch.autograd.grad(total.sum(), pictures)
    assert torch.allclose(slope, shares, atol=1e-9)


def test_what_fits_adds_up_and_is_moved_as_little_as_can_be():
    """Within 0.01 dB; no other change that fits is smaller; where one is far above the others only that one moves."""
    pictures, target = drawn(2, 3, 24, 50), drawn(2, 24, 50, seed=1).clamp(min=0.5)
    found = fitted(pictures, target)
    assert ((summed(found)[0] - target) * SPAN_DB).abs().max() < 0.01
    pictures = pictures.double().clamp(min=0.5)
    target = summed(pictures)[0] + 1e-3 * torch.randn(2, 24, 50, generator=torch.Generator().manual_seed(2))
    moved = (fitted(pictures, target) - pictures).square().sum(dim=1)
    for changed in (pictures + 1e-3 * drawn(2, 3, 24, 50, seed=3), pictures):
        alike = changed + (target - summed(changed)[0])[:, None]  # adds up too
        assert (moved <= (alike - pictures).square().sum(dim=1) * 1.05).all()
    loud = torch.tensor([4.0, 1.0, 0.0])[None, :, None, None].expand(1, 3, 2, 2)
    change = fitted(loud, torch.full((1, 2, 2), 3.5)) - loud
    assert torch.allclose(change[:, 0], torch.full_like(change[:, 0], -0.5), atol=0.01)
    assert change[:, 1:].abs().max() < 0.01
    assert torch.allclose(fitted(pictures, summed(pictures)[0]), pictures, atol=1e-6)


def test_parts_add_up_to_the_sound_and_go_where_the_shares_say():
    """Exactly; all to one is the sound itself; below 600 Hz to one and above it to the other takes two tones apart."""
    at = torch.arange(44100) / 44100
    low, high = (torch.sin(2 * torch.pi * hz * at) * 0.3 for hz in (150.0, 3000.0))
    sound, bands = torch.stack([low + high, low - high]), Bands()
    shares = torch.zeros(2, 128, 100)
    shares[0, :40], shares[1, 40:] = 1, 1
    parts = bands.parts(sound, shares)
    assert parts.shape == (2, 2, 44100) and (parts.sum(dim=0) - sound).abs().max() < 1e-6
    assert sdr(parts[0], torch.stack([low, low])) > 30 and sdr(parts[1], torch.stack([high, -high])) > 30
    for first, last in ((20.0, 1.0), (19000.0, 0.0)):  # outside of the bands: with the nearest
        tone = torch.sin(2 * torch.pi * first * at)[None]
        share = float(bands.parts(tone, shares)[0].square().mean() / tone.square().mean())
        assert share == pytest.approx(last, abs=0.02)
    whole = torch.zeros(3, 128, 40)
    whole[1] = 1
    found = bands.parts(sound[:, :17000], whole)
    assert torch.allclose(found[1], sound[:, :17000], atol=1e-5) and found[0].abs().max() < 1e-5


def test_an_empty_prompt_says_nothing_and_others_something():
    network, x = hearing(), torch.randn(2, 1, 24, 20)
    level, rows = torch.full((2, 1, 1), 0.8), torch.randn(2, 6)
    silent, zeros = network.denoise(x, level), network.denoise(x, level, prompt=torch.zeros(2, 6))
    said = network.denoise(x, level, prompt=rows)
    assert torch.equal(silent, zeros) and not torch.allclose(said, silent, atol=1e-2)
    assert torch.allclose(said[:1], network.denoise(x[:1], level[:1], prompt=3 * rows[:1]), atol=1e-5)
    deaf = small()
    y = torch.randn(1, 3, 24, 20)
    assert torch.equal(deaf.denoise(y, level[:1], prompt=rows[:1]), deaf.denoise(y, level[:1]))


def test_estimates_add_up_to_a_mixture():
    """Through codes, which tell nearly all of a picture: far nearer to it than without."""
    network = hearing()
    sounds = learned()[1]
    pictures = network.picture(network.encode(sounds[[0, 5]]))
    target, x = summed(pictures)[0][None], torch.randn(1, 2, 24, 20) * 2
    alone = each_alone(network, torch.randn(2, 6))
    sigma = torch.tensor(2.0)
    before = summed(network.picture(alone(x, sigma)))[0]
    after = summed(network.picture(adding_up(alone, network, known(target))(x, sigma)))[0]
    assert (after - target).square().mean() < 0.3 * (before - target).square().mean()


def test_a_set_goes_where_the_mixture_goes():
    """What a denoiser of mixtures says is what the estimates add up to; it is shown their sum with noise of level 1."""
    network, heard = hearing(), []
    wanted = network.encode(learned()[1][:1])[:, None]

    def mixture(x: Tensor, sigma: Tensor) -> Tensor:
        heard.append((x, sigma))
        return wanted

    alone = each_alone(network, torch.randn(2, 6))
    x, sigma = torch.randn(1, 2, 24, 20) * 30, torch.tensor(30.0)
    found = adding_up(alone, network, believed(mixture, network))(x, sigma)
    gap = summed(network.picture(found))[0] - network.picture(wanted)[:, 0]
    assert gap.square().mean() < 0.05 * network.picture(wanted).var()
    assert heard[0][0].shape == (1, 1, 24, 20) and heard[0][1] == sigma
    assert heard[0][0].std() == pytest.approx(30.0, rel=0.1)


def test_prompts_of_sketches_are_sampled_as_those_of_sound():
    """One stem or a set, with guidance; a mixture term that holds for sums of sound only is refused."""
    network, rows = hearing(), torch.randn(3, 6)
    for term in ("shared", "none"):
        joint = Prompted(network, ["a", "b"], Prompts(rows[:2], rows[2], scale=2.0, term=term))
        piece = generate(joint, 3.0, SAMPLING, seed=1, segment=2.0)
        assert piece.samples.shape == (2, 24, 30) and piece.samples.isfinite().all()
    for term in ("added", "same"):
        with pytest.raises(UsageError, match=f"--mixture-term {term}: is for networks of sound"):
            Prompted(network, ["a", "b"], Prompts(rows[:2], rows[2], term=term))


def test_a_mixture_is_told_and_changes_what_is_found():
    """To every stem of a song, by `among`; a network that was not trained with it does not hear it."""
    network, _ = learned(**WORDS, among=True)
    torch.nn.init.normal_(network.read_prompt[-1].weight, std=0.3)
    rows, sigma = torch.randn(2, 6), torch.tensor(1.0)
    x, mixture = torch.randn(1, 2, 24, 20), torch.randn(1, 24, 20)
    told = Prompted(network, ["a", "b"], Prompts(rows, scale=2.0), mixture).denoise(x, sigma)
    untold = Prompted(network, ["a", "b"], Prompts(rows, scale=2.0)).denoise(x, sigma)
    assert not torch.allclose(told, untold, atol=1e-3)
    level = torch.full((1, 1, 1), 1.0)
    for k in range(2):
        one, none = (network.denoise(x[:, [k]], level, mixture=mixture, prompt=p) for p in (rows[k : k + 1], None))
        assert torch.allclose(told[:, [k]], none + 2 * (one - none), atol=1e-5)
    deaf = hearing()
    assert torch.equal(*(deaf.denoise(x[:, :1], level, mixture=m) for m in (mixture, None)))


def test_batches_have_what_the_music_is_heard_among(tmp_path):
    """The codes of the music and those of it with other music, louder or as loud nearly everywhere."""
    rng = torch.Generator().manual_seed(0)
    lines = []
    for k in range(3):
        put(tmp_path / f"{k}.wav", 0.1 * torch.randn(16000, 2, generator=rng).numpy(), 8000)
        lines.append(json.dumps({"file": f"{k}.wav", "caption": f"noise {k}"}))
    (tmp_path / "captions.jsonl").write_text("\n".join(lines))
    network, _ = learned(**WORDS, among=True)
    songs = find_recordings(tmp_path, 8000)
    songs = embedded(songs, {f"noise {k}": torch.eye(6)[k] for k in range(3)})
    config = TrainConfig(batch_size=6, seconds=1.0, shares=(0, 1.0, 0, 0, 0), caption_dropout=0.0)
    batch = batches_of(songs, network, config, seed=1).batch(0)
    assert batch.task == "denoise" and batch.stems.shape == (6, 2, 24, 10)
    assert batch.sigma.shape == (6, 1, 1) and (batch.sigma > 0).all() and not batch.hidden.any()
    assert (batch.prompt.sum(dim=1) == 1).all()
    music, mixture = network.picture(batch.stems).unbind(1)
    assert ((mixture - music).mean(dim=(1, 2)) > 0.02).all()
    deaf = batches_of(songs, hearing(), replace(config, shares=(0, 1.0, 1.0, 0, 0)), seed=1)
    assert {deaf.batch(k).task for k in range(6)} == {"generate"}


class Seen(Sketch):
    """Knows what each prompt looks like: the stems that it was shown, one each."""

    shown: Tensor

    def denoise(self, x: Tensor, sigma: Tensor, **given: Tensor) -> Tensor:
        which = given["prompt"].argmax(dim=1)
        return self.shown.to(x)[which, :, : x.shape[-1]][:, None]


def test_stems_that_the_prompts_describe_are_found():
    """Who knows the pictures takes the song apart; the parts add up to it, in stereo, and in any pieces."""
    network, _ = learned(**WORDS)
    generator = torch.Generator().manual_seed(4)
    noise = torch.randn(2, 2, 16000, generator=generator)
    low = torch.nn.functional.avg_pool1d(noise[0], 8, 1, 4)[:, :16000] * 0.5
    beats = noise[1].diff(dim=-1, prepend=noise[1, :, :1]) * (torch.arange(16000) % 4000 < 900) * 0.1
    stems = torch.stack([low, beats])
    seen = Seen(network.config)
    seen.load_state_dict(network.state_dict())
    seen.shown = network.encode(stems.mean(dim=1) * 0.1 / stems.sum(dim=0).mean(dim=0).square().mean().sqrt())
    names, rows = ("low", "beats"), torch.eye(6)[:2]
    found = separator(seen, names, Prompts(rows), Likelihood(steps=2))
    assert isinstance(found, PicturedSeparator) and (found.rate, found.channels) == (8000, 2)
    mixture = stems.sum(dim=0)
    out = torch.cat(list(found.stream(mixture.split(3000, dim=-1))), dim=-1)
    assert out.shape == stems.shape and (out.sum(dim=0) - mixture).abs().max() < 1e-5
    for k in range(2):
        assert sdr(out[k], stems[k]) > sdr(mixture, stems[k]) + 5
    apart = extractor(seen, names, Prompts(rows), rows.flip(0), Likelihood(steps=2), seed=0)
    steps: list[int] = []
    apart.on_step = lambda done, steps_in_all: steps.append(steps_in_all)
    pairs = torch.cat(list(apart.stream(mixture.split(16000, dim=-1))), dim=-1)
    assert torch.allclose(pairs, out, atol=1e-4) and set(steps) == {4}


def test_a_long_song_is_taken_in_pieces(tmp_path):
    network = hearing()
    mixture = 0.1 * torch.randn(2, 20000, generator=torch.Generator().manual_seed(5))
    wanted = Prompts(torch.randn(2, 6, generator=torch.Generator().manual_seed(6)))
    found = PicturedSeparator(network, ("a", "b"), wanted, Sampling(steps=2), segment=1.0)
    out = torch.cat(list(found.stream([mixture])), dim=-1)
    assert out.shape == (2, 2, 20000) and (out.sum(dim=0) - mixture).abs().max() < 1e-5
    again = torch.cat(list(found.stream(mixture.split(7000, dim=-1))), dim=-1)
    assert torch.equal(out, again)
    drawn_once = PicturedSeparator(network, ("a", "b"), wanted, Sampling(steps=2), segment=1.0, draws=1)
    assert not torch.allclose(torch.cat(list(drawn_once.stream([mixture])), dim=-1), out, atol=1e-4)
    with pytest.raises(UsageError, match="draws 0"):
        PicturedSeparator(network, ("a", "b"), wanted, Sampling(steps=2), draws=0)
    with pytest.raises(UsageError, match="segment 0"):
        PicturedSeparator(network, ("a", "b"), wanted, Sampling(steps=2), segment=0.0)
    with pytest.raises(UsageError, match="--gamma: is for networks of sound"):
        separator(network, ("a", "b"), wanted, Likelihood(gamma=1.0))
    silent = torch.cat(list(found.stream([torch.zeros(2, 9000)])), dim=-1)
    assert (silent == 0).all()
