"""bench/prompts.py: every table comes out, of a tiny random checkpoint."""

from __future__ import annotations

import sys
from argparse import Namespace
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from songs import put, tone
from stemforge import embedders, prompts
from stemforge.models.embedders import Ear, Impression
from stemforge.models.musicnn import MTT_TAGS
from stemforge.models.sketch import Sketch
from stemforge.tasks.coherence import Features
from worded import Encoder, drawing_checkpoint, hearing_checkpoint

BENCH = Path(__file__).parents[1] / "bench"


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script as a module, with stand-ins for the language model and for musicnn."""
    monkeypatch.syspath_prepend(str(BENCH))
    monkeypatch.setattr(prompts, "load_encoder", lambda name: Encoder())
    monkeypatch.setattr(prompts, "_folder", lambda encoder: None)
    ear = Ear(lambda wave: Impression(wave[:, :1], wave[:, : len(MTT_TAGS)]), 8000, 1.0, MTT_TAGS)
    monkeypatch.setattr(embedders, "load", lambda name, device: ear)
    module = import_module("prompts")
    yield module
    for name in ("prompts", "methods"):
        sys.modules.pop(name, None)


@pytest.fixture(params=[hearing_checkpoint, drawing_checkpoint], ids=["sound", "sketches"])
def heard(bench: ModuleType, tmp_path: Path, request: pytest.FixtureRequest) -> object:
    """The tiny checkpoint; prompts have no more words than its encoder reads."""
    return bench.Heard(str(request.param(tmp_path / "text")), "cpu")


def options(**more: object) -> Namespace:
    return Namespace(**{"seeds": 2, "seconds": 0.3, "cfg": 2.0, "steps": 1} | more)


def test_what_is_asked_for_is_complete(bench: ModuleType) -> None:
    """Eight prompts with tags that musicnn knows, both wordings for the same stems, twenty sets and more by default."""
    asked = bench.ASKED
    assert len(asked["tags"]) == 8 == len(set(asked["tags"].values())) and set(asked["tags"].values()) <= set(MTT_TAGS)
    assert asked["stems"].keys() == asked["paraphrased"].keys()
    assert not set(asked["stems"].values()) & set(asked["paraphrased"].values())
    assert 6 * len(asked["sets"]) >= 20


def test_tables(bench: ModuleType, heard: object, tmp_path: Path, capsys: pytest.CaptureFixture[str],
                monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    """A row a prompt, a row a way to separate, two rows a form of the mixture term that the network can have."""
    bench.follow(heard, options())
    rows = capsys.readouterr().out.splitlines()
    assert len(rows) == 10 and rows[0].startswith("acoustic guitar") and rows[8].startswith("of 8: in the top five")
    for k, name in enumerate(("bass", "drums")):
        put(tmp_path / "songs" / "one" / f"{name}.wav", tone(80.0 + 200 * k, 0.4))
    bench.separate(heard, options(songs=tmp_path / "songs", beside=""))
    rows = capsys.readouterr().out.splitlines()
    assert [row.split()[0] for row in rows[:3]] == ["text", "paraphrased", "extracted"]
    beats = np.array([0.1, 0.2])
    monkeypatch.setattr(bench, "features", lambda pitched, sound: Features(beats, None, None))
    bench.cohere(heard, options(seeds=1))
    rows = capsys.readouterr().out.splitlines()
    forms = ["none", "shared", *([] if isinstance(heard.network, Sketch) else ["added", "same"])]
    assert [row.split()[0] for row in rows[::2]] == forms and len(rows) == 2 * len(forms)


def test_intervals_leave_out_what_is_not_known(bench: ModuleType) -> None:
    """The mean of some numbers and 1.96 standard errors."""
    assert bench.interval([1.0, float("nan"), 3.0]).split() == ["2.000", "+-", "1.960", "(n", "2)"]
    assert bench.interval([1.0, float("nan")]) == "not enough"
    assert torch.isnan(torch.tensor(bench._mean([None])))
