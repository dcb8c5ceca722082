"""Average the weights of checkpoints of one network: what differs between runs that share a start is mostly noise.

python scripts/average_checkpoints.py OUT runs/forge=0.5 forge=0.5      # a folder or a name each, and its share
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from stemforge import checkpoints


def main() -> None:
    """Read, average in float32, write with the config of the first."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("parts", nargs="+", metavar="CHECKPOINT=SHARE")
    args = parser.parse_args()
    total: dict[str, torch.Tensor] = {}
    shares = [float(part.rpartition("=")[2]) for part in args.parts]
    networks = [checkpoints.network_of(checkpoints.find(part.rpartition("=")[0])) for part in args.parts]
    for network, share in zip(networks, shares, strict=True):
        for name, weight in network.state_dict().items():
            total[name] = total.get(name, torch.zeros_like(weight)) + weight * (share / sum(shares))
    args.out.mkdir(parents=True, exist_ok=True)
    save_file(total, args.out / checkpoints.WEIGHTS)
    config = networks[0].to_config()  # type: ignore[operator]
    (args.out / checkpoints.CONFIG).write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
