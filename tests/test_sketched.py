"""What is begun with a sketch: drawn, heard, refined; blocks of any length, given stems, regions, and the commands."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import save_file

from stemforge import checkpoints
from stemforge.cli.main import main
from stemforge.errors import UsageError
from stemforge.inference.settings import Sampling
from stemforge.tasks.edit import Way
from stemforge.tasks.edit_files import Files
from stemforge.tasks.edit_song import Job, Scene, changes, steps_in
from stemforge.tasks.generate import generate
from stemforge.tasks.impute import Song, Wish, impute_blocks
from stemforge.tasks.regions import Region
from stemforge.tasks.sketched import AROUND, PART, PEAK, Sketcher, coded, decoded
from stemforge.types import Stems
from test_sketch import learned
from test_synthesis import checkpoint, wav  # noqa: F401 (a fixture)
from tiny import tiny_network

NAMES = ("bass", "drums", "other")
QUICK = Sampling(steps=2)
RATE, SIZE = 8000, 800


def sketcher(**changes: object) -> Sketcher:
    return Sketcher(learned(**changes)[0], QUICK)


@pytest.mark.parametrize("count", [1, SIZE, 24 * SIZE - 5, (PART + 2) * SIZE, (2 * PART + 3) * SIZE + 77])
def test_a_sound_in_blocks_has_the_codes_of_the_whole(count: int) -> None:
    """Whatever its length, and whatever that of the blocks."""
    network, _ = learned()
    sound = 0.1 * torch.randn(3, 2, count, generator=torch.Generator().manual_seed(0))
    padded = torch.nn.functional.pad(sound, (0, -count % SIZE))
    whole = network.encode(padded.mean(dim=1))
    assert torch.allclose(torch.cat(list(coded(network, padded.split(1234, dim=-1))), dim=-1), whole, atol=1e-4)


def test_codes_in_blocks_become_one_sound() -> None:
    """As long as they are; within a part what `decode` finds, and over the border no louder than on both sides."""
    network, _ = learned()
    codes = 0.5 * torch.randn(2, 24, 2 * PART + 7, generator=torch.Generator().manual_seed(0))
    sound = torch.cat(list(decoded(network, codes.split(31, dim=-1), seed=1)), dim=-1)
    assert sound.shape == (2, codes.shape[-1] * SIZE)
    first = network.decode(codes[..., :PART], seed=1_000_003)
    assert torch.equal(sound[:, : (PART - 1) * SIZE], first[:, : (PART - 1) * SIZE])
    again = torch.cat(list(decoded(network, codes.split(100, dim=-1), seed=1)), dim=-1)
    assert torch.equal(sound, again)
    jumps = sound.diff(dim=1).abs()
    border = slice((PART - 1) * SIZE - 80, PART * SIZE + 80)
    assert jumps[:, border].max() <= jumps.max() * 1.0001
    assert sound[:, border].abs().max() > 0
    state = torch.random.get_rng_state()
    network.decode(codes[..., :5])
    assert torch.equal(state, torch.random.get_rng_state())


def test_no_stem_of_a_sketch_is_louder_than_a_real_one() -> None:
    """Samples beyond what stems reach are cut; those within are what they were."""
    network, sounds = learned()
    codes = network.encode(20 * sounds[:1])
    loud = torch.cat(list(decoded(network, [codes], seed=1)), dim=-1)
    plain = network.decode(codes, seed=1_000_003)
    assert plain.abs().max() > 2 * PEAK and loud.abs().max() == pytest.approx(PEAK)
    within = plain[:, : loud.shape[-1]].abs() < PEAK
    assert 0.1 < within.float().mean() < 1 and torch.equal(loud[within], plain[:, : loud.shape[-1]][within])


def test_a_sketch_is_as_long_as_the_piece_and_in_the_order_asked_for() -> None:
    found = sketcher()
    piece = torch.cat(list(found.generate(("other", "bass"), 16500, 2, seed=3)), dim=-1)
    other = torch.cat(list(found.generate(("bass", "other"), 16500, 2, seed=3)), dim=-1)
    assert piece.shape == (2, 2, 16500)
    assert torch.equal(piece[1, 0], piece[1, 1])  # the bass stands in the middle
    left, right = piece[0]
    assert left.square().sum() != pytest.approx(float(right.square().sum()), rel=0.3)
    torch.testing.assert_close(left * right.norm(), right * left.norm())
    assert piece.square().mean(dim=(1, 2)).min() > 0
    assert torch.allclose(piece[0, 0, :4000].square().mean(), other[1, 0, :4000].square().mean(), rtol=0.2)
    last = torch.cat(list(found.generate(("bass",), 16300, 1, seed=3)), dim=-1)[0, 0, -100:]
    assert last.abs().max() > 0  # the piece ends within a code, which is drawn too


def test_what_is_told_of_its_steps_is_what_there_are() -> None:
    """With nothing given, and beside a stem; over one window and several."""
    found, sounds = sketcher(), learned()[1][:1, None]
    steps: list[int] = []

    def told(done: int, total: int) -> None:
        steps.append(total)

    for frames in (RATE * 12, RATE * 12 + 1, 16500, 19 * RATE):
        steps.clear()
        list(found.generate(("bass",), frames, 1, on_step=told))
        assert found.steps(frames) == steps[-1] == len(steps)
        steps.clear()
        song = Song([sounds.repeat(1, 1, 12)[..., :frames]], ("bass",), frames, 1.0)
        list(found.impute(song, ("drums",), Wish(("drums",)), 1, on_step=told))
        assert found.steps(frames, beside=True) == steps[-1] == len(steps)


def test_it_knows_what_it_can_draw() -> None:
    found = sketcher()
    assert found.can(("bass",), RATE) and found.can(NAMES, RATE) and found.can(("bass",), RATE, ("drums", "vocals"))
    assert not found.can(("vocals", "bass"), RATE)
    assert not found.can(("bass",), 44100)
    assert not found.can(("bass",), RATE, ("vocals",))


def test_what_is_given_is_heard() -> None:
    """Other bass, other drums; stems that the sketch does not know change nothing, and a gain is one of level alone."""
    found, sounds = sketcher(), learned()[1][:, None, :15000]
    wish = Wish(("drums",), seed=1)

    def drawn(rows: torch.Tensor, names: tuple[str, ...], gain: float = 1.0) -> torch.Tensor:
        song = Song(rows.split(999, dim=-1), names, rows.shape[-1], gain)
        return torch.cat(list(found.impute(song, ("drums",), wish, 2)), dim=-1)

    one = drawn(sounds[:1], ("bass",))
    assert one.shape == (1, 2, 15000) and one.abs().max() > 0
    assert torch.equal(one, drawn(sounds[:1], ("bass",)))
    assert not torch.equal(one, drawn(sounds[5:6], ("bass",)))
    assert torch.equal(one, drawn(sounds[:2], ("bass", "vocals")))
    assert torch.allclose(drawn(0.25 * sounds[:1], ("bass",), 4.0), 0.25 * one, atol=1e-5)


def test_a_region_is_drawn_and_what_is_around_it_stays() -> None:
    """The codes that it touches are new, all others are those of the stem."""
    found, sounds = sketcher(), learned()[1][:2, None]
    song = Song([sounds], ("bass", "drums"), sounds.shape[-1], 1.0)
    wish = Wish(regions={"bass": [(0.55, 0.95)]}, seed=1)
    drawn = torch.cat(list(found.impute(song, ("bass",), wish, 1)), dim=-1)
    old, new = (found.network.picture(found.network.encode(x)) for x in (sounds[0, 0], drawn[0, 0]))
    gap = (new - old).abs().mean(dim=0).reshape(-1, 10).mean(dim=1)
    assert gap[5:10].min() > 2 * gap[[0, 1, 2, 3, 12, 13, 14, 15]].max()


def gapped(seconds: float = 2.0) -> tuple[Stems, torch.Tensor]:
    """Three stems, one of them unknown to the sketch, in stereo, and two gaps in time."""
    sounds = learned()[1][:3, None].repeat(1, 2, 8)[..., : round(seconds * RATE)]
    free = torch.zeros(sounds.shape[-1], dtype=torch.bool)
    free[4410:7600] = free[12000:13000] = True
    return Stems(("drums", "vocals", "bass"), sounds, RATE), free


def test_gaps_are_filled_and_all_else_stays() -> None:
    """In the named stems; silence in those that it does not know; what stood in a gap does not matter."""
    found, (song, free) = sketcher(), gapped()
    made = found.filled(song, free, ("bass", "vocals"), seed=4)
    assert made.names == song.names and torch.equal(made.samples[..., ~free], song.samples[..., ~free])
    assert torch.equal(made["drums"].samples, song["drums"].samples)
    assert not made["vocals"].samples[:, free].any()
    assert made["bass"].samples[:, 4410:7600].square().mean() > 1e-6
    assert made["bass"].samples[:, 12000:13000].square().mean() > 1e-8
    other = song.samples.clone()
    other[[[1], [2]], :, free.nonzero().flatten()] = 0.7
    assert torch.equal(
        found.filled(Stems(song.names, other, RATE), free, ("bass", "vocals"), seed=4).samples, made.samples
    )
    assert not torch.equal(found.filled(song, free, ("bass",), seed=5)["bass"].samples, made["bass"].samples)


def test_a_gap_may_be_all_there_is() -> None:
    """Beside another stem, and with nothing at all."""
    found, (song, free) = sketcher(), gapped()
    for rows, names in ((song.samples, ("bass",)), (0 * song.samples, ("bass", "drums"))):
        made = found.filled(Stems(song.names, rows, RATE), torch.ones_like(free), names, seed=4)
        assert bool(made.samples.isfinite().all()) and made["bass"].samples.any()


def test_what_stands_around_a_gap_is_heard() -> None:
    """Another song around it, another drawing; and more so with more guidance."""
    (song, free), found = gapped(), sketcher()
    quiet = Stems(song.names, torch.where(free, song.samples, 0.1 * song.samples.flip(-1)), RATE)
    gaps = []
    for guidance in (1.0, 3.0):
        drawer = replace(found, guidance=guidance)
        one, two = (drawer.filled(x, free, ("bass",)).samples[2][:, free] for x in (song, quiet))
        gaps.append(float((one / one.norm() - two / two.norm()).norm()))
    assert gaps[0] > 0.1 and gaps[0] != pytest.approx(gaps[1], rel=0.01)


@pytest.mark.parametrize("memory", [0.0, 1.0])
def test_an_edit_that_would_begin_with_noise_begins_with_a_sketch(memory: float) -> None:
    """With strength 1, and where nothing is alike; with next to no noise on it, it comes out as drawn."""
    torch.manual_seed(0)
    network, dice = tiny_network(), torch.Generator().manual_seed(2)
    rows = 0.05 * torch.randn(3, 2, 6 * RATE, generator=dice)
    piece = Files(NAMES, (), RATE, 2, rows.shape[-1])
    job = Job(piece, (Region(RATE, 2 * RATE), Region(5 * RATE, 6 * RATE)), 0, piece.frames, ("bass",), 0.5, memory)
    drawer = replace(sketcher(), strength=1e-5, sound=QUICK)
    way = Way(QUICK, strength=0.7 if memory else 1.0, sketcher=drawer)
    steps: list[int] = []
    for part in job.parts:
        scene = Scene(part, Stems(NAMES, rows[..., part.span.first : part.span.last], RATE))
        (patch,), _ = changes(network, job, scene, way, seed=3, on_step=lambda done, total: steps.append(total))
        heard = Region(max(part.span.first, patch.first - RATE // 2), min(part.span.last, patch.first + 3 * RATE // 2))
        window = Stems(NAMES, rows[..., heard.first : heard.last], RATE)
        free = torch.zeros(heard.length, dtype=torch.bool)
        free[patch.first - heard.first :][:RATE] = True
        drawn = drawer.filled(window, free, ("bass",), seed=3)["bass"].samples[:, free]
        made = patch.change[0] + rows[0, :, patch.first : patch.first + RATE]
        assert (made - drawn)[:, 100:-100].abs().max() < 0.01 < drawn.abs().max()
        assert not patch.change[1:].any()
    if not memory:
        assert len(steps) == steps_in(network, job, way) > 2 * len(job.parts)
    way = replace(way, strength=1.0)
    assert way.drawer is drawer and way.schedule == drawer.refining
    assert replace(way, method="both").drawer is None and replace(way, strength=0.9).drawer is None


@pytest.mark.parametrize("seconds", [1.0, 15.0])
def test_a_piece_begins_with_what_it_is_given(seconds: float) -> None:
    """With next to no noise on it, it is that piece, over the borders of windows too; with much it is another one."""
    torch.manual_seed(0)
    network = tiny_network()
    first = 0.1 * torch.randn(2, 2, round(seconds * RATE), generator=torch.Generator().manual_seed(1))
    kept, far = (
        generate(network, seconds, QUICK.begun(strength), seed=2, stems=("drums", "other"),
                 begun=first.split(7000, dim=-1)).samples
        for strength in (1e-4, 0.9)
    )  # fmt: skip
    assert kept.shape == first.shape
    gap = (kept - first).abs()
    gap[..., 12 * RATE : 12 * RATE + 40] = 0  # where the second window is eased into the first
    assert gap.max() < 0.01
    assert (far - first).abs().max() > 0.1


def test_a_region_begins_with_what_it_is_given() -> None:
    """Inside of it the beginning, outside the stem itself."""
    torch.manual_seed(0)
    network, dice = tiny_network(), torch.Generator().manual_seed(1)
    rows, first = (0.1 * torch.randn(2, 2, RATE, generator=dice) for _ in range(2))
    song = Song([rows], ("bass", "drums"), RATE, 2.0, first[:1].split(3000, dim=-1))
    wish = Wish(regions={"drums": [(0.25, 0.5)]})
    made = torch.cat(list(impute_blocks(network, song, QUICK.begun(1e-4), wish)), dim=-1)[0]
    inside = slice(2100, 3900)
    assert (made[:, inside] - first[0, :, inside]).abs().max() < 0.01
    assert torch.equal(made[:, :2000], rows[1, :, :2000]) and torch.equal(made[:, 4000:], rows[1, :, 4000:])


@pytest.fixture
def drawing(tmp_path: Path) -> Path:
    """A folder with a sketch of 8 kHz."""
    network, _ = learned()
    folder = tmp_path / "lines"
    folder.mkdir()
    save_file(
        {name: tensor.contiguous() for name, tensor in network.state_dict().items()}, folder / "model.safetensors"
    )
    (folder / "config.json").write_text(json.dumps(network.to_config()))
    return folder


def own_table(place: Path, sound: Path, drawing: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A table in which one draws for the other."""
    table = checkpoints.entry_for(sound) + 'sketch = "lines"\n\n' + checkpoints.entry_for(drawing)
    (place / "own.toml").write_text(table)
    monkeypatch.setenv("STEMFORGE_CHECKPOINTS", str(place / "own.toml"))


