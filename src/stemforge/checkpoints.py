"""Checkpoints by name: where each one is, what it can do, and the sha256 that its files must have.

`checkpoints.toml` is the table. It lies in the package of an installed stemforge and at the root of a working copy; the
file that STEMFORGE_CHECKPOINTS names is merged over it. A checkpoint is a folder with `model.safetensors` and
`config.json`; pickles are never read, and the architecture is looked up in a list, never imported by name.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import logging
import os
import re
import tomllib
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack, cast

from stemforge.errors import CheckpointError, UsageError

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from stemforge.models.registry import Network
    from stemforge.separators.network import NetworkSeparator, Options

WEIGHTS, CONFIG = "model.safetensors", "config.json"

_PICKLES = frozenset((".ckpt", ".pt", ".pth", ".th", ".bin", ".pkl"))
_Kind = type | tuple[type, ...]
_REQUIRED: dict[str, _Kind] = {
    "files": dict,
    "architecture": str,
    "sample_rate": int,
    "channels": int,
    "stems": list,
    "license": str,
}
_OPTIONAL: dict[str, _Kind] = {
    "embedded": str,
    "folder": str,
    "default": bool,
    "segment": (int, float),
    "tasks": list,
    "kind": str,
    "size_mb": (int, float),
    "description": str,
}

log = logging.getLogger("stemforge")


@dataclass(frozen=True)
class Checkpoint:
    """One checkpoint: its folder, the sha256 of each file (none pinned for a folder given by path), and what it is.

    sample_rate in Hz, segment in seconds; `table` is its table in checkpoints.toml, empty for a folder given by path.
    """

    name: str
    folder: Path
    sha256: dict[str, str]
    stems: tuple[str, ...] | None = None
    default: bool = False
    table: dict[str, Any] = field(default_factory=dict)


def load(
    name: str | Path | None = None, device: str | torch.device = "cpu", **options: Unpack[Options]
) -> NetworkSeparator:
    """The separator of a checkpoint, ready on a device.

    Args:
        name: of a checkpoint, or the path of a folder with one; None for the default.
        device: auto, cpu, cuda, cuda:N or mps.
        **options: segment, overlap, steps, seed, precision of `NetworkSeparator`.

    Raises:
        UsageError: there is no checkpoint of that name, or an option is impossible.
        CheckpointError: it is not there, not what its sha256 says, or refused.
        DeviceError: the device is not there.
    """
    return build(find(name), device, **options)


def find(name: str | Path | None = None) -> Checkpoint:
    """The checkpoint of that name or folder, without opening it; needs no torch. Raises as `load` does."""
    known = available()
    if name is None:
        default = [checkpoint for checkpoint in known.values() if checkpoint.default]
        if not default:
            raise UsageError(f"no checkpoint is marked as default. Give --checkpoint: {_listed(known)}.")
        return default[-1]
    text, path = str(name), Path(name)
    if text in known:
        return known[text]
    if path.suffix.lower() in _PICKLES:
        raise CheckpointError(
            f"checkpoint '{name}': a pickle can run any code, so it is refused. "
            f"Give a folder with {WEIGHTS} and {CONFIG}."
        )
    if text.startswith("hf:"):
        raise CheckpointError(f"checkpoint '{name}': must be local. Download it and give its folder.")
    if path.is_dir():
        return Checkpoint(path.resolve().name, path, {}, _stems_in(path))
    if path.name != text or path.exists():
        raise CheckpointError(f"checkpoint '{name}': no such folder. Give one with {WEIGHTS} and {CONFIG}.")
    near = difflib.get_close_matches(text, known, n=1, cutoff=0.5)
    guess = f" Did you mean {near[0]}?" if near else ""
    raise UsageError(f"checkpoint '{name}': unknown. There are: {_listed(known)}.{guess}")


def names() -> tuple[str, ...]:
    """Names of all checkpoints of the tables."""
    return tuple(available())


def _stems_in(folder: Path) -> tuple[str, ...] | None:
    """Names of the stems as the config in a folder says, None when it does not; loading it is where errors are told."""
    try:
        return tuple(json.loads((folder / CONFIG).read_text(encoding="utf-8"))["names"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _listed(known: dict[str, Checkpoint]) -> str:
    return ", ".join(known) or "none, give the folder of one"


def available() -> dict[str, Checkpoint]:
    """Every checkpoint of the tables, by name. Raises UsageError, with the line, for a table that is not in order."""
    merged: dict[str, Checkpoint] = {}
    for path in _tables():
        try:
            text = path.read_text(encoding="utf-8")
            tables = tomllib.loads(text)
        except (OSError, ValueError) as error:
            raise UsageError(f"'{path}': cannot be read: {error}. Correct it.") from None
        for name, table in tables.items():
            merged[name] = _checkpoint(name, table, path, text)
    return merged


def _tables() -> list[Path]:
    """The table of the package or the working copy, then the user's own."""
    packaged = Path(str(files("stemforge") / "checkpoints.toml"))
    tables = [path for path in (packaged, Path(__file__).parents[2] / "checkpoints.toml") if path.is_file()][:1]
    own = os.environ.get("STEMFORGE_CHECKPOINTS")
    return [*tables, Path(own)] if own else tables


