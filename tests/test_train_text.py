"""`stemforge train forge-text` from rendered songs to a checkpoint that hears prompts, all of it tiny."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from renders import rendered
from stemforge import checkpoints, devices, prompts
from stemforge.cli.main import main
from stemforge.cli.train_config import settings
from stemforge.train.captioned import PROMPTS
from tiny import tiny_default

texts = pytest.importorskip("texts", reason="pip install 'stemforge[text]'")

SMALL = "steps=4 batch_size=2 seconds=0.25 warmup=1 ema=0.5 excerpts=2 validate_every=2 save_every=2 precision=32-true"


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Captioned mixtures in data/, a tiny encoder that was pulled, and a tiny `forge` to start from."""
    monkeypatch.setattr(devices, "keep_memory", lambda: None)
    tiny_default(tmp_path, monkeypatch)
    texts.pulled_minilm(tmp_path / "cache", monkeypatch)
    rendered(tmp_path / "renders", 2, seconds=4)
    words = ["data", "caption", str(tmp_path / "renders"), "-o", str(tmp_path / "data"), "--section", "1", "-q"]
    assert main([*words, "--whole", "0.2"]) == 0
    return tmp_path


def train(place: Path, *more: str, out: str = "run") -> int:
    data = str(place / "data")
    words = ["train", "forge-text", *SMALL.split(), "network.prompt_width=6", *more]
    return main([*words, "--data", data, "--valid", data, "-o", str(place / out), "-d", "cpu", "-q"])


def test_from_rendered_songs_to_a_checkpoint_that_hears(place: Path) -> None:
    """A few steps from the weights of `forge`; what is saved says its encoder, loads, and listens to a prompt."""
    assert train(place) == 0
    config = json.loads((place / "run" / "config.json").read_text())
    assert (config["names"], config["text"], config["prompt_width"]) == (["music"], "minilm", 6)
    network = checkpoints.network_of(checkpoints.find(place / "run"))
    encoder = prompts.load_encoder(network.config.text)
    x = 0.1 * torch.randn(1, 1, 2, 4000, generator=torch.Generator().manual_seed(0))
    sigma = torch.full((1, 1, 1), 0.5)
    bass, drums = (
        network.denoise(x, sigma, prompt=row[None]) for row in prompts.embeddings(encoder, ["upright bass", "drums"])
    )
    silent, zeros = network.denoise(x, sigma), network.denoise(x, sigma, prompt=torch.zeros(1, 6))
    assert torch.equal(silent, zeros) and not torch.equal(bass, drums) and not torch.equal(bass, silent)
    old, new = (load_file(place / name / "model.safetensors") for name in ("tiny", "run"))
    change = (new["blocks.0.attention.out.weight"] - old["blocks.0.attention.out.weight"]).abs().max()
    assert 0 < change < 0.1 and not torch.equal(old["read_prompt.weight"], new["read_prompt.weight"])
    rows = list(csv.DictReader(next((place / "run" / "logs").rglob("*.csv")).read_text().splitlines()))
    scored = [row for row in rows if row.get("valid/loss")]
    assert len(scored) >= 2 and all(float(row["valid/gain"]) == float(row["valid/gain"]) for row in scored)
    assert (place / "run" / "best" / "model.safetensors").is_file()


def test_a_run_with_captions_is_resumed(place: Path) -> None:
    """Stopped after two steps and gone on with, it ends where the uncut run ends."""
    assert train(place, out="whole") == 0
    words = ["train", "forge-text", *SMALL.split(), "network.prompt_width=6", "--data", str(place / "data"), "-q"]
    words += ["--valid", str(place / "data"), "-o", str(place / "cut"), "-d", "cpu"]
    assert main([*words, "--stop-after", "2"]) == 0 and main(words) == 0
    whole, cut = (load_file(place / name / "model.safetensors") for name in ("whole", "cut"))
    assert all(torch.equal(whole[key], cut[key]) for key in whole)


def test_no_encoder_is_needed_where_embeddings_are_kept(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`data caption --text` leaves them beside the captions; without them an encoder that is not there is told."""
    words = ["data", "caption", str(place / "renders"), "-o", str(place / "data"), "--section", "1", "-q"]
    assert main([*words, "--text", "minilm"]) == 0
    monkeypatch.setenv("STEMFORGE_CACHE", str(place / "empty"))
    assert main([*words, "--text", "minilm"]) == 5
    assert train(place, "steps=1", "validate_every=9") == 0
    (place / "data" / PROMPTS).unlink()
    assert train(place, "steps=1", out="other") == 5
    monkeypatch.setenv("STEMFORGE_CACHE", str(place / "cache"))
    assert train(place, "steps=1", "validate_every=9", out="other") == 0 and (place / "data" / PROMPTS).is_file()
    assert not (place / "cache" / "prompts").exists()


def test_what_does_not_fit_is_told(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Other slots than the one, another width of prompts, an encoder that does not exist: exit code 2 each."""
    for change, say in (
        ('network.names=["bass"]', 'has names = ["music"]'),
        ("network.prompt_width=8", "'minilm' gives 6"),
        ('network.text="word2vec"', "text encoder 'word2vec': unknown"),
    ):
        assert train(place, change, out="none") == 2
        assert say in capsys.readouterr().err


def test_the_config_is_that_of_the_contract() -> None:
    """One slot, MiniLM, a tenth of the captions dropped, and the weights of `forge` to begin with."""
    config = settings(Path("forge-text"), [])
    assert config.network == {"names": ["music"], "text": "minilm", "prompt_width": 384}
    assert config.start == "forge" and config.caption_dropout == 0.1 and config.shares[2] == 0.9
