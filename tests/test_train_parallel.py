"""Several processes share out each batch, and train as one would."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

import official
from songs import put, tone
from stemforge.cli.train_config import settings, shipped
from stemforge.cli.train_engine import engine
from stemforge.cli.train_request import Request
from stemforge.errors import UsageError
from stemforge.train.data import Crops, find_songs
from stemforge.train.diffusion import Windows
from stemforge.train.recipes import loss_of, network_of
from tiny import TINY, tiny_songs

NAMES = tuple(TINY["names"])
TABLE = {"architecture": "msdm-unet", "names": ["bass", "drums"], "rate": 8000, "samples": 480, **official.TINY}


@pytest.fixture
def songs(tmp_path):
    return find_songs(tiny_songs(tmp_path / "songs"), NAMES, 8000)


@pytest.mark.parametrize("task", range(5))
def test_parts_of_a_batch_make_it_up(songs, task):
    """Each process reads every other item; together they are the batch of one process, whatever the task."""
    shares = tuple(float(k == task) for k in range(5))
    crops = Crops(songs, NAMES, 8000, 0.25, 8, 0, shares, -20.0)
    whole, *parts = crops.batch(3), *(crops.batch(3, (k, 2)) for k in range(2))
    for name in ("stems", "sigma", "hidden"):
        for k, part in enumerate(parts):
            assert torch.equal(getattr(whole, name)[k::2], getattr(part, name)), name
    assert {part.task for part in parts} == {whole.task} and {part.seed for part in parts} == {whole.seed}


def test_losses_of_parts_average_to_that_of_the_whole(songs, tmp_path):
    """Separation and the training of MSDM, whose noise is drawn anew in each process: to 1e-5."""
    torch.manual_seed(0)
    forge, msdm = network_of(TINY), network_of(TABLE)
    for k, name in enumerate(("bass", "drums")):
        put(tmp_path / "more" / "song" / f"{name}.wav", tone(100 * (k + 1), 2.0, channels=1))
    more = find_songs(tmp_path / "more", ("bass", "drums"), 8000)
    for network, batches in (
        (forge, Crops(songs, NAMES, 8000, 0.25, 4, 0, (1, 0, 0, 0, 0), -20.0)),
        (msdm, Windows(more, ("bass", "drums"), 480, 4, 0)),
    ):
        whole = loss_of(network, batches.batch(1))[0].item()
        parts = [loss_of(network, batches.batch(1, (k, 2)))[0].item() for k in range(2)]
        assert sum(parts) / 2 == pytest.approx(whole, rel=1e-5)
        assert parts[0] != pytest.approx(whole, rel=1e-3)


def test_batches_that_cannot_be_shared_out(tmp_path):
    """A batch that leaves a process without an item is refused before anything starts, and so is one device for two."""
    config = settings(shipped()["tiny"], ["batch_size=6"])
    request = Request(tmp_path, None, tmp_path, devices=4)
    with pytest.raises(UsageError, match=r"batch_size 6: cannot be shared out to 4 processes\. Give a multiple of 8"):
        engine(config, request, torch.device("cpu"), [])
    with pytest.raises(UsageError, match="cuda:1: names one device"):
        engine(replace(config, batch_size=8), request, torch.device("cuda:1"), [])


@pytest.mark.slow
@pytest.mark.parametrize("launch", ["own", "torchrun"])
def test_two_processes_train_as_one(tmp_path, launch):
    """Two processes on gloo, started by the command or by torchrun: the loss of one process to 1e-5.

    Then they go on: 1e-4 in the mean of seven more steps, since rounding grows with the weights that it changed.
    """
    tiny_songs(tmp_path / "songs")
    found = []
    for count in (1, 2):
        words = ["train", "tiny", "steps=8", "batch_size=4", "warmup=1", "shares=[1, 0, 0, 0, 0]", "--json", "-q"]
        words += ["--data", str(tmp_path / "songs"), "-o", str(tmp_path / f"run{count}"), "-d", "cpu"]
        start = [sys.executable, "-m", "stemforge"]
        if count == 2 and launch == "torchrun":
            start = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "stemforge"]
        elif count == 2:
            words += ["--devices", "2"]
        found.append([])
        for more in (["--stop-after", "1"], []):
            done = subprocess.run([*start, *words, *more], capture_output=True, text=True, check=True)
            rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
            assert [row["event"] for row in rows] == ["step", "summary"], done.stdout
            found[-1].append(rows[0])
    one, two = found
    assert two[0]["loss"] == pytest.approx(one[0]["loss"], rel=1e-5)
    assert two[0]["grad_norm"] == pytest.approx(one[0]["grad_norm"], rel=1e-4)
    assert two[1]["loss"] == pytest.approx(one[1]["loss"], rel=1e-4)
    assert two[1]["grad_norm"] == pytest.approx(one[1]["grad_norm"], rel=1e-3)
