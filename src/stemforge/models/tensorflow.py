"""Weights out of a TensorFlow checkpoint, without TensorFlow.

A checkpoint of `tf.train.Saver` (a "bundle") is two files. `.index` is a sorted table in the format of LevelDB: blocks
of entries whose keys share prefixes, a block that points to the others, and a footer that points to that one. Its
values are protocol buffers: under the empty key a BundleHeaderProto, under the name of each tensor a BundleEntryProto
with type, shape, and where its bytes lie in `.data-00000-of-00001`. Sources: tensorflow/core/util/tensor_bundle,
tensorflow/core/protobuf/tensor_bundle.proto, leveldb/doc/table_format.md.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from stemforge.errors import CheckpointError

Array: TypeAlias = "np.ndarray[Any, np.dtype[Any]]"
Fields: TypeAlias = dict[int, list[int | bytes]]

_MAGIC = 0xDB4775248B80FB57
_FOOTER, _TRAILER = 48, 5  # bytes: two handles, padding and magic; compression and checksum after a block
_DTYPES = {
    1: "<f4",
    2: "<f8",
    3: "<i4",
    4: "|u1",
    5: "<i2",
    6: "|i1",
    9: "<i8",
    10: "|b1",
    17: "<u2",
    19: "<f2",
    22: "<u4",
    23: "<u8",
}
_STRING = 7
PARTS = {
    "kernel": "weight",
    "gamma": "weight",
    "bias": "bias",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}
"""What TensorFlow calls the tensors of a layer: what torch calls them."""


class _Damaged(Exception):
    """What is wrong with the bytes."""


@dataclass(frozen=True)
class _Entry:
    """Where a tensor lies: bytes `offset` to `offset + size` of the data, with this type and shape."""

    dtype: int
    shape: tuple[int, ...]
    offset: int
    size: int


def read_bundle(index: bytes, data: bytes) -> dict[str, Array]:
    """All numeric tensors of a checkpoint by name, as read-only views of `data`; strings hold no weights, left out.

    The checksum of each block of the index is checked, those of the tensors are not.

    Args:
        index: the file `.index`.
        data: the file `.data-00000-of-00001`.

    Raises:
        CheckpointError: damaged, compressed, of several shards, big-endian, in slices, or of a type that is not known.
    """
    try:
        entries = dict(_table(index))
        header = _message(entries.pop(b"", b""))
        if _number(header, 1) != 1 or _number(header, 2) != 0:
            raise _Damaged("it is not one shard of little-endian numbers")
        found = {name.decode(): _entry(value) for name, value in entries.items()}
        return {name: _tensor(name, entry, data) for name, entry in found.items() if entry.dtype != _STRING}
    except (_Damaged, UnicodeDecodeError) as error:
        raise CheckpointError(f"TensorFlow checkpoint: cannot be read: {error}. Copy it again.") from None


def _table(index: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of a table, in order."""
    if len(index) < _FOOTER or struct.unpack("<Q", index[-8:])[0] != _MAGIC:
        raise _Damaged("its index does not end as one")
    footer = index[-_FOOTER:]
    _, at = _handle(footer, 0)
    (start, size), _ = _handle(footer, at)
    for _, value in _block(index, start, size):
        (start, size), _ = _handle(value, 0)
        yield from _block(index, start, size)


def _handle(buffer: bytes, at: int) -> tuple[tuple[int, int], int]:
    """Place and size of a block, and the position after them."""
    start, at = _varint(buffer, at)
    size, at = _varint(buffer, at)
    return (start, size), at


