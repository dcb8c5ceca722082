"""A tiny writer of TensorFlow checkpoints, for tests of the reader."""

from __future__ import annotations

import struct
from collections.abc import Mapping

import numpy as np

from stemforge.models.tensorflow import masked_crc32c

DTYPES = {"float32": 1, "float64": 2, "int32": 3, "int64": 9, "bool": 10, "float16": 19}


def varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def field(number: int, value: int | bytes) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def entry(array: np.ndarray, offset: int, **more: int) -> bytes:
    """A BundleEntryProto, with a fixed 32-bit checksum that nobody looks at."""
    dims = b"".join(field(2, field(1, size)) for size in array.shape)
    start = field(1, more.get("dtype", DTYPES[str(array.dtype)])) + field(2, dims)
    start += field(3, more["shard"]) if "shard" in more else b""
    return start + field(4, offset) + field(5, more.get("size", array.nbytes)) + varint(6 << 3 | 5) + b"crc!"


def block(pairs: list[tuple[bytes, bytes]], compression: int = 0) -> bytes:
    """Entries with shared prefixes, one restart, the kind of compression and the checksum."""
    content, before = b"", b""
    for key, value in pairs:
        shared = next(
            (i for i, (a, b) in enumerate(zip(key, before, strict=False)) if a != b), min(map(len, (key, before)))
        )
        content += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        before = key
    content += struct.pack("<II", 0, 1) + bytes([compression])
    return content + struct.pack("<I", masked_crc32c(content))


def table(pairs: list[tuple[bytes, bytes]], a_block: int = 3, compression: int = 0) -> bytes:
    """The whole index: blocks of a few entries each, an empty block of metadata, the block of handles, the footer."""
    out, handles = b"", []
    for start in range(0, len(pairs), a_block):
        made = block(pairs[start : start + a_block], compression)
        handles.append((pairs[start : start + a_block][-1][0], varint(len(out)) + varint(len(made) - 5)))
        out += made
    ends = []
    for made in (block([]), block(handles)):
        ends.append(varint(len(out)) + varint(len(made) - 5))
        out += made
    return out + b"".join(ends).ljust(40, b"\0") + struct.pack("<Q", 0xDB4775248B80FB57)


def header(shards: int = 1, endianness: int = 0) -> bytes:
    return field(1, shards) + (field(2, endianness) if endianness else b"")


def write_bundle(arrays: Mapping[str, np.ndarray]) -> tuple[bytes, bytes]:
    """Index and data of a checkpoint."""
    pairs, data = [(b"", header())], b""
    for name in sorted(arrays):
        array = np.asarray(arrays[name])
        pairs.append((name.encode(), entry(array, len(data))))
        data += array.tobytes()
    return table(pairs), data
