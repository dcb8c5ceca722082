"""Checkpoints by name: found, downloaded where they have to be, verified, loaded, described and pushed.

A checkpoint is a folder with `model.safetensors` and `config.json`: embedded in the package, anywhere on this machine,
or in a repository of the Hugging Face Hub, of which the cache holds a copy. Pickles are never read, and the
architecture is looked up in a list, never imported by name.
"""

from __future__ import annotations

import difflib
import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack, cast

from stemforge import hub, wheels
from stemforge.errors import CheckpointError, UsageError
from stemforge.models.registry import facts, refuse_sketches
from stemforge.tables import CONFIG, EMBEDDED, WEIGHTS, Checkpoint, available, names

if TYPE_CHECKING:
    import torch
    from torch import nn

    from stemforge.models.registry import Network
    from stemforge.separators.diffusion import DiffusionSeparator, Likelihood
    from stemforge.separators.flow_prior import FlowSeparator
    from stemforge.separators.folded import FoldedSeparator
    from stemforge.separators.network import NetworkSeparator, Options

__all__ = [
    "CONFIG",
    "WEIGHTS",
    "Checkpoint",
    "available",
    "build",
    "entry_for",
    "fetch",
    "find",
    "load",
    "names",
    "network_of",
    "pull",
    "push",
    "state",
    "verify",
]

_PICKLES = frozenset((".ckpt", ".pt", ".pth", ".th", ".bin", ".pkl"))

log = logging.getLogger("stemforge")


def load(
    name: str | Path | None = None,
    device: str | torch.device = "cpu",
    *,
    method: str = "auto",
    likelihood: Likelihood | None = None,
    whole: bool = False,
    **options: Unpack[Options],
) -> NetworkSeparator | DiffusionSeparator | FlowSeparator | FoldedSeparator:
    """The separator of a checkpoint, ready on a device.

    Args:
        name: of a checkpoint, the path of a folder with one, or hf://org/repo@revision, which is downloaded unless
            it is in the cache; None for the default.
        device: auto, cpu, cuda, cuda:N or mps.
        method: conditional, dirac, gaussian, independent, flow or auto; see `build`.
        likelihood: settings of a sampling method.
        whole: those stems too that `folds` in its table makes part of another.
        **options: segment, overlap, steps, seed, precision, batch_size, passes of `NetworkSeparator`.

    Raises:
        UsageError: there is no checkpoint of that name, or an option is impossible.
        CheckpointError: it is not there, not what its sha256 says, or refused.
        DeviceError: the device is not there.
    """
    checkpoint = find(name)
    separator = build(checkpoint, device, method=method, likelihood=likelihood, **options)
    if whole or not checkpoint.folds:
        return separator
    from stemforge.separators.folded import FoldedSeparator

    return FoldedSeparator(separator, checkpoint.folds)


def find(name: str | Path | None = None) -> Checkpoint:
    """The checkpoint of that name or folder, without opening it; needs no torch. Raises as `load` does."""
    known = {**wheels.separators(), **available()}
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
            f"Give a folder with {WEIGHTS} and {CONFIG}, or see `stemforge checkpoints convert --help`."
        )
    if text.startswith("hf:"):
        repo, revision = hub.parse(text)
        unpinned = Checkpoint(repo.split("/")[1], hub.place(repo, revision), {}, repo=repo, revision=revision)
        folder = hub.cached(repo, revision, unpinned.wanted) or unpinned.folder
        return replace(unpinned, folder=folder, stems=_stems_in(folder))
    if path.is_dir():
        return Checkpoint(path.resolve().name, path, {}, _stems_in(path))
    if path.name != text or path.exists():
        raise CheckpointError(f"checkpoint '{name}': no such folder. Give one with {WEIGHTS} and {CONFIG}.")
    near = difflib.get_close_matches(text, known, n=1, cutoff=0.5)
    guess = f" Did you mean {near[0]}?" if near else ""
    raise UsageError(f"checkpoint '{name}': unknown. There are: {_listed(known)}.{guess}")


