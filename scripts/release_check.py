"""Is the last commit fit to be released? Builds it, and uses what was built as somebody would who has nothing else.

    python scripts/release_check.py [--dist dist] [--work FOLDER]

Wheel and source archive are made of the commit, not of the working tree, the wheel out of the archive. `twine check`
reads both, the wheel may have 95 MB at most (PyPI takes 100). Then it is installed into a new environment without
constraints.txt, the sources are deleted, the network is out of reach, and `separate`, `impute`, `generate` and `edit`
run on the example song; what they write is looked at. Prints the time of each step; needs the extra [release], a
network for pip, and 6 GB of disk.
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import runpy
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile

ROOT = Path(__file__).parents[1]
MOST_BYTES = 95_000_000
FEW = ("--steps", "6")  # whether it runs, not how it sounds
REGION = (8, 9)
NOWHERE = "http://127.0.0.1:9"


def main() -> None:
    """All steps, one after the other; the first that fails ends it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dist", type=Path, default=ROOT / "dist", help="where wheel and archive are left")
    parser.add_argument("--work", type=Path, help="an empty folder to work in, which is kept; else one that vanishes")
    args = parser.parse_args()
    version = runpy.run_path(str(ROOT / "src" / "stemforge" / "__init__.py"))["__version__"]
    check(changelog_problems((ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), version))
    if args.work:
        args.work.mkdir(parents=True, exist_ok=True)
        tried(args.work.resolve(), args.dist, version)
    else:
        with tempfile.TemporaryDirectory(prefix="stemforge-release-") as folder:
            tried(Path(folder), args.dist, version)
    print(f"stemforge {version} is fit to be released")


def tried(work: Path, dist: Path, version: str) -> None:
    """Build, install, use."""
    files = built(work, version)
    dist.mkdir(exist_ok=True)
    for file in files:
        shutil.copyfile(file, dist / file.name)
    program = installed(work, files)
    (work / "user").mkdir()
    shutil.copyfile(ROOT / "examples" / "demo.flac", work / "user" / "demo.flac")
    used(program, work / "user")


def built(work: Path, version: str) -> list[Path]:
    """Wheel and source archive of the commit, in that order; the sources are gone afterwards."""
    changed = told(["git", "-C", str(ROOT), "status", "--porcelain", "--untracked-files=no"]).splitlines()
    print(f"commit {told(['git', '-C', str(ROOT), 'rev-parse', '--short', 'HEAD']).strip()}, version {version}"
          + (f"; {len(changed)} changed files are not part of it" if changed else ""))  # fmt: skip
    source, archive, out = work / "source", work / "source.tar", work / "dist"
    told(["git", "-C", str(ROOT), "archive", "--output", str(archive), "HEAD"])
    with tarfile.open(archive) as tar:
        tar.extractall(source, filter="data")
    archive.unlink()
    step("build", [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(source)], work)
    shutil.rmtree(source)
    files = [next(out.glob(pattern)) for pattern in (f"stemforge-{version}-*.whl", f"stemforge-{version}.tar.gz")]
    step("twine check", [sys.executable, "-m", "twine", "check", "--strict", *map(str, files)], work)
    for file in files:
        print(f"  {file.name}: {file.stat().st_size / 1e6:.1f} MB")
    check(size_problems({file.name: file.stat().st_size for file in files}))
    return files


def installed(work: Path, files: list[Path]) -> Path:
    """`stemforge` of a new environment with nothing in it but the wheel and what it asks for."""
    place = work / "venv"
    step("environment", [sys.executable, "-m", "venv", str(place)], work)
    pip = [str(place / "bin" / "python"), "-m", "pip", "install", "--quiet", "--no-cache-dir", "--no-compile"]
    step("install", [*pip, str(files[0])], work)
    where = "import stemforge, pathlib; print(pathlib.Path(stemforge.__file__).parent)"
    found = Path(told([str(place / "bin" / "python"), "-c", where], work).strip())
    if not found.is_relative_to(place):
        raise SystemExit(f"release check: stemforge comes from '{found}', not from the wheel.")
    print("  " + ", ".join(told([str(place / "bin" / "stemforge"), "--version"], work).splitlines()[:4]))
    return place / "bin" / "stemforge"


