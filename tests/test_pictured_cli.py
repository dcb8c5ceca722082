"""Commands with prompts through a tiny checkpoint of sketches, and its training from captioned mixtures."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import soundfile
import torch
from torch import Tensor

from renders import rendered
from songs import put, tone
from stemforge import checkpoints, devices, prompts
from stemforge.cli.main import main
from stemforge.cli.train_config import settings
from stemforge.models.sketch import Sketch
from stemforge.train.config import TrainConfig
from stemforge.train.trainer import start
from test_sketch import SHAPE
from worded import WORDS, Encoder, drawing_checkpoint

QUICK = ["--steps", "2", "-q", "-d", "cpu"]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`forge-text` draws sketches of prompts; a song of two seconds in stereo at another rate."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(devices, "keep_memory", lambda: None)
    drawing_checkpoint(tmp_path / "drawing")
    (tmp_path / "own.toml").write_text(checkpoints.entry_for(tmp_path / "drawing", name="forge-text"))
    monkeypatch.setenv("STEMFORGE_CHECKPOINTS", str(tmp_path / "own.toml"))
    monkeypatch.setenv("STEMFORGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(prompts, "load_encoder", lambda name, device="cpu": Encoder())
    left, right = tone(220.0, 2.0, rate=11025), tone(990.0, 2.0, rate=11025)
    song = torch.cat([torch.from_numpy(left)[:, :1], torch.from_numpy(right)[:, :1]], dim=1)
    put(Path("song.wav"), song.numpy(), 11025)
    put(Path("same.wav"), song.numpy(), 8000)
    return tmp_path


def sound(path: str) -> Tensor:
    return torch.from_numpy(soundfile.read(path, dtype="float32", always_2d=True)[0])


def made(folder: str) -> dict:
    return json.loads(Path(folder, "stemforge.json").read_text())


def test_a_piece_is_heard_at_the_rate_of_the_sound(place: Path) -> None:
    """Of the length that was asked for, bit by bit the same again, another with another prompt; one alone is mono."""
    for out, prompt in (("a", "solo harp"), ("b", "solo harp"), ("c", "drums")):
        assert main(["generate", "--prompt", prompt, "--duration", "1.23", "-o", out, *QUICK]) == 0
    first, again, other = (next(Path(out).rglob("music.wav")) for out in "abc")
    assert sound(str(first)).shape == (round(1.23 * 8000), 2) and soundfile.info(first).samplerate == 8000
    assert torch.equal(sound(str(first)), sound(str(again))) and not torch.equal(sound(str(first)), sound(str(other)))
    assert torch.equal(*sound(str(first)).T) and sound(str(first)).abs().max() > 1e-3


def test_a_set_is_made_and_adds_up(place: Path) -> None:
    """A bass stands in the middle, a piano does not; their sum is the mix, and the term of the mixture matters."""
    words = ["generate", "--prompt", "slow duo", "--stem", "upright bass", "--stem", "piano", "--duration", "1", *QUICK]
    assert main(words) == 0 and main([*words, "--mixture-term", "none", "-o", "apart"]) == 0
    stems = [sound(f"generated/forge-text/slow-duo-0/{name}.wav") for name in ("upright-bass", "piano", "mix")]
    assert torch.allclose(stems[0] + stems[1], stems[2], atol=1e-5)
    assert torch.equal(*stems[0].T) and not torch.equal(*stems[1].T)
    assert not torch.equal(stems[0], sound("apart/forge-text/slow-duo-0/upright-bass.wav"))


def test_what_joins_a_song_leaves_it_as_it_is(place: Path) -> None:
    """At the rate and length of the song; windows shorter than it too."""
    words = ["impute", "--keep-mix", "song.wav", "--add", "guitar", "--mix", *QUICK]
    assert main(words) == 0 and main([*words, "--segment", "0.8", "-o", "short"]) == 0
    for out in ("imputed", "short"):
        folder = next(Path(out).rglob("guitar.wav")).parent
        song, guitar, mix = (sound(str(folder / f"{name}.wav")) for name in ("song", "guitar", "mix"))
        given = sound("song.wav")
        scale = made(str(folder))["gain"]
        assert song.shape == guitar.shape == given.shape and torch.allclose(song, given * scale, atol=1e-6)
        assert guitar.abs().max() > 1e-4 and torch.allclose(song + guitar, mix, atol=1e-5)


def test_a_song_is_taken_apart(place: Path) -> None:
    """Into stems named by prompts that add up to it, all at once and each by itself."""
    words = ["separate", "same.wav", "--method", "text", "--stem", "bass", "--stem", "drums", "--stem", "the rest"]
    assert main([*words, *QUICK]) == 0
    folder = str(next(Path("separated").rglob("the-rest.wav")).parent)
    stems = [sound(f"{folder}/{name}.wav") for name in ("bass", "drums", "the-rest")]
    assert (sum(stems) / made(folder)["gain"] - sound("same.wav")).abs().max() < 1e-4
    assert not torch.equal(stems[0], stems[1])
    assert main([*words, "--extract", "-o", "each", *QUICK]) == 0
    folder = str(next(Path("each").rglob("the-rest.wav")).parent)
    stems = [sound(f"{folder}/{name}.wav") for name in ("bass", "drums", "the-rest", "residual")]
    assert (sum(stems) / made(folder)["gain"] - sound("same.wav")).abs().max() < 1e-4


@pytest.mark.parametrize(
    ("words", "say"),
    [
        ("generate -n forge-text", "makes music of prompts. Give --prompt TEXT, or --stem TEXT."),
        ("separate song.wav -n forge-text", "knows stems by prompts only"),
        ("generate --stem bass --stem drums --mixture-term added", "--mixture-term added: is for networks of sound"),
        ("separate song.wav --stem bass --stem drums --pinned bass", "--pinned: is for networks of sound"),
        ("generate --sketch forge-text -n forge-text", "makes music of prompts"),
    ],
)
def test_what_cannot_be_is_told(place: Path, capsys: pytest.CaptureFixture[str], words: str, say: str) -> None:
    assert main([*words.split(), "-d", "cpu"]) == 2
    assert say in capsys.readouterr().err
    assert not list(place.glob("*/**/*.wav"))


def test_it_is_listed_as_what_it_is(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    network = checkpoints.network_of(checkpoints.find("forge-text"))
    assert network.config.text == "minilm" and network.names == ("music",)
    table = checkpoints.find("forge-text").table
    assert (table["sample_rate"], table["stems"], table["tasks"]) == (8000, ["music"], ["prompts"])


def start_of(network: Sketch) -> Sketch:
    """With the weights that training began with."""
    return start(TrainConfig(network=network.to_config())).network


def test_it_learns_from_captioned_mixtures(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the command line: codes are taken from the mixtures, the loss falls, the scores say how it listens."""
    monkeypatch.setattr(Encoder, "limit", 99)
    rendered(place / "renders", 2, seconds=4)
    words = ["data", "caption", str(place / "renders"), "-o", str(place / "data"), "--section", "1", "-q"]
    assert main([*words, "--whole", "0.2"]) == 0
    lines = [f"{key} = {json.dumps(value)}" for key, value in {**SHAPE, **WORDS, "among": True}.items()]
    Path("drawn.toml").write_text("\n".join(["[network]", 'architecture = "sketch"', *lines]) + "\n")
    changes = ["steps=40", "batch_size=8", "seconds=1.0", "excerpts=8", "precision=32-true", "validate_every=20",
               "warmup=2", "ema=0.8", "rate=3e-3", "shares=[0, 0.4, 0.4, 0, 0.2]"]  # fmt: skip
    words = ["train", "drawn.toml", *changes, "--data", "data", "--valid", "data", "-o", "run", "-d", "cpu", "-q"]
    assert main(words) == 0
    rows = [row for path in Path("run/logs").rglob("*.csv") for row in csv.DictReader(path.read_text().splitlines())]
    losses = [float(row["valid/loss"]) for row in rows if row.get("valid/loss")]
    assert len(losses) == 2 and losses[1] < losses[0]
    assert all(row["valid/gain"] for row in rows if row.get("valid/loss"))
    network = checkpoints.network_of(checkpoints.find(str(place / "run" / "best")))
    assert network.config.text == "minilm" and network.mean.abs().sum() > 0
    assert (network.read_mixture.weight - start_of(network).read_mixture.weight).abs().max() > 0


def test_the_config_is_one_slot_that_hears() -> None:
    config = settings(Path("sketch-text"), [])
    assert config.network["architecture"] == "sketch" and config.network["names"] == ["music"]
    assert (config.network["text"], config.network["prompt_width"], config.start) == ("minilm", 384, "")
