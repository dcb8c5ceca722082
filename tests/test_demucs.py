"""HTDemucs out of the package demucs, tiny and with random weights, in a file as demucs publishes it."""

from __future__ import annotations

import json
import sys
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from hub_server import Hub
from stemforge import checkpoints
from stemforge.errors import CheckpointError, UsageError
from stemforge.models.demucs import KLASS, HtDemucs
from stemforge.tables import available
from stemforge.tasks.separate import separate
from stemforge.types import Audio
from test_hub import hub  # noqa: F401

pytest.importorskip("demucs", reason="the extra demucs")

SOURCES = ["drums", "bass", "other", "vocals"]
KWARGS = {
    "channels": 4, "nfft": 512, "depth": 2, "t_layers": 1, "t_heads": 2, "dconv_depth": 1, "dconv_comp": 2,
    "samplerate": 8000, "segment": {"_type": "fraction", "numerator": 1, "denominator": 2}, "bottom_channels": 8,
    "t_hidden_scale": 1.0, "of_a_later_release": 1,
}  # fmt: skip


def published(folder: Path, klass: str = KLASS, **more: str) -> Path:
    """A safetensors file of a tiny HTDemucs in half precision, which says of itself what it is."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    network = HtDemucs({"args": [SOURCES], "kwargs": KWARGS})
    said = {"klass": klass, "args": json.dumps([SOURCES]), "kwargs": json.dumps(KWARGS), **more}
    tensors = {key: value.half().contiguous() for key, value in network.state_dict().items()}
    save_file(tensors, folder / "5e1f.safetensors", metadata=said)
    return folder / "5e1f.safetensors"


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A table of the user's with the tiny network, as the packaged one has the published."""
    sha256 = checkpoints.hub.sha256_of(published(tmp_path / "tiny"))
    lines = ['[tiny]\nfolder = "tiny"\narchitecture = "htdemucs"\nkind = "network"\nlicense = "MIT"\nchannels = 2']
    lines += [f'files = {{ "5e1f.safetensors" = "sha256:{sha256}" }}', f"stems = {json.dumps(SOURCES)}"]
    (tmp_path / "own.toml").write_text("\n".join([*lines, "sample_rate = 8000"]) + "\n")
    monkeypatch.setenv("STEMFORGE_CHECKPOINTS", str(tmp_path / "own.toml"))
    return tmp_path


def test_separates(table: Path) -> None:
    """A file without a config.json is a checkpoint: its stems add up, in windows as long as it was trained on."""
    separator = checkpoints.load("tiny")
    assert (separator.names, separator.rate, separator.segment) == (tuple(SOURCES), 8000, 0.5)
    x = 0.1 * torch.randn(2, 9000)
    stems = separate(Audio(x, 8000), separator)
    assert (stems.samples.sum(dim=0) - x).abs().max() < 1e-5 and stems["vocals"].samples.std() > 0
    assert not separate(Audio(torch.zeros(2, 5000), 8000), separator).samples.any()
    with pytest.raises(UsageError, match=r"windows of at most 0\.5 s"):
        separate(Audio(x, 8000), checkpoints.load("tiny", segment=1.0))


def test_from_the_hub(hub: Hub, tmp_path: Path) -> None:  # noqa: F811
    """A table names repository, commit and the one file; it is fetched once, and needs no network after that."""
    path = published(tmp_path / "tiny")
    revision, sha256 = hub.add("org/demucs", {path.name: path.read_bytes()}), checkpoints.hub.sha256_of(path)
    lines = [f'[tiny]\nrepo = "org/demucs"\nrevision = "{revision}"\narchitecture = "htdemucs"\nsample_rate = 8000']
    lines += [f'channels = 2\nlicense = "MIT"\nstems = {json.dumps(SOURCES)}']
    (tmp_path / "own.toml").write_text("\n".join([*lines, f'files = {{ "{path.name}" = "sha256:{sha256}" }}']))
    assert checkpoints.load("tiny").names == tuple(SOURCES)
    hub.requests.clear()
    assert checkpoints.load("tiny").names == tuple(SOURCES) and not hub.requests


def test_computes_what_demucs_computes(table: Path) -> None:
    """A window of the trained length gives, up to its level and mean, what the class of demucs gives."""
    from demucs.htdemucs import HTDemucs

    own = checkpoints.network_of(checkpoints.find("tiny"))
    known = {key: value for key, value in KWARGS.items() if key != "of_a_later_release"}
    theirs = HTDemucs(SOURCES, **{**known, "segment": Fraction(1, 2)}).eval()
    theirs.load_state_dict(own.state_dict())
    x = torch.randn(1, 2, 4000)
    mono = x.mean(dim=1)
    with torch.no_grad():
        expected = theirs((x - mono.mean()) / mono.std(unbiased=False)) * mono.std(unbiased=False)
        found = own.separate(x)
    for i in (0, 1, 3):
        assert torch.allclose(found[:, i], expected[:, i], atol=1e-5)


def test_other_files_are_refused(tmp_path: Path) -> None:
    """Another class is not built, whatever it is; nor are quantized weights, or a file that says nothing."""
    from stemforge.models.demucs import config_of

    with pytest.raises(CheckpointError, match=r"is os\.system, and only demucs"):
        config_of(published(tmp_path / "a", klass="os.system"))
    with pytest.raises(CheckpointError, match="is quantized"):
        config_of(published(tmp_path / "b", structure="{}"))
    save_file({"x": torch.zeros(1)}, tmp_path / "c.safetensors")
    with pytest.raises(CheckpointError, match="does not say of what network"):
        config_of(tmp_path / "c.safetensors")


def test_without_the_package(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without demucs the error says what to install."""
    monkeypatch.setitem(sys.modules, "demucs.htdemucs", None)
    with pytest.raises(CheckpointError, match=r"pip install 'stemforge\[demucs\]'"):
        checkpoints.load("tiny")


def test_published_one_is_pinned() -> None:
    """The packaged table pins one file of one commit."""
    found = available()["htdemucs"]
    assert found.repo == "adefossez/HTDemucs" and checkpoints.hub.COMMIT.fullmatch(found.revision)
    assert found.weights.name == "955717e8.safetensors" and found.stems == tuple(SOURCES)
