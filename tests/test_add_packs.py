"""The script that turns clones of free sample packs into flat maps."""

from __future__ import annotations

import runpy
import struct
import tomllib
from pathlib import Path

import numpy as np
import pytest
import soundfile

SCRIPTS = Path(__file__).parents[1] / "scripts"
RATE = 8000


@pytest.fixture(scope="module")
def packs() -> dict:
    return runpy.run_path(str(SCRIPTS / "add_packs.py"))


def write_note(path: Path, loop: tuple[int, int] | None = None, seconds: float = 1.0) -> None:
    """A note as WAV, with a `smpl` chunk that holds the loop."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, 0.3 * np.sin(np.arange(int(seconds * RATE)) / 10), RATE, subtype="PCM_16")
    if loop:
        chunk = struct.pack("<9I", 0, 0, 0, 60, 0, 0, 0, 1, 0) + struct.pack("<6I", 0, 0, *loop, 0, 0)
        path.write_bytes(path.read_bytes() + b"smpl" + struct.pack("<I", len(chunk)) + chunk)


def test_notes_in_file_names(packs, tmp_path):
    """A folder of named samples becomes regions without gaps between the keys, louder layers for higher velocities."""
    for name in ("C4_v1", "C4_v2", "Fs4_v1", "Bb4_v1", "noise"):
        write_note(tmp_path / f"{name}.wav")
    found = list(packs["named"](tmp_path, r"(?P<note>[A-G][bs]?)(?P<octave>\d)_v(?P<layer>\d)", 2))
    assert [(r.center, r.low, r.high, r.softest, r.loudest) for r in found] == [
        (60, 58, 63, 1, 63), (60, 58, 63, 64, 127), (66, 64, 68, 1, 127), (70, 69, 72, 1, 127),
    ]  # fmt: skip


def test_takes_of_a_written_map_take_turns(packs, tmp_path):
    """Regions of one map for the same keys and velocities follow each other, at most as many as asked for."""
    for turn in (1, 2, 3):
        write_note(tmp_path / "samples" / f"e {turn}.wav")
    lines = "\n".join(f"<region>\nsample=samples\\e {turn}.wav\nhivel=$LOUD" for turn in (1, 2, 3))
    (tmp_path / "a.sfz").write_text(f"<group>\nkey=40 // low E\n{lines}\n")
    regions = packs["in_turns"](packs["written"](tmp_path / "a.sfz", tmp_path), 2)
    assert [(r.sample.name, r.low, r.loudest, r.turn, r.turns) for r in regions] == [
        ("e 1.wav", 40, 127, 1, 2), ("e 2.wav", 40, 127, 2, 2),
    ]  # fmt: skip


def test_loops_are_kept_and_tails_are_cut(packs, tmp_path):
    """A looped sample keeps its loop to the very sample; one without is cut and faded."""
    write_note(tmp_path / "loop.wav", (1000, 7000))
    write_note(tmp_path / "tail.wav", seconds=2.0)
    assert packs["loop_of"](tmp_path / "loop.wav") == (1000, 7000)
    assert "loop_start=1000 loop_end=7000" in packs["store"](tmp_path / "loop.wav", tmp_path / "loop.ogg", 0.5, None)
    assert "no_loop" in packs["store"](tmp_path / "tail.wav", tmp_path / "tail.ogg", 0.5, None)
    told = packs["store"](tmp_path / "tail.wav", tmp_path / "told.ogg", 0.5, (2000, 9000))
    assert "loop_start=2000 loop_end=9000" in told and soundfile.info(tmp_path / "told.ogg").frames == 9256
    assert soundfile.info(tmp_path / "loop.ogg").frames == 7256
    sound, _ = soundfile.read(tmp_path / "tail.ogg")
    assert len(sound) == RATE // 2 and np.abs(sound[-80:]).max() < 0.05 < np.abs(sound[:800]).max()


def test_a_map_may_give_a_sample_its_loop(packs, tmp_path):
    """Opcodes of the region count; one without them has none."""
    for name in ("a", "b"):
        write_note(tmp_path / f"{name}.wav")
    (tmp_path / "x.sfz").write_text(
        "<region> sample=a.wav key=40 loop_start=100 loop_end=900\n<region> sample=b.wav key=41\n"
    )
    assert [region.loop for region in packs["written"](tmp_path / "x.sfz", tmp_path)] == [(100, 900), None]


def test_no_velocity_is_left_without_a_sound(packs, tmp_path):
    """Where the soft, the loud or a middle layer of a key is missing another one plays; complete keys stay."""
    layers = {40: [(1, 60), (61, 127)], 41: [(61, 127)], 42: [(1, 60)], 43: [(1, 30), (61, 127)]}
    rows = [packs["Region"](tmp_path, key, key, key, *layer) for key, found in layers.items() for layer in found]
    assert [(region.low, region.softest, region.loudest) for region in packs["closed"](rows)] == [
        (40, 1, 60), (40, 61, 127), (41, 1, 127), (42, 1, 127), (43, 1, 30), (43, 31, 127),
    ]  # fmt: skip


def test_a_pack_is_written_from_the_table(packs, tmp_path):
    """The script finds the clone by the end of its name, writes map, samples and licence, and skips other packs."""
    clone = tmp_path / "clones" / "someone+MyTuner"
    write_note(clone / "client/src/data/guitar_sounds/E2.wav")
    (clone / "LICENSE").write_text("free")
    packs["main"](tmp_path / "clones", tmp_path / "assets", [])
    target = tmp_path / "assets" / "sfz" / "guitar" / "steel_acoustic"
    assert sorted(path.name for path in target.iterdir()) == ["E2.ogg", "LICENSE", "steel_acoustic.sfz"]
    assert "sample=E2.ogg lokey=36 hikey=44 pitch_keycenter=40" in (target / "steel_acoustic.sfz").read_text()
    assert [path.name for path in (tmp_path / "assets" / "sfz").iterdir()] == ["guitar"]


def test_every_pack_of_the_table_is_complete():
    """Each entry says its clone, a stem that exists, opcodes, and where its samples are."""
    for pack in tomllib.loads((SCRIPTS / "packs.toml").read_text(encoding="utf-8")).values():
        assert pack["stem"] in ("bass", "drums", "guitar", "piano", "other") and pack["clone"] and pack["opcodes"]
        assert all({"map", "names", "headroom"} & set(layer) for layer in pack.get("layers", [pack]))
