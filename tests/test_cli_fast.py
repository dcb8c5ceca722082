"""The command answers at once: help, version and lists do not load torch."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

HEAVY = ("torch", "torchaudio", "soundfile", "librosa", "numpy", "huggingface_hub.file_download", "click")
PROGRAM = f"""
import sys
from stemforge.cli.main import main
code = main({{arguments!r}})
print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)
sys.exit(code)
"""
COMMANDS = [
    ["--help"],
    ["--version"],
    ["separate", "--help"],
    ["data", "--help"],
    ["train", "--help"],
    ["evaluate", "--help"],
    ["checkpoints", "list"],
    ["separate", "--list-models"],
    ["doctor", "--help"],
]


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_nothing_heavy_is_imported(arguments: list[str]) -> None:
    """Neither torch nor anything else that takes time is in sys.modules afterwards."""
    program = PROGRAM.format(arguments=arguments)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
    assert done.stdout


def test_help_takes_less_than_half_a_second() -> None:
    """`stemforge --help` spends less than 0.5 s of processor time, process start included."""
    program = "from stemforge.cli.main import run; run()"
    spent = []
    for _ in range(4):
        before = os.times()
        subprocess.run([sys.executable, "-c", program, "--help"], capture_output=True, check=True)
        after = os.times()
        spent.append(after.children_user + after.children_system - before.children_user - before.children_system)
    assert min(spent) < 0.5


def test_import_is_lazy_and_names_are_there() -> None:
    """`import stemforge` loads nothing heavy; the public names come when they are used."""
    program = "import sys, stemforge\nassert 'torch' not in sys.modules and 'numpy' not in sys.modules\n"
    program += "assert all(getattr(stemforge, name) for name in stemforge.__all__)\n"
    program += "assert set(stemforge.__all__) <= set(dir(stemforge))\n"
    subprocess.run([sys.executable, "-c", program], check=True)
