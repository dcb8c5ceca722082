"""Batches in parts, on little memory, in fp16, compiled, and of a size that is found by trying."""

from __future__ import annotations

import json
import logging
from dataclasses import replace

import pytest
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision

from stemforge import devices
from stemforge.cli.main import main
from stemforge.cli.train_config import settings, shipped
from stemforge.errors import TrainingError, UsageError
from stemforge.train import sizing, trainer
from stemforge.train.config import TrainConfig
from stemforge.train.data import find_songs, parts_of
from stemforge.train.recipes import batches_of, compile_in_place
from stemforge.train.saving import resume, save
from stemforge.train.trainer import fit, start
from tiny import TINY, tiny_songs

NAMES = tuple(TINY["names"])
CONFIG = TrainConfig(
    steps=6, batch_size=4, seconds=0.25, warmup=1, precision="32-true", network=TINY, shares=(1.0, 0, 0, 0, 0)
)


@pytest.fixture
def songs(tmp_path):
    return find_songs(tiny_songs(tmp_path / "songs"), NAMES, 8000)


@pytest.fixture(autouse=True)
def plain(monkeypatch):
    """The memory of the process that tests stays as it is."""
    monkeypatch.setattr(devices, "keep_memory", lambda: None)


def trained(config, songs, run=None, until=None):
    """The run after its steps, and these."""
    run = run or start(config)
    how = {"precision": config.precision}
    if config.precision == "16-mixed":  # Fabric by itself has it on GPUs only
        how = {"plugins": MixedPrecision("16-mixed", "cpu")}
    fabric = Fabric(accelerator="cpu", devices=1, **how)
    steps = []
    for step in fit(run, batches_of(songs, run.network, config, 0), fabric):
        steps.append(step)
        if run.index == until:
            break
    return run, steps


@pytest.mark.parametrize("task", range(5))
def test_parts_hold_every_item_once(songs, task):
    """Whatever is asked for, parts are equal in size, no smaller than one item, and hold what processes would."""
    config = replace(CONFIG, batch_size=6, shares=tuple(float(k == task) for k in range(5)))
    batches = batches_of(songs, start(CONFIG).network, config, 0)
    for rank in range(2 if task == 0 else 1):
        batch = batches.batch(2, (rank, 2 if task == 0 else 1))
        for count, wanted in ((1, 1), (2, 3), (3, 3), (9, 3)):
            parts = parts_of(batch, count)
            assert len(parts) == (wanted if count > 1 else 1) and len({len(p.stems) for p in parts}) == 1
            whole = torch.empty_like(batch.stems)
            for k, part in enumerate(parts):
                whole[k :: len(parts)] = part.stems
                assert torch.equal(part.stems, batches.batch(2, part.part).stems)
            assert torch.equal(whole, batch.stems)


def test_accumulated_gradients_are_those_of_the_whole_batch(songs):
    """In four parts a step has the loss and the gradients of one, up to rounding."""
    _, whole = trained(CONFIG, songs)
    _, parts = trained(replace(CONFIG, accumulate=4), songs)
    assert parts[0].loss == pytest.approx(whole[0].loss, rel=1e-5)
    for one, four in zip(whole, parts, strict=True):
        assert four.loss == pytest.approx(one.loss, rel=1e-3)
        assert four.grad_norm == pytest.approx(one.grad_norm, rel=1e-2)
        assert four.audio_seconds == one.audio_seconds


def scarce(monkeypatch, room):
    """A device that holds `room` crops."""
    whole = trainer.loss_of

    def loss_of(network, batch):
        if len(batch.stems) > room:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return whole(network, batch)

    monkeypatch.setattr(trainer, "loss_of", loss_of)
    monkeypatch.setattr(sizing, "loss_of", loss_of)


def test_out_of_memory_halves_the_parts(songs, tmp_path, monkeypatch, caplog):
    """A step that does not fit is begun again in parts, says so once, and a resumed run keeps them."""
    _, whole = trained(CONFIG, songs)
    scarce(monkeypatch, 1)
    with caplog.at_level(logging.WARNING, "stemforge"):
        run, steps = trained(CONFIG, songs, until=3)
    assert run.parts == 4
    assert [r.getMessage().split("computed in ")[1] for r in caplog.records] == ["2 parts.", "4 parts."]
    assert [s.loss for s in steps] == pytest.approx([s.loss for s in whole[:3]], rel=1e-3)
    save(run, tmp_path / "run")
    assert resume(CONFIG, tmp_path / "run").parts == 4


