"""Checkpoints: found by name or folder, verified, and refused when anything is not as it should be."""

from __future__ import annotations

import json
import os
import tomllib
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from shares import Shares, make_checkpoint
from stemforge import checkpoints, devices, hub
from stemforge.errors import CheckpointError, DeviceError, UsageError
from stemforge.models.registry import ARCHITECTURES
from tiny import tiny_network


@pytest.fixture(autouse=True)
def architecture(monkeypatch: pytest.MonkeyPatch) -> None:
    """The network of these tests is among the architectures."""
    monkeypatch.setitem(ARCHITECTURES, "shares", Shares)
    monkeypatch.delenv("STEMFORGE_CHECKPOINTS", raising=False)


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A table of the user's own with one checkpoint, `mine`, which is the default."""
    make_checkpoint(tmp_path / "mine")
    path = tmp_path / "own.toml"
    path.write_text(checkpoints.entry_for(tmp_path / "mine", default=True))
    monkeypatch.setenv("STEMFORGE_CHECKPOINTS", str(path))
    return path


def test_every_packaged_checkpoint_is_complete() -> None:
    """All entries of checkpoints.toml have what they need, their files are there, and one is the default."""
    for checkpoint in checkpoints.available().values():
        assert checkpoint.table["architecture"] in ARCHITECTURES
        if checkpoint.repo is None:
            checkpoints.verify(checkpoint)
            assert (checkpoint.folder / "README.md").is_file(), "a model card"
    assert sum(checkpoint.default for checkpoint in checkpoints.available().values()) <= 1


def test_entry_round_trip(table: Path) -> None:
    """The entry that is made for a folder is the one that is read, and names its files by sha256."""
    entry = tomllib.loads(table.read_text())["mine"]
    assert entry["stems"] == ["bass", "drums", "other"] and entry["sample_rate"] == 44100
    assert entry["architecture"] == "shares" and entry["segment"] == 0.5
    found = checkpoints.find("mine")
    assert found.default and found.folder == table.parent / "mine" and found.stems == ("bass", "drums", "other")
    assert checkpoints.verify(found).keys() == {"model.safetensors", "config.json"}
    assert "mine" in checkpoints.names()


def test_load_by_name_folder_and_default(table: Path) -> None:
    """The default, a name and a folder give the same separator, float32 from half precision."""
    for name in (None, "mine", str(table.parent / "mine"), table.parent / "mine"):
        separator = checkpoints.load(name, overlap=0.5)
        assert separator.names == ("bass", "drums", "other") and separator.overlap == 0.5
        stems = torch.cat(list(separator.stream([torch.ones(2, 1000)])), dim=-1)
        assert stems.shape == (3, 2, 1000) and stems.dtype == torch.float32


def test_own_table_is_merged_over(table: Path) -> None:
    """Entries of the user's file win over packaged ones of the same name; the last default is the one."""
    table.write_text(table.read_text().replace("[mine]", "[forge]"))
    assert checkpoints.find("forge").folder == table.parent / "mine"
    assert checkpoints.find().name == "forge"


def test_unknown_name(table: Path) -> None:
    """An unknown name lists the known ones and the closest."""
    with pytest.raises(UsageError, match=r"mine.*Did you mean mine"):
        checkpoints.find("mime")


def test_wrong_sum(table: Path) -> None:
    """A file that is not what its sha256 says is refused with both sums."""
    with (table.parent / "mine" / "model.safetensors").open("ab") as file:
        file.write(b"x")
    with pytest.raises(CheckpointError, match=r"has sha256 [0-9a-f]{64}, not [0-9a-f]{64}"):
        checkpoints.load("mine")