def _checkpoint(name: str, table: object, path: Path, text: str) -> Checkpoint:
    """One table of the file at `path`, checked."""
    heading = re.compile(rf"\s*\[\s*\"?{re.escape(name)}\"?\s*\]")
    line = next((number for number, row in enumerate(text.splitlines(), 1) if heading.match(row)), 1)
    where = f"'{path}', line {line}: checkpoint '{name}'"
    if not isinstance(table, dict):
        raise UsageError(f"{where}: is not a table. Write [{name}] and its keys below.")
    if "repo" in table:
        raise UsageError(f"{where}: only local checkpoints can be used. Give 'folder' instead of 'repo'.")
    missing = [key for key in _REQUIRED if key not in table]
    if missing or ("embedded" in table) == ("folder" in table):
        needed = ", ".join(missing) or "exactly one of 'embedded' and 'folder'"
        raise UsageError(f"{where}: lacks {needed}. Add it.")
    known = {**_REQUIRED, **_OPTIONAL}
    for key, value in table.items():
        if key not in known:
            log.warning("%s: unknown key '%s' is ignored.", where, key)
        elif not isinstance(value, known[key]):
            raise UsageError(f"{where}: '{key}' has the wrong type. Correct it.")
    sha256 = {file: str(value).removeprefix("sha256:") for file, value in table["files"].items()}
    if not {WEIGHTS, CONFIG} <= sha256.keys() or not all(re.fullmatch("[0-9a-f]{64}", v) for v in sha256.values()):
        raise UsageError(f"{where}: 'files' needs the sha256 of {WEIGHTS} and {CONFIG}. Add them.")
    inside = Path(__file__).parent / "embedded" / table["embedded"] if "embedded" in table else None
    folder = inside or path.parent / table["folder"]
    return Checkpoint(name, folder, sha256, tuple(table["stems"]), table.get("default", False), table)


def verify(checkpoint: Checkpoint) -> dict[str, str]:
    """The sha256 of every file of a checkpoint. Raises CheckpointError when one is missing or not what is pinned."""
    sums: dict[str, str] = {}
    for name in checkpoint.sha256 or (WEIGHTS, CONFIG):
        path = checkpoint.folder / name
        if not path.is_file():
            raise CheckpointError(
                f"checkpoint '{checkpoint.name}': '{path}' is not there. Install stemforge again, "
                f"or give a folder with {WEIGHTS} and {CONFIG}."
            )
        with path.open("rb") as file:
            sums[name] = hashlib.file_digest(file, "sha256").hexdigest()
        expected = checkpoint.sha256.get(name, sums[name])
        if sums[name] != expected:
            raise CheckpointError(
                f"checkpoint '{checkpoint.name}': '{path}' has sha256 {sums[name]}, not {expected}. "
                "It was changed or damaged: install or copy it again."
            )
    return sums


def build(checkpoint: Checkpoint, device: str | torch.device = "cpu", **options: Unpack[Options]) -> NetworkSeparator:
    """The separator of a checkpoint that was found; verifies its files first. Raises as `load` does."""
    from stemforge.devices import choose
    from stemforge.separators.network import NetworkSeparator

    target = choose(str(device))
    verify(checkpoint)
    network = network_of(checkpoint)
    return NetworkSeparator(cast("Network", network.to(target)), device=target, **options)


