"""The engine of a training run: one process, or several on the devices of one or more machines."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from lightning_fabric import Fabric
from lightning_fabric.loggers.csv_logs import CSVLogger
from lightning_fabric.loggers.logger import Logger
from lightning_fabric.loggers.tensorboard import TensorBoardLogger
from lightning_fabric.strategies.ddp import DDPStrategy

from stemforge.errors import UsageError
from stemforge.train.config import TrainConfig

if TYPE_CHECKING:
    from stemforge.cli.train_request import Request


def engine(config: TrainConfig, request: Request, device: torch.device, loggers: Sequence[Logger]) -> Fabric:
    """Fabric with as many processes as are asked for, all of them running.

    torchrun and Slurm start the processes themselves; otherwise this one starts the others of its machine. Each of them
    reads and computes its own part of every batch, and the gradients are averaged: up to rounding, separation steps and
    the training of MSDM are those of one process; the other tasks weigh each part by itself.

    Raises:
        UsageError: the batches cannot be shared out evenly, or the device has no such precision.
    """
    local = int(os.environ.get("LOCAL_WORLD_SIZE", request.devices))
    nodes = int(os.environ["WORLD_SIZE"]) // local if "LOCAL_WORLD_SIZE" in os.environ else request.num_nodes
    several = local * nodes > 1
    smallest = config.batch_size // (2 if config.network.get("architecture", "forge") == "forge" else 1)
    if several and smallest % (local * nodes):
        raise UsageError(
            f"batch_size {config.batch_size}: cannot be shared out to {local * nodes} processes. "
            f"Give a multiple of {2 * local * nodes}."
        )
    if several and device.index is not None:
        raise UsageError(f"--device {device}: names one device, --devices asks for {local}. Give -d {device.type}.")
    if config.precision == "16-mixed" and device.type == "cpu":
        raise UsageError("precision 16-mixed: fp16 needs a GPU. Give bf16-mixed or 32-true.")
    for name in ("lightning_fabric", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    fabric = Fabric(
        accelerator=device.type,
        devices=local if several or device.index is None else [device.index],
        num_nodes=nodes,
        strategy=DDPStrategy(find_unused_parameters=True) if several else "auto",
        precision=config.precision,  # type: ignore[arg-type]
        loggers=list(loggers),
    )
    if several:
        fabric.launch()
    return fabric


def loggers_of(out: Path, index: int) -> list[Logger]:
    """CSV and TensorBoard files of a run that goes on from step `index`; anew where one was killed before its save."""
    version = f"from-{index:07d}"
    warnings.filterwarnings("ignore", "Experiment logs directory")
    csv = CSVLogger(out, name="logs", version=version, flush_logs_every_n_steps=1)
    return [csv, TensorBoardLogger(out, name="logs", version=version)]


def agreed(fabric: Fabric, wanted: bool) -> bool:
    """Whether any process wants it."""
    if fabric.world_size == 1:
        return wanted
    found = fabric.all_reduce(torch.tensor(float(wanted), device=fabric.device), reduce_op="sum")
    assert isinstance(found, torch.Tensor)
    return bool(found)
