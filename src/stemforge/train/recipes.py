"""How each architecture is trained: its batches, loss, optimisers and score.

forge     every task at once, Muon and AdamW; score: active SI-SDR improvement in dB
forge that learns to make stems only; score: minus the loss on fixed crops
forge and sketch with prompts   captioned mixtures in one slot, see `captioned`; score: minus the loss on fixed crops
msdm-unet, isdm-unet   as published, see `diffusion`; score: minus the loss on fixed windows with fixed noise
sketch  codes of the crops of forge, without separation, see `sketches`; score: minus the loss on fixed crops
glow    as published, see `flow`; score: minus the loss on fixed pieces
conv-tasnet, hdemucs   separation on the crops of forge, see `waveform`, Adam; score: active SI-SDR improvement in dB
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeAlias, TypeGuard, cast

import torch
from torch import Tensor, nn

from stemforge.errors import UsageError
from stemforge.models.forge import Forge
from stemforge.models.glow import Flows
from stemforge.models.msdm import Isdm, Msdm
from stemforge.models.peers import Peer
from stemforge.models.registry import ARCHITECTURES
from stemforge.models.sketch import Sketch
from stemforge.train import loss
from stemforge.train.captioned import CaptionedCrops, Shape
from stemforge.train.config import TrainConfig
from stemforge.train.data import Batch, Batches, Crops, Song, Variety
from stemforge.train.diffusion import Windows, diffusion_loss
from stemforge.train.files import Float
from stemforge.train.flow import Pieces as FlowPieces
from stemforge.train.flow import flow_loss
from stemforge.train.loss import denoising_loss, separation_loss
from stemforge.train.sketches import Sketches, sketch_loss
from stemforge.train.validate import excerpts, validate
from stemforge.train.waveform import waveform_loss

Trained: TypeAlias = Forge | Sketch | Msdm | Isdm | Flows | Peer
Pieces: TypeAlias = list[Float] | list[Batch]

INNER = ("blocks.", "made_blocks.", "trunk.layers.", "made_trunk.layers.")
"""Where the matrices are that Muon turns."""
MAKING = ("read_stems.", "read_levels.", "write_gains.", "stem_detail.", "across.", "made_")
"""Weights of a Forge network that are read where a stem is shown, and never by a separation in one call."""


def network_of(table: Mapping[str, Any]) -> Trained:
    """A network with freshly drawn weights. table: its config; `architecture` is forge where it says nothing.

    Raises:
        UsageError: the architecture is unknown, or a key or value does not fit it.
    """
    architecture = str(table.get("architecture", "forge"))
    if architecture not in ARCHITECTURES:
        raise UsageError(f"[network] architecture '{architecture}': unknown. Give one of {', '.join(ARCHITECTURES)}.")
    try:
        return cast(Trained, ARCHITECTURES[architecture](dict(table)))
    except (TypeError, ValueError, KeyError, IndexError) as error:
        raise UsageError(f"[network]: does not fit '{architecture}': {error}. See docs/training.md.") from None


def rate_of(network: Trained) -> int:
    """Hz of the sound that it is trained on."""
    return network.config.sound_rate if isinstance(network, Sketch) else network.rate


def hears(network: nn.Module) -> TypeGuard[Forge | Sketch]:
    """Whether it is trained with prompts."""
    return isinstance(network, Forge | Sketch) and bool(network.config.text)


def optimizers_of(network: nn.Module, config: TrainConfig) -> list[torch.optim.Optimizer]:
    """Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/) for the blocks, AdamW for the rest.

    Networks without blocks of this kind get the Adam of their authors. What is not to be learned asks for no gradient.
    """
    if not isinstance(network, Forge | Sketch):
        momenta = (0.9, 0.999) if isinstance(network, Flows | Peer) else (0.9, 0.99)
        return [torch.optim.Adam(network.parameters(), lr=config.rate, betas=momenta)]
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, weight in network.named_parameters():
        if config.learn == "making" and not name.startswith(MAKING):
            weight.requires_grad_(False)
            continue
        inner = name.startswith(INNER) and weight.ndim == 2 and not name.endswith("taps")
        (matrices if inner else others).append(weight)
    adam = torch.optim.AdamW(others, lr=config.rate, betas=(0.9, 0.98), weight_decay=config.weight_decay)
    if not matrices:
        return [adam]
    muon = torch.optim.Muon(
        matrices, lr=config.matrix_rate, weight_decay=config.weight_decay, adjust_lr_fn="match_rms_adamw"
    )
    return [muon, adam]


def compile_in_place(network: nn.Module) -> None:
    """Let torch.compile translate what takes the time: each block of a Forge, the whole network elsewhere.

    Names and values of the weights stay; copies made before stay as they are.
    """
    own = (*network.blocks, *getattr(network, "made_blocks", ())) if isinstance(network, Forge | Sketch) else (network,)
    for part in own:
        part.compile(dynamic=False)
    if isinstance(network, Forge):
        loss.compile_in_place()


def peaks_of(config: TrainConfig, count: int) -> tuple[float, ...]:
    """Peak learning rate of each of `count` optimisers."""
    return (config.matrix_rate, config.rate)[-count:]


def batches_of(songs: list[Song], network: Trained, config: TrainConfig, seed: int) -> Batches:
    """What the network is trained on."""
    names, count = network.names, config.batch_size
    if hears(network):
        told = captioned_of(songs, network, config, seed)
        return Sketches(told, network) if isinstance(network, Sketch) else told
    if isinstance(network, Forge | Peer):
        level, channels = network.config.level_db, network.channels
        tasks = config.shares if isinstance(network, Forge) else (1.0, 0.0, 0.0, 0.0, 0.0)
        variety = Variety(config.remix, config.left_out, config.augment, config.damaged)
        return Crops(songs, names, network.rate, config.seconds, count, seed, tasks, level, channels, variety)
    if isinstance(network, Sketch):
        shown, variety = network.config, Variety(augment=config.augment)
        tasks, rate = (0.0, 0.0, *config.shares[2:]), shown.sound_rate
        crops = Crops(songs, names, rate, config.seconds, count, seed, tasks, shown.level_db, 2, variety)
        return Sketches(crops, network)
    if isinstance(network, Flows):
        return FlowPieces(songs, names, network.rate, config.seconds, count, seed, config.augment)
    return Windows(songs, names, network.config.samples, count, seed)


def captioned_of(songs: list[Song], network: Forge | Sketch, config: TrainConfig, seed: int) -> CaptionedCrops:
    """Crops of captioned sounds for a network that hears prompts."""
    among = config.shares[1] if isinstance(network, Sketch) and network.config.among else 0.0
    tasks = (0.0, among, config.shares[2], 0.0, config.shares[4])
    tasks = tasks if sum(tasks) else (0.0, 0.0, 1.0, 0.0, 0.0)
    channels = 2 if isinstance(network, Sketch) else network.channels
    shape = Shape(rate_of(network), channels, network.config.level_db, network.config.prompt_width)
    dropout, varied = config.caption_dropout, config.augment > 0
    return CaptionedCrops(songs, shape, config.seconds, config.batch_size, seed, tasks, dropout, varied)


def prepare(batches: Batches, *networks: nn.Module) -> None:
    """What fresh networks take from the songs before the first step, the same for all."""
    if isinstance(batches, Sketches):
        batches.learn()
        for network in networks:
            network.load_state_dict(batches.network.state_dict())


def loss_of(network: Trained, batch: Batch) -> tuple[Tensor, Mapping[str, Tensor]]:
    """The loss of the batch's task."""
    mixture = batch.mixture
    if isinstance(network, Flows):
        return flow_loss(network, batch.stems, _drawn(batch, _uniform))
    if isinstance(network, Forge) and batch.task == "separate" and mixture is not None:
        return separation_loss(network, mixture, batch.stems)
    if isinstance(network, Peer):
        return waveform_loss(network, batch.stems.sum(dim=1), batch.stems)
    noise = _drawn(batch, network.noise)
    if isinstance(network, Sketch):
        made, among = batch.stems, None
        if batch.task == "denoise":
            (made, among), noise = (batch.stems[:, :1], batch.stems[:, 1]), noise[:, :1]
        return sketch_loss(network, made, batch.sigma, batch.hidden, noise, prompt=batch.prompt, mixture=among)
    if isinstance(network, Forge):
        return denoising_loss(network, batch.stems, batch.sigma, batch.hidden, mixture, noise, batch.prompt)
    return diffusion_loss(network, batch.stems, batch.sigma[:, 0, 0], noise)


