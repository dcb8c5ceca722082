"""The package: checkpoints.toml is found from the sources and from a wheel, with everything else that must travel."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

LOAD = """
from stemforge import checkpoints
import stemforge
print(stemforge.__file__)
found = checkpoints.find()
checkpoints.verify(found)
print(found.name)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel of the working tree, built without the network."""
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return next(out.glob("stemforge-*.whl"))


def run(*arguments: str, path: Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Python in another folder, with `path` first on its import path."""
    env = dict(os.environ, PYTHONPATH=str(path))
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=True, env=env, cwd=cwd)


def test_checkpoints_are_found_from_the_sources(tmp_path: Path) -> None:
    """In an editable install checkpoints.toml lies at the root of the repository, and the default one is intact."""
    where, name = run("-c", LOAD, path=ROOT / "src", cwd=tmp_path).stdout.splitlines()
    assert Path(where).is_relative_to(ROOT / "src")
    assert name == "forge"


def test_checkpoints_are_found_in_a_wheel(wheel: Path, tmp_path: Path) -> None:
    """Unpacked away from the repository, the wheel brings its own checkpoints.toml and the weights that it names."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    where, name = run("-c", LOAD, path=tmp_path / "site", cwd=tmp_path).stdout.splitlines()
    assert Path(where).is_relative_to(tmp_path / "site")
    assert name == "forge"


def test_wheel_holds_what_it_must_and_nothing_else(wheel: Path) -> None:
    """Code, types marker, checkpoints and the licence are inside; tests, examples and caches are not."""
    names = zipfile.ZipFile(wheel).namelist()
    assert {"stemforge/checkpoints.toml", "stemforge/py.typed", "stemforge/cli/main.py"} <= set(names)
    assert {f"stemforge/configs/{path.name}" for path in (ROOT / "configs").glob("*.toml")} <= set(names)
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert all(name.startswith(("stemforge/", "stemforge-")) for name in names)
    assert not [name for name in names if "__pycache__" in name]
    embedded = {p.name for p in (ROOT / "src/stemforge/embedded").rglob("*.safetensors")}
    assert embedded == {Path(name).name for name in names if name.endswith(".safetensors")}


def test_versions_agree(wheel: Path) -> None:
    """The wheel is named after the version that the package reports."""
    from stemforge import __version__

    assert wheel.name.startswith(f"stemforge-{__version__}-")
