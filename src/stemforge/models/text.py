"""Text as vectors of unit length, by language models of the package transformers: what prompts are to a network.

A network is trained with the vectors of one encoder and understands no other, so its config names the encoder. The
vector is the mean over the tokens of a text for MiniLM (Reimers and Gurevych 2019, https://arxiv.org/abs/1908.10084)
and for the encoder of T5 (Raffel et al. 2020, https://arxiv.org/abs/1910.10683), and the projection that CLAP was
trained with (Wu et al. 2023, https://arxiv.org/abs/2211.06687).
"""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from stemforge.errors import CheckpointError

BATCH = 64
"""Texts that are read at a time."""
KINDS = {"BertModel": "bert", "T5EncoderModel": "t5", "ClapTextModelWithProjection": "clap"}
"""How the model types in config.json begin that a class of transformers can be filled from."""


class TextEncoder(Protocol):
    """Texts in, one vector each out."""

    @property
    def name(self) -> str:
        """What a checkpoint calls it in its config, as minilm or t5:google-t5/t5-small."""
        ...

    @property
    def stamp(self) -> str:
        """Tells its weights from others of the same name."""
        ...

    @property
    def width(self) -> int:
        """Numbers of a vector."""
        ...

    @property
    def limit(self) -> int:
        """Tokens that it reads at most."""
        ...

    def tokens(self, texts: Sequence[str]) -> list[int]:
        """How many tokens each text has."""
        ...

    def encode(self, texts: Sequence[str]) -> Tensor:
        """(text, width) float32 on the CPU, each of unit length, without a gradient."""
        ...


@dataclass(frozen=True)
class Encoder:
    """A language model with its tokenizer. pool: output of the network and mask (text, token) -> (text, width)."""

    name: str
    network: nn.Module
    tokenizer: Any
    pool: Callable[[Any, Tensor], Tensor]
    width: int
    limit: int
    stamp: str

    def tokens(self, texts: Sequence[str]) -> list[int]:
        """How many tokens each text has, those at its ends too."""
        return [len(ids) for ids in self.tokenizer(list(texts), truncation=False)["input_ids"]]

    @torch.no_grad()
    def encode(self, texts: Sequence[str]) -> Tensor:
        """(text, width) float32 on the CPU, each of unit length; what is behind `limit` tokens is not read."""
        device = next(self.network.parameters()).device
        rows = [torch.empty(0, self.width)]
        for first in range(0, len(texts), BATCH):
            some = list(texts[first : first + BATCH])
            read = self.tokenizer(some, padding=True, truncation=True, max_length=self.limit, return_tensors="pt")
            given = {key: read[key].to(device) for key in ("input_ids", "attention_mask")}
            found = self.pool(self.network(**given), given["attention_mask"])
            rows.append(functional.normalize(found.float(), dim=-1).cpu())
        return torch.cat(rows)


def mean_of_tokens(out: Any, mask: Tensor) -> Tensor:  # noqa: ANN401 (an output of transformers)
    """Mean of the last hidden states over the tokens that are there."""
    weight = mask[..., None].to(out.last_hidden_state.dtype)
    found: Tensor = (out.last_hidden_state * weight).sum(dim=1) / weight.sum(dim=1)
    return found


def projection(out: Any, mask: Tensor) -> Tensor:  # noqa: ANN401
    """The text embedding of CLAP."""
    found: Tensor = out.text_embeds
    return found


def minilm(folder: Path) -> Encoder:
    """The sentence encoder in a folder with config.json, model.safetensors and tokenizer.json. CheckpointError."""
    network, tokenizer, stamp = _loaded("BertModel", "minilm", str(folder))
    return Encoder("minilm", network, tokenizer, mean_of_tokens, network.config.hidden_size, 256, stamp)


def t5(place: str) -> Encoder:
    """The encoder of a T5. place: a name on the Hub or a folder. Raises CheckpointError when it cannot be had."""
    name = f"t5:{place}"
    network, tokenizer, stamp = _loaded("T5EncoderModel", name, place)
    limit = min(tokenizer.model_max_length, 512)
    return Encoder(name, network, tokenizer, mean_of_tokens, network.config.d_model, limit, stamp)


def clap(place: str) -> Encoder:
    """The text side of a CLAP. place: a name on the Hub or a folder. Raises CheckpointError when it cannot be had."""
    name = f"clap:{place}"
    network, tokenizer, stamp = _loaded("ClapTextModelWithProjection", name, place)
    # RoBERTa counts positions from the one after its padding token
    limit = min(tokenizer.model_max_length, network.config.max_position_embeddings - network.config.pad_token_id - 1)
    return Encoder(name, network, tokenizer, projection, network.config.projection_dim, limit, stamp)


def _loaded(architecture: str, name: str, place: str) -> tuple[Any, Any, str]:
    """Network, tokenizer and stamp: from a folder, else from the cache of the Hub, else from the Hub."""
    transformers: Any = importlib.import_module("transformers")
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    if not Path(place).is_dir():
        try:
            return _read(transformers, architecture, name, place, local_files_only=True)
        except CheckpointError:
            pass
    return _read(transformers, architecture, name, place, local_files_only=Path(place).is_dir())


def _read(transformers: Any, architecture: str, name: str, place: str, **where: bool) -> tuple[Any, Any, str]:  # noqa: ANN401
    """Only safetensors are read, and no code of the repository is run."""
    try:
        found = transformers.AutoConfig.from_pretrained(place, **where).model_type
        if not found.startswith(KINDS[architecture]):
            raise ValueError(f"it is a {found}, not a {KINDS[architecture]}")
        tokenizer = transformers.AutoTokenizer.from_pretrained(place, **where)
        network, about = getattr(transformers, architecture).from_pretrained(
            place, use_safetensors=True, dtype=torch.float32, output_loading_info=True, **where
        )
    except (OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
        why = str(error).strip().partition("\n")[0].rstrip(".")
        raise CheckpointError(
            f"text encoder '{name}': cannot be loaded ({why}). Check the name, the folder and the network."
        ) from None
    if missing := sorted(about["missing_keys"]):
        raise CheckpointError(f"text encoder '{name}': '{place}' lacks {missing[0]}. Copy config and weights again.")
    return network.eval().requires_grad_(False), tokenizer, _stamp(network)


def _stamp(network: nn.Module) -> str:
    """Sixteen hexadecimal digits of a few numbers of every weight."""
    digest = hashlib.sha256()
    for name, weight in sorted(network.state_dict().items()):
        digest.update(name.encode() + weight.flatten()[:64].float().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]
