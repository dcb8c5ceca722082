"""The training loop: a generator of steps; the caller logs, stops and saves.

Every random draw of step k comes from (seed, k), so a run that was cut and resumed equals the uncut one.
"""

from __future__ import annotations

import logging
import math
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import Any, cast

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from stemforge.devices import free_memory, out_of_memory
from stemforge.errors import TrainingError
from stemforge.models.forge import Forge
from stemforge.train.config import TrainConfig
from stemforge.train.data import Batch, Batches, parts_of, quarantine_of
from stemforge.train.recipes import Trained, hears, loss_of, network_of, optimizers_of, peaks_of, to_device
from stemforge.train.surgery import alone, grown, refitted

log = logging.getLogger("stemforge")

READERS, AHEAD = 2, 2
"""Threads that read batches, and how many batches wait for each: a slow disk must not stop the step."""
MOST_READERS = 16
"""So many where a GPU computes and the processor has nothing else to do: a crop takes it 10 ms a second of sound."""
LOST = 10
"""So many steps in a row whose gradients are not finite end the run; fewer are left out."""

BROADEST = "drums"
"""The stem whose slot a network that hears prompts begins with: of all stems it is nearest to a whole mixture."""


@dataclass(frozen=True)
class Step:
    """What one step did.

    index counts from 0; audio_seconds is what it heard; skipped: it was not finite and changed nothing; waited: seconds
    until its batch was there.
    """

    index: int
    task: str
    loss: float
    grad_norm: float
    learning_rate: float
    audio_seconds: float
    parts: Mapping[str, float]
    skipped: bool = False
    waited: float = 0.0


@dataclass
class Run:
    """Everything that a resumed run needs.

    best: the highest score so far, None before the first; parts: in so many each batch is computed; scale: state of the
    loss scaler of fp16.
    """

    config: TrainConfig
    network: Trained
    average: AveragedModel
    optimizers: list[torch.optim.Optimizer]
    index: int = 0
    best: float | None = None
    parts: int = 1
    scale: dict[str, Any] = field(default_factory=dict)

    def state(self) -> dict[str, Any]:
        """Tensors and plain values only, readable with `weights_only`."""
        return {
            "config": asdict(self.config),
            "index": self.index,
            "best": self.best,
            "parts": self.parts,
            "scale": self.scale,
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
        self.index, self.best = state["index"], state.get("best")
        self.parts, self.scale = max(self.parts, state.get("parts", 1)), state.get("scale", {})
        if not self.config.batch_size:
            self.config = replace(self.config, batch_size=state["config"]["batch_size"])


def start(config: TrainConfig) -> Run:
    """A fresh run: weights drawn from the seed."""
    torch.manual_seed(config.seed)
    network = network_of(config.network)
    average = AveragedModel(network, multi_avg_fn=_average(config.ema))
    return Run(config, network, average, optimizers_of(network, config), parts=max(1, config.accumulate))


def adopt(run: Run, network: nn.Module) -> None:
    """Begin a fresh run with the weights of a network that differs at most in its stems, or hears no prompts yet.

    Raises:
        RuntimeError, ValueError: it differs in more.
    """
    if isinstance(network, Forge) and isinstance(run.network, Forge):
        network = grown(network, run.network.config)
    weights: Mapping[str, Tensor] = network.state_dict()
    if isinstance(network, Forge) and hears(run.network) and not hears(network):
        unheard = {"read_prompt.weight": run.network.state_dict()["read_prompt.weight"]}
        begun = BROADEST if BROADEST in network.names else network.names[-1]
        weights = alone(weights, network.names, begun, network.parents.count(network.parents[-1])) | unheard
    elif isinstance(network, Forge) and network.names != run.network.names:
        weights = refitted(weights, network.names, run.network.names, run.network.state_dict())
    run.network.load_state_dict(weights)
    averaged(run).load_state_dict(weights)


def _average(decay: float) -> Any:  # noqa: ANN401 (torch gives it no type)
    """Exponential moving average."""
    return get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]


def schedule(index: int, config: TrainConfig) -> float:
    """Share of the peak learning rate at a step: linear warm-up, constant, linear fall to zero."""
    fall = max(1, int(config.steps * config.decay))
    return min(1.0, (index + 1) / max(1, config.warmup), max(0.0, (config.steps - index) / fall))


class _Losses(nn.Module):
    """One forward method around the network, so that Fabric's precision and DDP see every task.

    The batch comes behind a function, because Fabric would cast its tensors to the precision of the matrix products.
    """

    def __init__(self, network: Trained) -> None:
        super().__init__()
        self.network = network

    def forward(self, batch: Callable[[], Batch]) -> tuple[Tensor, Mapping[str, Tensor]]:
        return loss_of(self.network, batch())


