"""The batch size that suits a machine, found by trying."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace

import torch
from lightning_fabric import Fabric

from stemforge.devices import free_memory, out_of_memory
from stemforge.errors import TrainingError
from stemforge.train.data import Song
from stemforge.train.recipes import batches_of, loss_of, to_device
from stemforge.train.trainer import Run

LARGEST = 256
GAIN = 1.05
"""A batch twice as large must be so many times as fast, in audio seconds a second, to be worth its memory."""
SHARE = 0.5
"""Part of the machine's memory that a run on the CPU may take."""


def sized(run: Run, songs: list[Song], fabric: Fabric) -> int:
    """The fastest batch size that fits, all processes together; the weights of the run stay as they are.

    Tried on batches of the first task of the config; tasks other than separation take half as many. Where one of them
    needs more after all, `fit` computes each batch in parts.

    Raises:
        TrainingError: the memory does not hold one crop.
        InputError: too many files cannot be read.
    """
    run.network.to(fabric.device)

    def step(size: int) -> None:
        config = replace(run.config, batch_size=size, shares=(1.0, *(0.0 for _ in run.config.shares[1:])))
        batch = to_device(batches_of(songs, run.network, config, config.seed).batch(0), fabric.device)
        with fabric.autocast():
            loss, _ = loss_of(run.network, batch)
        torch.autograd.backward(loss)
        loss.item()  # until here the device may still be at work
        run.network.zero_grad()

    found = fastest(step, fabric.device)
    return int(fabric.broadcast(found)) * fabric.world_size


def peak_share(device: torch.device) -> float:
    """The most memory that this process ever held, as a share of what the machine has; 0 where it cannot be told.

    On CUDA and MPS always 0: there a batch that does not fit is told by an error.
    """
    if device.type != "cpu" or os.name != "posix":
        return 0.0
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return peak / (os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))


def fastest(step: Callable[[int], None], device: torch.device, largest: int = LARGEST) -> int:
    """The batch size to train with: 1, 2, 4, ... as long as it fits and GAIN makes it worth while.

    step: one training step of such a size, finished when it returns. On the CPU a size is not tried that would take
    more than SHARE of the memory, judged by how the peak has grown.

    Raises:
        TrainingError: the memory does not hold one crop.
    """
    best, size, speed, peaks = 0, 1, 0.0, [peak_share(device)]
    while size <= largest:
        if best and peaks[-1] + 2 * (peaks[-1] - peaks[-2]) > SHARE:
            break
        try:
            step(size)
            since = time.perf_counter()
            step(size)
            found = size / (time.perf_counter() - since)
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            break
        peaks.append(peak_share(device))
        if best and found < GAIN * speed:
            break
        best, size, speed = size, 2 * size, found
    free_memory(device)
    if not best:
        raise TrainingError(
            "out of memory with a batch of one crop. Give shorter crops (seconds), or a smaller network."
        )
    return best
