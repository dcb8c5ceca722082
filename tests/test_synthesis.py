"""Generate, impute and separate by likelihood, with networks whose answers are known."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import save_file
from torch import Tensor

from stemforge.cli import generate_run
from stemforge.cli.main import main
from stemforge.errors import InputError, StemforgeError, UsageError
from stemforge.inference.given import NearlySumsTo
from stemforge.inference.settings import FORGE, OFFICIAL, Sampling
from stemforge.models.forge import Forge
from stemforge.separators.diffusion import METHODS, DiffusionSeparator, overshoot
from stemforge.tasks.gather import adapted
from stemforge.tasks.generate import generate, windows_in
from stemforge.tasks.impute import impute
from stemforge.tasks.impute_files import open_given
from stemforge.tasks.locks import Lock
from stemforge.types import Stems
from tiny import tiny_network

QUICK = Sampling(steps=4, sigma_min=0.05, sigma_max=2.0)
STEP = Sampling("euler", steps=6, sigma_min=1e-3, sigma_max=1.0, churn=2.0, resamples=2)


class Pointwise:
    """Stems are independent noise: stem k has the standard deviation `spread[k]`; everything is exact."""

    names, rate, segment, conditional = ("bass", "drums", "other"), 1000, 2.0, True

    def __init__(self, channels: int = 2, conditional: bool = True) -> None:
        self.channels, self.conditional = channels, conditional
        self.spread = torch.tensor([0.3, 0.1, 0.05])[None, :, None, None]
        self.seen: list[tuple[Tensor, Tensor | None]] = []

    def noise(self, like: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return torch.randn(like.shape, generator=generator)

    def denoise(self, x: Tensor, sigma: Tensor, *, mixture=None, hidden=None, prompt=None) -> Tensor:
        self.seen.append((sigma, hidden))
        level = sigma[:, :, None] if sigma.dim() == 3 else sigma
        return x * self.spread**2 / (self.spread**2 + level**2)


def sine(hz: float, seconds: float, rate: int = 1000) -> Tensor:
    t = torch.arange(round(seconds * rate)) / rate
    return (0.2 * torch.sin(2 * torch.pi * hz * t)).repeat(2, 1)


@pytest.mark.parametrize("seconds", [0.5, 12.0, 31.7])
def test_generated_pieces_have_the_length_that_was_asked_for(seconds: float) -> None:
    """Any length, one window or several; every stem is finite and sounds at the level of its data."""
    steps: list[tuple[int, int]] = []
    made = generate(Pointwise(), seconds, Sampling(steps=20), on_step=lambda *at: steps.append(at))
    assert made.samples.shape == (3, 2, round(seconds * 1000)) and made.samples.isfinite().all()
    assert steps[-1] == (20 * windows_in(Pointwise(), seconds),) * 2
    levels = made.samples.square().mean(dim=(1, 2)).sqrt()
    assert torch.allclose(levels, Pointwise().spread.flatten(), rtol=0.25)


def test_a_seed_gives_the_same_piece_and_another_seed_another() -> None:
    """Generation depends on the seed alone."""
    first, again, other = (generate(Pointwise(), 2.0, QUICK, seed=s).samples for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert abs(float(torch.corrcoef(torch.stack([first[0, 0], other[0, 0]]))[0, 1])) < 0.2


def test_left_out_stems_are_hidden_from_the_network() -> None:
    """Only the wanted stems come out, in the order that was asked for, and the others are marginalised."""
    network = Pointwise()
    made = generate(network, 1.0, QUICK, stems=("drums", "bass"))
    assert made.names == ("drums", "bass") and made.samples.shape[0] == 2
    assert all(hidden is not None and hidden[0].tolist() == [False, False, True] for _, hidden in network.seen)


def test_a_voice_is_made_only_where_it_is_named() -> None:
    """Nothing said: instruments. Named, or the only stem that is left: vocals too."""
    network = Pointwise()
    network.names = ("bass", "drums", "vocals")  # type: ignore[assignment]
    assert generate(network, 1.0, QUICK).names == ("bass", "drums")
    assert generate(network, 1.0, QUICK, stems=("vocals", "bass")).names == ("vocals", "bass")
    drums = Stems(("drums",), sine(50, 1.0)[None], 1000)
    assert impute(network, drums, QUICK).names == ("bass",)
    assert impute(network, drums, QUICK, fill=("vocals",)).names == ("vocals",)
    both = Stems(("bass", "drums"), torch.stack([sine(50, 1.0)] * 2), 1000)
    assert impute(network, both, QUICK).names == ("vocals",)
    voice = Stems(("vocals",), sine(50, 1.0)[None], 1000)
    assert impute(network, voice, QUICK).names == ("bass", "drums")


@pytest.mark.parametrize("stems", [("vocals",), ()])
def test_impossible_pieces_are_refused(stems: tuple[str, ...]) -> None:
    """Unknown stems, or none, are usage errors."""
    with pytest.raises(UsageError):
        generate(Pointwise(), 1.0, QUICK, stems=stems)


@pytest.mark.parametrize("method", ["condition", "replace"])
def test_imputed_stems_are_those_that_were_not_given(method: str) -> None:
    """The missing stems come out as long as the given ones, over several windows too."""
    given = Stems(("drums",), sine(50, 20.0)[None], 1000)
    made = impute(Pointwise(), given, QUICK if method == "condition" else STEP, method=method)
    assert made.names == ("bass", "other") and made.samples.shape == (2, 2, 20000)
    assert made.samples.isfinite().all() and made.samples.abs().amax(dim=(1, 2)).min() > 0


def test_the_network_is_told_what_is_clean() -> None:
    """By conditioning, given stems have noise level 0 in every evaluation, and nothing else has."""
    network = Pointwise()
    impute(network, Stems(("drums",), sine(50, 2.0)[None], 1000), QUICK)
    for sigma, _ in network.seen:
        assert (sigma[:, 1] == 0).all() and (sigma[:, [0, 2]] > 0).all()


def test_regions_are_filled_and_the_rest_is_kept_bit_by_bit() -> None:
    """Outside its regions a stem keeps the samples that it had."""
    given = Stems(("bass", "drums", "other"), torch.stack([sine(f, 4.0) for f in (30, 50, 70)]), 1000)
    made = impute(Pointwise(), given, QUICK, regions={"drums": [(1.0, 2.0), (3.5, float("inf"))]})
    assert made.names == ("drums",)
    kept = torch.ones(4000, dtype=torch.bool)
    kept[1000:2000] = kept[3500:] = False
    assert torch.equal(made.samples[0][:, kept], given["drums"].samples[:, kept])
    assert not torch.allclose(made.samples[0][:, ~kept], given["drums"].samples[:, ~kept])


def test_conditioning_asks_for_a_network_that_knows_it() -> None:
    """An unconditional network imputes by replacement only."""
    given = Stems(("drums",), sine(50, 2.0)[None], 1000)
    with pytest.raises(UsageError, match="replace"):
        impute(Pointwise(conditional=False), given, QUICK)
    assert impute(Pointwise(conditional=False), given, STEP, method="replace").names == ("bass", "other")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("seconds", [0.001, 1.0, 70.0])
def test_likelihood_separation_keeps_length_and_sum(method: str, channels: int, seconds: float) -> None:
    """Blocks of odd sizes in, stems of the same length out, adding up to the mixture; mono networks take stereo."""
    separator = DiffusionSeparator(Pointwise(channels), method=method, sampling=STEP.changed(steps=24), pinned="drums")
    mixture = torch.randn(2, max(1, round(seconds * 1000)), generator=torch.Generator().manual_seed(0)) * 0.3
    stems = torch.cat(list(separator.stream(iter(mixture.split(777, dim=-1)))), dim=-1)
    assert stems.shape == (3, *mixture.shape)
    assert (stems.sum(0) - mixture).abs().max() < 1e-6


def test_posterior_means_follow_the_variances() -> None:
    """With many steps the Dirac posterior of two Gaussian stems has its closed-form mean: shares of the variances."""
    network = Pointwise()
    network.spread = torch.tensor([0.3, 0.15, 1e-4])[None, :, None, None]
    mixture = sine(5, 4.0)
    sampling = Sampling("heun", steps=80, sigma_min=1e-3, sigma_max=0.02)
    runs = [DiffusionSeparator(network, method="dirac", sampling=sampling, seed=s) for s in range(3)]
    stems = torch.stack([torch.cat(list(run.stream([mixture])), dim=-1) for run in runs]).mean(0)
    assert stems.isfinite().all() and (stems.sum(0) - mixture).abs().max() < 1e-6


def test_both_sides_of_a_stereo_song_share_the_noise_of_a_mono_network() -> None:
    """Equal sides stay equal."""
    separator = DiffusionSeparator(Pointwise(1), method="dirac", sampling=STEP)
    stems = torch.cat(list(separator.stream([sine(40, 2.0)])), dim=-1)
    assert torch.equal(stems[:, 0], stems[:, 1])


@pytest.mark.parametrize("values", [{"method": "guess"}, {"pinned": "vocals"}, {"gamma": 0.0}])
def test_impossible_likelihoods_are_refused(values: dict[str, object]) -> None:
    """Unknown methods and stems, and a likelihood without width, are usage errors."""
    with pytest.raises(UsageError):
        DiffusionSeparator(Pointwise(), **{"method": "gaussian", "sampling": STEP, **values})


def test_too_few_steps_of_the_gaussian_likelihood_are_refused() -> None:
    """A step of Euler multiplies what stems lack of the mixture by 1 - overshoot, which grows above 2."""
    x, mixture, sampling = torch.zeros(1, 4, 1, 8), torch.ones(1, 1, 1, 8), Sampling("euler", "karras", 1, 0.2, 0.5)
    sampling = sampling.changed(steps=2, churn=0.4)
    first, second = sampling.sigmas()[:2]
    given, churned = NearlySumsTo(mixture, 0.75, 0.5), first * 1.2
    moved = x + given.steer(x, torch.zeros_like(x), churned) * (second - churned)
    lacks = float((mixture - moved.sum(dim=1, keepdim=True)).mean())
    assert lacks == pytest.approx(1 - overshoot(sampling, 4, 0.75, 0.5), abs=1e-6)
    for settings in (FORGE, OFFICIAL):
        assert overshoot(settings["gaussian"], 6, 0.75, 0.5) < 2
    with pytest.raises(UsageError, match=r"30 steps with churn 40 .* Give more --steps"):
        DiffusionSeparator(Pointwise(), method="gaussian", sampling=OFFICIAL["gaussian"].changed(steps=30), gamma=0.6)


@pytest.mark.parametrize("settings", [*FORGE.values(), *OFFICIAL.values()])
def test_default_settings_are_possible(settings: Sampling) -> None:
    """Each default has a schedule, and counts its evaluations."""
    assert settings.sigmas()[-1] == 0 and settings.evaluations >= settings.steps


@pytest.mark.parametrize(
    "values", [{"sampler": "x"}, {"schedule": "x"}, {"churn": 1.0}, {"steps": 0}, {"sigma_max": 1e9}, {"rho": 0.0}]
)
def test_impossible_settings_are_refused(values: dict[str, object]) -> None:
    """Unknown names and numbers out of range are usage errors."""
    with pytest.raises(UsageError):
        QUICK.changed(**values)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A folder with a tiny network."""
    torch.manual_seed(0)
    network = tiny_network()
    folder = tmp_path / "tiny"
    folder.mkdir()
    save_file(network.state_dict(), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(network.to_config()))
    return folder


