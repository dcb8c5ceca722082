"""Published checkpoints of MSDM and ISDM to a folder with model.safetensors, config.json and README.md.

The published files are pickles of PyTorch Lightning. `models.pickles` reads them without running anything of them, and
even so only for those who say that they want it.
"""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from stemforge.errors import CheckpointError, OutputError, SpaceError, UsageError
from stemforge.tables import CONFIG, WEIGHTS

if TYPE_CHECKING:
    from stemforge.models.msdm import Isdm, Msdm, MsdmConfig
    from stemforge.models.pickles import StoredTensor

STEMS = ("bass", "drums", "guitar", "piano")
"""Stems of the published models, in the order of their channels."""

_PREFIXES = ("model.unet.", "unet.", "model.diffusion.net.", "diffusion.net.")  # the same tensors, registered twice
_ASSUMED = {"use_skip_scale": True, "diffusion_dynamic_threshold": 0.0}  # what no shape shows
_CARD = """# {title}

{kind} at {rate} Hz, mono, for {stems}: converted to safetensors by stemforge from

{files}

These are weights of Multi-Source Diffusion Models (Mariani et al. 2023, https://arxiv.org/abs/2302.02257), or of a
model of the same shape. Their licence is not known: the repository they were published with has no licence file.
Ask its authors before you pass them on or use them for more than research. Slakh2100, which the published ones were
trained on, is CC BY 4.0.
"""


@dataclass(frozen=True)
class Official:
    """One published file: its U-Net by the names of its tensors, how many stems that models, and its sizes."""

    path: Path
    weights: dict[str, StoredTensor]
    stems: int
    config: MsdmConfig


def convert(
    source: Path | Mapping[str, Path], folder: Path, *, names: tuple[str, ...] = STEMS, allow_pickle: bool = False
) -> Path:
    """Convert one joint checkpoint, or one a stem, into a folder that can be loaded; the folder.

    Args:
        source: the file of a joint model, or the file of each stem by its name.
        folder: a folder that is not there yet; it appears as a whole or not at all.
        names: of the stems of a joint model, in the order of its channels.
        allow_pickle: say that the files may be opened although they are pickles.

    Raises:
        CheckpointError: pickles are not allowed, or a file is missing, damaged, refused, or another model.
        UsageError: names or stems do not fit.
        OutputError: the folder is already there or cannot be written.
    """
    if folder.exists():
        raise OutputError(f"'{folder}': is already there. Give another folder with --to.")
    if not allow_pickle:
        first = source if isinstance(source, Path) else next(iter(source.values()), Path())
        raise CheckpointError(
            f"'{first}': is a pickle, which can hide code. Nothing of it is run here; say --allow-pickle to open it."
        )
    network, weights, files = _joint(source, names) if isinstance(source, Path) else _independent(source)
    _compare(network, weights, files[0])
    _write(folder, network, weights, files)
    return folder


def read(path: Path) -> Official:
    """Open one published file. Raises CheckpointError when it is refused, or holds no U-Net of MSDM."""
    from stemforge.models.pickles import StoredTensor, load

    saved = load(path)
    saved = saved if isinstance(saved, dict) else {}
    state = saved.get("state_dict", saved)
    state = state if isinstance(state, dict) else {}
    tensors = {k: v for k, v in state.items() if isinstance(k, str) and isinstance(v, StoredTensor)}
    prefix = next((p for p in _PREFIXES if any(key.startswith(p) for key in tensors)), "")
    weights = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
    settings = saved.get("hyper_parameters")
    try:
        return Official(path, weights, *_sizes(weights, settings if isinstance(settings, dict) else {}))
    except (KeyError, IndexError, TypeError, ValueError, ArithmeticError) as error:
        reason = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        raise CheckpointError(f"'{path}': is no checkpoint of MSDM: {reason}. Give an official file.") from None


