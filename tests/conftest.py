"""For all tests: one thread each, and the state of the processor as it was."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(autouse=True)
def small_numbers() -> Iterator[None]:
    """Choosing a device flushes small numbers to zero for the rest of the process; hypothesis needs them."""
    yield
    if "torch" in sys.modules:
        sys.modules["torch"].set_flush_denormal(False)