def fit(run: Run, batches: Batches, fabric: Fabric) -> Iterator[Step]:
    """Train from run.index to the last step, one Step at a time. The run may be saved between any two of them.

    Raises:
        TrainingError: LOST steps in a row were not finite, or the memory is too small for one crop.
        InputError: too many files cannot be read any more.
    """
    config, lost = run.config, 0
    model, *optimizers = fabric.setup(_Losses(run.network), *run.optimizers)
    run.average.to(fabric.device)
    if run.scale and (scaler := _scaler(fabric)) is not None:
        scaler.load_state_dict(run.scale)
    files, part = quarantine_of(batches.songs), (fabric.global_rank, fabric.world_size)
    with _readers(fabric) as (ahead, waiting):
        coming = deque(ahead.submit(batches.batch, run.index + k, part) for k in range(waiting))
        try:
            while run.index < config.steps:
                since = time.perf_counter()
                batch = coming.popleft().result()
                waited = time.perf_counter() - since
                coming.append(ahead.submit(batches.batch, run.index + waiting, part))
                step = _step(run, model, optimizers, batch, fabric)
                lost = lost + 1 if step.skipped else 0
                if lost == LOST:
                    raise TrainingError(
                        f"the loss was not finite in {LOST} steps in a row, up to step {run.index}. Lower rate and "
                        "matrix_rate, or run `stemforge data check`; the same command goes on from the last save."
                    )
                files.check()
                yield replace(step, waited=waited)
        finally:
            ahead.shutdown(cancel_futures=True)


@contextmanager
def _readers(fabric: Fabric) -> Iterator[tuple[ThreadPoolExecutor, int]]:
    """Threads that read, and how many batches they read ahead."""
    if fabric.device.type == "cpu":
        pool, count = ThreadPoolExecutor(READERS), READERS
    else:  # one thread of torch each: there are as many readers as cores
        count = max(READERS, min(MOST_READERS, (os.cpu_count() or 1) // fabric.world_size))
        pool = ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(1,))
    with pool:
        yield pool, AHEAD * count


def _step(run: Run, model: Any, optimizers: list[Any], batch: Batch, fabric: Fabric) -> Step:  # noqa: ANN401
    config = run.config
    share = schedule(run.index, config)
    for optimizer, peak in zip(optimizers, peaks_of(config, len(optimizers)), strict=True):
        for group in optimizer.param_groups:
            group["lr"] = peak * share
    figures = _gradients(run, model, batch, fabric)
    scaler = _scaler(fabric)
    for optimizer in optimizers if scaler is not None else ():
        scaler.unscale_(optimizer.optimizer)
    norm = torch.nn.utils.clip_grad_norm_(run.network.parameters(), config.clip or math.inf)
    finite = bool(torch.isfinite(norm))  # of the gradients that all processes share, so all of them agree
    if finite:
        for optimizer in run.optimizers if scaler is not None else optimizers:
            optimizer.step()
        # While a run is young the decay is lower, or the drawn weights would stay in the average.
        run.average.multi_avg_fn = _average(min(config.ema, (1 + run.index) / (10 + run.index)))
        run.average.update_parameters(run.network)
    if scaler is not None:
        scaler.update()
        run.scale = scaler.state_dict()
    for optimizer in optimizers:
        optimizer.zero_grad()
    run.index += 1
    heard = batch.stems.shape[0] * batch.part[1] * batch.stems.shape[-1] / run.network.rate
    rate = config.rate * share
    return Step(run.index - 1, batch.task, figures.pop(""), float(norm), rate, heard, figures, not finite)


def _scaler(fabric: Fabric) -> Any:  # noqa: ANN401
    """What scales the loss in fp16, else None. One for all optimisers, so it is updated here and not by Fabric."""
    return getattr(fabric.strategy.precision, "scaler", None)


def _gradients(run: Run, model: Any, batch: Batch, fabric: Fabric) -> dict[str, float]:  # noqa: ANN401
    """Loss (under "") and its parts, with the gradients of the whole batch in the network.

    Where the memory does not hold a part, the parts are halved and the batch is begun again.
    """
    while True:
        parts = parts_of(batch, run.parts)
        try:
            found = [_backward(model, part, fabric, len(parts), last=part is parts[-1]) for part in parts]
            return {key: sum(values[key] for values in found) / len(found) for key in found[0]}
        except RuntimeError as error:
            if not out_of_memory(error) or len(parts) == len(batch.stems) or fabric.world_size > 1:
                raise _named(error) from error
        run.parts = 2 * len(parts)
        run.network.zero_grad()
        free_memory(fabric.device)
        log.warning("out of memory: from step %d on each batch is computed in %d parts.", run.index, run.parts)


def _backward(model: Any, part: Batch, fabric: Fabric, count: int, *, last: bool) -> dict[str, float]:  # noqa: ANN401
    batch = to_device(part, fabric.device)
    with fabric.no_backward_sync(model, enabled=not last):
        loss, parts = model(lambda: batch)
        fabric.backward(loss / count)
    return _figures({"": loss, **parts}, fabric)


def _named(error: RuntimeError) -> Exception:
    if not out_of_memory(error):
        return error
    return TrainingError(
        "out of memory with one crop at a time, or on one of several devices. Give a smaller batch_size, a larger "
        "accumulate, or shorter crops (seconds); the same command goes on from the last save."
    )


def _figures(tensors: Mapping[str, Tensor], fabric: Fabric) -> dict[str, float]:
    """Means over all processes."""
    values = torch.stack([value.detach().float() for value in tensors.values()])
    if fabric.world_size > 1:
        values = cast(Tensor, fabric.all_reduce(values, reduce_op="mean"))
    return dict(zip(tensors, values.tolist(), strict=True))


def averaged(run: Run) -> Trained:
    """The network with averaged (EMA) weights."""
    return cast(Trained, run.average.module)
