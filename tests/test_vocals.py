"""Voice first, then the rest: two stages that add up, and the lines of docs/vocals.md."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
import soundfile as sf
import torch

from places import error, prepared, song
from shares import Shares, make_checkpoint
from stemforge import checkpoints
from stemforge.cli.main import main
from stemforge.errors import UsageError
from stemforge.separators.network import NetworkSeparator
from stemforge.tasks.cascade import Cascade
from stemforge.tasks.separate import Levels, separate, separate_blocks
from stemforge.types import Audio
from test_spleeter import NAME, bring

PAGE = Path(__file__).parents[1] / "docs" / "vocals.md"
SIX = ("vocals", "bass", "drums", "other")


def shares(*names: str, **config: object) -> NetworkSeparator:
    return NetworkSeparator(Shares({"names": names, **config}).requires_grad_(False))


def cascade(**config: object) -> Cascade:
    return Cascade(shares("bass", "vocals", "rest"), shares("bass", "drums", "other", **config))


@pytest.mark.parametrize("rate", [44100, 48000, 8000])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("second", [{}, {"rate": 22050, "channels": 1}])
def test_stems_are_the_mixture(rate: int, channels: int, second: dict[str, int]) -> None:
    """At any rate, mono or stereo, with a second stage of whatever rate: the length stays and the stems add up."""
    x = 0.2 * torch.randn(channels, 30001, generator=torch.Generator().manual_seed(0))
    stems = separate(Audio(x, rate), cascade(**second))
    assert stems.names == SIX and stems.samples.shape == (4, channels, 30001)
    assert (stems.samples.sum(dim=0) - x).abs().max() < 2e-6


def test_second_hears_what_the_first_leaves() -> None:
    """Vocals are those of the first alone; the other stems are those of the second on the mixture without them."""
    x = 0.2 * torch.randn(2, 60000, generator=torch.Generator().manual_seed(1))
    found = separate(Audio(x, 44100), cascade())
    first = separate(Audio(x, 44100), shares("bass", "vocals", "rest"))["vocals"].samples
    assert torch.equal(found["vocals"].samples, first)
    second = separate(Audio(x - first, 44100), shares("bass", "drums", "other"))
    assert torch.allclose(found["drums"].samples, second["drums"].samples, atol=1e-6)


def test_stereo_and_silence() -> None:
    """What sounds on one side stays there, silence stays silence, and the blocks of the input do not matter."""
    x = 0.2 * torch.randn(2, 50000, generator=torch.Generator().manual_seed(2)) * torch.tensor([[1.0], [0.0]])
    stems = separate(Audio(x, 44100), cascade())
    assert not stems.samples[:, 1].any() and stems.samples[:, 0].any()
    assert not separate(Audio(torch.zeros(2, 5000), 44100), cascade()).samples.any()
    one, two = (torch.cat(list(cascade().stream(blocks)), dim=-1) for blocks in ([x], x.split(777, dim=-1)))
    assert torch.equal(one, two)


def test_without_other() -> None:
    """What a second stage of a narrow band without `other` leaves over is the one residual, and is measured."""
    two, levels, x = (
        Cascade(shares("vocals", "rest"), shares("bass", "drums", rate=8000)),
        Levels(),
        torch.randn(2, 9000),
    )
    assert two.names == ("vocals", "bass", "drums")
    stems = torch.cat([stems for _, stems in separate_blocks([x], 44100, 2, two, levels)], dim=-1)
    assert stems.shape[0] == 4 and (stems.sum(dim=0) - x).abs().max() < 1e-5 and levels.leftover_db > -20


def test_second_with_vocals() -> None:
    """What a second stage finds of the voice in the rest is added to what the first one took; the sum stays."""
    x = 0.2 * torch.randn(2, 30001, generator=torch.Generator().manual_seed(3))
    first, second = shares("vocals", "rest"), shares("bass", "vocals", "other")
    found = separate(Audio(x, 44100), Cascade(first, second))
    assert found.names == ("vocals", "bass", "other") and (found.samples.sum(dim=0) - x).abs().max() < 2e-6
    voice = separate(Audio(x, 44100), first)["vocals"].samples
    rest = separate(Audio(x - voice, 44100), second)
    assert torch.allclose(found["vocals"].samples, voice + rest["vocals"].samples, atol=1e-6)
    assert torch.allclose(found["bass"].samples, rest["bass"].samples, atol=1e-6)


def test_impossible_pairs() -> None:
    """The first must have vocals."""
    with pytest.raises(UsageError, match="has no stem vocals, but bass, other"):
        Cascade(shares("bass", "other"), shares("bass", "other"))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with songs, a small spleeter-2stem in the cache, `forge` as the default, and `htdemucs` beside it."""
    prepared(tmp_path, monkeypatch)
    bring(tmp_path, monkeypatch, frames=64, bins=64, n_fft=1024, raise_bins=8)
    ck = tmp_path / "ck"
    make_checkpoint(ck / "forge")
    make_checkpoint(ck / "htdemucs", names=["drums", "bass", "other", "vocals"])
    make_checkpoint(ck / "band", names=["vocals", "bass", "other"])
    entries = [checkpoints.entry_for(ck / name, default=name == "forge") for name in ("forge", "htdemucs", "band")]
    (ck / "own.toml").write_text("\n".join(entries))
    for name in ("song.wav", "album/a.wav", "album/b.wav"):
        song(name, 0.4)
    return tmp_path


