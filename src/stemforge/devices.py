"""Which device the networks run on."""

from __future__ import annotations

import platform
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from stemforge.errors import DeviceError, UsageError

if TYPE_CHECKING:
    import torch

DEVICES = "auto, cpu, cuda, cuda:N or mps"
COMPUTING = "with a single window. Try a shorter --segment, or -d cpu"
LOADING = "with the weights alone. Close what else is on it, or try -d cpu"


def check_name(name: str) -> str:
    """The name itself when it has the form of a device; needs no torch. Raises UsageError otherwise."""
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", name):
        raise UsageError(f"device '{name}': no such device. Give {DEVICES}.")
    return name


def choose(name: str = "auto") -> torch.device:
    """The device of that name; `auto` takes cuda, else mps, else cpu.

    Numbers too small for a normalised float count as zero from here on: the tails of fading sounds would otherwise cost
    many times the time on a CPU. It has to be set before the first parallel computation, since the threads inherit it.

    Raises:
        UsageError: the name has not the form of a device.
        DeviceError: a named device is not there; only `auto` falls back.
    """
    import torch

    check_name(name)
    torch.set_flush_denormal(True)
    mps = torch.backends.mps.is_available()
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "mps" if mps else "cpu")
    if name == "mps" and not mps:
        raise DeviceError("device 'mps': this machine or this build of torch has no Metal. Use -d cpu or -d auto.")
    if name.startswith("cuda"):
        _check_cuda(name)
    return torch.device(name)


def _check_cuda(name: str) -> None:
    """Raises DeviceError unless the CUDA device of that name is there."""
    import torch

    if torch.version.cuda is None:
        raise DeviceError(f"device '{name}': this build of torch has no CUDA. Use -d cpu or install a CUDA build.")
    count = torch.cuda.device_count()
    if not torch.cuda.is_available() or count == 0:
        raise DeviceError(f"device '{name}': no CUDA device or no working driver found. Use -d cpu or -d auto.")
    if ":" in name and int(name.partition(":")[2]) >= count:
        raise DeviceError(f"device '{name}': the last one is cuda:{count - 1}. Use it, or -d auto.")


@lru_cache
def has_bf16(kind: str) -> bool:
    """Does a device of that kind (cpu, cuda, mps) multiply matrices of bfloat16 by itself, faster than float32?"""
    import torch

    if kind == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    asked = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")  # names that torch keeps for itself
    return kind == "cpu" and any(getattr(torch.cpu, name, bool)() for name in asked)


def lowered(device: torch.device, wanted: bool = True) -> torch.autocast:
    """A context in which matrix products are of bfloat16, where that is wanted and `has_bf16` of the device.

    Sums, spectra and whatever makes stems add up stay in float32. Gradients are rounded likewise.
    """
    import torch

    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=wanted and has_bf16(device.type))


def out_of_memory(error: BaseException) -> bool:
    """True for what the devices raise when they are out of memory; a CPU has no class of its own for it."""
    import torch

    words = str(error).lower()
    known = isinstance(error, torch.OutOfMemoryError | MemoryError)
    return known or "out of memory" in words or "allocate memory" in words


def described() -> dict[str, dict[str, object]]:
    """What could compute here: the name of each device, its memory and what of it is free in GB, if it says so."""
    import torch

    found: dict[str, dict[str, object]] = {"cpu": {"name": platform.machine(), "threads": torch.get_num_threads()}}
    with suppress(OSError, ValueError, LookupError):
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        sizes = {line.partition(":")[0]: int(line.split()[1]) * 1024 for line in lines}
        found["cpu"] |= {"memory_gb": _gb(sizes["MemTotal"]), "free_gb": _gb(sizes["MemAvailable"])}
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        free, memory = torch.cuda.mem_get_info(index)
        name = torch.cuda.get_device_name(index)
        found[f"cuda:{index}"] = {"name": name, "memory_gb": _gb(memory), "free_gb": _gb(free)}
    if torch.backends.mps.is_available():
        found["mps"] = {"name": "Metal", "memory_gb": _gb(torch.mps.recommended_max_memory())}
    return found


def _gb(size: int) -> float:
    return round(size / 1e9, 1)


def memory_error(device: torch.device | str, what: str = COMPUTING) -> DeviceError:
    """What is said when the memory is not enough for the smallest part."""
    return DeviceError(f"device '{device}': out of memory {what}.")


@contextmanager
def memory_errors(device: torch.device | str, what: str = COMPUTING) -> Iterator[None]:
    """Where there is no smaller part to try, being out of memory is a DeviceError of one line."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        raise memory_error(device, what) from error


def free_memory(device: torch.device) -> None:
    """Give back what a step that ran out of memory left."""
    import gc

    gc.collect()
    if device.type == "cuda":
        import torch

        torch.cuda.empty_cache()


def keep_memory() -> None:
    """Ask glibc to keep freed memory: training and generating on a CPU are twice as fast without the page faults.

    Does nothing where the C library is another one.
    """
    import ctypes

    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return
    trim_threshold, top_pad, mmap_max = -1, -2, -4  # malloc.h
    mallopt(mmap_max, 0)
    mallopt(trim_threshold, 2**31 - 1)
    mallopt(top_pad, 2**29)
