"""For all tests: one thread each, so that several test runs on one machine do not wait for each other."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
