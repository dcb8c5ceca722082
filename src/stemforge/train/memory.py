"""How a want of memory looks, and what to do about it."""

from __future__ import annotations

import gc

import torch


def out_of_memory(error: RuntimeError) -> bool:
    """Is this what a lack of memory on CUDA, MPS or the CPU looks like?"""
    words = str(error).lower()
    return isinstance(error, torch.OutOfMemoryError) or "out of memory" in words or "allocate memory" in words


def free_memory(device: torch.device) -> None:
    """Give back what a failed step left."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