def test_weights_are_hashed_once(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However often they are verified in a process; but again when somebody wrote to them."""
    asked: list[str] = []
    whole = hub.sha256_of
    monkeypatch.setattr(hub, "sha256_of", lambda path: asked.append(path.name) or whole(path))
    found = checkpoints.find("mine")
    os.utime(found.folder / "config.json"), os.utime(found.folder / "model.safetensors")
    sums = checkpoints.verify(found)
    checkpoints.build(found)
    assert checkpoints.verify(found) == sums and sorted(asked) == ["config.json", "model.safetensors"]
    (found.folder / "model.safetensors").write_bytes(b"other")
    with pytest.raises(CheckpointError, match="has sha256"):
        checkpoints.verify(found)


def test_missing_file(table: Path) -> None:
    """A file that is not there is named."""
    (table.parent / "mine" / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"config\.json' is not there"):
        checkpoints.load("mine")


@pytest.mark.parametrize("name", ["model.ckpt", "a/b.pt", "c.th", "d.PTH", "e.bin"])
def test_pickles_are_refused(tmp_path: Path, name: str) -> None:
    """A pickle is refused by its name, whether it is there or not."""
    with pytest.raises(CheckpointError, match="pickle can run any code"):
        checkpoints.find(name)


def test_places_that_hold_none() -> None:
    """A path without a checkpoint is told, and so is an address that is none."""
    with pytest.raises(CheckpointError, match="no such folder"):
        checkpoints.find("no/such/folder")
    for address in ("hf://alone", "hf:a/b", "hf://a/b@", "hf://a/b/c"):
        with pytest.raises(UsageError, match="Write hf://org/repo"):
            checkpoints.find(address)


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ('architecture = "shares"\n', "", "line 1: checkpoint 'mine': lacks architecture"),
        ("folder = ", "fodler = ", "lacks exactly one of 'embedded', 'folder' and 'repo'"),
        ("sample_rate = 44100", 'sample_rate = "44100"', "'sample_rate' has the wrong type"),
        ("sha256:", "sha256:zz", "needs the sha256"),
        ("folder = ", 'repo = "a/b"\nfolder = ', "exactly one of"),
        ("folder = ", "repo = ", "'revision' needs the 40 hexadecimal digits of a commit"),
        ("folder = ", 'revision = "main"\nrepo = ', "not 'main'"),
        ("folder = ", f'revision = "{"0" * 40}"\nrepo = ', "'repo' must be org/name"),
        ("[mine]", "[mine", "cannot be read"),
        (
            '"config.json" =',
            f'"../../etc/passwd" = "{"0" * 64}", "config.json" =',
            "'../../etc/passwd' cannot be the name",
        ),
        ('"config.json" =', f'"/etc/passwd" = "{"0" * 64}", "config.json" =', "'/etc/passwd' cannot be the name"),
    ],
)
def test_tables_that_are_not_in_order(table: Path, before: str, after: str, message: str) -> None:
    """A table that cannot be used is a usage error with the file, the line and what is wrong."""
    table.write_text(table.read_text().replace(before, after))
    with pytest.raises(UsageError, match=message) as caught:
        checkpoints.available()
    assert str(table) in str(caught.value)


def test_unknown_key_is_a_warning(table: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A key that is not known is told and ignored."""
    table.write_text(table.read_text() + 'colour = "red"\n')
    assert checkpoints.find("mine").name == "mine"
    assert "unknown key 'colour'" in caplog.text


def test_config_and_weights_must_agree(tmp_path: Path) -> None:
    """Missing, unknown and misshapen tensors are named, three at most."""
    folder = make_checkpoint(tmp_path / "a")
    save_file(
        {"gains": torch.ones(4), "x": torch.ones(1), "y": torch.ones(1), "z": torch.ones(1)},
        folder / "model.safetensors",
    )
    with pytest.raises(CheckpointError, match=r"gains is \(4,\), not \(3,\); x is unknown; y is unknown and 1 more"):
        checkpoints.load(folder)


def test_table_and_network_must_agree(table: Path) -> None:
    """A table that promises other stems than the network has is refused."""
    table.write_text(table.read_text().replace('"drums"', '"piano"'))
    with pytest.raises(CheckpointError, match="table says stems bass, piano, other"):
        checkpoints.load("mine")


@pytest.mark.parametrize(
    ("config", "message"),
    [("{", "names no architecture"), ({"architecture": "os.system"}, "is not one of"), ({}, "names no architecture")],
)
def test_bad_configs(tmp_path: Path, config, message: str) -> None:
    """A config that cannot be read, or asks for an architecture that is not in the list, is refused."""
    folder = make_checkpoint(tmp_path / "a")
    (folder / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    with pytest.raises(CheckpointError, match=message):
        checkpoints.load(folder)


def test_weights_that_are_none(tmp_path: Path) -> None:
    """A file that is no safetensors is refused."""
    folder = make_checkpoint(tmp_path / "a")
    (folder / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(CheckpointError, match="no safetensors file"):
        checkpoints.load(folder)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"width": 10**12}, "1e\\+12 is in it"),
        ({"pools": [[24, 36, 2], [36, float("inf"), 2]]}, "inf is in it"),
        ({"width": 2**20}, "it asks for more than"),
        ({"layers": 10**7}, "it asks for more than"),
        ({"prompt_width": 2**24, "hidden": 2**24}, "does not fit 'forge'"),
    ],
)
def test_configs_that_would_fill_the_memory(tmp_path: Path, changes: dict, words: str) -> None:
    """A stranger's config is refused in one line before the network it asks for is made."""
    network = tiny_network()
    save_file(network.state_dict(), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(network.to_config() | changes))
    with pytest.raises(CheckpointError, match=words) as caught:
        checkpoints.load(tmp_path)
    assert "\n" not in str(caught.value)


def test_tensors_that_are_larger_than_their_file(tmp_path: Path) -> None:
    """A header that promises 10^12 numbers is told as what it is."""
    header = json.dumps({"x": {"dtype": "F32", "shape": [10**6, 10**6], "data_offsets": [0, 4 * 10**12]}}).encode()
    (tmp_path / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    (tmp_path / "config.json").write_text(json.dumps(tiny_network().to_config()))
    with pytest.raises(CheckpointError, match="no safetensors file"):
        checkpoints.load(tmp_path)


def test_config_with_unknown_keys_is_refused(tmp_path: Path) -> None:
    """The config of the real architecture is strict."""
    folder = make_checkpoint(tmp_path / "a", architecture="forge", colour="red")
    with pytest.raises(CheckpointError, match="does not fit 'forge'"):
        checkpoints.load(folder)


def test_devices() -> None:
    """`auto` finds one, `cpu` is there, a named one that is not there is an error, and so is a name that is none."""
    assert devices.choose("auto").type in ("cpu", "cuda", "mps")
    assert devices.choose("cpu").type == "cpu"
    for name in ("tpu", "cuda:x", "cuda:-1", ""):
        with pytest.raises(UsageError, match="no such device"):
            devices.choose(name)
    with pytest.raises(DeviceError, match="Use"):
        devices.choose("cuda:99")


def test_small_numbers_count_as_zero() -> None:
    """Numbers too small for a normalised float are flushed once a device is chosen."""
    devices.choose("cpu")
    assert (torch.full((4,), 1e-39) * 0.5).eq(0).all()
