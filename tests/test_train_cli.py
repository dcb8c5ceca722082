"""`stemforge train` from the outside: config and changes, what a run leaves, stopping and going on."""

from __future__ import annotations

import csv
import errno
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from lightning_fabric import Fabric
from safetensors import safe_open
from safetensors.torch import load_file

from songs import put, tone
from stemforge import checkpoints, devices
from stemforge.cli.main import main
from stemforge.cli.train_config import settings, shipped
from stemforge.cli.train_plot import curves
from stemforge.cli.train_samples import spectrogram
from stemforge.errors import InputError, UsageError
from tiny import TINY, tiny_songs

CONFIG = """
steps = 6
batch_size = 2
seconds = 0.25
excerpts = 1
validate_every = 3
save_every = 2
precision = "32-true"
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """The tiny network as a TOML file."""
    lines = [f"{k} = {json.dumps(v)}" for k, v in TINY.items()]
    path = tmp_path / "tiny.toml"
    path.write_text(CONFIG + "[network]\n" + "\n".join(lines) + "\n")
    return path


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """The memory of the process that tests stays as it is."""
    monkeypatch.setattr(devices, "keep_memory", lambda: None)


def words(config: Path, *more: str, out: str = "run") -> list[str]:
    folder = config.parent
    data, valid = folder / "songs", folder / "valid"
    if not data.exists():
        tiny_songs(data)
        tiny_songs(valid, seconds=9.0)
    paths = ["--data", str(data), "--valid", str(valid), "--out", str(folder / out)]
    return ["train", str(config), *paths, "-d", "cpu", *more]


def scores(run: Path) -> dict[str, float]:
    with safe_open(run / "best" / "model.safetensors", framework="pt") as file:
        return json.loads(file.metadata()["training"])


def test_changes_reach_the_config(config):
    """key=value changes plain and nested values; numbers, lists and words are read as TOML."""
    found = settings(config, ["steps=9", "network.width=32", "shares=[1, 0, 0, 0, 0]", "precision=bf16-mixed"])
    assert (found.steps, found.network["width"], found.precision) == (9, 32, "bf16-mixed")
    assert found.shares == (1, 0, 0, 0, 0)


@pytest.mark.parametrize(
    ("text", "changes", "error", "says"),
    [
        ("stepps = 3", [], UsageError, "stepps"),
        ("steps = ", [], UsageError, "Invalid value"),
        ("steps = 3", ["steps"], UsageError, "key=value"),
        (None, [], InputError, "gone.toml"),
    ],
)
def test_a_wrong_config_says_what_is_wrong(tmp_path, text, changes, error, says):
    """Unknown keys, broken TOML, changes that are none and missing files are named."""
    path = tmp_path / "gone.toml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(error, match=says):
        settings(path, changes)


def test_values_of_the_wrong_type(config):
    """A word where a number belongs is named before anything starts."""
    with pytest.raises(UsageError, match=r"rate = 'fast' must be of type float"):
        settings(config, ["rate=fast"])
    with pytest.raises(UsageError, match="steps is a value, not a table"):
        settings(config, ["steps.more=3"])
    with pytest.raises(UsageError, match="precision 'half' is not one of bf16-mixed, 16-mixed, 32-true"):
        settings(config, ["precision=half"])
    assert settings(config, ["seconds=2"]).seconds == 2.0


@pytest.mark.parametrize(
    "name", ["forge", "forge-gpu", "sketch", "sketch-text", "finetune", "making", "tiny", "msdm", "isdm"]
)
def test_shipped_configs(name):
    """Each is found by its name alone."""
    assert name in shipped() and settings(Path(name), []).steps > 0


def test_a_run_leaves_a_checkpoint_and_logs(config, capsys):
    """After the last step there are weights, the best ones, config, state, scores in a CSV file; then all is done."""
    assert main(words(config)) == 0
    run = config.parent / "run"
    assert {"model.safetensors", "config.json", "state.pt", "best"} <= {p.name for p in run.iterdir()}
    assert json.loads((run / "config.json").read_text())["architecture"] == "forge"
    rows = list(csv.DictReader((run / "logs" / "from-0000000" / "metrics.csv").read_text().splitlines()))
    best = max(float(row["valid/all"]) for row in rows if row.get("valid/all"))
    assert scores(run)["all"] == pytest.approx(best, abs=1e-3)
    assert checkpoints.load(run / "best").names == tuple(TINY["names"])
    capsys.readouterr()
    assert main(words(config)) == 0
    said = capsys.readouterr()
    assert "step 6 of 6" in said.err and not said.out


def test_best_is_the_same_in_a_run_that_was_cut(config):
    """Cut at step 4 and resumed: weights, best weights and their scores are those of the uncut run, bit for bit."""
    assert main(words(config, out="whole")) == 0
    assert main(words(config, "--stop-after", "4", out="cut")) == 0
    assert main(words(config, out="cut")) == 0
    for name in ("model.safetensors", "best/model.safetensors"):
        one, two = (config.parent / run / name for run in ("whole", "cut"))
        assert one.read_bytes() == two.read_bytes(), name


def test_json(config, capsys):
    """--json: one object a line on stdout, the last one a summary; files that are lost are told."""
    line = words(config, "--json", "-q")
    (config.parent / "songs" / "song0" / "bass.npy").write_bytes(b"")
    assert main(line) == 0
    said = capsys.readouterr()
    rows = [json.loads(text) for text in said.out.splitlines()]
    assert [row["event"] for row in rows] == ["quarantine", "valid", "step", "valid", "summary"]
    assert rows[-1]["lost"] == 1 and rows[-1]["step"] == 6 and rows[2]["audio_s_per_s"] > 0
    assert said.err.count("\n") == 1 and "bass.npy" in said.err


def test_quiet(config):
    """With -q a run says nothing at all, not even what its engine has to say."""
    command = [sys.executable, "-m", "stemforge", *words(config, "steps=1", "precision=bf16-mixed", "-q")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")


def test_live_view(config, capsys, monkeypatch):
    """With a bar there are step, loss, score and speed beside it, and the log above; NO_COLOR has no colours."""
    for name, value in {"TERM": "xterm", "COLUMNS": "160", "FORCE_COLOR": "1", "NO_COLOR": "1"}.items():
        monkeypatch.setenv(name, value)
    assert main(words(config, "--progress", "bar")) == 0
    said = capsys.readouterr().err
    assert "valid bass" in said and "saved" in said
    assert re.search(r"step 6 loss -?\d.* valid -?\d.* s/s", said) and "100 %" in said
    assert not re.search(r"\x1b\[[0-9;]*3[0-7]m|\x1b\[9[0-7]m", said)


def test_sounds_and_pictures_in_tensorboard(config):
    """When weights are the best so far, TensorBoard gets the mixture and each stem of a fixed piece to hear and see."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    assert main(words(config, "steps=3")) == 0
    events = EventAccumulator(str(config.parent / "run" / "logs" / "from-0000000"))
    events.Reload()
    tags = events.Tags()
    assert sorted(tags["audio"]) == [f"sound/{name}" for name in ("bass", "drums", "mixture", "other")]
    assert sorted(tags["images"]) == [f"spectrogram/{name}" for name in ("bass", "drums", "mixture", "other")]
    (sound,) = events.Audio("sound/mixture")
    assert (sound.step, sound.sample_rate) == (3, 8000)
    assert "valid/all" in tags["scalars"]


