"""`train flow` and `separate --method flow` from the outside, and the lines of docs/flows.md."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch
from safetensors.torch import save_file

from places import error, prepared, song
from shares import make_checkpoint
from songs import put, tone
from stemforge import checkpoints, flows
from stemforge.cli.main import main
from stemforge.errors import UsageError
from stemforge.models.glow import ActNorm, Flows, GlowConfig
from stemforge.separators.flow_prior import Fit, FlowSeparator

PAGE = Path(__file__).parents[1] / "docs" / "flows.md"
KIND = {"n_fft": 64, "hop": 16, "rows": 34, "blocks": 2, "hidden": 4, "layers": 1, "kernel": 3, "seconds": 0.25}
FEW = ("--iterations", "2")


def put_flow(folder: Path, *names: str, **changes: object) -> Path:
    """A checkpoint of flows that nobody trained."""
    torch.manual_seed(sum(map(ord, "".join(names))))
    network = Flows(GlowConfig(names=names, **{**KIND, **changes}))
    for weight in network.parameters():
        weight.data += 0.05 * torch.randn_like(weight)
    for part in network.modules():
        if isinstance(part, ActNorm):
            part.started.fill_(True)
    folder.mkdir(parents=True)
    save_file(network.state_dict(), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(network.to_config()))
    return folder


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a song, a checkpoint `bands` in the table, and flows of one and of two stems."""
    prepared(tmp_path, monkeypatch)
    song("song.wav", 0.4)
    put_flow(Path("runs/bass/best"), "bass")
    put_flow(Path("runs/pair/best"), "drums", "other")
    return tmp_path


def written(folder: str) -> dict[str, np.ndarray]:
    return {path.stem: sf.read(path)[0] for path in Path(folder).glob("*.wav")}