def used(program: Path, user: Path) -> None:
    """Every command on the example song, and what it wrote."""
    song, rate = soundfile.read(user / "demo.flac", always_2d=True)
    step("doctor", [str(program), "doctor", "--strict"], user)
    step("separate", [str(program), "separate", "demo.flac", "-q"], user)
    folder = next((user / "separated").glob("*/demo"))
    stems = sounds(folder)
    gap = sum(stems.values()) - song
    expect(len(stems) >= 5 and 10 * np.log10(np.mean(gap**2) / np.mean(song**2)) < -100, "the stems do not add up")
    given = str(folder.relative_to(user))
    step("impute", [str(program), "impute", given, "--keep", "bass,drums", "-q", *FEW], user)
    new = sounds(next((user / "imputed").glob("*/demo")))
    expect(new.keys() == stems.keys(), "impute did not make every stem")
    expect(all(np.array_equal(new[name], stems[name]) for name in ("bass", "drums")), "a kept stem was changed")
    expect(all(np.abs(new[name]).max() > 1e-3 for name in new), "a new stem is silent")
    step("generate", [str(program), "generate", "--duration", "6", "-q", *FEW], user)
    piece = sounds(next((user / "generated").glob("*/seed-0")))
    expect(all(len(x) == 6 * rate and np.abs(x).max() > 1e-3 for x in piece.values()), "generate made no 6 s of sound")
    region = f"{REGION[0]}:{REGION[1]}"
    step("edit", [str(program), "edit", "inpaint", "demo.flac", "--region", region, "-q", *FEW], user)
    edited, _ = soundfile.read(next((user / "edited").glob("*/inpaint/demo/mix.wav")), always_2d=True)
    moved = np.flatnonzero((edited != song).any(axis=1)) / rate
    expect(len(edited) == len(song) and moved.size > 0, "edit changed nothing, or the length")
    expect(REGION[0] - 0.1 < moved[0] and moved[-1] < REGION[1] + 0.1, "edit changed more than its region")


def sounds(folder: Path) -> dict[str, np.ndarray]:
    """Stems of a folder, (time, channel)."""
    return {path.stem: soundfile.read(path, always_2d=True)[0] for path in folder.glob("*.wav") if path.stem != "mix"}


def step(name: str, command: list[str], cwd: Path) -> None:
    """Run it in an environment without traces of this one; its time, or its last words and the end of all."""
    begun, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, cwd=cwd, env=plain(offline=cwd.name == "user"), capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(f"{name:12} {time.monotonic() - begun:7.1f} s, {cpu:6.1f} s of processor time", flush=True)
    if done.returncode:
        raise SystemExit(f"release check: {name} failed ({done.returncode}):\n{(done.stdout + done.stderr)[-2000:]}")


def told(command: list[str], cwd: Path = ROOT) -> str:
    """What a command prints."""
    return subprocess.run(command, cwd=cwd, env=plain(), capture_output=True, text=True, check=True).stdout


def plain(*, offline: bool = False) -> dict[str, str]:
    """The environment without settings of stemforge, Python or constraints; offline: and without a network."""
    ours = re.compile(r"STEMFORGE_|PYTHON|VIRTUAL_ENV$|PIP_CONSTRAINT$|HF_")
    kept = {name: value for name, value in os.environ.items() if not ours.match(name)}
    kept["PYTHONNOUSERSITE"] = "1"
    if offline:
        kept |= dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), NOWHERE)
    return kept


def changelog_problems(text: str, version: str) -> list[str]:
    """What a changelog lacks for the release of a version."""
    parts = re.split(r"(?m)^## \[(.+?)\](.*)\n", text)
    sections = {name: (rest, body) for name, rest, body in zip(parts[1::3], parts[2::3], parts[3::3], strict=True)}
    if version not in sections:
        return [f"CHANGELOG.md: no section [{version}]"]
    dated = re.fullmatch(r" - \d{4}-\d\d-\d\d", sections[version][0])
    problems = [] if dated else [f"CHANGELOG.md: [{version}] has no date"]
    left = sections.get("Unreleased", ("", ""))[1].count("\n- ")
    return problems + ([f"CHANGELOG.md: {left} entries are still unreleased"] if left else [])


def size_problems(sizes: dict[str, int]) -> list[str]:
    """Files that are too large for the package index."""
    return [
        f"{name}: {size / 1e6:.1f} MB, more than {MOST_BYTES / 1e6:g}"
        for name, size in sizes.items()
        if size > MOST_BYTES
    ]


def check(problems: list[str]) -> None:
    """End with the problems, if there are any."""
    if problems:
        raise SystemExit("release check: " + "; ".join(problems) + ".")


def expect(true: bool, otherwise: str) -> None:
    """End with what is wrong, unless it is true."""
    check([] if true else [otherwise])


if __name__ == "__main__":
    main()