def _drawn(batch: Batch, draw: Callable[[Tensor, torch.Generator], Tensor]) -> Tensor:
    """What `draw` gives in the shape of this part of the batch, as it is when the batch is whole."""
    (first, parts), like = batch.part, batch.stems
    whole = like.new_empty(1).expand(len(like) * parts, *like.shape[1:])
    return draw(whole, torch.Generator().manual_seed(batch.seed))[first::parts]


def _uniform(like: Tensor, generator: torch.Generator) -> Tensor:
    """In [0, 1), drawn on the CPU."""
    return torch.rand(like.shape, generator=generator).to(like)


def pieces_of(songs: list[Song], network: Trained, config: TrainConfig) -> Pieces:
    """What the network is scored on: `config.excerpts` pieces, always the same."""
    separates = isinstance(network, Forge) and not hears(network)
    if isinstance(network, Peer) or (separates and config.learn == "all"):
        return excerpts(songs, network.names, network.rate, config.excerpts, network.channels)
    batches = batches_of(songs, network, replace(config, caption_dropout=0.0), seed=1)
    size = max(1, config.batch_size // 2) if separates else config.batch_size  # of tasks without a mixture
    return [batches.batch(k) for k in range(-(-config.excerpts // size))]


@torch.no_grad()
def scores_of(network: Trained, pieces: Pieces) -> Mapping[str, float]:
    """Figures of the network on these pieces, in evaluation mode."""
    if isinstance(network, Forge | Peer) and not isinstance(pieces[0], Batch):
        return validate(network, pieces)
    device = next(network.parameters()).device
    if hears(network):
        return prompted_scores(network, [to_device(batch, device) for batch in cast("list[Batch]", pieces)])
    found = [loss_of(network, to_device(batch, device)) for batch in cast("list[Batch]", pieces)]
    if isinstance(network, Flows):
        figures = {name: float(torch.stack([parts[name] for _, parts in found]).mean()) for name in network.names}
        return {**figures, "loss": sum(figures.values()) / len(figures)}
    named = "denoising" if isinstance(network, Forge) else "diffusion"
    return {"loss": float(torch.stack([parts[named] for _, parts in found]).mean())}


def prompted_scores(network: Forge | Sketch, batches: list[Batch]) -> Mapping[str, float]:
    """Loss with the captions, and how much higher it is with empty prompts: 0 for a network that does not listen."""
    told = [loss_of(network, batch)[0] for batch in batches]
    untold = [loss_of(network, replace(batch, prompt=None))[0] for batch in batches]
    loss = float(torch.stack(told).mean())
    return {"loss": loss, "gain": float(torch.stack(untold).mean()) - loss}


def score_of(figures: Mapping[str, float]) -> float:
    """The one figure that says which weights are the best: higher is better."""
    return figures["all"] if "all" in figures else -figures["loss"]


def to_device(batch: Batch, device: torch.device) -> Batch:
    """The batch with its tensors on the device."""
    stems, sigma, hidden = (t.to(device, non_blocking=True) for t in (batch.stems, batch.sigma, batch.hidden))
    prompt = None if batch.prompt is None else batch.prompt.to(device, non_blocking=True)
    return replace(batch, stems=stems, sigma=sigma, hidden=hidden, prompt=prompt)