def test_a_tone_is_a_line_in_the_spectrogram():
    """A full scale tone has the value 1 in the row of its frequency, silence is 0, low frequencies are below."""
    tone_of = torch.sin(2 * torch.pi * 1000 / 8192 * torch.arange(8192))
    picture = spectrogram(tone_of)
    assert picture.shape[0] == 513 and picture[:, 8].argmax() == 512 - 125
    assert picture[:, 8].max() == pytest.approx(1, abs=0.01) and not spectrogram(0 * tone_of).any()


def test_plot(config, capsys):
    """--plot draws the curves of all parts of a run; without logs, or with a config as well, it says what is wrong."""
    assert main(words(config, "--stop-after", "4")) == 0
    assert main(words(config)) == 0
    run = config.parent / "run"
    capsys.readouterr()
    assert main(["train", "--plot", str(run)]) == 0
    assert capsys.readouterr().out == f"{run / 'curves.png'}\n"
    assert (run / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert curves(run)["valid/all"][0] == [3, 6]
    assert main(["train", "--plot", str(config.parent / "songs")]) == 4
    assert main(["train", str(config), "--plot", str(run)]) == 2
    assert main(["train"]) == 2


def test_full_disk_of_logs(config, capsys, monkeypatch):
    """No space for the logs in the middle of the run: one line, exit code 7, the last save whole."""

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    assert main(words(config, "--stop-after", "4")) == 0
    before = (config.parent / "run" / "state.pt").read_bytes()
    monkeypatch.setattr(Fabric, "log_dict", full)
    capsys.readouterr()
    assert main(words(config)) == 7
    assert "the disk is full" in capsys.readouterr().err.splitlines()[-1]
    assert (config.parent / "run" / "state.pt").read_bytes() == before


def test_a_run_can_start_from_a_checkpoint(config, capsys):
    """With `start` the first weights are those of the checkpoint; one of another shape is refused in one line."""
    assert main(words(config, out="first")) == 0
    first = config.parent / "first"
    still = [f"start={first}", "steps=1", "rate=0.0", "matrix_rate=0.0", "weight_decay=0.0"]
    assert main(words(config, *still, out="second")) == 0
    before, after = (load_file(config.parent / run / "model.safetensors") for run in ("first", "second"))
    assert scores(config.parent / "second")["step"] == 0
    assert all(torch.equal(before[name], after[name]) for name in before)
    capsys.readouterr()
    assert main(words(config, *still, "network.width=32", out="third")) == 2
    assert "another shape" in capsys.readouterr().err.splitlines()[-1]


def test_a_start_gets_local_patterns(config):
    """With network.detail the weights of a checkpoint without it are those of the run, and the new ones are fresh."""
    assert main(words(config, out="first")) == 0
    still = [f"start={config.parent / 'first'}", "steps=1", "rate=0.0", "matrix_rate=0.0", "weight_decay=0.0"]
    assert main(words(config, *still, "network.detail=2", out="second")) == 0
    before, after = (load_file(config.parent / run / "model.safetensors") for run in ("first", "second"))
    assert all(torch.equal(before[name], after[name]) for name in before)
    new = after.keys() - before.keys()
    assert {name.split(".")[0] for name in new} == {"read_levels", "mixture_detail", "stem_detail"}
    assert all(not after[name].any() for name in new if "weigh." in name or "read_levels" in name)


def test_gates_of_a_start_are_open_while_training(config):
    """`gate` and `silent` are settings of finished checkpoints: a run that begins with one does not take them over."""
    assert main(words(config, out="first")) == 0
    path = config.parent / "first" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"gate": [1.2, 1, 1], "silent": 0.2}))
    assert main(words(config, f"start={path.parent}", "steps=1", out="second")) == 0
    found = json.loads((config.parent / "second" / "config.json").read_text())
    assert (found["gate"], found["silent"]) == (1.0, 0.0)


