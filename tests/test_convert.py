"""Published checkpoints become folders that load and compute the same; whatever else is given is told."""

from __future__ import annotations

import errno
import json
import os
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from torch import nn

import official
from stemforge import checkpoints
from stemforge.cli.main import main
from stemforge.convert import convert, read
from stemforge.errors import CheckpointError, OutputError, SpaceError, UsageError
from stemforge.models.msdm import MsdmConfig
from stemforge.models.pickles import load

TINY = MsdmConfig(**official.TINY, sigma_data=0.25)
ONE = MsdmConfig(**official.TINY, names=("bass",))
SIGMA = torch.tensor([0.05, 0.8])


@pytest.fixture(scope="module")
def joint(tmp_path_factory: pytest.TempPathFactory):
    """A published model of four stems and its checkpoint."""
    torch.manual_seed(0)
    theirs = official.model(TINY)
    return theirs, official.lightning(tmp_path_factory.mktemp("joint") / "official.ckpt", theirs, TINY)


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory):
    """Published models of one stem, by name, and their checkpoints."""
    torch.manual_seed(1)
    folder = tmp_path_factory.mktemp("single")
    models = {name: official.model(ONE).requires_grad_(False) for name in ("drums", "vocals", "bass")}
    return models, {name: official.lightning(folder / f"{name}_epoch=3.ckpt", one, ONE) for name, one in models.items()}


def loaded(folder: Path) -> nn.Module:
    return checkpoints.network_of(checkpoints.find(folder))


def test_joint_checkpoint(joint, tmp_path: Path) -> None:
    """A Lightning file with pickled objects becomes a checkpoint that denoises as the published model does."""
    theirs, path = joint
    folder = convert(path, tmp_path / "sub" / "msdm", allow_pickle=True)
    assert {file.name for file in folder.iterdir()} == {"model.safetensors", "config.json", "README.md"}
    assert [place.name for place in folder.parent.iterdir()] == ["msdm"]
    network = loaded(folder)
    assert network.names == official.NAMES and network.config == TINY
    x = torch.randn(2, 4, 144)
    with torch.no_grad():
        expected = theirs.diffusion.denoise_fn(x, sigmas=SIGMA)
        found = network.denoise(x[:, :, None], SIGMA[:, None, None, None])[:, :, 0]
    assert (found - expected).abs().max() <= 1e-5
    card = (folder / "README.md").read_text()
    assert "licence is not known" in card and "official.ckpt, sha256 " in card and "bass, drums, guitar, piano" in card


def test_objects_of_the_file_are_data(joint) -> None:
    """The distribution of noise levels and the data sets of the file can be read, as dictionaries."""
    found = load(joint[1])
    distribution = found["hyper_parameters"]["diffusion_sigma_distribution"]
    assert distribution.origin == "audio_diffusion_pytorch.diffusion.LogNormalDistribution"
    assert distribution.state == {"mean": -3.0, "std": 1.0}
    assert found["datamodule_hyper_parameters"]["train_dataset"].state["tracks"] == ["Track00001"]


def test_independent_checkpoints(single, tmp_path: Path) -> None:
    """One file a stem becomes one checkpoint, published stems first, each with its own weights."""
    models, paths = single
    network = loaded(convert(paths, tmp_path / "isdm", allow_pickle=True))
    assert network.names == ("bass", "drums", "vocals")
    x = torch.randn(2, 3, 96)
    found = network.denoise(x[:, :, None], SIGMA[:, None, None, None])[:, :, 0]
    for i, name in enumerate(network.names):
        expected = models[name].diffusion.denoise_fn(x[:, [i]], sigmas=SIGMA)
        assert (found[:, [i]] - expected).abs().max() <= 1e-5


@pytest.mark.parametrize("keep", ["model.unet.", "model.diffusion.net.", "unet.", "diffusion.net."])
def test_each_name_of_the_weights(joint, tmp_path: Path, keep: str) -> None:
    """Either copy of the weights is enough, with or without Lightning around it; sizes come from the shapes."""
    theirs, _ = joint
    outer = "model." if keep.startswith("model.") else ""
    both = {f"{outer}{key}": value for key, value in theirs.state_dict().items()}
    state = OrderedDict((key, value) for key, value in both.items() if key.startswith(keep))
    torch.save({"state_dict": state} if outer else state, tmp_path / "a.pt")
    found = read(tmp_path / "a.pt")
    assert found.stems == 4 and len(found.weights) == len(theirs.unet.state_dict())
    published = MsdmConfig()
    sizes = {**official.TINY, "heads": published.heads, "head_features": 4, "groups": published.groups}
    assert found.config == MsdmConfig(**sizes, names=found.config.names)


def test_settings_that_are_objects_are_left_out(joint, tmp_path: Path) -> None:
    """Settings that are no plain numbers count as missing."""
    theirs, _ = joint
    values = {"attention_heads": Path("x"), "diffusion_sigma_data": -1, "resnet_groups": True}
    official.lightning(tmp_path / "a.ckpt", theirs, TINY, hyper_parameters=values)
    assert read(tmp_path / "a.ckpt").config.heads == 8 and read(tmp_path / "a.ckpt").config.sigma_data == 0.2


def test_hidden_code_is_not_run(joint, tmp_path: Path) -> None:
    """A checkpoint with a call in it converts like any other, and the call is not made."""

    class Evil:
        def __reduce__(self):
            return os.system, (f"touch '{tmp_path / 'mark'}'",)

    path = official.lightning(tmp_path / "evil.ckpt", joint[0], TINY, callbacks={"early": [Evil()]}, loops=Evil())
    loaded(convert(path, tmp_path / "out", allow_pickle=True))
    assert not (tmp_path / "mark").exists()


