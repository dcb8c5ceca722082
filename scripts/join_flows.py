"""One checkpoint out of flows that were trained each by itself, to be embedded by embed_checkpoint.py.

python scripts/join_flows.py runs/flows runs/flow-bass runs/flow-drums runs/flow-guitar
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

from safetensors.torch import save_file
from torch import nn

from stemforge import checkpoints
from stemforge.models.glow import Flows


def main() -> None:
    """Read, put side by side, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("runs", nargs="+")
    args = parser.parse_args()
    parts = [checkpoints.network_of(checkpoints.find(run)) for run in args.runs]
    flows = [part for part in parts if isinstance(part, Flows)]
    if len(flows) < len(parts) or len({replace(flow.config, names=("one",)) for flow in flows}) > 1:
        parser.error("these are not flows of one kind")
    joined = Flows(replace(flows[0].config, names=tuple(name for flow in flows for name in flow.names)))
    joined.nets = nn.ModuleList(net for flow in flows for net in flow.nets)
    args.out.mkdir(parents=True, exist_ok=True)
    weights = {name: weight.contiguous() for name, weight in joined.state_dict().items()}
    save_file(weights, args.out / checkpoints.WEIGHTS)
    (args.out / checkpoints.CONFIG).write_text(json.dumps(joined.to_config(), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