def network_of(checkpoint: Checkpoint) -> nn.Module:
    """The network with its weights, float32, on the CPU, in evaluation mode.

    Raises:
        CheckpointError: the architecture is unknown, or config, weights and table do not agree.
    """
    from stemforge.models.registry import ARCHITECTURES

    say = f"checkpoint '{checkpoint.name}'"
    try:
        config = json.loads((checkpoint.folder / CONFIG).read_text(encoding="utf-8"))
        architecture = str(config["architecture"])
    except (OSError, ValueError, KeyError, TypeError):
        raise CheckpointError(f"{say}: '{checkpoint.folder / CONFIG}' names no architecture. Copy it again.") from None
    if architecture not in ARCHITECTURES:
        raise CheckpointError(
            f"{say}: architecture '{architecture}' is not one of {', '.join(ARCHITECTURES)}. "
            "A newer stemforge may know it."
        )
    try:
        network = ARCHITECTURES[architecture](config)
    except (TypeError, ValueError, KeyError) as error:
        raise CheckpointError(f"{say}: its config does not fit '{architecture}': {error}. Copy it again.") from None
    _fill(network, _weights(checkpoint), say)
    stems = cast("Network", network).names
    if checkpoint.stems is not None and stems != checkpoint.stems:
        raise CheckpointError(
            f"{say}: the table says stems {', '.join(checkpoint.stems)}, the network has "
            f"{', '.join(stems)}. Correct the table."
        )
    return network.eval().requires_grad_(False)


def _weights(checkpoint: Checkpoint) -> dict[str, Tensor]:
    """The tensors of a checkpoint, those of lower precision as float32."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = checkpoint.folder / WEIGHTS
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"checkpoint '{checkpoint.name}': '{path}' is no safetensors file: {error}. Copy it again."
        ) from None
    return {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}


def _fill(network: nn.Module, weights: dict[str, Tensor], say: str) -> None:
    """Load weights, all and no others; the first three differences go into the error."""
    expected = network.state_dict()
    differences = [f"{name} is missing" for name in expected.keys() - weights.keys()]
    differences += [f"{name} is unknown" for name in weights.keys() - expected.keys()]
    differences += [
        f"{name} is {tuple(weights[name].shape)}, not {tuple(expected[name].shape)}"
        for name in expected.keys() & weights.keys()
        if weights[name].shape != expected[name].shape
    ]
    if differences:
        more = f" and {len(differences) - 3} more" if len(differences) > 3 else ""
        raise CheckpointError(
            f"{say}: config and weights disagree: {'; '.join(sorted(differences)[:3])}{more}. "
            "Copy both from one source."
        )
    network.load_state_dict(weights)


def entry_for(
    folder: Path | str, *, name: str | None = None, license: str = "Apache-2.0", default: bool = False
) -> str:
    """The table for checkpoints.toml of a checkpoint in a folder, as TOML; the network is built and filled on the way.

    Raises:
        CheckpointError: the folder holds no checkpoint that can be loaded.
    """
    folder = Path(folder).resolve()
    checkpoint = Checkpoint(name or folder.name, folder, {})
    sums = verify(checkpoint)
    network = cast("Network", network_of(checkpoint))
    architecture = json.loads((folder / CONFIG).read_text(encoding="utf-8"))["architecture"]
    inside = folder.parent == Path(__file__).parent / "embedded"
    size = sum((folder / file).stat().st_size for file in sums) / 1e6
    pairs = ", ".join(f'"{file}" = "sha256:{value}"' for file, value in sums.items())
    return (
        "\n".join(
            [
                f"[{checkpoint.name}]",
                f"embedded = {json.dumps(folder.name)}" if inside else f"folder = {json.dumps(str(folder))}",
                f"files = {{ {pairs} }}",
                f"architecture = {json.dumps(architecture)}",
                f"sample_rate = {network.rate}",
                f"channels = {network.channels}",
                f"stems = {json.dumps(list(network.names))}",
                f"segment = {float(network.segment)}",
                'tasks = ["separate"]',
                f"license = {json.dumps(license)}",
                *(["default = true"] if default else []),
                f"size_mb = {size:.1f}",
            ]
        )
        + "\n"
    )