def _block(index: bytes, start: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    """Entries of one block. Each key is a prefix of the key before it and some bytes more."""
    content, trailer = index[start : start + size], index[start + size : start + size + _TRAILER]
    if len(trailer) < _TRAILER or size < 4:
        raise _Damaged(f"a block at byte {start} is cut short")
    if trailer[0]:
        raise _Damaged(f"the block at byte {start} is compressed, which is not supported")
    if struct.unpack("<I", trailer[1:])[0] != masked_crc32c(content + trailer[:1]):
        raise _Damaged(f"the block at byte {start} does not match its checksum")
    restarts = struct.unpack("<I", content[-4:])[0]
    end, at, key = size - 4 * (restarts + 1), 0, b""
    while at < end:
        shared, at = _varint(content, at)
        fresh, at = _varint(content, at)
        length, at = _varint(content, at)
        if shared > len(key) or at + fresh + length > end:
            raise _Damaged(f"an entry of the block at byte {start} reaches beyond it")
        key = key[:shared] + content[at : at + fresh]
        at += fresh + length
        yield key, content[at - length : at]


def _varint(buffer: bytes, at: int) -> tuple[int, int]:
    """A number in groups of 7 bits, lowest first, and the position after it."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(buffer):
            raise _Damaged("a number is cut short")
        value |= (buffer[at] & 0x7F) << shift
        at += 1
        if buffer[at - 1] < 0x80:
            return value, at
    raise _Damaged("a number is longer than 64 bits")


def _message(buffer: bytes) -> Fields:
    """Fields of a protocol buffer by number: varints and fixed ones as int, strings and messages as bytes."""
    fields: Fields = {}
    at = 0
    while at < len(buffer):
        tag, at = _varint(buffer, at)
        number, wire = tag >> 3, tag & 7
        value: int | bytes
        if wire == 0:
            value, at = _varint(buffer, at)
        else:
            if wire == 2:
                size, at = _varint(buffer, at)
            elif wire in (1, 5):
                size = 8 if wire == 1 else 4
            else:
                raise _Damaged(f"a field has the unknown wire type {wire}")
            if at + size > len(buffer):
                raise _Damaged("a field is cut short")
            value = buffer[at : at + size] if wire == 2 else int.from_bytes(buffer[at : at + size], "little")
            at += size
        fields.setdefault(number, []).append(value)
    return fields


def _number(fields: Fields, number: int) -> int:
    """The last value of a numeric field, 0 when it is left out."""
    value = fields.get(number, [0])[-1]
    if not isinstance(value, int):
        raise _Damaged(f"field {number} is not a number")
    return value


def _entry(value: bytes) -> _Entry:
    """A BundleEntryProto: 1 dtype, 2 shape, 3 shard, 4 offset, 5 size, 6 checksum, 7 slices."""
    fields = _message(value)
    if 7 in fields or _number(fields, 3):
        raise _Damaged("a tensor is in slices or in another shard")
    shape = fields.get(2, [b""])[-1]
    dims = _message(shape).get(2, []) if isinstance(shape, bytes) else [0]
    if not all(isinstance(dim, bytes) for dim in dims):
        raise _Damaged("a shape is not one")
    sizes = tuple(_number(_message(dim), 1) for dim in dims if isinstance(dim, bytes))
    return _Entry(_number(fields, 1), sizes, _number(fields, 4), _number(fields, 5))


def _tensor(name: str, entry: _Entry, data: bytes) -> Array:
    if entry.dtype not in _DTYPES:
        raise _Damaged(f"tensor '{name}' has type {entry.dtype}, which is not supported")
    dtype = np.dtype(_DTYPES[entry.dtype])
    if math.prod(entry.shape) * dtype.itemsize != entry.size:
        raise _Damaged(f"tensor '{name}' of shape {entry.shape} cannot have {entry.size} bytes")
    if entry.offset + entry.size > len(data):
        raise _Damaged(f"the data end before tensor '{name}' does")
    return np.frombuffer(data, dtype, math.prod(entry.shape), entry.offset).reshape(entry.shape)


def _crc_table() -> list[int]:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    return table


_CRC = _crc_table()


def masked_crc32c(content: bytes) -> int:
    """The Castagnoli checksum of some bytes, rotated and shifted as LevelDB stores it."""
    crc = 0xFFFFFFFF
    for byte in content:
        crc = crc >> 8 ^ _CRC[(crc ^ byte) & 0xFF]
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
