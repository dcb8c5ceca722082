"""Weights out of wheels: fetched by pip from a folder or a server of the test, checked, converted, kept whole."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
import os
import re
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from zipfile import ZipFile

import pytest
import torch
from safetensors.torch import load_file, save_file

from bundles import write_bundle
from stemforge import wheels
from stemforge.errors import CheckpointError, UsageError
from test_musicnn import TAGS, WIDTHS, small, variables

WHEEL = "musicnn-0.1.0-py3-none-any.whl"
INFO = "musicnn-0.1.0.dist-info"


def make_wheel(folder: Path) -> Path:
    """A wheel in the shape of musicnn's, with a small network; it would need TensorFlow if it were installed."""
    folder.mkdir(parents=True, exist_ok=True)
    with ZipFile(folder / WHEEL, "w") as wheel:
        wheel.writestr("musicnn/__init__.py", "raise SystemExit('the code of the wheel must not run')\n")
        for seed, model in enumerate(("MTT", "MSD")):
            index, data = write_bundle(variables(seed))
            wheel.writestr(f"musicnn/{model}_musicnn/.index", index)
            wheel.writestr(f"musicnn/{model}_musicnn/.data-00000-of-00001", data)
        wheel.writestr(f"{INFO}/LICENSE.md", "Permission to use.\n")
        requires = "Requires-Dist: tensorflow (>=1.14)"
        wheel.writestr(f"{INFO}/METADATA", f"Metadata-Version: 2.1\nName: musicnn\nVersion: 0.1.0\n{requires}\n")
        wheel.writestr(f"{INFO}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{INFO}/RECORD", "")
    return folder / WHEEL


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test, and pip without any place to look at."""
    for name in [name for name in os.environ if name.startswith("PIP_")] + ["HF_HUB_OFFLINE"]:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("STEMFORGE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The wheel in a folder that pip looks into, its sha256 the one that is known."""
    path = make_wheel(tmp_path / "index" / "simple" / "musicnn")
    monkeypatch.setenv("PIP_FIND_LINKS", str(path.parent))
    known = dataclasses.replace(wheels.CARRIED["musicnn"], sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    monkeypatch.setitem(wheels.CARRIED, "musicnn", known)
    return path


@pytest.fixture
def fetched(wheel: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same wheel, already brought by pip: for what comes after that."""
    monkeypatch.setattr(wheels, "_download", lambda name, folder: wheel)
    return wheel


@pytest.fixture
def server(wheel: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A package index on this machine, which serves the folder of the wheel."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *arguments: object) -> None:
            pass

    handler = partial(Quiet, directory=str(wheel.parents[2]))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        monkeypatch.delenv("PIP_NO_INDEX")
        monkeypatch.delenv("PIP_FIND_LINKS")
        yield f"http://127.0.0.1:{running.server_address[1]}/simple"
        running.shutdown()
        thread.join()


def test_pull_from_an_index(server: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The index of PIP_INDEX_URL is asked for the one wheel; weights, configs, licence and sums lie in the cache."""
    monkeypatch.setenv("PIP_INDEX_URL", server)
    said: list[str] = []
    folder = wheels.pull("musicnn", on_progress=said.append)
    assert folder == wheels.find("musicnn") == cache / "wheels" / "musicnn-0.1.0"
    assert said == ["fetching musicnn 0.1.0 (29 MB)", "converting musicnn to safetensors"]
    assert (folder / "LICENSE").read_text() == "Permission to use.\n"
    manifest = json.loads((folder / "wheel.json").read_text())
    assert manifest["license"] == "ISC"
    assert set(manifest["files"]) == {
        "LICENSE",
        *(f"{m}/{f}" for m in ("MTT", "MSD") for f in (wheels.WEIGHTS, wheels.CONFIG)),
    }
    for seed, model in enumerate(("MTT", "MSD")):
        found, expected = load_file(folder / model / wheels.WEIGHTS), small(seed).state_dict()
        assert all(torch.equal(found[name], expected[name]) for name in found) and "out.weight" in found
    assert [path.name for path in folder.parent.iterdir()] == ["musicnn-0.1.0"]


def test_wrong_sum(wheel: Path, cache: Path) -> None:
    """Another file under the same name is refused with both sums, and nothing is left."""
    with ZipFile(wheel, "a") as opened:
        opened.writestr("more", "x")
    with pytest.raises(CheckpointError, match=r"has sha256 [0-9a-f]{64}, not [0-9a-f]{64}\. .*PIP_INDEX_URL"):
        wheels.pull("musicnn")
    assert not list((cache / "wheels").iterdir())


def test_no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """An index that does not answer is one line about the network."""
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "1")
    with pytest.raises(
        CheckpointError, match=r"^pull 'musicnn': the package index does not answer\. Check the network"
    ):
        wheels.pull("musicnn")


def test_offline(wheel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With HF_HUB_OFFLINE nothing is fetched."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(CheckpointError, match="HF_HUB_OFFLINE is set"):
        wheels.pull("musicnn")


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("/usr/bin/python: No module named pip", "has no pip.*ensurepip"),
        ("ERROR: Could not install: [Errno 28] No space left on device", "no space left"),
        ("WARNING: Retrying (Retry(total=0))\nERROR: No matching", "does not answer"),
        ("WARNING: x\nERROR: a\nERROR: No matching distribution found.", r"^No matching distribution found\. Check"),
        ("", "without a reason"),
    ],
)
def test_reasons_of_pip(said: str, reason: str) -> None:
    """What pip says becomes one line."""
    assert re.search(reason, wheels._reason(said))


