"""The training loop: a generator of steps; the caller logs, stops and saves.

Every random draw of step k comes from (seed, k), so a run that was cut and resumed equals the uncut one.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from stemforge.models.forge import Forge
from stemforge.train.data import Batch, Crops
from stemforge.train.loss import denoising_loss, separation_loss

READERS, AHEAD = 2, 4
"""Threads that read batches, and how many batches wait: a slow disk must not stop the step."""


@dataclass(frozen=True)
class TrainConfig:
    """A whole run. Rates are peaks: they rise over `warmup` steps and fall to zero over the last `decay` share."""

    steps: int = 10000
    batch_size: int = 8
    seconds: float = 3.0
    seed: int = 0
    matrix_rate: float = 2e-3
    rate: float = 1e-3
    weight_decay: float = 0.01
    warmup: int = 200
    decay: float = 0.3
    clip: float = 1.0
    ema: float = 0.999
    precision: str = "bf16-mixed"
    shares: tuple[float, ...] = (0.7, 0.1, 0.08, 0.07, 0.05)
    validate_every: int = 500
    save_every: int = 250
    excerpts: int = 24
    start: str = ""
    network: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Step:
    """What one step did. index counts from 0; audio_seconds is what it heard."""

    index: int
    task: str
    loss: float
    grad_norm: float
    learning_rate: float
    audio_seconds: float
    parts: Mapping[str, float]


@dataclass
class Run:
    """Everything that a resumed run needs."""

    config: TrainConfig
    network: Forge
    average: AveragedModel
    optimizers: list[torch.optim.Optimizer]
    index: int = 0

    def state(self) -> dict[str, Any]:
        """Tensors and plain values only, readable with `weights_only`."""
        return {
            "config": asdict(self.config),
            "index": self.index,
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizers": [o.state_dict() for o in self.optimizers],
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over a state that `state` made."""
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.index = state["index"]


def start(config: TrainConfig) -> Run:
    """A fresh run: weights drawn from the seed."""
    torch.manual_seed(config.seed)
    network = Forge.from_config(config.network)
    average = AveragedModel(network, multi_avg_fn=_average(config.ema))
    return Run(config, network, average, optimizers_of(network, config))


def adopt(run: Run, network: nn.Module) -> None:
    """Begin a fresh run with the weights of a network of the same shape; RuntimeError when the shapes differ."""
    run.network.load_state_dict(network.state_dict())
    averaged(run).load_state_dict(network.state_dict())


def _average(decay: float) -> Any:  # noqa: ANN401 (torch gives it no type)
    """Exponential moving average."""
    return get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]


def optimizers_of(network: nn.Module, config: TrainConfig) -> list[torch.optim.Optimizer]:
    """Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/) for the blocks, AdamW for the rest."""
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, weight in network.named_parameters():
        inner = name.startswith("blocks.") and weight.ndim == 2 and not name.endswith("taps")
        (matrices if inner else others).append(weight)
    muon = torch.optim.Muon(
        matrices, lr=config.matrix_rate, weight_decay=config.weight_decay, adjust_lr_fn="match_rms_adamw"
    )
    adam = torch.optim.AdamW(others, lr=config.rate, betas=(0.9, 0.98), weight_decay=config.weight_decay)
    return [muon, adam]


def schedule(index: int, config: TrainConfig) -> float:
    """Share of the peak learning rate at a step: linear warm-up, constant, linear fall to zero."""
    fall = max(1, int(config.steps * config.decay))
    return min(1.0, (index + 1) / max(1, config.warmup), max(0.0, (config.steps - index) / fall))


def loss_of(network: Forge, batch: Batch) -> tuple[Tensor, Mapping[str, Tensor]]:
    """The loss of the batch's task."""
    mixture = batch.mixture
    if batch.task == "separate" and mixture is not None:
        return separation_loss(network, mixture, batch.stems)
    generator = torch.Generator().manual_seed(batch.seed)
    noise = network.noise(batch.stems, generator)
    return denoising_loss(network, batch.stems, batch.sigma, batch.hidden, mixture, noise)