def wav(path: Path, seconds: float = 1.0, rate: int = 8000, channels: int = 2) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(len(path.name))
    soundfile.write(path, rng.normal(size=(round(seconds * rate), channels)) * 0.1, rate, subtype="FLOAT")


def test_generate_writes_stems_mixture_and_sidecar(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One folder a seed; stems add up to the mixture; the sidecar holds the seed and the settings."""
    out = tmp_path / "out"
    call = ["generate", "-n", str(checkpoint), "-o", str(out), "--duration", "1.5", "-N", "2", "--seed", "7"]
    assert main([*call, "--steps", "3", "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["seed"] for line in lines[:-1]] == [7, 8]
    assert (lines[-1]["event"], lines[-1]["ok"], lines[-1]["exit_code"]) == ("summary", 2, 0)
    folder = out / "tiny" / "seed-7"
    sounds = {p.stem: soundfile.read(p)[0] for p in folder.glob("*.wav")}
    assert set(sounds) == {"bass", "drums", "other", "mix"} and len(sounds["mix"]) == 12000
    assert np.abs(sounds["bass"] + sounds["drums"] + sounds["other"] - sounds["mix"]).max() < 1e-6
    recipe = json.loads((folder / "stemforge.json").read_text())["recipe"]
    assert recipe["seed"] == 7 and recipe["sampling"]["steps"] == 3
    assert main(call) == 7
    assert main([*call, "--steps", "3", "--overwrite", "--seed", "random", "-q"]) == 0


def test_impute_works_in_the_current_folder(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No path: the stems of this folder; kept ones come out with the samples they had, the others are made."""
    song = tmp_path / "My Song"
    wav(song / "Bass.wav", 1.0, 16000)
    wav(song / "drums.wav", 1.2, 16000)
    monkeypatch.chdir(song)
    assert main(["impute", "--keep", "bass,drums", "-n", str(checkpoint), "--steps", "2", "--mix", "-q"]) == 0
    folder = song / "imputed" / "tiny" / "My Song"
    assert capsys.readouterr().out.strip() == str(Path("imputed") / "tiny" / "My Song")
    assert sorted(p.name for p in folder.glob("*.wav")) == ["bass.wav", "drums.wav", "mix.wav", "other.wav"]
    kept, rate = soundfile.read(folder / "drums.wav", dtype="float32")
    assert rate == 16000 and np.array_equal(kept, soundfile.read("drums.wav", dtype="float32")[0])
    assert len(soundfile.read(folder / "other.wav")[0]) == len(kept)


def test_impute_fills_a_part_of_a_stem(checkpoint: Path, tmp_path: Path) -> None:
    """Outside the region every sample is kept."""
    for name in ("bass", "drums", "other"):
        wav(tmp_path / "song" / f"{name}.wav", 2.0, channels=1)
    call = ["impute", str(tmp_path / "song"), "-n", str(checkpoint), "-o", str(tmp_path / "out"), "--steps", "2", "-q"]
    assert main([*call, "--keep", "bass,other", "--region", "drums=0.5:1", "--region", "drums=1.8:"]) == 0
    before, after = (
        soundfile.read(folder / "drums.wav", dtype="float32")[0]
        for folder in (tmp_path / "song", tmp_path / "out" / "tiny" / "song")
    )
    assert np.array_equal(before[:4000], after[:4000]) and np.array_equal(before[8000:14400], after[8000:14400])
    assert not np.allclose(before[4000:8000], after[4000:8000])
    assert not np.allclose(before[14400:], after[14400:])
    recipe = json.loads((tmp_path / "out" / "tiny" / "song" / "stemforge.json").read_text())["recipe"]
    assert recipe["regions"] == {"drums": [[0.5, 1.0], [1.8, 2.0]]}


def test_regions_that_cannot_be(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Outside of the song, or over one another: 2; stems that last differently: a warning."""
    for name, seconds in (("bass", 2.0), ("drums", 1.5)):
        wav(tmp_path / "song" / f"{name}.wav", seconds)
    call = ["impute", str(tmp_path / "song"), "-n", str(checkpoint), "-o", str(tmp_path / "out"), "--keep", "bass"]
    assert main([*call, "--region", "drums=1.5:3"]) == 2
    err = capsys.readouterr().err
    assert "region 1.5:3: reaches out of the song, which lasts 2.000 s" in err
    assert "they last bass 2.000 s, drums 1.500 s; the shorter ones end in silence" in err
    assert main([*call, "--region", "drums=0:1", "--region", "drums=0.5:2"]) == 2
    assert "region 0.5:2: overlaps the one before it" in capsys.readouterr().err
    assert not list((tmp_path / "out").rglob("*.wav"))


def test_impute_takes_a_song_apart_first(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file instead of a folder is separated, and what is kept is what separate would give; nothing else remains."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    wav(tmp_path / "song.wav", 1.5)
    options = ["-n", str(checkpoint), "-q"]
    assert main(["impute", str(tmp_path / "song.wav"), "--keep", "bass", *options, "--steps", "2",
                 "-o", str(tmp_path / "out")]) == 0  # fmt: skip
    assert main(["separate", str(tmp_path / "song.wav"), *options, "-o", str(tmp_path / "sep")]) == 0
    kept, separated = (
        soundfile.read(tmp_path / place / "tiny" / "song" / "bass.wav", dtype="float32")[0] for place in ("out", "sep")
    )
    assert np.array_equal(kept, separated)
    assert not list((tmp_path / "tmp").iterdir())


def kept(folder: Path) -> dict[str, tuple[bytes, int]]:
    """The files of a folder: their bytes and when they were written."""
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in sorted(folder.iterdir())}


def events(capsys: pytest.CaptureFixture[str]) -> list[tuple[str, str]]:
    """Event and status of each line on stdout."""
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    return [(line["event"], line.get("status", "")) for line in lines]


@pytest.mark.parametrize("command", ["generate", "impute"])
def test_what_is_there_is_skipped_and_other_things_are_not_touched(
    command: str, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same command again does nothing; other settings, other input or files of others: 7, or --on-exist."""
    for name in ("bass", "drums"):
        wav(tmp_path / "song" / f"{name}.wav")
    own = ["--duration", "1"] if command == "generate" else [str(tmp_path / "song"), "--keep", "bass,drums"]
    call = [command, *own, "-n", str(checkpoint), "-o", str(tmp_path / "out"), "-q", "--json", "--steps"]
    assert main([*call, "2"]) == 0
    (folder,) = (tmp_path / "out" / "tiny").iterdir()
    before = kept(folder)
    capsys.readouterr()
    assert main([*call, "2"]) == 0 and main([*call, "3", "--on-exist", "skip"]) == 0
    assert events(capsys) == [("song", "skipped"), ("summary", "")] * 2
    assert main([*call, "3"]) == 7
    out, err = capsys.readouterr()
    assert "steps was 2 and is now 3. Give --overwrite" in err and json.loads(out.splitlines()[0])["error"]["code"] == 7
    assert main([*call, "2", "--on-exist", "error"]) == 7 and main([*call, "2", "-y", "--on-exist", "skip"]) == 2
    assert kept(folder) == before
    if command == "impute":
        wav(tmp_path / "song" / "bass.wav", 1.1)
        assert main([*call, "2"]) == 7 and "the input was another one" in capsys.readouterr().err
    (folder / "stemforge.json").unlink()
    assert main([*call, "2"]) == 7 and "not made by stemforge" in capsys.readouterr().err
    assert main([*call, "3", "-y"]) == 0 and not list(folder.glob(".*"))
    assert json.loads((folder / "stemforge.json").read_text())["recipe"]["settings"]["steps"] == 3


def test_a_piece_that_fails_does_not_stop_the_others(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 3 and the reason; the same command makes what is missing; one that another process has is passed."""
    made = generate_run.generate_blocks

    def once(*args, seed: int, **how):
        if seed == 1:
            raise StemforgeError("seed 1: the network gave samples that are not finite.")
        return made(*args, seed=seed, **how)

    call = [
        "generate",
        "-n",
        str(checkpoint),
        "-o",
        str(tmp_path / "out"),
        "--duration",
        "1",
        "-N",
        "3",
        "--steps",
        "2",
    ]
    monkeypatch.setattr(generate_run, "generate_blocks", once)
    assert main([*call, "--json", "-q"]) == 3
    assert events(capsys) == [("song", "ok"), ("song", "failed"), ("song", "ok"), ("summary", "")]
    assert sorted(p.name for p in (tmp_path / "out" / "tiny").iterdir()) == ["seed-0", "seed-2"]
    monkeypatch.setattr(generate_run, "generate_blocks", made)
    with Lock(tmp_path / "out" / "tiny" / "seed-1" / ".stemforge.lock").acquire():
        assert main(call) == 0
        assert "is at it" in capsys.readouterr().err
    (tmp_path / "out" / "tiny" / "seed-0" / ".stemforge.json.9.part").touch()  # killed between names and sidecar
    assert main([*call]) == 0
    assert "2 made, 1 already there, 0 failed" in capsys.readouterr().err
    assert not list((tmp_path / "out").rglob(".*"))


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["generate", "--stems", "vocals"], 2),
        (["generate", "--duration", "0"], 2),
        (["generate", "--seed", "-1"], 2),
        (["generate", "--sampler", "magic"], 2),
        (["generate", "--sampler", "heun", "--churn", "3"], 2),
        (["impute"], 2),
        (["impute", "--keep", "vocals"], 2),
        (["impute", "--keep", "bass", "--fill", "bass"], 2),
        (["impute", "--keep", "bass", "--region", "drums"], 2),
        (["impute", "--keep", "bass", "--region", "drums=5:2"], 2),
        (["impute", "--keep", "bass", "--method", "guess"], 2),
        (["impute", "nowhere", "--keep", "bass"], 4),
        (["impute", "--keep", "bass"], 4),
    ],
)
def test_impossible_requests_are_one_line(
    arguments: list[str],
    code: int,
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Each bad request has its exit code and one line that says what to do; nothing is written."""
    monkeypatch.chdir(tmp_path)
    assert main([*arguments, "-n", str(checkpoint)]) == code
    error = capsys.readouterr().err.strip().splitlines()
    assert len(error) == 1 and error[0].startswith("stemforge: error: ")
    assert {p.name for p in tmp_path.iterdir()} == {"tiny"}


@pytest.mark.parametrize(
    "arguments",
    [
        ["generate", "--duration", "1"],
        ["impute", "song", "--keep", "bass"],
        ["edit", "inpaint", "song", "--region", "0:0.5"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_out_of_memory_is_one_line(
    arguments: list[str],
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Exit code 6, the option that helps, and nothing half-written; nothing either for windows of no length."""

    def full(*_: object, **__: object) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.chdir(tmp_path)
    wav(tmp_path / "song" / "bass.wav")
    monkeypatch.setattr(Forge, "denoise", full)
    assert main([*arguments, "-n", str(checkpoint), "-d", "cpu", "-o", "out", "-q"]) == 6
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "out of memory" in err and "Try a shorter --segment" in err
    assert main([*arguments, "-n", str(checkpoint), "-o", "out", "--segment", "nan"]) == 2
    assert "--segment nan: must be more than 0 s" in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_stems_of_different_rates_are_refused(tmp_path: Path) -> None:
    """One song has one rate."""
    wav(tmp_path / "bass.wav", rate=8000)
    wav(tmp_path / "drums.wav", rate=16000)
    with pytest.raises(InputError, match="rate"):
        open_given(tmp_path, ("bass", "drums"))


def test_stems_are_adapted_and_come_back_with_their_length(tmp_path: Path) -> None:
    """Mono and stereo, short and long: read as one block, changed to another rate and back."""
    wav(tmp_path / "bass.wav", 1.0, channels=1)
    wav(tmp_path / "DRUMS.wav", 1.5)
    given = open_given(tmp_path, ("bass", "drums"))
    stems = Stems(given.names, torch.cat(list(given.stream()), dim=-1), given.rate)
    assert stems.samples.shape == (2, 2, 12000)
    there = adapted(stems, 11025, 1)
    assert there.samples.shape[1] == 1 and adapted(there, 8000, 2, 12000).samples.shape == (2, 2, 12000)


@pytest.mark.parametrize("method", METHODS)
def test_separate_by_likelihood_on_the_command_line(method: str, checkpoint: Path, tmp_path: Path) -> None:
    """Every method writes stems of the song's rate, channels and length that add up to it."""
    wav(tmp_path / "song.wav", 1.3, 16000, 1)
    call = ["separate", str(tmp_path / "song.wav"), "-n", str(checkpoint), "-o", str(tmp_path / "out"), "-q"]
    assert main([*call, "--method", method, "--steps", "24", "--sigma-max", "3"]) == 0
    stems = [soundfile.read(p)[0] for p in (tmp_path / "out" / "tiny" / "song").glob("*.wav")]
    song, rate = soundfile.read(tmp_path / "song.wav")
    assert rate == 16000 and len(stems) == 3 and np.abs(sum(stems) - song).max() < 1e-5
    settings = json.loads((tmp_path / "out" / "tiny" / "song" / "stemforge.json").read_text())["recipe"]["settings"]
    assert settings["method"] == method and settings["sigma_max"] == 3 and settings["steps"] == 24


@pytest.mark.parametrize(
    "arguments",
    [["--method", "guess"], ["--method", "conditional", "--churn", "1"], ["--method", "dirac", "--pinned", "x"]],
)
def test_impossible_methods_are_refused(
    arguments: list[str], checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Unknown methods and stems, and settings of another method, are one line and exit 2."""
    wav(tmp_path / "song.wav")
    assert main(["separate", str(tmp_path / "song.wav"), "-n", str(checkpoint), "-o", str(tmp_path / "out"), "-q",
                 *arguments]) == 2  # fmt: skip
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
