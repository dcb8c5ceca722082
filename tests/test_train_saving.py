"""Nothing of a run is lost: killed while it saves, on a full disk, with weights that are not finite."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from lightning_fabric import Fabric
from safetensors import safe_open

from stemforge.errors import InputError, OutputError, SpaceError, TrainingError, UsageError
from stemforge.train.config import TrainConfig
from stemforge.train.data import Crops, find_songs
from stemforge.train.saving import resume, save, save_best
from stemforge.train.trainer import LOST, averaged, fit, start
from tiny import TINY, tiny_songs

CONFIG = TrainConfig(
    steps=40, batch_size=2, seconds=0.25, warmup=2, precision="32-true", network=TINY, shares=(0.5, 0.5, 0, 0, 0)
)


@pytest.fixture
def crops(tmp_path):
    names = tuple(TINY["names"])
    songs = find_songs(tiny_songs(tmp_path / "songs"), names, 8000)
    return Crops(songs, names, 8000, 0.25, 2, 0, CONFIG.shares, -20.0)


def cpu() -> Fabric:
    return Fabric(accelerator="cpu", devices=1)


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file() and not p.is_symlink()}


def kills(folder: Path, count: int) -> None:
    command = [sys.executable, str(Path(__file__).parent / "killed.py"), str(folder), str(count), "0"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(found) == count and all(row["whole"] for row in found), found
    assert found[-1]["step"] >= count


def test_killed_while_saving(tmp_path):
    """Killed at random moments, twice: what lies there is one whole state, and the next run goes on from it."""
    kills(tmp_path, 2)


@pytest.mark.slow
def test_killed_while_saving_often(tmp_path):
    """The same, twenty times."""
    kills(tmp_path, 20)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("name", ["state.pt", "model.safetensors", "config.json"])
def test_full_disk(tmp_path, name):
    """No space for any of the files: one line, nothing half-written, all that was saved before as it was."""
    run = start(CONFIG)
    save(run, tmp_path)
    before = content(tmp_path)
    run.index = 5
    (tmp_path / f"{name}.part").symlink_to("/dev/full")
    with pytest.raises(SpaceError, match=r"the disk is full.*before is whole"):
        save(run, tmp_path)
    assert content(tmp_path) == before and {p.name for p in tmp_path.iterdir()} == set(before)
    save(run, tmp_path)
    assert resume(CONFIG, tmp_path).index == 5


def test_a_folder_that_cannot_be_written(tmp_path):
    """A file where the folder should be is told as such."""
    (tmp_path / "run").write_text("")
    with pytest.raises(OutputError, match="cannot be saved to"):
        save(start(CONFIG), tmp_path / "run")


def test_weights_that_are_not_finite_are_never_saved(tmp_path):
    """The last good state stays, and the message says so."""
    run = start(CONFIG)
    save(run, tmp_path)
    before = content(tmp_path)
    with torch.no_grad():
        next(run.network.parameters())[0] = float("nan")
    with pytest.raises(TrainingError, match="keeps the last good state"):
        save(run, tmp_path)
    assert content(tmp_path) == before


def test_a_step_that_is_not_finite_is_left_out(crops, monkeypatch):
    """One bad batch changes neither weights nor average, is marked, and training goes on."""
    run, good = start(CONFIG), Crops.batch
    bad = {3}

    def poisoned(self, step, part=(0, 1)):
        batch = good(self, step, part)
        if step in bad:
            batch.stems[:] = float("inf")
        return batch

    monkeypatch.setattr(Crops, "batch", poisoned)
    seen = {}
    for step in fit(run, crops, cpu()):
        seen[step.index] = (step.skipped, averaged(run).write_activity.weight.clone())
        if step.index == 5:
            break
    assert [seen[k][0] for k in range(6)] == [False, False, False, True, False, False]
    assert torch.equal(seen[2][1], seen[3][1]) and not torch.equal(seen[3][1], seen[4][1])
    assert all(w.isfinite().all() for w in run.network.parameters())


def test_many_steps_that_are_not_finite_end_the_run(crops, monkeypatch):
    """After ten in a row there is one line that says what to do."""
    run, good = start(CONFIG), Crops.batch

    def poisoned(self, step, part=(0, 1)):
        batch = good(self, step, part)
        batch.stems[:] = float("inf") if step >= 4 else 0.0
        return batch

    monkeypatch.setattr(Crops, "batch", poisoned)
    with pytest.raises(TrainingError, match=rf"not finite in {LOST} steps in a row, up to step {4 + LOST}"):
        list(fit(run, crops, cpu()))
    assert all(w.isfinite().all() for w in run.network.parameters())


def test_resumed_with_lost_files_equals_uncut(tmp_path, crops):
    """A file is gone: a run cut at step 3 and resumed has the weights of the uncut one, bit for bit."""
    (tmp_path / "songs" / "song0" / "bass.npy").unlink()

    def after(stops, folder):
        for stop in [*stops, 6]:
            run = resume(CONFIG, folder)
            crops.songs[0].stems["bass"].quarantine.reasons.clear()
            for _ in fit(run, crops, cpu()):
                if run.index >= stop:
                    break
            save(run, folder)
        return run

    whole, cut = after([], tmp_path / "whole"), after([3], tmp_path / "cut")
    assert crops.songs[0].stems["bass"].quarantine.reasons
    for (name, x), (_, y) in zip(whole.network.state_dict().items(), cut.network.state_dict().items(), strict=True):
        assert torch.equal(x, y), name


def test_best_is_a_checkpoint_with_its_score(tmp_path):
    """best/ has weights and config, its step and figures in the metadata; the score survives a resume."""
    run = start(CONFIG)
    run.index, run.best = 7, 3.5
    save_best(run, tmp_path, {"bass": 4.0, "all": 3.5})
    save(run, tmp_path)
    with safe_open(tmp_path / "best" / "model.safetensors", framework="pt") as file:
        assert json.loads(file.metadata()["training"]) == {"step": 7, "bass": 4.0, "all": 3.5}
    assert resume(CONFIG, tmp_path).best == 3.5


def test_older_states_are_read(tmp_path):
    """A state without a best score, as earlier versions wrote it, is gone on from."""
    run = start(CONFIG)
    run.index = 9
    state = {key: value for key, value in run.state().items() if key != "best"}
    torch.save(state, tmp_path / "state.pt")
    again = resume(CONFIG, tmp_path)
    assert (again.index, again.best) == (9, None)


def test_what_cannot_be_gone_on_from(tmp_path):
    """A damaged state and one of another network are told apart, in one line each."""
    save(start(CONFIG), tmp_path)
    other = TrainConfig(network={**TINY, "width": 32})
    with pytest.raises(UsageError, match="another network or stems"):
        resume(other, tmp_path)
    whole = (tmp_path / "state.pt").read_bytes()
    (tmp_path / "state.pt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"state\.pt': damaged"):
        resume(CONFIG, tmp_path)