def test_a_run_that_learns_to_make_stems(config):
    """From a checkpoint, with estimates across channels: only what making reads changes, and the best loss is kept."""
    assert main(words(config, "network.detail=2", out="first")) == 0
    change = [f"start={config.parent / 'first'}", "network.across=true", "learn=making", "shares=[0, 0, 0.4, 0.4, 0.2]"]
    assert main(words(config, *change, "network.apart=true", out="second")) == 0
    before, after = (load_file(config.parent / run / "model.safetensors") for run in ("first", "second"))
    moved = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert moved == {"read_stems", "read_levels", "write_gains", "stem_detail"}
    assert {name.split(".")[0] for name in after.keys() - before.keys()} == {"across", "made_blocks", "made_norm"}
    assert any(not torch.equal(w, before[name.removeprefix("made_")]) for name, w in after.items() if "made_b" in name)
    assert scores(config.parent / "second").keys() == {"step", "loss"}


def test_other_stems_than_those_of_the_start(config, tmp_path):
    """A run on vocals, drums and the rest starts from a network of bass, drums, other, whose sizes it takes over."""
    assert main(words(config, out="first")) == 0
    for k in range(2):
        for name in ("vocals", "drums", "bass", "guitar"):
            put(tmp_path / "own" / f"song{k}" / f"{name}.wav", tone(100 + 50 * k, 3.0, 22050), 22050)
    own = tmp_path / "own.toml"
    names = 'network = {names = ["vocals", "drums", "rest"]}\nstems = {rest = ["bass", "guitar"]}\n'
    own.write_text(CONFIG + f'start = "{tmp_path / "first"}"\n' + names)
    line = ["train", str(own), "--data", str(tmp_path / "own"), "-o", str(tmp_path / "run"), "-d", "cpu", "steps=2"]
    assert main(line) == 0 and main(line) == 0
    separator = checkpoints.load(tmp_path / "run")
    assert (separator.names, separator.rate) == (("vocals", "drums", "rest"), 8000)


def test_a_stem_that_no_song_has_is_told(config, capsys):
    """A network with a flute on songs without one: a warning says what it will learn, once."""
    assert main(words(config, "steps=1", 'network.names=["bass", "flute"]', "--progress", "none")) == 0
    said = capsys.readouterr().err
    assert said.count("no song has flute: the network will learn that there is none") == 1


def test_a_network_that_knows_no_such_stem(config, capsys):
    """[stems] for a stem that the network does not have is a mistake."""
    assert main(words(config, 'stems.voice=["vocals"]')) == 2
    assert "[stems] voice: the network has bass, drums, other" in capsys.readouterr().err


def test_a_signal_saves_and_ends(config, capsys):
    """SIGTERM in the middle of a long run: saved, exit code 0, and the next call goes on from there."""
    command = [sys.executable, "-m", "stemforge", *words(config, "steps=100000", "save_every=20")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    state = config.parent / "run" / "state.pt"
    deadline = time.monotonic() + 300
    while not state.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    os.kill(process.pid, signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 0 and "after a signal" in said, said
    step = int(said.rsplit("at step ", 1)[1].split()[0])
    assert step >= 20
    assert main(words(config, "steps=100000", "--stop-after", "1")) == 0
    more = capsys.readouterr().err
    assert f"step {step} of 100000" in more and f"at step {step + 1}" in more
