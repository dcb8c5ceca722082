"""A stem that is part of another unless it is asked for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import soundfile as sf
import torch

from places import error, prepared, song
from shares import Shares, make_checkpoint
from stemforge import checkpoints
from stemforge.cli.main import main
from stemforge.errors import UsageError
from stemforge.separators.folded import FoldedSeparator
from stemforge.separators.network import NetworkSeparator
from stemforge.tasks.separate import separate
from stemforge.types import Audio
from stemforge.ui.models import Models

NAMES = ("vocals", "bass", "other")


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a song, and the default checkpoint `six`, which has vocals and puts them into `other`."""
    place = prepared(tmp_path, monkeypatch)
    folder = make_checkpoint(place.parent / "ck" / "six" if place.name == "work" else place / "ck" / "six", names=NAMES)
    own = Path(folder.parent / "own.toml")
    own.write_text(checkpoints.entry_for(folder, default=True) + '\nfolds = { vocals = "other" }\n')
    monkeypatch.setenv("STEMFORGE_CHECKPOINTS", str(own))
    song("song.wav")
    return own


def network() -> NetworkSeparator:
    return NetworkSeparator(Shares({"names": NAMES}).requires_grad_(False))


def stems_in(folder: str) -> dict[str, torch.Tensor]:
    return {path.stem: torch.from_numpy(sf.read(path)[0]) for path in Path(folder).glob("*.wav")}


def test_what_is_folded_is_in_the_other() -> None:
    """Names lose it, sums stay, the rest is as it was, whatever the blocks."""
    x = 0.2 * torch.randn(2, 50000, generator=torch.Generator().manual_seed(0))
    all_of_them, folded = (
        separate(Audio(x, 44100), each) for each in (network(), FoldedSeparator(network(), {"vocals": "other"}))
    )
    assert folded.names == ("bass", "other")
    assert torch.equal(folded["bass"].samples, all_of_them["bass"].samples)
    both = all_of_them["other"].samples + all_of_them["vocals"].samples
    assert (folded["other"].samples - both).abs().max() < 1e-6
    assert torch.equal(separate(Audio(x, 44100), FoldedSeparator(network(), {})).samples, all_of_them.samples)


@pytest.mark.parametrize(
    ("folds", "message"),
    [
        ({"voice": "other"}, "there is no stem voice, but vocals, bass, other"),
        ({"vocals": "rest"}, "there is no stem rest"),
        ({"vocals": "other", "other": "bass"}, "other takes in a stem and is taken in"),
    ],
)
def test_impossible_folds(folds: dict[str, str], message: str) -> None:
    """Unknown names and chains are refused."""
    with pytest.raises(UsageError, match=message):
        FoldedSeparator(network(), folds)


def test_separate_asks_for_it_or_not() -> None:
    """Without a word there is no vocals file; --vocals, --stems and --two-stems that name it bring it."""
    assert main(["separate", "song.wav", "-o", "a"]) == 0
    assert main(["separate", "song.wav", "-o", "b", "--vocals"]) == 0
    folded, whole = stems_in("a/six/song"), stems_in("b/six/song")
    assert set(folded) == {"bass", "other"} and set(whole) == set(NAMES)
    assert (folded["other"] - whole["other"] - whole["vocals"]).abs().max() < 1e-6
    assert main(["separate", "song.wav", "-o", "c", "--stems", "vocals,other"]) == 0
    assert set(stems_in("c/six/song")) == {"vocals", "other"}
    assert torch.equal(stems_in("c/six/song")["other"], whole["other"])
    assert main(["separate", "song.wav", "-o", "d", "--two-stems", "vocals"]) == 0
    assert set(stems_in("d/six/song")) == {"vocals", "no_vocals"}
    assert main(["separate", "song.wav", "-o", "e", "--two-stems", "bass"]) == 0
    assert torch.equal(stems_in("e/six/song")["bass"], whole["bass"])


def test_a_dry_run_knows_the_names(capsys: pytest.CaptureFixture[str]) -> None:
    """Before anything is loaded."""
    for more, there in (([], False), (["--vocals"], True)):
        assert main(["separate", "song.wav", "--dry-run", "-q", *more]) == 0
        assert ("vocals.wav" in capsys.readouterr().out) == there


def test_load_and_evaluate(capsys: pytest.CaptureFixture[str]) -> None:
    """The library folds too, unless the whole is asked for; references with a voice ask for it."""
    assert checkpoints.load().names == ("bass", "other") and checkpoints.load(whole=True).names == NAMES
    for name in ("bass", "other"):
        song(f"refs/one/{name}.wav", seconds=5)
    for more in ((), ("vocals",)):
        for name in more:
            song(f"refs/one/{name}.wav", seconds=5)
        assert main(["evaluate", "refs", "--json"]) == 0
        summary = json.loads(capsys.readouterr().out.splitlines()[-1])
        assert set(summary["active"]) == {"bass", "other", "all", *more} and summary["sum_db"] < -100


def test_impute_takes_a_song_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is read of a song: the voice lies in `other` unless it is kept itself."""
    from stemforge.cli import impute_run

    seen = []

    def separate_file(song: object, folder: Path, separator: FoldedSeparator, **how: object) -> None:
        seen.append(separator.names)
        raise UsageError("enough")

    class Network:
        names, rate, conditional, segment = NAMES, 44100, True, 1.0

    monkeypatch.setattr(impute_run, "separate_file", separate_file)
    monkeypatch.setattr(checkpoints, "network_of", lambda checkpoint: Shares({"names": NAMES}))
    session = type("S", (), {"network": Network(), "checkpoint": checkpoints.find(), "report": _Quiet(),
                             "options": {"device": "cpu", "segment": None}})()  # fmt: skip
    from contextlib import ExitStack

    for keep in (("other",), ("vocals",)):
        with ExitStack() as stack, pytest.raises(UsageError, match="enough"):
            impute_run._given(session, Path("song.wav"), impute_run.Plan(keep, None, {}), stack)
    assert seen == [("bass", "other"), NAMES]


class _Quiet:
    def song(self, *what: object) -> None:
        """Says nothing."""

    advance = song


def test_in_the_browser() -> None:
    """The stems that are listed are those without the voice; the box for vocals brings all."""
    models = Models(device="cpu")
    choice = models.choices["six"]
    assert choice.stems == ("bass", "other") and choice.vocals and models.voice_for(choice) is None
    assert models.separator(choice, vocals=False).names == ("bass", "other")
    assert models.separator(choice, vocals=True).names == NAMES


def test_a_table_that_is_not_one(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """folds must be a table."""
    place.write_text(place.read_text().replace('{ vocals = "other" }', '"vocals"'))
    assert main(["separate", "song.wav"]) == 2
    assert "folds" in error(capsys)
