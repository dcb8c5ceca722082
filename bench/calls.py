"""How long one network call takes where stems are made, on this machine's threads: milliseconds, the median of some.

    python bench/calls.py [--seconds 12] [--calls 7] [--checkpoint NAME]

`impute` has two stems of five, and what the window before has made.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import cast

import torch
from torch import Tensor

from stemforge import checkpoints
from stemforge.devices import keep_memory
from stemforge.inference.wrappers import conditioned, denoiser
from stemforge.models.registry import Joint
from stemforge.tasks import generate, impute
from stemforge.types import Denoise

SIGMA = torch.tensor(1.0, dtype=torch.float64)


def ways(network: Joint, length: int) -> Iterator[tuple[str, Denoise]]:
    """What each task asks for, by its name."""
    names = network.names
    absent = torch.tensor([name not in generate.instruments(names) for name in names])
    kept = torch.tensor([name in ("bass", "drums") for name in names])
    plain, known = denoiser(network, hidden=absent), torch.zeros(1, len(names), 1, length, dtype=torch.bool)
    yield "generate", plain
    begun = known.clone()
    begun[..., : int(generate.CONTEXT * length)] = True
    yield "generate, a later window", conditioned(plain, begun)
    begun = known | kept[None, :, None, None]
    begun[..., : int(impute.CONTEXT * length)] = True
    yield "impute", conditioned(plain, begun)
    around = ~known
    around[..., length // 3 : 2 * length // 3] = False
    yield "edit, the middle third", conditioned(denoiser(network), around)
    yield "the same, guided", pulled(conditioned(denoiser(network), around))
    yield "the same, guided only", pulled(denoiser(network))


def pulled(denoise: Denoise) -> Denoise:
    """With a gradient of the estimate."""

    def slope(x: Tensor, sigma: Tensor) -> Tensor:
        with torch.enable_grad():
            leaf = x.clone().requires_grad_()
            return torch.autograd.grad(denoise(leaf, sigma).abs().sum(), leaf)[0]

    return slope


def median(call: Callable[[], Tensor], calls: int) -> float:
    """Seconds, after two calls that do not count."""
    times = []
    for _ in range(2 + calls):
        begun = time.perf_counter()
        call()
        times.append(time.perf_counter() - begun)
    return sorted(times[2:])[calls // 2]


@torch.no_grad()
def main() -> None:
    """The command line of this file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=12.0)
    parser.add_argument("--calls", type=int, default=7)
    parser.add_argument("--checkpoint", default="forge")
    args = parser.parse_args()
    keep_memory()
    network = cast("Joint", checkpoints.network_of(checkpoints.find(args.checkpoint)))
    length = round(args.seconds * network.rate)
    torch.manual_seed(0)
    x = 0.1 * torch.randn(1, len(network.names), network.channels, length, dtype=torch.float64)
    for name, denoise in ways(network, length):
        print(f"{name}: {1000 * median(partial(denoise, x, SIGMA), args.calls):.0f} ms", flush=True)


if __name__ == "__main__":
    main()