def test_pickles_need_leave(joint, tmp_path: Path) -> None:
    """Without leave the file is not even opened."""
    with pytest.raises(CheckpointError, match="say --allow-pickle"):
        convert(joint[1], tmp_path / "out")
    with pytest.raises(CheckpointError, match="say --allow-pickle"):
        convert(tmp_path / "not-there.ckpt", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_other_models_are_refused(joint, tmp_path: Path) -> None:
    """A file of another network, of other settings, or with a tensor too few or too many, is no checkpoint of MSDM."""
    theirs, _ = joint
    path, state = tmp_path / "a.ckpt", {f"model.{key}": value for key, value in theirs.state_dict().items()}
    torch.save({"state_dict": nn.Linear(3, 3).state_dict()}, path)
    with pytest.raises(CheckpointError, match=r"no checkpoint of MSDM: it has no 'to_mapping\.0\.weight'"):
        convert(path, tmp_path / "out", allow_pickle=True)
    for key, value in {"use_skip_scale": False, "diffusion_dynamic_threshold": 0.95}.items():
        changed = official.settings(TINY, 4) | {key: value}
        with pytest.raises(CheckpointError, match=f"{key} is {value}"):
            read(official.lightning(path, theirs, TINY, hyper_parameters=changed))
    key = "model.unet.bottleneck.attention.fn.norm.g"
    cases = {
        "missing": {k: v for k, v in state.items() if k != key},
        r"\(9,\), not \(64,\)": state | {key: torch.ones(9)},
        "not there, and 0 more": state | {"model.unet.extra": torch.ones(1)},
    }
    for message, changed in cases.items():
        torch.save({"state_dict": changed, "hyper_parameters": official.settings(TINY, 4)}, path)
        with pytest.raises(CheckpointError, match=message):
            convert(path, tmp_path / "out", allow_pickle=True)
    for empty in ([], {"state_dict": 3}, {"state_dict": {1: torch.ones(1)}}):
        torch.save(empty, path)
        with pytest.raises(CheckpointError, match="no checkpoint of MSDM"):
            read(path)
    assert not (tmp_path / "out").exists()


def test_stems_must_fit(joint, single, tmp_path: Path) -> None:
    """Joint and single files are not mixed up, and stems have names of their own."""
    (_, path), (_, paths), out = joint, single, tmp_path / "out"
    with pytest.raises(UsageError, match="models one stem only"):
        convert(paths["bass"], out, names=("bass",), allow_pickle=True)
    with pytest.raises(UsageError, match="models 4 stems at once"):
        convert({"bass": paths["bass"], "drums": path}, out, allow_pickle=True)
    with pytest.raises(UsageError, match=r"models 4 stems\. Name them"):
        convert(path, out, names=("bass", "drums"), allow_pickle=True)
    with pytest.raises(UsageError, match="a name of its own"):
        convert(path, out, names=("a", "a", "b", "c"), allow_pickle=True)
    with pytest.raises(UsageError, match="one stem alone"):
        convert({"bass": paths["bass"]}, out, allow_pickle=True)
    wide = MsdmConfig(**official.TINY | {"multipliers": (1, 1, 1)}, names=("bass",))
    other = official.lightning(tmp_path / "other.ckpt", official.model(wide), wide)
    with pytest.raises(CheckpointError, match="not of the shape"):
        convert({"bass": paths["bass"], "drums": other}, out, allow_pickle=True)


def test_nothing_half_written(joint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is there is never written over, and a full disk leaves nothing behind."""
    (tmp_path / "there").mkdir()
    with pytest.raises(OutputError, match="already there"):
        convert(joint[1], tmp_path / "there", allow_pickle=True)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(SpaceError, match="no space left"):
        convert(joint[1], tmp_path / "out", allow_pickle=True)
    assert [place.name for place in tmp_path.iterdir()] == ["there"]


def test_command(joint, single, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`stemforge checkpoints convert` prints the folder, which `entry` and a name for each stem then take."""
    paths, run = single[1], ["checkpoints", "convert"]
    assert main([*run, str(joint[1]), "--to", str(tmp_path / "a"), "--allow-pickle", "--names", "a, b,c,d"]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "a")
    assert json.loads((tmp_path / "a" / "config.json").read_text())["names"] == ["a", "b", "c", "d"]
    assert main(["checkpoints", "entry", str(tmp_path / "a"), "--license", "unknown"]) == 0
    assert 'architecture = "msdm-unet"' in capsys.readouterr().out
    stems = [word for name in paths for word in ("--stem", f"{name}={paths[name]}")]
    assert main([*run, *stems, "--to", str(tmp_path / "b"), "--allow-pickle"]) == 0
    assert json.loads((tmp_path / "b" / "config.json").read_text())["architecture"] == "isdm-unet"
    capsys.readouterr()
    assert main([*run, str(joint[1]), "--to", str(tmp_path / "c")]) == 5
    assert capsys.readouterr().err.count("\n") == 1
    for wrong in ([], ["a.ckpt", *stems], [*stems, "--names", "a"], ["--stem", "bass"], [*stems, *stems]):
        assert main([*run, *wrong, "--to", str(tmp_path / "c"), "--allow-pickle"]) == 2