def _stems_in(folder: Path) -> tuple[str, ...] | None:
    """Names of the stems as the config in a folder says, None when it does not; loading it is where errors are told."""
    try:
        return tuple(json.loads((folder / CONFIG).read_text(encoding="utf-8"))["names"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _listed(known: dict[str, Checkpoint]) -> str:
    return ", ".join(known) or "none, give the folder of one"


def state(checkpoint: Checkpoint) -> str:
    """Where a checkpoint is: embedded, folder, cached or not pulled."""
    if checkpoint.wheel:
        return "cached" if checkpoint.sha256 else "not pulled"
    if checkpoint.repo is not None:
        return "cached" if hub.cached(checkpoint.repo, checkpoint.revision, checkpoint.wanted) else "not pulled"
    return "embedded" if checkpoint.folder.parent == EMBEDDED else "folder"


def pull(checkpoint: Checkpoint, on_progress: hub.Progress | None = None) -> Checkpoint:
    """The checkpoint, downloaded where it has to be, what a branch or tag points to now, every pinned file verified.

    Raises:
        CheckpointError: it cannot be had, or is not what its sha256 says.
    """
    if checkpoint.wheel:
        wheels.pull(checkpoint.name)
        return find(checkpoint.name)
    if checkpoint.repo is None:
        verify(checkpoint)
        return checkpoint
    repo, revision = checkpoint.repo, checkpoint.revision
    folder = hub.pull(repo, revision, checkpoint.wanted, on_progress, name=checkpoint.address)
    if not checkpoint.table and not hub.COMMIT.fullmatch(revision):
        log.warning(
            "%s: is not pinned; to always have this one, say hf://%s@%s.", checkpoint.address, repo, folder.name
        )
    return replace(checkpoint, folder=folder, stems=checkpoint.stems or _stems_in(folder))


def fetch(checkpoint: Checkpoint, on_progress: hub.Progress | None = None) -> Checkpoint:
    """The checkpoint with its files on this machine: downloaded if they are not, but for those that come in wheels.

    Raises as `pull` does, and CheckpointError, with what to type, for a wheel that was not pulled.
    """
    if checkpoint.wheel and not checkpoint.sha256:
        raise wheels.absent(checkpoint.name)
    if checkpoint.repo is None:
        return checkpoint
    folder = hub.cached(checkpoint.repo, checkpoint.revision, checkpoint.wanted)
    return replace(checkpoint, folder=folder) if folder else pull(checkpoint, on_progress)


def verify(checkpoint: Checkpoint) -> dict[str, str]:
    """The sha256 of every file of a checkpoint, fetched first. Raises CheckpointError for what is missing or wrong."""
    checkpoint = fetch(checkpoint)
    fetched = checkpoint.repo or checkpoint.wheel
    again = f"run `stemforge checkpoints pull {checkpoint.address}`" if fetched else "install or copy it again"
    sums: dict[str, str] = {}
    for name, pinned in checkpoint.wanted.items():
        path = checkpoint.folder / name
        if not path.is_file():
            raise CheckpointError(
                f"checkpoint '{checkpoint.name}': '{path}' is not there. Install stemforge again, "
                f"or give a folder with {WEIGHTS} and {CONFIG}."
            )
        sums[name] = hub.sha256_once(path)
        if pinned not in (None, sums[name]):
            raise CheckpointError(
                f"checkpoint '{checkpoint.name}': '{path}' has sha256 {sums[name]}, not {pinned}. "
                f"It was changed or damaged: {again}."
            )
    return sums


def build(
    checkpoint: Checkpoint,
    device: str | torch.device = "cpu",
    *,
    method: str = "auto",
    likelihood: Likelihood | None = None,
    **options: Unpack[Options],
) -> NetworkSeparator | DiffusionSeparator | FlowSeparator:
    """The separator of a checkpoint that was found; its files are fetched and verified first.

    Args:
        checkpoint: from `find`.
        device: auto, cpu, cuda, cuda:N or mps.
        method: conditional (one or a few network calls), dirac, gaussian, independent (posterior sampling), or flow
            (latents fitted; `stemforge.flows` joins several checkpoints); auto is conditional where the network can,
            else dirac, or independent for networks that know single stems only, and flow for flows.
        likelihood: settings of a sampling method.
        **options: as in `load`; steps, precision, batch_size and passes are for conditional.

    Raises as `load` does.
    """
    from stemforge.devices import LOADING, choose, memory_errors
    from stemforge.models.glow import Flows
    from stemforge.separators.diffusion import sampling_separator
    from stemforge.separators.flow_prior import FlowSeparator
    from stemforge.separators.network import NetworkSeparator

    target = choose(str(device))
    with memory_errors(target, LOADING):
        network: Any = network_of(checkpoint).to(target)
    refuse_sketches(network, checkpoint.name)
    own: dict[str, Any] = {k: v for k, v in options.items() if k in ("segment", "overlap", "seed")}
    if isinstance(network, Flows) and method in ("auto", "flow"):
        return FlowSeparator([network], device=target, **own)
    if method == "auto":
        unconditional = "independent" if getattr(network, "independent", False) else "dirac"
        method = "conditional" if hasattr(network, "separate") else unconditional
    if method == "conditional":
        if not hasattr(network, "separate"):
            raise UsageError(f"checkpoint '{checkpoint.name}': knows no mixtures. Give --method dirac or gaussian.")
        return NetworkSeparator(network, device=target, **options)
    if not hasattr(network, "denoise"):
        raise UsageError(f"checkpoint '{checkpoint.name}': cannot sample. Give --method conditional.")
    return sampling_separator(network, method, likelihood or {}, device=target, **own)


def network_of(checkpoint: Checkpoint) -> nn.Module:
    """The network with its weights, float32, on the CPU, in evaluation mode; fetched and verified first.

    Raises:
        CheckpointError: it cannot be had, is not what its sha256 says, its architecture is unknown, or config, weights
            and table do not agree.
    """
    from stemforge.models.registry import ARCHITECTURES
    from stemforge.models.registry import build as build_network
    from stemforge.models.weights import fill, read

    checkpoint = fetch(checkpoint)
    verify(checkpoint)
    say = f"checkpoint '{checkpoint.name}'"
    config = _config(checkpoint)
    architecture = str(config["architecture"])
    if architecture not in ARCHITECTURES:
        raise CheckpointError(
            f"{say}: architecture '{architecture}' is not one of {', '.join(ARCHITECTURES)}. "
            "A newer stemforge may know it."
        )
    weights = read(checkpoint.weights, say)
    try:
        network = build_network(architecture, config, sum(tensor.numel() for tensor in weights.values()))
    except (TypeError, ValueError, KeyError, RuntimeError, MemoryError) as error:
        why = str(error).partition("\n")[0].rstrip(".")
        raise CheckpointError(f"{say}: its config does not fit '{architecture}': {why}. Copy it again.") from None
    fill(network, weights, say)
    stems = cast("Network", network).names
    if checkpoint.stems is not None and stems != checkpoint.stems:
        raise CheckpointError(
            f"{say}: the table says stems {', '.join(checkpoint.stems)}, the network has "
            f"{', '.join(stems)}. Correct the table."
        )
    return network.eval().requires_grad_(False)


def _config(checkpoint: Checkpoint) -> dict[str, Any]:
    """What shapes the network, with its `architecture`: config.json, or what demucs has written into the weights."""
    if CONFIG not in checkpoint.wanted:
        from stemforge.models.demucs import config_of

        return config_of(checkpoint.weights)
    try:
        config: dict[str, Any] = json.loads((checkpoint.folder / CONFIG).read_text(encoding="utf-8"))
        _ = config["architecture"]
    except (OSError, ValueError, KeyError, TypeError):
        raise CheckpointError(
            f"checkpoint '{checkpoint.name}': '{checkpoint.folder / CONFIG}' names no architecture. Copy it again."
        ) from None
    return config


def entry_for(
    folder: Path | str, *, name: str | None = None, license: str = "Apache-2.0", default: bool = False
) -> str:
    """The table for checkpoints.toml of a checkpoint, as TOML; the network is built and filled on the way.

    Args:
        folder: where it is, or hf://org/repo@revision, which is downloaded and pinned to its commit.
        name: of the table; None for that of the folder or repository.
        license: of the weights.
        default: whether it is to be the default checkpoint.

    Raises:
        CheckpointError: there is no checkpoint that can be loaded.
    """
    remote = str(folder).startswith("hf:")
    place = Path(folder).resolve()
    checkpoint = pull(find(str(folder))) if remote else Checkpoint(place.name, place, {})
    where = f"folder = {json.dumps(str(checkpoint.folder))}"
    if checkpoint.repo:
        where = f'repo = "{checkpoint.repo}"\nrevision = "{checkpoint.folder.name}"'
    elif checkpoint.folder.parent == EMBEDDED:
        where = f"embedded = {json.dumps(checkpoint.folder.name)}"
    sums = verify(checkpoint)
    network = cast("Network", network_of(checkpoint))
    size = sum((checkpoint.folder / file).stat().st_size for file in sums) / 1e6
    pairs = ", ".join(f'"{file}" = "sha256:{value}"' for file, value in sums.items())
    lines = [
        f"[{name or checkpoint.name}]",
        where,
        f"files = {{ {pairs} }}",
        f"architecture = {json.dumps(_config(checkpoint)['architecture'])}",
        *(f"{key} = {json.dumps(value)}" for key, value in facts(network).items()),
        f"license = {json.dumps(license)}",
        *(["default = true"] if default else []),
        f"size_mb = {size:.1f}",
    ]
    return "\n".join(lines) + "\n"


def push(
    name: str | Path, repo: str, *, private: bool = False, message: str | None = None, license: str | None = None
) -> str:
    """Write a checkpoint into a repository of the Hub in one commit: weights, config, licence text and model card.

    It is loaded first, so that only what works gets there. Nothing else of its folder is pushed, pickles least of all.

    Args:
        name: of a checkpoint, or the path of a folder with one.
        repo: as org/name; it is made when it is not there.
        private: whether a new repository is for its owner alone.
        message: of the commit.
        license: of the weights, for the model card; None for what the table says.

    Returns:
        its address, hf://org/name@commit.

    Raises:
        UsageError: the name of the repository is none.
        CheckpointError: it cannot be loaded, there is no token, or the Hub refuses.
    """
    target, found = hub.parse(repo)[0], fetch(find(name))
    sums = verify(found)
    card = _card(found, cast("Network", network_of(found)), target, license or found.table.get("license"))
    kept = sorted(path.name for path in found.folder.iterdir() if path.suffix.lower() in _PICKLES)
    if kept:
        log.warning("%s: not pushed, pickles never are.", ", ".join(kept))
    files: dict[str, Path | bytes] = {file: found.folder / file for file in sums}
    if (found.folder / "LICENSE").is_file():
        files["LICENSE"] = found.folder / "LICENSE"
    return hub.push({**files, "README.md": card}, target, private=private, message=message or f"Add {found.name}")


def _card(checkpoint: Checkpoint, network: Network, repo: str, license: str | None) -> bytes:
    """The model card in its folder, else one made here, with the metadata that the Hub wants at the top."""
    own = checkpoint.folder / "README.md"
    text = own.read_text(encoding="utf-8") if own.is_file() else ""
    if text.startswith("---\n"):
        return text.encode()
    architecture = _config(checkpoint)["architecture"]
    count = sum(parameter.numel() for parameter in cast("nn.Module", network).parameters())
    said = facts(network)
    uses = {"sketch": "generate --sketch", "prompts": 'generate --prompt "slow jazz" --checkpoint'}
    use = uses.get(cast("list[str]", said["tasks"])[0], "separate song.wav --checkpoint")
    head = ["---", *([f"license: {license.lower()}"] if license else []), "library_name: stemforge"]
    head += ["pipeline_tag: audio-to-audio", "tags:", "- music-source-separation", f"- {architecture}", "---", ""]
    body = [
        f"# {checkpoint.name}",
        "",
        f"Weights for stemforge: the stems {', '.join(network.names)}.",
        "",
        f"    stemforge {use} hf://{repo}",
        "",
        "| | |",
        "|---|---|",
        f"| architecture | `{architecture}`, {count:,} parameters |",
        f"| sound | {said['sample_rate']} Hz, {said['channels']} channels, windows of {network.segment:g} s |",
        f"| licence | {license or 'not stated'} |",
        "",
    ]
    return "\n".join([*head, text or "\n".join(body)]).encode()