def test_not_pulled() -> None:
    """What was not pulled is not found, and the error says how to get it."""
    with pytest.raises(CheckpointError, match=r"is not in .*Run stemforge checkpoints pull musicnn\."):
        wheels.find("musicnn")
    with pytest.raises(UsageError, match=r"no wheel of that name.*musicnn"):
        wheels.pull("nothing")
    with pytest.raises(UsageError, match="There are MSD, MTT"):
        wheels.musicnn("mtt2")


def test_damage_is_found_and_repaired(fetched: Path) -> None:
    """A file that was changed is found by its sum; pulling again puts a whole folder in its place."""
    folder = wheels.pull("musicnn")
    assert wheels.pull("musicnn", on_progress=lambda _: pytest.fail("it is there")) == folder
    (folder / "MSD" / "model.safetensors").write_bytes(b"x")
    with pytest.raises(CheckpointError, match=r"MSD/model\.safetensors' was changed or damaged"):
        wheels.find("musicnn")
    assert wheels.pull("musicnn") == wheels.find("musicnn")
    (folder / "wheel.json").write_text("[]")
    with pytest.raises(CheckpointError, match="is not whole"):
        wheels.find("musicnn")


@pytest.mark.parametrize(
    ("number", "todo"), [(errno.ENOSPC, "Free some space"), (errno.EACCES, "STEMFORGE_CACHE to a folder that can")]
)
def test_cache_that_cannot_be_written(
    fetched: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, number: int, todo: str
) -> None:
    """A full disk in the middle is one line, and the cache is as it was."""

    def fails(wheel: ZipFile, folder: Path) -> None:
        (folder / "half").write_text("x")
        raise OSError(number, os.strerror(number))

    known = dataclasses.replace(wheels.CARRIED["musicnn"], convert=fails)
    monkeypatch.setitem(wheels.CARRIED, "musicnn", known)
    with pytest.raises(CheckpointError, match=f"cannot write into .*{os.strerror(number)}. .*{todo}"):
        wheels.pull("musicnn")
    assert not list((cache / "wheels").iterdir())


def test_another_pull_was_faster(fetched: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two pulls at once: the folder of the first is kept."""
    rename = Path.rename

    def late(path: Path, target: Path) -> Path:
        if path.name == "made":
            make(path, target)
        return rename(path, target)

    def make(path: Path, target: Path) -> None:
        monkeypatch.setattr(Path, "rename", rename)
        wheels.pull("musicnn")

    monkeypatch.setattr(Path, "rename", late)
    assert wheels.pull("musicnn") == cache / "wheels" / "musicnn-0.1.0"


def test_places_of_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """STEMFORGE_CACHE, then XDG_CACHE_HOME, then the home folder; none of them is an error."""
    monkeypatch.delenv("STEMFORGE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert wheels.cache() == tmp_path / "stemforge"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert wheels.cache() == tmp_path / ".cache" / "stemforge" or sys.platform == "win32"


def test_network_of_the_cache(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The network is built from the config of its folder, in evaluation mode and without gradients."""
    folder = cache / "MTT"
    folder.mkdir(parents=True)
    save_file(small().state_dict(), folder / wheels.WEIGHTS)
    (folder / wheels.CONFIG).write_text(json.dumps({"architecture": "musicnn", "tags": TAGS, **WIDTHS}))
    monkeypatch.setattr(wheels, "find", lambda name: cache)
    network = wheels.musicnn("MTT")
    assert network.tags == TAGS and not network.training
    assert not any(p.requires_grad for p in network.parameters())
    assert torch.equal(network.out.weight, small().out.weight)