def _sizes(weights: dict[str, StoredTensor], settings: dict[str, object]) -> tuple[int, MsdmConfig]:
    """Number of stems and sizes of the U-Net: from the shapes, and from the settings what no shape shows."""
    from stemforge.models.msdm import MsdmConfig

    for key, value in _ASSUMED.items():
        if settings.get(key, value) != value:
            raise ValueError(f"{key} is {settings[key]}, must be {value}")
    shapes = {key: value.shape for key, value in weights.items()}
    width = shapes["to_mapping.0.weight"][0] // 4
    inner, stems = shapes["to_in.module_list.0.block.block1.project.weight"][:2]
    downs = _run(shapes, "downsamples.{}.downsample.weight")
    attends = [f"downsamples.{i}.transformer.feed_forward.1.weight" for i in range(len(downs))]
    middle = shapes["bottleneck.attention.fn.to_q.weight"][0]
    heads = int(_number(settings, "attention_heads", 8))
    return stems, MsdmConfig(
        width=width,
        multipliers=(1, *(shape[0] // width for shape in downs)),
        factors=tuple(shape[2] // 2 for shape in downs),
        num_blocks=tuple(
            len(_run(shapes, f"downsamples.{i}.blocks.{{}}.block1.project.weight")) for i in range(len(downs))
        ),
        attentions=tuple(key in shapes for key in attends),
        heads=heads,
        head_features=middle // heads,
        ff_multiplier=next((shapes[key][0] // shapes[key][1] for key in attends if key in shapes), 2),
        patch=width // inner,
        groups=int(_number(settings, "resnet_groups", 8)),
        names=tuple(f"stem{i}" for i in range(stems)),
        sigma_data=_number(settings, "diffusion_sigma_data", 0.2),
    )


def _run(shapes: dict[str, tuple[int, ...]], pattern: str) -> list[tuple[int, ...]]:
    """Shapes of the keys with 0, 1, 2, ... in the pattern, as far as they go."""
    found: list[tuple[int, ...]] = []
    while (key := pattern.format(len(found))) in shapes:
        found.append(shapes[key])
    return found


def _number(settings: dict[str, object], key: str, default: float) -> float:
    """A positive number of the settings, or the published one."""
    value = settings.get(key)
    return value if isinstance(value, int | float) and value > 0 else default


def _joint(path: Path, names: tuple[str, ...]) -> tuple[Msdm, dict[str, StoredTensor], list[Path]]:
    """The empty network of a joint model, where its weights lie, and the file."""
    import torch

    from stemforge.models.msdm import Msdm

    official = read(path)
    if official.stems == 1:
        raise UsageError(f"'{path}': models one stem only. Give the files of all of them as --stem NAME=FILE.")
    if len(names) != official.stems:
        raise UsageError(
            f"'{path}': models {official.stems} stems. Name them in order, as in --names {','.join(STEMS)}."
        )
    with torch.device("meta"):
        network = Msdm(_named(official.config, names))
    return network, {f"net.{key}": value for key, value in official.weights.items()}, [path]


def _independent(paths: Mapping[str, Path]) -> tuple[Isdm, dict[str, StoredTensor], list[Path]]:
    """The same for one model a stem; published stems come first, in their order."""
    import torch

    from stemforge.models.msdm import Isdm

    names = tuple(sorted(paths, key=lambda name: STEMS.index(name) if name in STEMS else len(STEMS)))
    if len(names) < 2:
        raise UsageError("one stem alone separates nothing. Give --stem NAME=FILE for each of at least two.")
    officials = [read(paths[name]) for name in names]
    for official in officials:
        if official.stems != 1:
            raise UsageError(f"'{official.path}': models {official.stems} stems at once. Give it without --stem.")
        if official.config != officials[0].config:
            raise CheckpointError(
                f"'{official.path}': is not of the shape of '{officials[0].path}'. Give files of one kind."
            )
    with torch.device("meta"):
        network = Isdm(_named(officials[0].config, names))
    weights = {f"nets.{i}.{key}": value for i, one in enumerate(officials) for key, value in one.weights.items()}
    return network, weights, [official.path for official in officials]


def _named(config: MsdmConfig, names: tuple[str, ...]) -> MsdmConfig:
    if len(set(names)) != len(names) or not all(names):
        raise UsageError(f"stems {', '.join(names)}: each needs a name of its own.")
    return replace(config, names=names)


def _compare(network: Msdm | Isdm, weights: dict[str, StoredTensor], path: Path) -> None:
    """Raises CheckpointError unless all tensors of the network are there in their shapes, and no others."""
    expected = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    found = {key: value.shape for key, value in weights.items()}
    wrong = sorted(key for key in expected.keys() | found.keys() if expected.get(key) != found.get(key))
    if wrong:
        raise CheckpointError(
            f"'{path}': is no checkpoint of MSDM: {wrong[0]} is {found.get(wrong[0], 'missing')}, "
            f"not {expected.get(wrong[0], 'there')}, and {len(wrong) - 1} more differ. Give an official file."
        )


def _write(folder: Path, network: Msdm | Isdm, weights: dict[str, StoredTensor], files: list[Path]) -> None:
    """Weights, config and card into a hidden folder beside, which then gets its name."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    part = folder.with_name(f".{folder.name}.part")
    try:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        save_file({key: value.tensor().contiguous() for key, value in weights.items()}, part / WEIGHTS)
        (part / CONFIG).write_text(json.dumps(network.to_config(), indent=1) + "\n", encoding="utf-8")
        (part / "README.md").write_text(_card(folder.name, network, files), encoding="utf-8")
        (part / WEIGHTS).chmod((part / CONFIG).stat().st_mode)  # safetensors keeps them to the owner
        part.rename(folder)
    except (OSError, SafetensorError) as error:
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        reason = "no space left on the disk" if full else str(error)
        raise (SpaceError if full else OutputError)(f"'{folder}': cannot be written: {reason}.") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _card(title: str, network: Msdm | Isdm, files: list[Path]) -> str:
    sums = []
    for path in files:
        with path.open("rb") as file:
            sums.append(f"- {path.name}, sha256 {hashlib.file_digest(file, 'sha256').hexdigest()}")
    kind = "A joint diffusion model" if network.architecture == "msdm-unet" else "One diffusion model a stem"
    stems = ", ".join(network.names)
    return _CARD.format(title=title, kind=kind, rate=network.rate, stems=stems, files="\n".join(sums))
