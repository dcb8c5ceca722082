"""The reader of TensorFlow checkpoints: what was written comes back, what is damaged is told."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bundles import block, entry, field, header, table, write_bundle
from stemforge.errors import CheckpointError
from stemforge.models.tensorflow import masked_crc32c, read_bundle

ARRAYS = {
    "conv2d/bias": np.arange(5, dtype=np.float32),
    "conv2d/kernel": np.random.default_rng(0).normal(size=(3, 2, 1, 5)).astype(np.float32),
    "conv2d_1/bias": np.array([True, False]),
    "dense/kernel": np.arange(6, dtype=np.float64).reshape(2, 3),
    "empty": np.zeros((0, 4), np.float32),
    "global_step": np.array(300, dtype=np.int64),
    "half": np.linspace(0, 1, 300, dtype=np.float16),
}
INDEX, DATA = write_bundle(ARRAYS)
ONE = np.zeros(2, np.float32)


def test_round_trip() -> None:
    """Names, types, shapes and values come back, over several blocks with shared prefixes."""
    found = read_bundle(INDEX, DATA)
    assert list(found) == sorted(ARRAYS)
    for name, array in ARRAYS.items():
        assert found[name].dtype == array.dtype and found[name].shape == array.shape
        assert np.array_equal(found[name], array)


def test_strings_are_left_out() -> None:
    """A tensor of strings holds no weights."""
    pairs = [(b"", header()), (b"graph", entry(ONE, 0, dtype=7)), (b"x", entry(ONE, 0))]
    assert list(read_bundle(table(pairs), bytes(8))) == ["x"]


def test_checksum() -> None:
    """The Castagnoli checksum of nine digits, from its catalogue, masked by the rule of LevelDB."""
    crc = 0xE3069283
    assert masked_crc32c(b"123456789") == ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


@pytest.mark.parametrize(
    ("index", "data", "message"),
    [
        (b"", DATA, "does not end as one"),
        (INDEX[:-1], DATA, "does not end as one"),
        (INDEX[20:], DATA, "block"),
        (INDEX[:9] + b"?" + INDEX[10:], DATA, "does not match its checksum"),
        (INDEX, DATA[:-1], "the data end before tensor 'half' does"),
        (
            table([(b"", header()), (b"x", entry(ONE, 0))], compression=1),
            bytes(8),
            "compressed, which is not supported",
        ),
        (table([(b"", header(shards=2)), (b"x", entry(ONE, 0))]), bytes(8), "not one shard"),
        (table([(b"", header(endianness=1))]), b"", "little-endian"),
        (table([(b"x", entry(ONE, 0))]), bytes(8), "not one shard"),
        (table([(b"", header()), (b"x", entry(ONE, 0, shard=1))]), bytes(8), "in another shard"),
        (table([(b"", header()), (b"x", entry(ONE, 0) + field(7, b""))]), bytes(8), "in slices"),
        (table([(b"", header()), (b"x", entry(ONE, 0, dtype=14))]), bytes(8), "tensor 'x' has type 14"),
        (table([(b"", header()), (b"x", entry(ONE, 0, size=12))]), bytes(12), r"shape \(2,\) cannot have 12 bytes"),
        (table([(b"", header()), (b"x", field(1, b"?"))]), b"", "field 1 is not a number"),
        (table([(b"", header()), (b"x", field(2, field(2, 3)))]), b"", "a shape is not one"),
        (table([(b"", header()), (b"x", b"\x0b")]), b"", "unknown wire type 3"),
        (table([(b"", header()), (b"x", b"\x12\x7f")]), b"", "a field is cut short"),
        (table([(b"", header()), (b"x", b"\xff" * 11)]), b"", "longer than 64 bits"),
        (table([(b"", header()), (b"\xff", entry(ONE, 0))]), bytes(8), "decode"),
    ],
)
def test_damage_is_told(index: bytes, data: bytes, message: str) -> None:
    """Whatever cannot be read is one error that says what is wrong and what to do."""
    with pytest.raises(CheckpointError, match=f"^TensorFlow checkpoint: .*{message}.*Copy it again"):
        read_bundle(index, data)


@given(at=st.integers(0, len(INDEX) - 1), value=st.integers(0, 255), cut=st.integers(0, len(INDEX)))
def test_no_damage_goes_through(at: int, value: int, cut: int) -> None:
    """A changed byte or a lost beginning gives an error of its own kind, or changes nothing."""
    for damaged in (INDEX[:at] + bytes([value]) + INDEX[at + 1 :], INDEX[cut:]):
        try:
            found = read_bundle(damaged, DATA)
        except CheckpointError:
            continue
        assert all(np.array_equal(found[name], array) for name, array in ARRAYS.items())


def test_entry_beyond_its_block() -> None:
    """A key that shares more than there is, behind a checksum that is right, is refused."""
    made = table([(b"", header())])
    assert made.startswith(block([(b"", header())]))
    content = b"\x05\x00\x00" + b"\0\0\0\0\1\0\0\0\0"
    bad = content + masked_crc32c(content).to_bytes(4, "little")
    handles = block([(b"z", bytes([0, len(content) - 1]))])
    footer = bytes([0, 0, len(bad), len(handles) - 5]).ljust(40, b"\0") + INDEX[-8:]
    with pytest.raises(CheckpointError, match="reaches beyond it"):
        read_bundle(bad + handles + footer, b"")