def written(folder: str) -> dict[str, torch.Tensor]:
    return {path.stem: torch.from_numpy(sf.read(path)[0]) for path in Path(folder).glob("*.wav")}


def sidecar(folder: str) -> dict[str, object]:
    found: dict[str, object] = json.loads((Path(folder) / "stemforge.json").read_text())
    return found


def test_vocals_and_the_rest(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--vocals writes one stem more; they add up to the song, and the sidecar names both checkpoints."""
    assert main(["separate", "song.wav", "--vocals", "--json"]) == 0
    folder = f"separated/{NAME}+forge/song"
    stems = written(folder)
    assert set(stems) == set(SIX)
    assert (sum(stems.values()) - torch.from_numpy(sf.read("song.wav")[0])).abs().max() < 2e-6
    recipe = sidecar(folder)["recipe"]
    for key, name in (("checkpoint", "forge"), ("vocals", NAME)):
        assert recipe[key] == {"name": name, "sha256": checkpoints.find(name).sha256["model.safetensors"]}
    told = json.loads(capsys.readouterr().out.splitlines()[0])
    assert told["checkpoint"] == "forge" and told["vocals"] == recipe["vocals"] and set(told["outputs"]) == set(SIX)
    assert main(["separate", "song.wav", "--vocals", "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[0])["status"] == "skipped"


def test_some_stems(place: Path) -> None:
    """Naming vocals among the stems is enough to have them; naming them alone needs no second stage."""
    assert main(["separate", "song.wav", "--stems", "vocals,drums"]) == 0
    assert set(written(f"separated/{NAME}+forge/song")) == {"vocals", "drums"}
    for options, names in ((["--two-stems", "vocals"], {"vocals", "no_vocals"}), (["--stems", "vocals"], {"vocals"})):
        assert main(["separate", "song.wav", *options, "-y"]) == 0
        folder = f"separated/{NAME}/song"
        assert set(written(folder)) == names and sidecar(folder)["recipe"]["checkpoint"]["name"] == NAME
        assert "vocals" not in sidecar(folder)["recipe"]
    assert main(["separate", "song.wav", "--two-stems", "drums", "--vocals", "-o", "two"]) == 0
    assert set(written(f"two/{NAME}+forge/song")) == {"drums", "no_drums"}


def test_another_first_stage(place: Path) -> None:
    """Any checkpoint with vocals can take them out, by its name or its folder."""
    for name in ("htdemucs", str(place / "ck" / "band")):
        assert main(["separate", "song.wav", "--vocals-with", name]) == 0
        folder = f"separated/{Path(name).name}+forge/song"
        assert set(written(folder)) == set(SIX) and sidecar(folder)["recipe"]["vocals"]["name"] == Path(name).name


def test_another_voice_is_another_result(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where folders do not tell them apart, stems of another first stage are not taken for done."""
    names = ["--filename", "{track}/{stem}.{ext}", "-o", "out", "-n", "forge"]
    assert main(["separate", "song.wav", "--vocals", *names, "--filename", "x{model}/{stem}.{ext}"]) == 0
    Path(f"out/x{NAME}+forge").rename("out/xhtdemucs+forge")
    capsys.readouterr()
    again = ["separate", "song.wav", "--vocals-with", "htdemucs", *names, "--filename", "x{model}/{stem}.{ext}"]
    assert main(again) == 7
    assert "its vocals came from elsewhere" in capsys.readouterr().err


def test_checkpoint_with_vocals_of_its_own(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is taken as it is; another voice before it is refused."""
    assert main(["separate", "song.wav", "-n", "band", "--vocals"]) == 0
    assert set(written("separated/band/song")) == {"vocals", "bass", "other"}
    capsys.readouterr()
    assert main(["separate", "song.wav", "-n", "band", "--vocals-with", NAME]) == 2
    assert "has vocals itself" in capsys.readouterr().err


def test_checkpoint_that_names_a_better_voice(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`voice` in its table: without vocals it is taken as it is, with them the other is first, or itself if named."""
    table = place / "ck" / "own.toml"
    table.write_text(
        table.read_text() + checkpoints.entry_for(place / "ck" / "band", name="six") + f'\nvoice = "{NAME}"\n'
    )
    assert main(["separate", "song.wav", "-n", "six"]) == 0
    assert set(written("separated/six/song")) == {"vocals", "bass", "other"}
    assert main(["separate", "song.wav", "-n", "six", "--vocals"]) == 0
    stems = written(f"separated/{NAME}+six/song")
    assert set(stems) == {"vocals", "bass", "other"}
    assert (sum(stems.values()) - torch.from_numpy(sf.read("song.wav")[0])).abs().max() < 2e-6
    assert main(["separate", "song.wav", "-n", "six", "--two-stems", "vocals"]) == 0
    assert set(written(f"separated/{NAME}/song")) == {"vocals", "no_vocals"}
    assert main(["separate", "song.wav", "-n", "six", "--vocals-with", "six", "-o", "own"]) == 0
    assert set(written("own/six/song")) == {"vocals", "bass", "other"}


def test_first_stage_without_vocals(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is refused with the command that lists others."""
    assert main(["separate", "song.wav", "--vocals-with", "forge"]) == 2
    assert "has no stem vocals, but bass, drums, other. See stemforge checkpoints list" in error(capsys)


@pytest.mark.parametrize("options", [["--vocals"], ["--two-stems", "vocals"], ["--stems", "vocals,bass"]])
def test_not_pulled(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], options: list[str]
) -> None:
    """One line that says what to type, exit code 5, and nothing is written; a dry run needs no weights."""
    monkeypatch.setenv("STEMFORGE_CACHE", str(place / "empty"))
    assert main(["separate", "song.wav", *options, "-q"]) == 5
    assert f"Run stemforge checkpoints pull {NAME}." in error(capsys)
    assert main(["separate", "song.wav", *options, "--dry-run", "-q"]) == 0
    assert "vocals.wav" in capsys.readouterr().out


def lines() -> list[str]:
    """The lines of the page's shell blocks, without their comments."""
    blocks = re.findall(r"```sh\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    found = [re.sub(r"\s+#.*", "", line) for block in blocks for line in block.splitlines()]
    return [line for line in found if line.startswith("stemforge ")]


@pytest.mark.parametrize("line", lines())
def test_line_of_the_page(place: Path, line: str) -> None:
    """Every stemforge line of the page works as it stands."""
    assert main(shlex.split(line)[1:]) == 0


def test_example_in_python(place: Path) -> None:
    """So does the Python of the page."""
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    exec(code, {})
    assert set(written("stems")) == set(SIX)