class _Losses(nn.Module):
    """One forward method around the network, so that Fabric's precision and DDP see every task.

    The batch comes behind a function, because Fabric would cast its tensors to the precision of the matrix products.
    """

    def __init__(self, network: Forge) -> None:
        super().__init__()
        self.network = network

    def forward(self, batch: Callable[[], Batch]) -> tuple[Tensor, Mapping[str, Tensor]]:
        return loss_of(self.network, batch())


def fit(run: Run, crops: Crops, fabric: Fabric) -> Iterator[Step]:
    """Train from run.index to the last step, one Step at a time. The run may be saved between any two of them."""
    config = run.config
    model, *optimizers = fabric.setup(_Losses(run.network), *run.optimizers)
    run.average.to(fabric.device)
    with ThreadPoolExecutor(READERS) as ahead:
        coming = deque(ahead.submit(crops.batch, run.index + k) for k in range(AHEAD))
        while run.index < config.steps:
            batch = coming.popleft().result()
            coming.append(ahead.submit(crops.batch, run.index + AHEAD))
            yield _step(run, model, optimizers, to_device(batch, fabric.device), fabric)


def to_device(batch: Batch, device: torch.device) -> Batch:
    """The batch with its tensors on the device."""
    stems, sigma, hidden = (t.to(device, non_blocking=True) for t in (batch.stems, batch.sigma, batch.hidden))
    return Batch(batch.task, stems, sigma, hidden, batch.seed)


def _step(run: Run, model: Any, optimizers: list[Any], batch: Batch, fabric: Fabric) -> Step:  # noqa: ANN401
    share = schedule(run.index, run.config)
    for optimizer, peak in zip(optimizers, (run.config.matrix_rate, run.config.rate), strict=True):
        for group in optimizer.param_groups:
            group["lr"] = peak * share
    loss, parts = model(lambda: batch)
    fabric.backward(loss)
    norm = torch.nn.utils.clip_grad_norm_(run.network.parameters(), run.config.clip)
    if torch.isfinite(norm):
        for optimizer in optimizers:
            optimizer.step()
        # While a run is young the decay is lower, or the drawn weights would stay in the average.
        run.average.multi_avg_fn = _average(min(run.config.ema, (1 + run.index) / (10 + run.index)))
        run.average.update_parameters(run.network)
    for optimizer in optimizers:
        optimizer.zero_grad()
    run.index += 1
    heard = batch.stems.shape[0] * batch.stems.shape[-1] / run.network.rate
    named = {name: float(value) for name, value in parts.items()}
    return Step(run.index - 1, batch.task, float(loss.detach()), float(norm), run.config.rate * share, heard, named)


def averaged(run: Run) -> Forge:
    """The network with averaged (EMA) weights."""
    network = run.average.module
    assert isinstance(network, Forge)
    return network


def save(run: Run, folder: Path) -> None:
    """state.pt to go on from, model.safetensors + config.json (averaged weights) to use; each replaced as a whole."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(run.state(), folder / "state.pt.part")
    weights = {k: v.detach().cpu().clone().contiguous() for k, v in averaged(run).state_dict().items()}
    save_file(weights, folder / "model.safetensors.part")
    (folder / "config.json.part").write_text(json.dumps(run.network.to_config(), indent=1) + "\n")
    for name in ("state.pt", "model.safetensors", "config.json"):
        (folder / f"{name}.part").replace(folder / name)


def resume(config: TrainConfig, folder: Path) -> Run:
    """The run saved in `folder`, or a fresh one where there is none."""
    run = start(config)
    if (folder / "state.pt").exists():
        run.restore(torch.load(folder / "state.pt", map_location="cpu", weights_only=True))
    return run
