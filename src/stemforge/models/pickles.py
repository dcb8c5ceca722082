"""Reads the pickle inside a file that torch saved, and runs nothing of it.

A pickle names classes and functions and asks to call them. Here every name becomes a class of its own that does
nothing (`Inert`), but for two: an ordered dictionary becomes a plain one, and a tensor becomes the description of where
in the file it lies (`StoredTensor`). So what comes out holds dictionaries, lists, tuples, numbers, strings and those
three; nothing is imported, and no code that the file chooses is reached.

The format is that of `torch.save` since 1.6: an uncompressed zip with `NAME/data.pkl` and `NAME/data/0`, `.../1`, ...
"""

from __future__ import annotations

import pickle
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from stemforge.errors import CheckpointError

_DTYPES = {
    "torch.DoubleStorage": torch.float64,
    "torch.FloatStorage": torch.float32,
    "torch.HalfStorage": torch.float16,
    "torch.BFloat16Storage": torch.bfloat16,
    "torch.LongStorage": torch.int64,
    "torch.IntStorage": torch.int32,
    "torch.ShortStorage": torch.int16,
    "torch.CharStorage": torch.int8,
    "torch.ByteStorage": torch.uint8,
    "torch.BoolStorage": torch.bool,
}


class Inert:
    """In the place of an object of any class, or of what any function returned: it keeps `state` and does nothing.

    origin: dotted name of the class or function; state: what the pickle would have set, mostly a dictionary.
    Every class that a pickle can reach has __setstate__, so that pickle never sets attributes by itself.
    """

    origin: ClassVar[str] = ""
    state: object = None

    def __init__(self, *arguments: object, **keywords: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        self.state = state

    def __call__(self, *arguments: object, **keywords: object) -> Inert:
        return Inert()

    def __setitem__(self, key: object, value: object) -> None:
        pass

    def append(self, item: object) -> None:
        """Of a list that is none."""

    add = append


class Table(dict[Any, Any]):
    """An ordered dictionary, without the attributes that a pickle may give it."""

    def __setstate__(self, state: object) -> None:
        pass


@dataclass(frozen=True)
class Storage:
    """Numbers of one kind in a file: `size` bytes from byte `start` on."""

    path: Path
    start: int
    size: int
    dtype: torch.dtype

    def __setstate__(self, state: object) -> None:
        pass


class StoredTensor:
    """A tensor that is still in the file; takes what torch's `_rebuild_tensor_v2` is called with."""

    def __init__(
        self, storage: Storage, offset: int, shape: tuple[int, ...], stride: tuple[int, ...], *ignored: object
    ) -> None:
        if not isinstance(storage, Storage):
            raise pickle.UnpicklingError("a tensor without numbers")
        self.storage, self.offset, self.shape, self.stride = storage, offset, tuple(shape), tuple(stride)

    def __setstate__(self, state: object) -> None:
        pass

    def tensor(self) -> Tensor:
        """The tensor itself, mapped into memory, not read. Raises CheckpointError when it is not within its file."""
        try:
            raw = np.memmap(self.storage.path, np.uint8, "c", self.storage.start, (self.storage.size,))
            return torch.from_numpy(raw).view(self.storage.dtype).as_strided(self.shape, self.stride, self.offset)
        except (OSError, ValueError, RuntimeError, TypeError, OverflowError) as error:
            reason = str(error).splitlines()[0]
            raise CheckpointError(f"'{self.storage.path}': a tensor cannot be read: {reason}. Get it again.") from None


_REBUILT: dict[str, type] = {"collections.OrderedDict": Table, "torch._utils._rebuild_tensor_v2": StoredTensor}


class _Unpickler(pickle.Unpickler):
    """Looks no name up; finds storages by their number."""

    def __init__(self, file: IO[bytes], storage: Callable[[str, torch.dtype], Storage]) -> None:
        super().__init__(file, encoding="utf-8")
        self.storage = storage

    def find_class(self, module: str, name: str) -> type:
        origin = f"{module}.{name}"
        return _REBUILT.get(origin) or type("Inert", (Inert,), {"origin": origin})

    def persistent_load(self, pid: Any) -> Storage:  # noqa: ANN401 (whatever the file says)
        _, kind, key, *_ = pid
        return self.storage(str(key), _DTYPES[kind.origin])


def load(path: Path) -> object:
    """What a file of `torch.save` holds, as this module's docstring says.

    Raises:
        CheckpointError: the file is not there, is not such a file, is cut off, or asks for what is not done here.
    """
    try:
        with zipfile.ZipFile(path) as archive, path.open("rb") as file:
            members = {info.filename: info for info in archive.infolist()}
            root = next(name for name in members if name.count("/") == 1 and name.endswith("/data.pkl"))

            def storage(key: str, dtype: torch.dtype) -> Storage:
                info = members[root.replace("data.pkl", f"data/{key}")]
                return Storage(path, _start(file, info), info.file_size, dtype)

            _start(file, members[root])
            with archive.open(root) as pickled:
                return _Unpickler(pickled, storage).load()
    except FileNotFoundError:
        raise CheckpointError(f"'{path}': is not there. Check the path.") from None
    except (zipfile.BadZipFile, StopIteration):
        raise CheckpointError(
            f"'{path}': is no checkpoint that torch 1.6 or later saved, or is cut off. Get it again."
        ) from None
    except Exception as error:  # whatever a hostile or damaged pickle can bring up
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise CheckpointError(
            f"'{path}': its pickle is refused: {reason}. Get it from where it was published."
        ) from None


def _start(file: IO[bytes], info: zipfile.ZipInfo) -> int:
    """First byte of an uncompressed member of the zip."""
    file.seek(info.header_offset)
    header = file.read(30)
    if info.compress_type != zipfile.ZIP_STORED or header[:4] != b"PK\x03\x04":
        raise zipfile.BadZipFile
    name, extra = struct.unpack("<HH", header[26:])
    return info.header_offset + 30 + int(name) + int(extra)
