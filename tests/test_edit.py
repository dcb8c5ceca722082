"""Edits: regions and their fades, files in parts, the three methods, and the commands."""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import save_file
from torch import Tensor

from stemforge.audio.resample import to_rate
from stemforge.cli.main import main
from stemforge.errors import UsageError
from stemforge.inference.guidance import resemblance
from stemforge.inference.settings import Sampling
from stemforge.models.embedders import Ear, Impression
from stemforge.models.msdm import Msdm, MsdmConfig
from stemforge.tasks.edit import METHODS, Way, edit, way_for
from stemforge.tasks.edit_files import Files, Joined, open_song, open_stems
from stemforge.tasks.edit_song import Job, Part, Scene, begins, changes, scene_of, windows_in
from stemforge.tasks.impute import windows_of
from stemforge.tasks.regions import Region, checked, free_in, regions_in, weights, widened
from stemforge.types import Audio, Stems
from tiny import tiny_network

RATE = 1000
QUICK = Sampling("ddim", "cosine", steps=4, sigma_min=0.05, sigma_max=2.0)
NAMES = ("bass", "drums", "other")
TINY = {"width": 64, "multipliers": (1, 2, 1), "factors": (3, 2), "num_blocks": (1, 2), "attentions": (False, True),
        "heads": 4, "head_features": 8, "patch": 8, "groups": 4}  # fmt: skip


