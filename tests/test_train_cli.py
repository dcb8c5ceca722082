"""`stemforge train` from the outside: config and changes, what a run leaves, stopping and going on."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from stemforge.cli.train_config import settings
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


def command(config: Path, *more: str) -> list[str]:
    folder = config.parent
    data, valid = folder / "songs", folder / "valid"
    if not data.exists():
        tiny_songs(data)
        tiny_songs(valid, seconds=9.0)
    words = [
        "train",
        str(config),
        "--data",
        str(data),
        "--valid",
        str(valid),
        "--out",
        str(folder / "run"),
        "-d",
        "cpu",
    ]
    return [sys.executable, "-m", "stemforge", *words, *more]


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


def test_a_run_leaves_a_checkpoint_and_logs(config):
    """After the last step there are weights, config, state, scores in a CSV file; a second call has nothing to do."""
    done = subprocess.run(command(config), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    run = config.parent / "run"
    assert {"model.safetensors", "config.json", "state.pt"} <= {p.name for p in run.iterdir()}
    assert json.loads((run / "config.json").read_text())["architecture"] == "forge"
    rows = list(csv.DictReader((run / "logs" / "from-0000000" / "metrics.csv").read_text().splitlines()))
    assert any(row.get("valid/all") for row in rows)
    again = subprocess.run(command(config), capture_output=True, text=True)
    assert "step 6 of 6" in again.stderr and again.returncode == 0


def test_a_run_can_start_from_a_checkpoint(config, tmp_path):
    """With `start` the first weights are those of the checkpoint; one of another shape is refused in one line."""
    assert subprocess.run(command(config), capture_output=True, check=False).returncode == 0
    first = config.parent / "run"
    changes = [f"start={first}", "steps=1", "rate=0.0", "matrix_rate=0.0", "weight_decay=0.0"]
    more = command(config, *changes)
    more[more.index(str(first))] = str(tmp_path / "second")
    done = subprocess.run(more, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    before, after = (load_file(folder / "model.safetensors") for folder in (first, tmp_path / "second"))
    assert all(torch.equal(before[name], after[name]) for name in before)
    wrong = subprocess.run([*more, "network.width=32", "-o", str(tmp_path / "third")], capture_output=True, text=True)
    assert wrong.returncode == 2 and "another shape" in wrong.stderr.splitlines()[-1]


def test_a_signal_saves_and_ends(config):
    """SIGTERM in the middle of a long run: saved, exit code 0, and the next call goes on from there."""
    process = subprocess.Popen(command(config, "steps=100000", "save_every=5"), stderr=subprocess.PIPE, text=True)
    state = config.parent / "run" / "state.pt"
    deadline = time.monotonic() + 60
    while not state.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    os.kill(process.pid, signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 0 and "after a signal" in said, said
    step = int(said.rsplit("at step ", 1)[1].split()[0])
    assert step >= 5
    more = subprocess.run(command(config, "steps=100000", "--stop-after", "1"), capture_output=True, text=True)
    assert f"step {step} of 100000" in more.stderr and f"at step {step + 1}" in more.stderr
