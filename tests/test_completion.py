"""The Tab key: `stemforge --show-completion bash` prints what bash needs, and it completes commands and options."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TYPED = {
    "sep": {"separate"},
    "edit re": {"regenerate", "restyle"},
    "checkpoints p": {"path", "pull", "push"},
    "separate --ove": {"--overlap", "--overwrite"},
}


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A folder with `stemforge`, which fails when it imports torch: who presses Tab does not wait for that."""
    (tmp_path / "without").mkdir()
    (tmp_path / "without" / "torch.py").write_text("raise SystemExit('torch is imported')\n")
    file = tmp_path / "bin" / "stemforge"
    file.parent.mkdir()
    file.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m stemforge "$@"\n')
    file.chmod(0o755)
    return tmp_path


@pytest.mark.skipif(not shutil.which("bash"), reason="needs bash")
def test_tab_in_bash(program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The printed script, read by bash, fills COMPREPLY with what fits, for every word that is begun."""
    lines = ['eval "$(stemforge --show-completion bash)"', "complete -p stemforge"]
    for typed in TYPED:
        words = " ".join(["stemforge", typed]).split()
        lines += [f"COMP_WORDS=({' '.join(words)}) COMP_CWORD={len(words) - 1}",
                  "_stemforge_completion stemforge", 'echo "${COMPREPLY[@]}"']  # fmt: skip
    paths = os.pathsep.join([str(program / "without"), *([old] if (old := os.environ.get("PYTHONPATH")) else [])])
    environment = {**os.environ, "PATH": f"{program / 'bin'}:{os.environ['PATH']}", "PYTHONPATH": paths}
    done = subprocess.run(
        ["bash", "-c", "\n".join(lines)], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0 and done.stderr == ""
    registered, *found = done.stdout.splitlines()
    assert registered.endswith("-F _stemforge_completion stemforge")
    assert [set(line.split()) for line in found] == list(TYPED.values())


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells(shell: str) -> None:
    """What they are to read asks the program in the same way."""
    environment = {**os.environ, "_STEMFORGE_COMPLETE": f"source_{shell}"}
    command = [sys.executable, "-m", "stemforge"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and f"_STEMFORGE_COMPLETE=complete_{shell}" in done.stdout
