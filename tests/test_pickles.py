"""Pickles are read as data: what a file asks to import or call is neither imported nor called."""

from __future__ import annotations

import builtins
import io
import os
import pickle
import struct
import subprocess
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from stemforge.errors import CheckpointError
from stemforge.models.pickles import Inert, StoredTensor, load

FORBIDDEN = {"os.system", "os.exec", "os.posix_spawn", "subprocess.Popen", "exec", "compile", "import", "open"}
seen: list[str] | None = None
asked: list[Path] = []


def _listen(event: str, arguments: tuple[Any, ...]) -> None:
    own = event == "open" and any(str(arguments[0]) == str(path) for path in asked)
    if seen is not None and event in FORBIDDEN and not own:
        seen.append(f"{event} {arguments}")


sys.addaudithook(_listen)


def watched(path: Path) -> tuple[object, list[str]]:
    """What `load` gives or raises, and all that Python reports of it: imports, programs, code, other files."""
    global seen
    "".encode("cp437")  # zipfile imports it once
    asked[:], seen = [path], []
    try:
        return load(path), seen
    except CheckpointError as error:
        return error, seen
    finally:
        seen = None


class Calls:
    """Pickles as the call of any function, like every exploit."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call


class Builds(dict[str, Any]):
    """Pickles as an object of which attributes are set."""

    def __init__(self, function: Callable[..., Any], arguments: tuple[Any, ...], state: Any) -> None:
        self.call = function, arguments, state

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call


def zipped(path: Path, pickled: bytes, compression: int = zipfile.ZIP_STORED) -> Path:
    """A file as torch.save makes it around any pickle, with 16 bytes of numbers."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/data/0", struct.pack("<4f", 1, 2, 3, 4))
    return path


@pytest.fixture
def mark(tmp_path: Path) -> Iterator[Path]:
    """A file that only code of a pickle would make."""
    yield tmp_path / "mark"
    assert not (tmp_path / "mark").exists(), "code of the pickle ran"


def test_tensors_and_plain_data(tmp_path: Path) -> None:
    """Tensors of each kind, views, dictionaries, lists and numbers come out as they went in."""
    base = torch.arange(24.0).reshape(4, 6)
    tensors = {
        "all": base,
        "part": base[1:3, ::2],
        "turned": base.T,
        "bf16": base.bfloat16(),
        "half": base.half(),
        "whole": torch.arange(5),
        "truth": torch.tensor([True, False]),
        "one": torch.tensor(3.0, dtype=torch.float64),
    }
    plain = {"a": [1, 2.5, "x", None, True], "b": (1, {2: "y"}), "c": OrderedDict(k=1)}
    torch.save({"tensors": tensors, "plain": plain}, tmp_path / "a.pt")
    found = load(tmp_path / "a.pt")
    assert isinstance(found, dict) and found["plain"] == plain
    for name, tensor in tensors.items():
        stored = found["tensors"][name]
        assert isinstance(stored, StoredTensor) and stored.shape == tuple(tensor.shape)
        assert torch.equal(stored.tensor(), tensor) and stored.tensor().dtype == tensor.dtype, name


@pytest.mark.parametrize(
    "function",
    [os.system, builtins.eval, builtins.exec, subprocess.call, getattr, __import__, io.open, pickle.loads],
    ids=lambda function: f"{function.__module__}.{function.__name__}",
)
def test_calls_are_not_made(tmp_path: Path, mark: Path, function: Callable[..., Any]) -> None:
    """A call of any function, alone, nested, or as an argument, becomes an object that does nothing."""
    code = f"__import__('pathlib').Path({str(mark)!r}).touch()"
    texts = {os.system: f"touch '{mark}'", subprocess.call: ["touch", str(mark)], io.open: str(mark)}
    evil = Calls(function, texts.get(function, code), *(["w"] if function is io.open else []))
    inner = Calls(getattr, Calls(__import__, "os"), "system")
    path = tmp_path / "evil.pt"
    torch.save({"a": evil, "b": [Calls(map, evil, [1])], "c": inner, "state_dict": {"w": torch.ones(2)}}, path)
    found, events = watched(path)
    assert isinstance(found, dict) and not events
    assert isinstance(found["a"], Inert) and isinstance(found["b"][0], Inert) and isinstance(found["c"], Inert)
    assert type(found["a"]).origin.endswith(f".{function.__name__}")
    assert torch.equal(found["state_dict"]["w"].tensor(), torch.ones(2))


def test_python_itself_would_make_them(tmp_path: Path) -> None:
    """The same call, read by Python's own pickle, runs and is noticed: what the tests watch for is real."""
    global seen
    seen, mark = [], tmp_path / "ran"
    try:
        pickle.loads(pickle.dumps(Calls(os.system, f"touch '{mark}'")))
        assert mark.exists() and any(event.startswith("os.system") for event in seen)
    finally:
        seen = None