def test_flows_of_several_checkpoints(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Their stems add up to the song; the sidecar says which they were; the same again is skipped, another is not."""
    line = ["separate", "song.wav", "--flow", "bass=runs/bass/best", "--flow", "drums=runs/pair/best", *FEW]
    assert main([*line, "--method", "flow", "--json"]) == 0
    stems = written("separated/best/song")
    assert set(stems) == {"bass", "drums"}
    assert np.abs(sum(stems.values()) - sf.read("song.wav")[0]).max() < 2e-6
    recipe = json.loads(Path("separated/best/song/stemforge.json").read_text())["recipe"]
    assert recipe["settings"]["prior"]["fit"]["iterations"] == 2
    assert (
        recipe["settings"]["flows"]["drums"]
        == checkpoints.verify(checkpoints.find("runs/pair/best"))["model.safetensors"]
    )
    assert main([*line, "--method", "flow", "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-2])["status"] == "skipped"
    put_flow(Path("runs/drums/best"), "drums", dilation=2)
    assert main([*line[:-3], "drums=runs/drums/best", *FEW, "-y", "--method", "flow"]) == 0
    assert not np.array_equal(written("separated/best/song")["drums"], stems["drums"])


def test_one_more_stem(place: Path) -> None:
    """A checkpoint of two and one beside it; one alone; and as they are, with a residual."""
    assert main(["separate", "song.wav", "-n", "runs/pair/best", "--flow", "bass=runs/bass/best", *FEW]) == 0
    assert set(written("separated/best/song")) == {"drums", "other", "bass"}
    assert main(["separate", "song.wav", "-n", "runs/pair/best", "-o", "two", *FEW]) == 0
    assert set(written("two/best/song")) == {"drums", "other"}
    assert main(["separate", "song.wav", "-n", "runs/bass/best", "--no-share", "-o", "raw", *FEW]) == 0
    stems = written("raw/best/song")
    assert set(stems) == {"bass", "residual"}
    assert np.abs(sum(stems.values()) - sf.read("song.wav")[0]).max() < 2e-6


def table(**more: str) -> None:
    """A table of the flows in runs/, each under its own name, with one more line."""
    entries = [checkpoints.entry_for(f"runs/{name}/best", name=name) + f"\n{line}\n" for name, line in more.items()]
    Path("own.toml").write_text("\n".join(entries))


def test_flows_of_the_package(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """--method flow and nothing else takes the checkpoint `flows`; a flow of the command line is alone."""
    Path("runs/pair").rename("runs/flows")
    table(flows="")
    monkeypatch.setenv("STEMFORGE_CHECKPOINTS", "own.toml")
    assert main(["separate", "song.wav", "--method", "flow", *FEW]) == 0
    assert set(written("separated/flows/song")) == {"drums", "other"}
    assert main(["separate", "song.wav", "--flow", "bass=runs/bass/best", *FEW]) == 0
    assert set(written("separated/best/song")) == {"bass"}


def test_a_flow_joins_by_one_line(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`joins` in its table makes a flow one more stem of that checkpoint; --flow for the same stem goes first."""
    table(pair="", bass='joins = "pair"')
    monkeypatch.setenv("STEMFORGE_CHECKPOINTS", "own.toml")
    assert main(["separate", "song.wav", "-n", "pair", "-o", "out", *FEW]) == 0
    stems = written("out/pair/song")
    assert set(stems) == {"drums", "other", "bass"}
    assert np.abs(sum(stems.values()) - sf.read("song.wav")[0]).max() < 2e-6
    assert main(["separate", "song.wav", "-n", "pair", "-o", "plain"]) == 0
    assert set(written("plain/pair/song")) == {"drums", "other", "bass"}
    given = flows.joined(checkpoints.find("pair"), {"flows": {"bass": "mine"}, "fit": Fit(), "warm": None})
    assert given is not None and given["flows"] == {"bass": "mine"}
    assert flows.joined(checkpoints.find("bass"), None) is None


def test_a_flow_takes_the_place_of_one(place: Path) -> None:
    """Under a name that the first checkpoint has, and of a stem that was named otherwise when it was trained."""
    built = flows.build(
        checkpoints.find("runs/pair/best"),
        prior={"flows": {"other": "runs/bass/best", "flute": "runs/bass/best"}, "fit": Fit(iterations=0), "warm": None},
    )
    assert built.names == ("drums", "other", "flute")
    with pytest.raises(UsageError, match="has drums, other"):
        flows.build(
            checkpoints.find("runs/bass/best"),
            prior={"flows": {"flute": "runs/pair/best"}, "fit": Fit(), "warm": None},
        )


def test_warm(place: Path) -> None:
    """Begun with another checkpoint's stems and not fitted at all, the stems are nearer to those than cold ones."""
    make_checkpoint(place / "ck" / "fit", names=["drums", "other"])
    assert main(["separate", "song.wav", "-n", str(place / "ck" / "fit"), "-o", "guess"]) == 0
    flow = ["separate", "song.wav", "-n", "runs/pair/best", "--iterations", "0"]
    assert main([*flow, "-o", "cold"]) == 0 and main([*flow, "--warm", str(place / "ck" / "fit"), "-o", "warm"]) == 0
    guess, cold, warm = (written(f"{top}/song")["drums"] for top in ("guess/fit", "cold/best", "warm/best"))
    assert np.square(warm - guess).sum() < 0.5 * np.square(cold - guess).sum()
    put_flow(Path("slow"), "drums", rate=22050)
    assert main(["separate", "song.wav", "-n", "slow", "--warm", "bands"]) == 2


def test_rest(place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """--rest: the flow's stem as the fit has it, and what another checkpoint finds in the mixture without it."""
    Path("runs/pair").rename("runs/flows")
    table(flows="")
    monkeypatch.setenv("STEMFORGE_CHECKPOINTS", "own.toml")
    other = make_checkpoint(place / "ck" / "three", names=["drums", "piano", "other"])
    fit = ["separate", "song.wav", "--flow", "bell=runs/bass/best", *FEW]
    assert main([*fit, "-n", "flows", "-o", "fit"]) == 0 and main([*fit, "--rest", str(other), "-o", "both"]) == 0
    found, alone = written("both/flows/song"), written("fit/flows/song")
    mixture = sf.read("song.wav")[0]
    assert set(found) == {"bell", "drums", "piano", "other"}
    assert np.abs(found["bell"] - alone["bell"]).max() < 1e-6 and np.abs(sum(found.values()) - mixture).max() < 2e-6
    sf.write("left.wav", mixture - alone["bell"], 44100, subtype="FLOAT")
    assert main(["separate", "left.wav", "-n", str(other), "-o", "second"]) == 0
    assert np.abs(written("second/three/left")["piano"] - found["piano"]).max() < 1e-5
    told = json.loads(Path("both/flows/song/stemforge.json").read_text())["recipe"]
    assert set(told["settings"]["flows"]) == {"bell", "rest"}
    capsys.readouterr()
    assert main(["separate", "song.wav", "--rest", str(other)]) == 2
    assert "hears what --flow leaves. Give --flow NAME=CHECKPOINT too." in error(capsys)


def test_library(place: Path) -> None:
    """`checkpoints.load` gives a separator of the flows of a checkpoint, with the published fit."""
    found = checkpoints.load("runs/pair/best", overlap=0.5, seed=3)
    assert isinstance(found, FlowSeparator) and found.fit == Fit() and found.seed == 3


@pytest.mark.parametrize(
    "options, said",
    [
        (["--flow", "bass"], "--flow bass: not a stem and its checkpoint"),
        (["--flow", "bass=bands", "--method", "dirac"], "--method dirac: fits no flows"),
        (["-n", "bands", "--method", "flow"], "checkpoint 'bands': has no flows"),
        (["-n", "runs/bass/best", "--iterations", "5", "--lr", "0"], "rate more than 0"),
        (["-n", "runs/bass/best", "--prior-space", "y"], "prior space 'y'"),
        (["--flow", "flute=runs/pair/best"], "--flow flute=runs/pair/best: that one has drums, other"),
    ],
)
def test_refused(place: Path, capsys: pytest.CaptureFixture[str], options: list[str], said: str) -> None:
    """Impossible wishes end with 2 and one line, before anything is written."""
    assert main(["separate", "song.wav", *options]) == 2
    assert said in error(capsys)


def test_page(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every command of docs/flows.md, as it is written there but for sizes, from a folder of takes to stems."""
    for k in range(2):
        for name in ("flute", "box"):
            put(Path(f"takes/{name}/{k}.wav"), tone(800.0, 1.0, 44100), 44100)
    make_checkpoint(Path("forge"), names=["drums", "other"])
    entries = [checkpoints.entry_for(Path(p), name=n) for p, n in (("forge", "forge"), ("runs/pair/best", "flows"))]
    (place / "ck" / "own.toml").write_text("\n".join(entries))
    small = ["steps=4", "batch_size=2", "excerpts=2", "validate_every=2", "seconds=0.25", "precision=32-true"]
    small += [f"network.{key}={value}" for key, value in KIND.items()]
    blocks = re.findall(r"```\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines() if line.startswith("stemforge ")]
    assert len(lines) >= 4
    for line in lines:
        words = shlex.split(line, comments=True)[1:]
        words += small if words[0] == "train" else FEW if "--iterations" not in words else ()
        assert main(words) == 0, line
    assert set(written("separated/best/song")) == {"bass", "flute"}