class Smooth:
    """Stems are independent noise with neighbouring samples alike; the denoiser is exact and differentiable."""

    names, rate, segment = NAMES, RATE, 2.0

    def __init__(self, conditional: bool = True, channels: int = 2, reach: float = 40.0) -> None:
        self.conditional, self.channels, self.reach = conditional, channels, reach
        self.seen: list[Tensor] = []

    def noise(self, like: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return torch.randn(like.shape, generator=generator)

    def denoise(self, x: Tensor, sigma: Tensor, *, mixture=None, hidden=None, prompt=None) -> Tensor:
        self.seen.append(sigma)
        level = sigma.mean()
        power = 0.02 / (1 + (torch.fft.rfftfreq(x.shape[-1]) * self.reach) ** 2)
        return torch.fft.irfft(torch.fft.rfft(x) * (power / (power + level**2)), n=x.shape[-1])


def song(seconds: float, channels: int = 2, seed: int = 0) -> Tensor:
    """(stem, channel, time)"""
    noise = torch.randn(3, channels, round(seconds * RATE), generator=torch.Generator().manual_seed(seed))
    return 0.1 * noise


def test_regions_become_samples_in_order() -> None:
    """Seconds to samples; an open end is the end of the song."""
    assert checked([(3.0, float("inf")), (0.0, 1.5)], 10, 40) == [Region(0, 15), Region(30, 40)]


@pytest.mark.parametrize(
    "regions",
    [[(1.0, 5.0)], [(4.0, float("inf"))], [(2.0, 1.0)], [(1.0, 1.001)], [(0.0, 2.0), (1.0, 3.0)], [(-1.0, 1.0)]],
)
def test_impossible_regions_are_refused(regions: list[tuple[float, float]]) -> None:
    """Outside of the song, end before start, without samples, overlapping: usage errors."""
    with pytest.raises(UsageError):
        checked(regions, 10, 40)


def test_free_samples_become_regions_again() -> None:
    """At both ends, in the middle, none at all."""
    for regions in ([], [Region(0, 3)], [Region(2, 3), Region(5, 10)], [Region(0, 10)]):
        assert regions_in(free_in(Region(0, 10), regions)) == regions


def test_fades_lie_outside_and_add_up() -> None:
    """1 in the region, 0 beyond the fade, falling between; what is free is where the weight is not 0."""
    region, span = Region(100, 150), Region(40, 200)
    found = weights(span, [region], 20)
    assert (found[60:110] == 1).all() and (found[:40] == 0).all() and (found[130:] == 0).all()
    assert (found[40:60].diff() > 0).all() and torch.allclose(found[40:60], found[110:130].flip(0))
    assert torch.equal(free_in(span, widened([region], 20, 1000)), found > 0)


def test_spans_that_meet_are_one() -> None:
    """Widened regions stay within the song and merge."""
    assert widened([Region(5, 10), Region(30, 40), Region(90, 100)], 12, 100) == [Region(0, 52), Region(78, 100)]


def wav(path: Path, sound: Tensor, rate: int = RATE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, sound.T.numpy(), rate, subtype="FLOAT")
    return path


def read(path: Path) -> np.ndarray:
    return soundfile.read(path, dtype="float32", always_2d=True)[0]


def whole(piece: Files | Joined) -> Tensor:
    return torch.cat(list(piece.stream()), dim=-1)


def test_parts_of_files_are_those_of_the_whole(tmp_path: Path) -> None:
    """Any part, also beyond the end, at the rate of the files and at another one."""
    parts = song(3.0)
    wav(tmp_path / "Bass.wav", parts[0])
    wav(tmp_path / "drums.wav", parts[1, :1, :2000])
    piece = open_stems(tmp_path, NAMES)
    assert piece.names == ("bass", "drums") and piece.frames == 3000
    for found in (piece, piece.at(1600, 1), open_song(tmp_path / "drums.wav").at(RATE, 2)):
        everything = torch.nn.functional.pad(whole(found), (0, 500))
        for first, last in ((0, 10), (1500, 2500), (found.frames - 100, found.frames + 300)):
            assert torch.equal(found.read(first, last), everything[..., first:last])
    assert torch.equal(whole(piece)[0], parts[0])


@pytest.mark.parametrize("overlap", [1, 700, 1500])
def test_joined_songs_are_those_songs_outside_of_the_overlap(overlap: int, tmp_path: Path) -> None:
    """Bit by bit before and after it, of constant power within, and readable in parts."""
    a, b = (open_song(wav(tmp_path / f"{k}.wav", song(s, seed=k)[0])) for k, s in ((1, 2.0), (2, 1.5)))
    piece = Joined(a, b, overlap)
    out, turn = whole(piece), 2000 - overlap
    assert out.shape == (1, 2, piece.frames) and piece.frames == 3500 - overlap
    assert torch.equal(out[..., :turn], whole(a)[..., :turn])
    assert torch.equal(out[..., 2000:], whole(b)[..., overlap:])
    for first, last in ((0, 5), (turn - 100, turn + 400), (turn, 2000), (1990, 3600 - overlap)):
        assert torch.allclose(
            piece.read(first, last), torch.nn.functional.pad(out, (0, 100))[..., first:last], atol=1e-7
        )
    gains = piece._gains(0, piece.frames)
    assert torch.allclose(gains.square().sum(0), torch.ones(piece.frames))


@pytest.mark.parametrize(("method", "conditional"), [*((m, True) for m in METHODS), ("guidance", False)])
@pytest.mark.parametrize("sampler", ["ddim", "ddpm", "dpmpp-2m"])
def test_only_free_samples_of_the_named_stems_change(method: str, conditional: bool, sampler: str) -> None:
    """Every method and sampler: what stands is kept bit by bit, the rest is new and of a level like the data."""
    network, stems = Smooth(conditional), Stems(NAMES, song(4.0), RATE)
    free = free_in(Region(0, 4000), [Region(1500, 2500)])
    way = Way(QUICK.changed(sampler=sampler), method, step=1e-3)
    made = edit(network, stems, free, way, names=("drums",), seed=3)
    assert made.names == ("drums",) and torch.equal(made.samples[0][:, ~free], stems["drums"].samples[:, ~free])
    new = made.samples[0][:, free]
    assert 0.01 < float(new.std()) < 1 and not torch.allclose(new, stems["drums"].samples[:, free], atol=0.01)
    if method != "guidance":
        assert all((sigma[:, 1, 1500:2500] > 0).all() for sigma in network.seen)
        assert all((sigma[:, [0, 2]] == 0).all() and (sigma[:, 1, :1400] == 0).all() for sigma in network.seen)


def test_guidance_makes_the_new_part_go_with_what_stands() -> None:
    """Through a denoiser that knows neighbours alike, the pull brings the clean estimate nearer to what stands."""
    time = torch.arange(3000) / RATE
    wave = 0.2 * torch.sin(2 * torch.pi * 3 * time).expand(3, 2, -1)
    free = free_in(Region(0, 3000), [Region(1400, 1600)])
    sampling = Sampling("ddim", "cosine", steps=30, sigma_min=0.01, sigma_max=5.0)

    def distance(step: float) -> float:
        way = Way(sampling, "guidance", step=step, normalised=True)
        made = edit(Smooth(False, reach=1000.0), Stems(NAMES, wave, RATE), free, way, names=NAMES)
        return float((made.samples - wave)[..., free].square().mean().sqrt())

    assert distance(0.2) < distance(0.0)


def test_strength_leads_from_the_original_to_something_new() -> None:
    """The nearer to 0 the strength, the more of the original is left."""
    network, stems = Smooth(), Stems(NAMES, song(3.0), RATE)
    smooth = network.denoise(stems.samples[None], torch.tensor(0.05))[0]
    free = free_in(Region(0, 3000), [Region(1000, 2000)])
    kept = []
    for strength in (0.05, 0.8, 1.0):
        way = Way(Sampling("ddim", "cosine", steps=20, sigma_min=0.01, sigma_max=5.0), strength=strength)
        made = edit(network, Stems(NAMES, smooth, RATE), free, way, names=NAMES, seed=9).samples[..., free].flatten()
        kept.append(float(torch.corrcoef(torch.stack([made, smooth[..., free].flatten()]))[0, 1]))
    assert kept[0] > 0.7 and kept[0] > kept[1] > kept[2] and abs(kept[2]) < 0.3


def test_the_paper_start_is_the_original_at_its_noise_level() -> None:
    """k z + (1 - k) x is (1 - k) (x + sigma z) with sigma = k / (1 - k); 1 is the first level of the checkpoint."""
    sampling = Sampling("ddim", steps=5, sigma_min=0.01, sigma_max=40.0)
    assert Way(sampling, strength=0.85).schedule.sigma_max == pytest.approx(0.85 / 0.15)
    assert Way(sampling, strength=1.0).schedule.sigma_max == 40 == Way(sampling, strength=0.99).schedule.sigma_max
    slight = Way(sampling, strength=0.001).schedule
    assert slight.sigma_max == pytest.approx(0.001 / 0.999) and (slight.sigmas().diff() < 0).all()


def test_a_wish_is_followed_without_leaving_what_stands() -> None:
    """A loss on the new sound moves its embedding towards the wanted one."""
    stems, wanted = Stems(NAMES, song(3.0), RATE), torch.tensor([[0.3]])
    free = torch.ones(3000, dtype=torch.bool)

    def mean(x: Tensor) -> Tensor:
        return x.sum(1).mean(dim=(1, 2))[:, None]

    found = []
    for step in (0.0, 0.3):
        way = way_for(Smooth(), step=step, wish=resemblance(mean, wanted))
        way = Way(QUICK, way.method, 0.5, way.step, wish=way.wish)
        found.append(float(mean(edit(Smooth(), stems, free, way, names=NAMES).samples[None])))
    assert abs(found[1] - 0.3) < abs(found[0] - 0.3)


@pytest.mark.parametrize("values", [{"method": "guess"}, {"strength": 0.0}, {"strength": 1.2}, {"step": -1.0}])
def test_impossible_ways_are_refused(values: dict[str, object]) -> None:
    """Unknown methods and values out of range are usage errors, and so is telling a network that cannot be told."""
    with pytest.raises(UsageError):
        Way(QUICK, **values)
    with pytest.raises(UsageError, match="guidance"):
        way_for(Smooth(False), method="both")
    assert way_for(Smooth(False)).method == "guidance" and way_for(Smooth()).method == "conditioning"


def test_only_windows_around_the_regions_are_computed(tmp_path: Path) -> None:
    """Two regions of a song of half an hour: two windows, and changes in the regions and their fades alone."""
    piece = Files(NAMES, (), RATE, 2, 1_800_000)
    job = Job(piece, (Region(60_000, 64_000), Region(900_000, 901_000)), 50, piece.frames, NAMES)
    assert [span.length for span in job.spans] == [10_100, 7_100] and windows_in(Smooth(), job) == 2
    assert job.parts[0] == Part(job.spans[0], (job.open[0],))
    patches, _ = changes(Smooth(), job, Scene(job.parts[0], Stems(NAMES, song(10.1), RATE)), Way(QUICK))
    assert [(p.first, p.change.shape) for p in patches] == [(59_950, (3, 2, 4100))]
    change = patches[0].change.abs()
    assert change[..., [0, -1]].max() < 0.01 * change.max(), "no step where the fades begin"
    assert [len(windows_of(Smooth(), time)[0]) for time in (12_000, 12_001)] == [1, 2]
    assert windows_in(Smooth(), job, segment=5) == 5 and windows_of(Smooth(), 10_100, 5) == ([0, 3750, 5100], 5000)


def long_edit(piece: Files, names: tuple[str, ...], separate, network: Smooth):
    """A region of 75 s in a song of two minutes at 1 kHz: what it adds to the rows, and its parts."""
    job = Job(piece, (Region(20_000, 95_000),), 50, piece.frames, names)
    total, before = torch.zeros(len(piece.names), 2, piece.frames), None
    for index, part in enumerate(job.parts):
        scene = scene_of(job, part, separate, NAMES)
        patches, before = changes(network, job, scene, Way(QUICK), before=before, seed=index)
        assert patches[0].first == begins(job, part)
        for first, change in patches:
            total[..., first : first + change.shape[-1]] += change
    return total, job


def test_a_long_region_is_made_in_parts(tmp_path: Path) -> None:
    """Never more than 30 s and what is around them at once; the parts meet without a step, all else stays."""
    stems = song(120.0)
    for name, stem in zip(NAMES, stems, strict=True):
        wav(tmp_path / f"{name}.wav", stem, RATE)
    network = Smooth(reach=400.0)
    total, job = long_edit(open_stems(tmp_path, NAMES), ("bass", "drums"), None, network)
    assert [part.span for part in job.parts] == [Region(16_950, 44_983), Region(41_983, 70_016), Region(67_016, 98_050)]
    assert [part.follows for part in job.parts] == [False, True, True] and windows_in(network, job) == 10
    assert not total[2].any() and not total[..., :19_950].any() and not total[..., 95_050:].any()
    made = (stems + total)[:2, :, 20_000:95_000]
    steps = made.diff(dim=-1).abs()

    def steepest(*places: int) -> float:
        return max(float(steps[..., place - 8 : place + 8].max()) for place in places)

    assert steepest(24_983, 50_016) < 1.5 * steepest(8_950, 17_950, 33_983), "as where the windows of a part meet"
    assert steps[..., [24_982, 50_015]].max() < 1e-3
    assert (made - stems[:2, :, 20_000:95_000]).abs().mean() > 0.01


def test_parts_of_a_song_pass_from_one_separation_to_the_next(tmp_path: Path) -> None:
    """Where two parts of a song are taken apart differently, the mix has no step between them."""
    wav(tmp_path / "song.wav", torch.full((2, 120_000), 0.3), RATE)
    calls = iter((0.2, 0.5, 0.8))

    def separate(mixture: Audio) -> Stems:
        assert mixture.samples.shape[-1] <= 36_000
        share = next(calls)
        parts = [share * mixture.samples, (1 - share) * mixture.samples, 0 * mixture.samples]
        return Stems(NAMES, torch.stack(parts), RATE)

    total, job = long_edit(open_song(tmp_path / "song.wav"), ("bass",), separate, Smooth(reach=4000.0))
    steps = (0.3 + total)[0, :, 20_000:95_000].diff(dim=-1).abs()
    seams = [part.open[0].first - 20_000 for part in job.parts[1:]]
    for seam in seams:
        # 0.09, the difference of the two, passes over within 50 samples, none of it at once.
        assert steps[:, seam - 60 : seam + 2].max() < 0.02


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny network."""
    torch.manual_seed(0)
    network, folder = tiny_network(), tmp_path_factory.mktemp("edit") / "tiny"
    folder.mkdir()
    save_file(network.state_dict(), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(network.to_config()))
    return folder


@pytest.fixture
def call(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Runs `stemforge edit` in a folder with a song of 4 s and its stems; the folder of the result."""
    monkeypatch.chdir(tmp_path)
    parts = torch.nn.functional.avg_pool1d(song(32.0), 5, 1, 2)
    wav(tmp_path / "song.wav", parts.sum(0), 8000)
    wav(tmp_path / "short.wav", parts.sum(0)[:1, :16000], 11025)
    for name, part in zip(NAMES, parts, strict=True):
        wav(tmp_path / "stems" / f"{name}.wav", part, 8000)

    def run(task: str, *arguments: str, code: int = 0) -> Path:
        options = ["-n", str(checkpoint), "--steps", "2", *([] if "-v" in arguments else ["-q"])]
        assert main(["edit", task, *arguments, *options]) == code
        return tmp_path / "edited" / "tiny" / task

    return run


def same(a: np.ndarray, b: np.ndarray, first: int, last: int) -> bool:
    """Bit by bit outside of a part, and different in it."""
    outside = np.array_equal(a[:first].view(np.int32), b[:first].view(np.int32))
    outside &= np.array_equal(a[last:].view(np.int32), b[last:].view(np.int32))
    return bool(outside and not np.allclose(a[first:last], b[first:last]))


def test_inpaint_changes_a_song_in_its_regions_alone(call, capsys: pytest.CaptureFixture[str]) -> None:
    """Bit-exact outside of regions and fades; the sidecar says what was done."""
    folder = call("inpaint", "song.wav", "--region", "1:1.5", "--region", "3:", "--fade", "0.1", "--seed", "5")
    before, after = read(Path("song.wav")), read(folder / "song" / "mix.wav")
    assert capsys.readouterr().out.strip() == str(Path("edited/tiny/inpaint/song")) and len(before) == len(after)
    assert same(before[:20000], after[:20000], 7200, 12800)
    assert same(before[20000:], after[20000:], 24000 - 800 - 20000, 12000)
    sidecar = json.loads((folder / "song" / "stemforge.json").read_text())
    assert sidecar["recipe"]["task"] == "edit inpaint" and sidecar["recipe"]["seed"] == 5
    assert sidecar["recipe"]["regions"] == [[1.0, 1.5], [3.0, 4.0]] and sidecar["frames"] == 32000
    call("inpaint", "song.wav", "--region", "1:1.5", code=7)
    call("inpaint", "song.wav", "--region", "1:1.5", "--region", "3:", "--fade", "0.1", "--seed", "5")
    assert np.array_equal(read(folder / "song" / "mix.wav"), after)


def test_inpaint_of_a_folder_edits_the_named_stems(call) -> None:
    """Every stem is written, those that are not named with the samples that they had; --mix adds them up."""
    folder = call("inpaint", "stems", "--region", "1:2", "--stems", "drums", "--mix", "-N", "2")
    for seed in (0, 1):
        sounds = {path.stem: read(path) for path in (folder / f"stems-{seed}").glob("*.wav")}
        assert set(sounds) == {*NAMES, "mix"}
        for name in ("bass", "other"):
            assert np.array_equal(sounds[name], read(Path("stems", f"{name}.wav")))
        assert same(read(Path("stems/drums.wav")), sounds["drums"], 7600, 16400)
        assert np.abs(sum(sounds[name] for name in NAMES) - sounds["mix"]).max() < 1e-6
    assert not np.array_equal(read(folder / "stems-0" / "drums.wav"), read(folder / "stems-1" / "drums.wav"))


@pytest.mark.parametrize(("method", "sampler"), [*zip(METHODS, ("dpmpp-2m", "ddim", "ddpm"), strict=True)])
def test_every_method_on_the_command_line(method: str, sampler: str, call) -> None:
    """Each method with each sampler edits a song, with gradients through the network."""
    folder = call("regenerate", "song.wav", "--region", "1:2", "--method", method, "--sampler", sampler)
    assert same(read(Path("song.wav")), read(folder / "song" / "mix.wav"), 7600, 16400)
    recipe = json.loads((folder / "song" / "stemforge.json").read_text())["recipe"]
    assert recipe["method"] == method and recipe["strength"] == 0.85 and recipe["sampling"]["sampler"] == sampler


def test_official_networks_are_guided(call, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An MSDM, mono and never told what is known, edits a stereo folder of stems; conditioning is refused."""
    torch.manual_seed(0)
    network = Msdm(MsdmConfig(names=("bass", "drums", "guitar", "other"), rate=4000, samples=4096, **TINY))
    folder = tmp_path / "msdm"
    folder.mkdir()
    save_file(network.state_dict(), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(network.to_config()))
    options = ["stems", "--region", "1:1.5", "-n", str(folder), "--steps", "3", "-q"]
    assert main(["edit", "inpaint", *options, "--stems", "bass"]) == 0
    result = tmp_path / "edited" / "msdm" / "inpaint" / "stems"
    assert same(read(Path("stems/bass.wav")), read(result / "bass.wav"), 7600, 12400)
    recipe = json.loads((result / "stemforge.json").read_text())["recipe"]
    assert recipe["method"] == "guidance" and recipe["guidance"] == 3e-3
    capsys.readouterr()
    assert main(["edit", "inpaint", *options, "--method", "both", "-y"]) == 2
    assert "--method guidance" in capsys.readouterr().err


def test_stems_that_the_checkpoint_does_not_know_are_named(call, capsys: pytest.CaptureFixture[str]) -> None:
    """They are left out, and the user is told."""
    wav(Path("stems/vocals.wav"), song(4.0)[0], 8000)
    options = ["--region", "1:1.1", "-v"]
    folder = call("inpaint", "stems", *options)
    assert "vocals" not in {path.stem for path in (folder / "stems").iterdir()}
    assert "left out: vocals" in capsys.readouterr().err


def test_continue_keeps_the_song_and_adds_to_it(call) -> None:
    """The song to its last sample, or to --at, then as much as was asked for; no step where it begins."""
    for at, last in ((None, 32000), ("2.5", 20000)):
        where = [] if at is None else ["--at", at]
        folder = call("continue", "song.wav", "--seconds", "2", "-y", *where)
        after = read(folder / "song" / "mix.wav")
        assert len(after) == last + 2 * 8000 and np.array_equal(after[:last], read(Path("song.wav"))[:last])
        new, joint = after[last:], np.abs(np.diff(after[last - 5 : last + 5], axis=0)).max()
        assert np.abs(new).max() > 0 and joint <= 1.2 * np.quantile(np.abs(np.diff(after, axis=0)), 0.999)


def test_transition_joins_songs_of_different_rates(call) -> None:
    """As long as both without the overlap, at the rate and width of the first, which is kept up to the fade."""
    folder = call("transition", "song.wav", "short.wav", "--overlap", "1")
    after, rate = soundfile.read(folder / "song-short" / "mix.wav", dtype="float32")
    assert rate == 8000 and after.shape == (32000 + round(16000 * 8000 / 11025) - 8000, 2)
    assert np.array_equal(after[:23600], read(Path("song.wav"))[:23600])
    assert np.allclose(after[33000:, 0], after[33000:, 1])


def test_a_song_of_stems_leads_into_another(call) -> None:
    """Two folders of stems: each stem goes over into the one of its name."""
    folder = call("transition", "stems", "stems", "--overlap", "1", "--method", "guidance")
    drums = read(folder / "stems-stems" / "drums.wav")
    assert len(drums) == 56000 and np.array_equal(drums[32400:], read(Path("stems/drums.wav"))[8400:])


def test_the_page_shows_and_plays_every_variation(call) -> None:
    """The sound before and each variation with the region marked; each sidecar names the page; what is there stays."""
    options = ["song.wav", "--region", "1:1.5", "-N", "2", "--report-html"]
    folder = call("inpaint", *options)
    path = folder / "song.html"
    page = path.read_text()
    assert page.count("<img") == page.count("<audio") == 3 and page.count('class="region"') == 3
    assert page.count("left: 25.000%; width: 12.500%") == 3 and "http" not in page.replace("http-equiv", "")
    assert re.findall(r'<section aria-label="([^"]+)"', page) == ["Before", "Seed 0", "Seed 1"]
    players = re.findall(r"audio/mpeg;base64,([^\"]+)", page)
    heard, rate = soundfile.read(io.BytesIO(base64.b64decode(players[0])))
    assert rate == 44100 and len(heard) == 4 * 44100 and len(set(players)) == 3
    expected = to_rate(Audio(torch.from_numpy(read(Path("song.wav")).T), 8000), 44100).samples.numpy().T
    assert np.corrcoef(heard[4410:-4410, 0], expected[4410:-4410, 0])[0, 1] > 0.9
    sidecars = [json.loads((folder / f"song-{seed}/stemforge.json").read_text()) for seed in (0, 1)]
    assert [sidecar["report"] for sidecar in sidecars] == ["../song.html"] * 2
    before = path.stat().st_mtime_ns
    call("inpaint", *options)
    assert path.stat().st_mtime_ns == before
    path.unlink()
    call("inpaint", *options)
    assert path.read_text() == page


def test_the_page_of_stems_shows_what_was_edited_and_the_rest(call) -> None:
    """One variation: report.html beside its stems, with the edited stem and the sum of the others, before and after."""
    folder = call("inpaint", "stems", "--region", "1:2", "--stems", "drums", "--report-html") / "stems"
    page = (folder / "report.html").read_text()
    assert re.findall(r'data-key="(\d)" data-name="(\w+)"', page) == [*zip("0123", ("drums", "rest") * 2, strict=True)]
    assert page.count('class="region"') == 2 and json.loads((folder / "stemforge.json").read_text())["report"]
    call("inpaint", "stems", "--region", "1:2", "--stems", "drums", "--seed", "4", "-y")
    assert not (folder / "report.html").exists()


@pytest.fixture
def ear(monkeypatch: pytest.MonkeyPatch) -> Ear:
    """An embedder in the place of MTT: brightness in two features, and two tags."""

    def network(wave: Tensor) -> Impression:
        rough = wave.diff(dim=-1).square().mean(dim=-1)
        found = torch.stack([rough, wave.square().mean(dim=-1)], dim=1)
        return Impression(found, torch.stack([rough * 100 - 1, -rough * 100], dim=1))

    ear = Ear(network, 8000, 1.0, ("bright", "dark"))
    monkeypatch.setattr("stemforge.embedders.load", lambda name, device: ear)
    return ear


def test_restyle_brings_a_song_nearer_to_a_reference_or_a_tag(call, ear: Ear) -> None:
    """The whole song by default, a part with --region; the sidecar names the wish."""
    folder = call("restyle", "song.wav", "--reference", "short.wav", "--tag", "Dark,bright", "--guidance", "0.3")
    recipe = json.loads((folder / "song" / "stemforge.json").read_text())["recipe"]
    assert recipe["reference"] == "short.wav" and recipe["tag"] == "Dark,bright" and recipe["strength"] == 0.5
    assert recipe["regions"] == [[0.0, 4.0]] and recipe["normalised"] and recipe["guidance"] == 0.3
    assert len(read(folder / "song" / "mix.wav")) == 32000
    call("restyle", "song.wav", "--tag", "dark", "--region", "1:2", "-y")
    assert same(read(Path("song.wav")), read(folder / "song" / "mix.wav"), 7600, 16400)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ([], 2),
        (["--tag", "drak"], 2),
        (["--tag", "polka"], 2),
        (["--tag", ","], 2),
        (["--reference", "nowhere.wav"], 4),
    ],
)
def test_impossible_wishes_are_one_line(
    arguments: list[str], code: int, call, ear: Ear, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither reference nor tag, a tag that the embedder has not, a reference that is not there."""
    call("restyle", "song.wav", *arguments, code=code)
    assert len(capsys.readouterr().err.strip().splitlines()) == 1 and not Path("edited").exists()


def test_results_as_json(call, capsys: pytest.CaptureFixture[str]) -> None:
    """One object a variation."""
    call("inpaint", "song.wav", "--region", "1:1.2", "-N", "2", "--seed", "3", "--json", "--int16")
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["event"] for line in lines] == ["song", "song", "summary"] and lines.pop()["ok"] == 2
    assert [line["seed"] for line in lines] == [3, 4] and {line["status"] for line in lines} == {"ok"}
    assert lines[0]["outputs"] == {"mix": "mix.wav"} and lines[0]["task"] == "edit inpaint"


def test_a_network_that_gives_nonsense_leaves_nothing(
    call, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Samples that are not finite: one line, exit 1, no file."""
    monkeypatch.setattr("stemforge.models.forge.Forge.denoise", lambda self, x, sigma, **given: x * float("nan"))
    call("inpaint", "song.wav", "--region", "1:1.5", code=1)
    assert "not finite" in capsys.readouterr().err and not list(Path("edited").rglob("*.*"))


def test_a_disk_that_is_full_leaves_nothing(
    call, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The write that fails is told in one line, exit 7, and what was half-written is gone."""

    def full(self: object, block: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("soundfile.SoundFile.write", full)
    call("inpaint", "song.wav", "--region", "1:1.5", code=7)
    assert "space" in capsys.readouterr().err and not list(Path("edited").rglob("*.*"))


def test_inputs_that_cannot_be_used_are_refused(call, capsys: pytest.CaptureFixture[str]) -> None:
    """No sound file, an empty one, stems of different rates, a stem that is not there, a result that is a file."""
    Path("text.wav").write_text("words " * 100)
    Path("empty.wav").touch()
    wav(Path("mixed/bass.wav"), song(1.0)[0], 8000)
    wav(Path("mixed/drums.wav"), song(1.0)[0], 16000)
    Path("file").touch()
    for code, arguments in (
        (4, ["text.wav"]), (4, ["empty.wav"]), (4, ["mixed"]), (4, ["mixed", "--stems", "other"]),
        (7, ["song.wav", "-o", "file"]),
    ):  # fmt: skip
        call("inpaint", *arguments, "--region", "0:0.1", code=code)
        assert len(capsys.readouterr().err.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["inpaint", "song.wav"], 2),
        (["inpaint", "song.wav", "--region", "3:9"], 2),
        (["inpaint", "song.wav", "--region", "7:"], 2),
        (["inpaint", "song.wav", "--region", "3:2"], 2),
        (["inpaint", "song.wav", "--region", "1:2", "--region", "1.5:3"], 2),
        (["inpaint", "song.wav", "--region", "soon"], 2),
        (["inpaint", "song.wav", "--region", "1:2", "--stems", "vocals"], 2),
        (["inpaint", "song.wav", "--region", "1:2", "--fade", "-1"], 2),
        (["inpaint", "song.wav", "--region", "1:2", "--method", "magic"], 2),
        (["inpaint", "song.wav", "--region", "1:2", "--guidance", "-3"], 2),
        (["inpaint", "nowhere.wav", "--region", "1:2"], 4),
        (["inpaint", ".", "--region", "1:2"], 4),
        (["regenerate", "song.wav", "--region", "1:2", "--strength", "0"], 2),
        (["regenerate", "song.wav", "--region", "1:2", "--strength", "1.5"], 2),
        (["continue", "song.wav", "--seconds", "0"], 2),
        (["continue", "song.wav", "--at", "9"], 2),
        (["transition", "song.wav", "short.wav", "--overlap", "3"], 2),
        (["transition", "song.wav", "short.wav", "--overlap", "0"], 2),
        (["transition", "song.wav", "stems"], 2),
        (["transition", "song.wav", "nowhere.wav"], 4),
    ],
)
def test_impossible_edits_are_one_line(
    arguments: list[str], code: int, call, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each bad request has its exit code and one line that says what to do; nothing is written."""
    call(*arguments, code=code)
    error = capsys.readouterr().err.strip().splitlines()
    assert len(error) == 1 and error[0].startswith("stemforge: error: ")
    assert not (tmp_path / "edited").exists()