@pytest.fixture
def table(
    checkpoint: Path,  # noqa: F811
    drawing: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """That of `own_table`, in use."""
    own_table(tmp_path, checkpoint, drawing, monkeypatch)


@pytest.mark.usefixtures("table")
def test_the_table_says_what_draws(drawing: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without an option it is used, and the sidecar says so; `none` is without; what it cannot draw is made anyway."""
    assert 'tasks = ["sketch"]' in checkpoints.entry_for(drawing)
    assert "sample_rate = 8000\nchannels = 1\n" in checkpoints.entry_for(drawing)
    call = ["generate", "-n", "tiny", "--duration", "1.5", "--steps", "2", "-q"]
    assert main([*call, "-o", str(tmp_path / "a")]) == 0
    recipe = json.loads((tmp_path / "a/tiny/seed-0/stemforge.json").read_text())["recipe"]
    assert recipe["sketch"]["name"] == "lines" and recipe["sketch"]["strength"] == 0.3
    assert recipe["sketch"]["sha256"] == checkpoints.verify(checkpoints.find("lines"))["model.safetensors"]
    assert recipe["sampling"]["sigma_max"] == pytest.approx(0.3 / 0.7)
    assert main([*call, "-o", str(tmp_path / "b"), "--sketch", "none"]) == 0
    assert "sketch" not in json.loads((tmp_path / "b/tiny/seed-0/stemforge.json").read_text())["recipe"]
    a, b = (soundfile.read(tmp_path / name / "tiny/seed-0/mix.wav")[0] for name in "ab")
    assert a.shape == b.shape and np.abs(a - b).max() > 1e-3
    capsys.readouterr()
    assert main([*call, "-o", str(tmp_path / "a")]) == 0
    assert main([*call, "-o", str(tmp_path / "a"), "--sketch", "none"]) == 7
    assert "sketch was" in capsys.readouterr().err


@pytest.mark.usefixtures("table")
def test_impute_begins_with_a_sketch(tmp_path: Path) -> None:
    """What is kept comes out as it was, the other stems are told to be sketched, a part of one too."""
    song = tmp_path / "song"
    wav(song / "bass.wav", 1.0, 16000)
    wav(song / "drums.wav", 1.0, 16000)
    call = ["impute", str(song), "--keep", "bass", "-n", "tiny", "--steps", "2", "-q", "-o", str(tmp_path / "out")]
    assert main([*call, "--region", "drums=0.2:0.6", "--strength", "0.4"]) == 0
    recipe = json.loads((tmp_path / "out/tiny/song/stemforge.json").read_text())["recipe"]
    assert recipe["sketch"]["strength"] == 0.4
    old, _ = soundfile.read(song / "drums.wav", dtype="float32")
    new, _ = soundfile.read(tmp_path / "out/tiny/song/drums.wav", dtype="float32")
    assert np.array_equal(old[:3200], new[:3200]) and not np.array_equal(old[3300:9000], new[3300:9000])
    assert main([*call, "--fill", "other,drums", "--overwrite"]) == 0
    assert (tmp_path / "out/tiny/song/other.wav").is_file()
    assert "sketch" in json.loads((tmp_path / "out/tiny/song/stemforge.json").read_text())["recipe"]


@pytest.mark.usefixtures("table")
def test_an_edit_says_what_may_draw(tmp_path: Path) -> None:
    """With strength 1 the gap is drawn, and another one without; where nothing can be, nothing is said of it."""
    wav(tmp_path / "song.wav", 3.0, 16000)
    call = ["edit", "inpaint", str(tmp_path / "song.wav"), "--region", "1:1.5", "-n", "tiny", "--steps", "2", "-q"]

    def recipe(name: str, *words: str) -> dict[str, object]:
        assert main([*call, "-o", str(tmp_path / name), *words]) == 0
        return json.loads((tmp_path / name / "tiny/inpaint/song/stemforge.json").read_text())["recipe"]

    drawn = recipe("a", "--strength", "1")
    assert drawn["sketch"]["name"] == "lines" and drawn["sketch"]["guidance"] == AROUND
    assert "sketch" not in recipe("b", "--strength", "1", "--sketch", "none")
    assert recipe("c")["sketch"]["name"] == "lines"  # where nothing is alike
    assert "sketch" not in recipe("d", "--method", "guidance")
    a, b = (soundfile.read(tmp_path / name / "tiny/inpaint/song/mix.wav", dtype="float32")[0] for name in "ab")
    old = soundfile.read(tmp_path / "song.wav", dtype="float32")[0]
    assert np.abs(a - b)[16000:24000].max() > 1e-3
    assert np.array_equal(a[:15200], old[:15200]) and np.array_equal(a[24800:], old[24800:])
    assert main([*call, "-o", str(tmp_path / "a"), "--strength", "1"]) == 0  # already there
    assert main([*call, "-o", str(tmp_path / "a"), "--strength", "1", "--sketch", "none"]) == 7


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (
            "edit inpaint song/bass.wav --region 0.2:0.5 --sketch lines --method both",
            "only what would begin with noise alone is drawn",
        ),
        ("edit regenerate song/bass.wav --region 0.2:0.5 --sketch lines", "Give --strength 1"),
        ("edit inpaint song/bass.wav --region 0.2:0.5 --sketch nothing", "unknown"),
        ("edit inpaint song/bass.wav --region 0.2:0.5 --sketch tiny", "makes sound, no sketches"),
        ("generate --sketch tiny", "makes sound, no sketches. Name another one, or none."),
        ("generate --sketch nothing", "unknown"),
        ("generate --strength 0.3", "begins with noise"),
        ("generate --sketch lines --strength 0", "must be more than 0"),
        ("generate --prompt jazz --sketch lines", "is not for prompts"),
        ("generate -n wider --sketch lines", "draws bass, drums, other at 8000 Hz"),
        ("generate -n wider --strength 0.5", "Give --sketch none, and no --strength."),
        ("impute song --keep bass --from songs --sketch lines", "begin with one of them"),
    ],
)
def test_what_cannot_be_drawn_is_one_line(
    words: str,
    says: str,
    checkpoint: Path,  # noqa: F811
    drawing: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Exit code 2, and nothing written."""
    wider = tiny_network(names=["bass", "drums", "other", "piano"])
    (tmp_path / "wider").mkdir()
    save_file(wider.state_dict(), tmp_path / "wider" / "model.safetensors")
    (tmp_path / "wider" / "config.json").write_text(json.dumps(wider.to_config()))
    own_table(tmp_path, tmp_path / "wider", drawing, monkeypatch)
    for name in ("song", "songs/one"):
        wav(tmp_path / name / "bass.wav")
    monkeypatch.chdir(tmp_path)
    named = [] if "-n" in words else ["-n", "tiny"]
    assert main([*words.split(), *named, "-o", "out"]) == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert len(error) == 1 and says in error[0]
    assert not list(tmp_path.glob("out/**/*.wav"))


def test_the_list_says_what_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["checkpoints", "list"]) == 0
    assert "  sketch: sketches of bass, drums, guitar, piano, other (embedded, " in capsys.readouterr().out


def test_a_sketch_of_sound_is_refused(checkpoint: Path) -> None:  # noqa: F811
    """`load` says what it is for."""
    assert checkpoints.find(str(checkpoint)).sketch is None
    with pytest.raises(UsageError, match="unknown"):
        checkpoints.load("lines")