def test_what_came_out_of_a_call_is_not_called(tmp_path: Path, mark: Path) -> None:
    """getattr(os, "system")("..."), for which a pickle calls the result of a call."""
    pickled = b"cbuiltins\ngetattr\n(cos\nsystem\nS'x'\ntR" + f"(S'touch {mark}'\ntR.".encode()
    found, events = watched(zipped(tmp_path / "a.pt", pickled))
    assert isinstance(found, Inert) and not events


@pytest.mark.parametrize(
    "state",
    [
        {"__setstate__": Calls(os.system, "true"), "__class__": Calls(type, "x")},
        ({"a": 1}, {"__class__": Calls(os.system, "true"), "tensor": 1}),
        [Calls(os.system, "true")],
    ],
    ids=["dictionary", "slots", "list"],
)
def test_states_are_kept_not_applied(tmp_path: Path, state: Any) -> None:
    """The attributes that a pickle sets stay data, on objects of the file and on our own alike."""
    strange = Builds(dict, (), state)
    torch.save(strange, tmp_path / "a.pt")
    found, events = watched(tmp_path / "a.pt")
    assert isinstance(found, Inert) and not events
    assert type(found.state) is type(state) and set(vars(found)) == {"state"}
    torch.save(Builds(OrderedDict, (), state), tmp_path / "b.pt")
    found, events = watched(tmp_path / "b.pt")
    assert found == {} and vars(found) == {} and not events


TENSOR = b"ctorch._utils\n_rebuild_tensor_v2\n((S'storage'\nctorch\nFloatStorage\nS'0'\nS'cpu'\nI4\ntQ"


@pytest.mark.parametrize(
    ("pickled", "message"),
    [
        (TENSOR + b"I0\n(I4\nt(I1\nt\x89NtR(S'tensor'\nI1\ntb.", None),
        (b"ctorch._utils\n_rebuild_tensor_v2\n(S'tensor'\nI1\ntb.", "pickle is refused"),
        (b"ccollections\nOrderedDict\nN(S'update'\nI1\nt\x86b.", "pickle is refused"),
        (b"cos\nsystem\n}b.", "pickle is refused"),
        (b"ctorch._utils\n_rebuild_tensor_v2\n(I1\nI0\n(I4\nt(I1\nttR.", "a tensor without numbers"),
        (b"(S'storage'\ncos\nsystem\nS'0'\nS'cpu'\nI4\ntQ.", "pickle is refused"),
        (b"(S'storage'\nctorch\nFloatStorage\nS'../0'\nS'cpu'\nI4\ntQ.", "pickle is refused"),
        (b"\x80\x04\x8c\x02os\x8c\x0epath.os.system\x93\x8c\x04true\x85R.", None),
        (b"(S'true'\nios\nsystem\n.", None),
        (b"(cos\nsystem\nS'true'\no.", None),
        (b"\x82\x01.", "pickle is refused"),
        (b"\x80\x02}q\x00", "pickle is refused"),
        (b"", "pickle is refused"),
    ],
)
def test_pickles_by_hand(tmp_path: Path, pickled: bytes, message: str | None) -> None:
    """Instructions that no honest pickle has are inert or refused, and nothing of ours is changed by them."""
    before = dict(vars(StoredTensor)), dict(vars(Inert))
    found, events = watched(zipped(tmp_path / "a.pt", pickled))
    assert not events and (dict(vars(StoredTensor)), dict(vars(Inert))) == before
    if message is None:
        assert isinstance(found, Inert | StoredTensor)
    else:
        assert isinstance(found, CheckpointError) and message in str(found) and "\n" not in str(found)


@pytest.mark.parametrize(
    "where", [b"I1\n(I4\nt(I1\nt", b"I0\n(I2\nI2\nt(I9\nI1\nt", b"I0\n(I4\nt(I-1\nt", b"S'x'\n(I4\nt(I1\nt"]
)
def test_tensors_beyond_their_numbers(tmp_path: Path, where: bytes) -> None:
    """A tensor that reaches out of its numbers is refused before it is read."""
    found = load(zipped(tmp_path / "a.pt", TENSOR + where + b"\x89NtR."))
    assert isinstance(found, StoredTensor)
    with pytest.raises(CheckpointError, match="a tensor cannot be read"):
        found.tensor()


def test_files_that_are_none(tmp_path: Path) -> None:
    """Missing, cut off, compressed, of another kind, or older than the format: one line that says so."""
    path = tmp_path / "a.pt"
    with pytest.raises(CheckpointError, match="is not there"):
        load(path)
    torch.save({"w": torch.ones(1000)}, path)
    path.write_bytes(path.read_bytes()[:-200])
    other, packed, legacy = tmp_path / "b.pt", tmp_path / "c.pt", tmp_path / "d.pt"
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("readme.txt", "no checkpoint")
    zipped(packed, pickle.dumps(1), zipfile.ZIP_DEFLATED)
    torch.save({"w": torch.ones(3)}, legacy, _use_new_zipfile_serialization=False)
    for place in (path, other, packed, legacy):
        with pytest.raises(CheckpointError, match="is no checkpoint that torch"):
            load(place)