def test_one_crop_that_does_not_fit_ends_the_run(songs, monkeypatch):
    """There is one line that says what to change; other errors stay what they are."""
    scarce(monkeypatch, 0)
    with pytest.raises(TrainingError, match="out of memory with one crop at a time"):
        trained(CONFIG, songs)
    monkeypatch.setattr(trainer, "loss_of", lambda network, batch: torch.ones(2) @ torch.ones(3))
    with pytest.raises(RuntimeError, match="inconsistent tensor size"):
        trained(CONFIG, songs)


def test_what_a_want_of_memory_looks_like():
    """CUDA, MPS and the CPU say it in words of their own."""
    cpu = "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to"
    for words in (cpu, "MPS backend out of memory (MPS allocated: 9 GB)", "CUDA out of memory."):
        assert devices.out_of_memory(RuntimeError(words))
    assert not devices.out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))


@pytest.mark.parametrize(("room", "wanted"), [(1, 1), (5, 4), (1000, 8)])
def test_fastest_size(room, wanted, monkeypatch):
    """Sizes double while they fit and are faster: here up to 8, where a larger batch brings nothing."""
    clock, tried = [0.0], []
    monkeypatch.setattr(sizing.time, "perf_counter", lambda: clock[0])

    def step(size):
        if size > room:
            raise torch.OutOfMemoryError("out of memory")
        tried.append(size)
        clock[0] += max(size, 8)

    assert sizing.fastest(step, torch.device("cuda")) == wanted
    assert max(tried) <= 2 * wanted


def test_no_size_is_tried_that_would_take_too_much_memory(monkeypatch):
    """The peak grows by 0.1 of the memory for each doubling: what would end above a half is left."""
    peaks, tried = iter((0.05, 0.1, 0.2, 0.35, 0.9)), []
    monkeypatch.setattr(sizing, "peak_share", lambda device: next(peaks))
    clock = [0.0]
    monkeypatch.setattr(sizing.time, "perf_counter", lambda: clock[0])

    def step(size):
        tried.append(size)
        clock[0] += 1.0

    assert sizing.fastest(step, torch.device("cpu")) == 4
    assert max(tried) == 4


def test_not_one_crop_fits(monkeypatch):
    """There is one line that says what to change."""

    def step(size):
        raise torch.OutOfMemoryError("out of memory")

    with pytest.raises(TrainingError, match="a batch of one crop"):
        sizing.fastest(step, torch.device("cpu"))


def test_batch_size_auto(tmp_path, songs, monkeypatch, capsys):
    """`batch_size=auto` finds the largest that fits here, tells it, keeps it when the run goes on, moves no weight."""
    scarce(monkeypatch, 2)
    monkeypatch.setattr(sizing, "GAIN", 0.0)
    words = ["train", "tiny", "batch_size=auto", "steps=2", "--data", str(tmp_path / "songs"), "-d", "cpu"]
    words += ["-o", str(tmp_path / "run")]
    assert main([*words, "--stop-after", "1"]) == 0
    assert "batch_size 2: the fastest that fits" in capsys.readouterr().err
    assert main(words) == 0
    assert "the fastest that fits" not in capsys.readouterr().err
    assert torch.load(tmp_path / "run" / "state.pt", weights_only=True)["config"]["batch_size"] == 2
    assert main([*words[:2], "batch_size=2", *words[3:-1], str(tmp_path / "other")]) == 0
    one, two = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("run", "other"))
    assert one == two


def test_sizes_and_parts_that_make_no_sense():
    """Less than one crop or part is refused, and so is a word that is not auto."""
    for change, says in (
        ("batch_size=0", "batch_size = 0: give 1 or more"),
        ("batch_size=most", "must be of type int"),
        ("accumulate=0", "accumulate = 0: give 1 or more"),
        ("validate_every=0", "validate_every = 0: give 1 or more"),
        ("seconds=0", "seconds = 0: give more than 0"),
        ("shares=[1, 0]", "give 5 numbers from 0 on, not all 0"),
        ("learn=drums", "learn 'drums' is not one of all, making"),
        ("learn=making", "Begin shares with 0"),
        ("shares=[0, 0, 0, 0, 0]", "give 5 numbers from 0 on, not all 0"),
    ):
        with pytest.raises(UsageError, match=says):
            settings(shipped()["tiny"], [change])


