"""Average the weights of checkpoints of one network: what differs between runs that share a start is mostly noise.

python scripts/average_checkpoints.py OUT runs/forge=0.5 forge=0.5      # a folder or a name each, and its share

Stems and local patterns that only the first has stay as they are there.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from stemforge import checkpoints
from stemforge.train.surgery import grown, refitted

Weights = dict[str, torch.Tensor]


def as_in(first: Weights, names: tuple[str, ...], weights: Weights, own: tuple[str, ...]) -> Weights:
    """The first weights, with those of all stems that both have from the others."""
    zeros = {name: torch.zeros_like(weight) for name, weight in first.items()}
    shared = refitted({name: torch.ones_like(weight) for name, weight in weights.items()}, own, names, zeros)
    moved = refitted(weights, own, names, zeros)
    return {name: moved[name] + (1 - shared[name]) * weight for name, weight in first.items()}


def main() -> None:
    """Read, average in float32, write with the config of the first."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("parts", nargs="+", metavar="CHECKPOINT=SHARE")
    args = parser.parse_args()
    total: dict[str, torch.Tensor] = {}
    shares = [float(part.rpartition("=")[2]) for part in args.parts]
    networks: list[Any] = [checkpoints.network_of(checkpoints.find(part.rpartition("=")[0])) for part in args.parts]
    first = networks[0]
    for network, share in zip(networks, shares, strict=True):
        weights = grown(network, first.config).state_dict()
        if network.names != first.names:
            weights = as_in(first.state_dict(), first.names, weights, network.names)
        weights |= {name: first.state_dict()[name] for name in weights.keys() - network.state_dict().keys()}
        for name, weight in weights.items():
            total[name] = total.get(name, torch.zeros_like(weight)) + weight * (share / sum(shares))
    args.out.mkdir(parents=True, exist_ok=True)
    save_file(total, args.out / checkpoints.WEIGHTS)
    config = first.to_config()
    (args.out / checkpoints.CONFIG).write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