def test_fp16_is_scaled_skipped_and_resumed(songs, tmp_path):
    """In fp16 the loss is nearly that of fp32, and a run that was cut equals the uncut one, scale included."""
    half = replace(CONFIG, precision="16-mixed")
    _, exact = trained(CONFIG, songs)
    whole, steps = trained(half, songs)
    assert whole.scale["scale"] >= 1 and sum(not step.skipped for step in steps) >= 3
    assert steps[0].loss == pytest.approx(exact[0].loss, rel=0.02)
    taken = next(step for step in steps if not step.skipped)
    assert taken.grad_norm == pytest.approx(exact[taken.index].grad_norm, rel=0.5)
    cut, _ = trained(half, songs, until=2)
    save(cut, tmp_path / "run")
    again, _ = trained(half, songs, run=resume(half, tmp_path / "run"))
    assert again.scale == whole.scale
    for (name, x), (_, y) in zip(whole.network.state_dict().items(), again.network.state_dict().items(), strict=True):
        assert torch.equal(x, y), name


def test_fp16_needs_a_gpu(tmp_path, songs, capsys):
    """On the CPU it is refused in one line, not quietly replaced."""
    words = ["train", "tiny", "precision=16-mixed", "--data", str(tmp_path / "songs"), "-o", str(tmp_path / "run")]
    assert main([*words, "-d", "cpu"]) == 2
    assert "precision 16-mixed: fp16 needs a GPU. Give bf16-mixed or 32-true." in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # torch.compile warns of parts of torch itself
def test_compiled_steps_are_the_same_steps(songs):
    """torch.compile changes the time of a step, not its loss, and no name of a weight."""
    _, eager = trained(CONFIG, songs)
    run = start(CONFIG)
    compile_in_place(run.network)
    _, compiled = trained(CONFIG, songs, run=run)
    assert compiled[0].loss == pytest.approx(eager[0].loss, rel=1e-4)  # later ones differ as rounding grows
    assert [s.loss for s in compiled] == pytest.approx([s.loss for s in eager], abs=0.02)
    assert run.network.state_dict().keys() == start(CONFIG).network.state_dict().keys()


WANDB = """
import json, os, pathlib
def init(**about):
    if os.environ.get("STANDIN") == "refuses":
        raise RuntimeError("api_key not configured")
    return Run(about)
class Run:
    def __init__(self, about):
        self.path = pathlib.Path(about["dir"]) / "sent.jsonl"
        self.put({"init": {k: about[k] for k in ("project", "id", "name", "resume")}, **about["config"]})
    def put(self, row):
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\\n")
    def log(self, figures, step):
        if os.environ.get("STANDIN") == "fails":
            raise OSError("no route to host")
        self.put({"step": step, **figures})
    def finish(self, exit_code):
        self.put({"finished": exit_code})
"""


@pytest.fixture
def wandb_words(tmp_path, songs, monkeypatch):
    """A module that stands for wandb, and a command line that uses it."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "wandb.py").write_text(WANDB)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.delitem(__import__("sys").modules, "wandb", raising=False)
    words = ["train", "tiny", "steps=4", "--data", str(tmp_path / "songs"), "-o", str(tmp_path / "run"), "-d", "cpu"]
    return [*words, "--valid", str(tmp_path / "songs"), "--wandb", "stems"]


def test_wandb_gets_what_the_csv_file_gets(tmp_path, wandb_words):
    """Figures and scores arrive with their steps; a run that goes on is the same run there."""
    assert main([*wandb_words, "--stop-after", "2"]) == 0
    assert main(wandb_words) == 0
    rows = [json.loads(line) for line in (tmp_path / "run" / "sent.jsonl").read_text().splitlines()]
    begun = [row for row in rows if "init" in row]
    assert len(begun) == 2 and begun[0] == begun[1] and begun[0]["init"]["project"] == "stems"
    assert sum("loss" in row for row in rows) == 2 and sum("valid/all" in row for row in rows) == 1
    assert [row["finished"] for row in rows if "finished" in row] == [0, 0]
    assert {row["step"] for row in rows if "loss" in row} == {1, 3}


def test_wandb_never_ends_a_run(tmp_path, wandb_words, monkeypatch, capsys):
    """When figures cannot be sent, that is told once and the run is done; when it cannot begin, it says why."""
    monkeypatch.setenv("STANDIN", "fails")
    assert main(wandb_words) == 0
    assert capsys.readouterr().err.count("no route to host") == 1
    monkeypatch.setenv("STANDIN", "refuses")
    assert main([*wandb_words[:-1], "other"]) == 2
    assert "api_key not configured" in capsys.readouterr().err


def test_wandb_is_not_required(tmp_path, wandb_words, capsys):
    """Without the package there is one line that says how to get it, before anything is made."""
    (tmp_path / "site" / "wandb.py").unlink()
    assert main(wandb_words) == 2
    assert "wandb is not installed. Run `pip install 'wandb'`" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
