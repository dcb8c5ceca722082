"""What is borrowed from other songs: found at its place and pitch, in step, at its level, and on the command line."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

from stemforge.audio.resample import to_rate
from stemforge.cli.main import main
from stemforge.errors import InputError
from stemforge.inference.settings import Sampling
from stemforge.models.registry import Joint
from stemforge.tasks.edit_files import Files, open_stems
from stemforge.tasks.impute import Song, Wish, impute_blocks
from stemforge.tasks.levels import MOST
from stemforge.tasks.library import (
    HOP_S,
    aligned,
    balance_of,
    balanced,
    hop_of,
    level_for,
    matched,
    played,
    prints,
    speed_of,
)
from stemforge.tasks.library_files import borrowed, ranked, songs_in
from stemforge.tasks.library_prints import listener, prints_of
from stemforge.types import Audio
from test_edit import Smooth
from test_synthesis import checkpoint  # noqa: F401 (a fixture)
from tiny import tiny_network

RATE = 8000
NAMES = ("bass", "drums", "other")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Not the user's own."""
    monkeypatch.setenv("STEMFORGE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def melody(seed: int, seconds: float, lowest: int = 0) -> Tensor:
    """Notes of a quarter of a second, each at a random semitone, (2, time)."""
    dice = torch.Generator().manual_seed(seed)
    size = RATE // 4
    tones = 110.0 * 2 ** ((lowest + 0.5 + torch.randint(24, (round(seconds * 4),), generator=dice)) / 12)
    t = torch.arange(size) / RATE
    notes = torch.sin(2 * torch.pi * tones[:, None] * t) * torch.exp(-6 * t)
    return 0.2 * notes.flatten().expand(2, -1).clone()


def band(seed: int, seconds: float) -> dict[str, Tensor]:
    """Stems (2, time)."""
    return {name: melody(100 * seed + k, seconds, 8 * k) for k, name in enumerate(NAMES)}


def faster(sound: Tensor, semitones: int) -> Tensor:
    """Played so many semitones higher."""
    return to_rate(Audio(sound, round(RATE * speed_of(semitones))), RATE).samples


def of(stems: dict[str, Tensor], names: tuple[str, ...] = NAMES) -> dict[str, Tensor]:
    """Their prints."""
    return {name: prints(stems[name], RATE) for name in names}


@pytest.mark.parametrize("semitones", [-3, 1, 2])
def test_prints_are_those_of_the_song_as_it_is_played(semitones: int) -> None:
    """Faster and higher: the loudest semitone of most frames is the same as in the sound itself."""
    sound = melody(1, 12.0)
    power = prints(sound, RATE)
    moved, share = played(power, torch.arange(len(power)).float(), semitones)
    real = prints(faster(sound, semitones), RATE)
    count = min(len(moved), len(real))
    assert abs(len(moved) - len(real)) <= 1 and len(share) == len(moved)
    assert (moved[:count].argmax(1) == real[:count].argmax(1)).float().mean() > 0.8
    assert share[10] == pytest.approx(10 * speed_of(semitones), abs=1)


@pytest.mark.parametrize("semitones", [0, 2, -1])
def test_a_song_is_found_at_its_place_and_pitch(semitones: int) -> None:
    """The same music, begun elsewhere and played otherwise, is found where it is, among other music."""
    whole = band(1, 60.0)
    first, count = 17 * RATE, 20 * RATE
    kept = {name: faster(whole[name][:, first : first + 2 * count], semitones)[:, :count] for name in NAMES[:2]}
    wanted = torch.stack(list(of(kept, NAMES[:2]).values())).sum(0)
    found = matched(wanted, of(whole), NAMES[:2], NAMES[2:])
    other = matched(wanted, of(band(2, 60.0)), NAMES[:2], NAMES[2:])
    assert found is not None and other is not None
    assert found.alike > 0.5 > other.alike + 0.1
    assert found.semitones == semitones and found.speed == speed_of(semitones) and len(found.places) == 2
    assert found.places[0] == pytest.approx(17.0 / speed_of(semitones) / HOP_S, abs=2)
    assert found.places[1] - found.places[0] == pytest.approx(10.0 / HOP_S, abs=3)


def test_what_cannot_lend_is_left_out() -> None:
    """Nothing that is kept, nothing that is missing, too short, or silent in what is missing."""
    song, wanted = band(1, 20.0), sum(of(band(1, 10.0), NAMES[:2]).values())
    assert matched(wanted, of(song, ("other",)), NAMES[:2], NAMES[2:]) is None
    assert matched(wanted, of(song, NAMES[:2]), NAMES[:2], NAMES[2:]) is None
    assert matched(wanted, of({name: x[:, : 5 * RATE] for name, x in song.items()}), NAMES[:2], NAMES[2:]) is None
    assert matched(wanted, of(song | {"other": torch.zeros(2, 20 * RATE)}), NAMES[:2], NAMES[2:]) is None
    assert matched(wanted[:0], of(song), NAMES[:2], NAMES[2:]) is None
    assert matched(wanted, of(song), NAMES[:2], NAMES[2:]) is not None


def test_a_place_where_the_missing_stem_sounds_comes_first() -> None:
    """The kept stems are the same twice; only beside the second the other one plays."""
    once = band(1, 10.0)
    song = {name: torch.cat([x, x], dim=-1) for name, x in once.items()}
    song["other"][:, : 10 * RATE] = 0
    found = matched(sum(of(once, NAMES[:2]).values()), of(song), NAMES[:2], NAMES[2:])
    assert found is not None and found.places[0] == pytest.approx(10.0 / HOP_S, abs=2)


@pytest.mark.parametrize("late", [0, 137, 700])
def test_onsets_fall_on_onsets(late: int) -> None:
    """To a few milliseconds, within what is looked through."""
    sound = melody(3, 8.0)
    assert aligned(sound[:, late : late + 6 * RATE], sound[:, : 6 * RATE + 2 * hop_of(RATE)], RATE) == pytest.approx(
        late, abs=0.006 * RATE
    )
    assert aligned(sound, sound, RATE) == 0


def test_levels_are_matched_within_bounds() -> None:
    """By the kept stems; silence is not blown up without end."""
    sound = melody(4, 1.0)
    assert level_for(sound, sound / 2) == pytest.approx(2.0)
    assert level_for(sound, torch.zeros_like(sound)) == MOST
    assert level_for(torch.zeros_like(sound), sound) == pytest.approx(1 / MOST)


def test_a_level_goes_halfway_to_the_usual_one() -> None:
    """In decibels; 6 dB at most, also where nothing sounds."""
    sound = prints(melody(4, 1.0), RATE)
    silence = torch.zeros_like(sound)
    assert balance_of(sound, 4 * sound) == pytest.approx(2.0) and balance_of(sound, silence) == 0.0
    assert balanced(1.0, 1.0) == 1.0 and balanced(2.0, 1.0) == pytest.approx(0.5**0.5)
    assert balanced(1.0, 2.25) == pytest.approx(1.5) and balanced(20.0, 1.0) == 0.5
    assert balanced(balance_of(sound, silence), 1.0) == 2.0 and balanced(balance_of(silence, sound), 1.0) == 0.5


def written(folder: Path, stems: dict[str, Tensor], rate: int = RATE) -> Path:
    """A song folder."""
    folder.mkdir(parents=True)
    for name, sound in stems.items():
        soundfile.write(folder / f"{name}.wav", to_rate(Audio(sound, RATE), rate).samples.T, rate, subtype="FLOAT")
    return folder


def opened(tmp_path: Path, seconds: float = 30.0, rate: int = RATE) -> tuple[Files, dict[str, Tensor]]:
    """Two stems of a song that is in a library, from its third second on and at half its level, and all of it."""
    stems = band(1, seconds + 6)
    first = round(3.21 * RATE)
    part = {name: 0.5 * x[:, first : first + round(seconds * RATE)] for name, x in stems.items()}
    written(tmp_path / "library" / "same", stems, rate)
    quieter = band(2, seconds + 6)
    written(tmp_path / "library" / "other", quieter | {"other": 0.5 * quieter["other"]})
    return open_stems(written(tmp_path / "song", {n: part[n] for n in NAMES[:2]}), NAMES), part


@pytest.mark.parametrize("rate", [RATE, 11025])
def test_what_is_borrowed_is_in_step_and_at_the_level_of_what_is_kept(tmp_path: Path, rate: int) -> None:
    """The song itself, elsewhere and louder, lends the very stem that is missing; in two parts that join."""
    given, part = opened(tmp_path, rate=rate)
    network, heard = tiny_network(), list[int]()
    found = ranked(network, given, ("other",), songs_in(tmp_path / "library", "song"), on_song=heard.append)
    assert [each.song.name for each in found] == ["same", "other"] and heard == [1, 2]
    blocks = list(borrowed(network, given, found[0], ("other",)))
    lent = torch.cat(blocks, dim=-1)[0]
    assert len(blocks) == 2 and lent.shape == part["other"].shape
    best = max(
        torch.nn.functional.cosine_similarity(lent.flatten(), part["other"].roll(shift, -1).flatten(), dim=0)
        for shift in range(-hop_of(RATE) // 8, hop_of(RATE) // 8)
    )
    assert best > 0.95
    level, (kept, missing) = part["other"].square().mean().sqrt(), (of(part, names) for names in (NAMES[:2], NAMES[2:]))
    there = balance_of(torch.stack(list(kept.values())), missing["other"])
    own = [each.match.balance for each in found]
    assert found[0].usual == pytest.approx(sum(own) / 2) and own[0] == pytest.approx(there, rel=0.1)
    assert 0.6 < found[0].usual / own[0] < 0.98  # the other song has it quieter
    assert lent.square().mean().sqrt() == pytest.approx(float(level) * (found[0].usual / there) ** 0.5, rel=0.05)


def test_a_stem_that_the_song_lacks_is_silent(tmp_path: Path) -> None:
    """Of several missing ones those that are there are lent; silence before the beginning of the song."""
    given, _ = opened(tmp_path)
    found = ranked(tiny_network(), given, ("other", "piano"), songs_in(tmp_path / "library", ""))
    lent = torch.cat(list(borrowed(tiny_network(), given, found[0], ("other", "piano"))), dim=-1)
    assert lent[0].any() and not lent[1].any()


def test_songs_that_cannot_be_read_are_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """One warning each; where none is left, one error."""
    given, _ = opened(tmp_path)
    (tmp_path / "library" / "same" / "bass.wav").write_bytes(b"RIFFnothing")
    found = ranked(tiny_network(), given, ("other",), songs_in(tmp_path / "library", "song"))
    assert [each.song.name for each in found] == ["other"] and "It is left out." in caplog.text
    with pytest.raises(InputError, match="none has one of bass, drums and one of piano"):
        ranked(tiny_network(), given, ("piano",), songs_in(tmp_path / "library", "song"))


def full(file: BinaryIO, array: object, **_: object) -> None:
    """A disk without space."""
    file.write(b"begun")
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_library_is_listened_to_once(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is kept is what was taken; a file that changed is heard anew, one that is damaged or cannot be kept too."""
    written(tmp_path / "song", band(1, 5.0))
    taken, network = list[tuple[str, ...]](), tiny_network()

    def counted(network: Joint, song: Files) -> dict[str, Tensor]:
        taken.append(song.names)
        return prints_of(network, song)

    monkeypatch.setattr("stemforge.tasks.library_prints.prints_of", counted)
    first = listener(network)(tmp_path / "song", NAMES)
    whole = prints_of(network, open_stems(tmp_path / "song", NAMES))
    assert all(torch.allclose(first[name], whole[name], rtol=2**-8, atol=0) for name in NAMES)
    for names in (NAMES, NAMES[1:]):
        again = listener(network)(tmp_path / "song", names)
        assert tuple(again) == names and all(torch.equal(again[name], first[name]) for name in names)
    assert taken == [NAMES]
    soundfile.write(tmp_path / "song" / "drums.wav", melody(9, 5.0).T, RATE, subtype="PCM_24")
    changed = listener(network)(tmp_path / "song", NAMES)
    assert taken.pop() == ("drums",) and not torch.equal(changed["drums"], first["drums"])
    for file in cache.rglob("*.npy"):
        file.write_bytes(file.read_bytes()[:-1])
    again = listener(network)(tmp_path / "song", NAMES)
    assert taken.pop() == NAMES and all(torch.equal(again[name], changed[name]) for name in NAMES)
    monkeypatch.setattr(np, "save", full)
    assert len(listener(tiny_network())(written(tmp_path / "new", band(2, 5.0)), NAMES)) == 3
    assert not list(cache.rglob("*.part"))
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("STEMFORGE_CACHE", str(tmp_path / "file"))
    assert torch.equal(listener(network)(tmp_path / "song", NAMES[:1])["bass"], first["bass"])


def test_a_library_is_songs_in_folders_or_one_song(tmp_path: Path) -> None:
    """Never the song itself."""
    written(tmp_path / "library" / "song", band(1, 1.0))
    written(tmp_path / "library" / "b", band(1, 1.0))
    (tmp_path / "library" / "empty").mkdir()
    (tmp_path / "library" / ".hidden").mkdir()
    assert [song.name for song in songs_in(tmp_path / "library", "song")] == ["b"]
    assert songs_in(tmp_path / "library" / "b", "song") == [tmp_path / "library" / "b"]
    with pytest.raises(InputError, match="no other song"):
        songs_in(tmp_path / "library" / "song", "song")


def test_little_noise_keeps_what_is_borrowed_and_much_forgets_it() -> None:
    """The made stem is near what it began with at strength 0.02, and as far as any other at 1; kept ones stand."""
    network, dice = Smooth(), torch.Generator().manual_seed(0)
    given, begun = (0.1 * torch.randn(n, 2, 5000, generator=dice).cumsum(-1) / 30 for n in (2, 1))

    def made(strength: float) -> Tensor:
        sampling = Sampling(steps=8, sigma_max=40.0).begun(strength)
        song = Song([given], ("bass", "drums"), 5000, 1.0, [begun])
        return torch.cat(list(impute_blocks(network, song, sampling, Wish(("other",)))), dim=-1)

    near, far = ((made(strength) - begun).norm() / begun.norm() for strength in (0.02, 1.0))
    assert near < 0.3 < 0.8 < far


def test_impute_from_a_library(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:  # noqa: F811
    """The sidecar says which song; the next seed takes the next one; what is there is skipped until songs change."""
    opened(tmp_path, 3.0)
    call = ["impute", str(tmp_path / "song"), "--keep", "bass,drums", "-n", str(checkpoint), "--steps", "2",
            "-o", str(tmp_path / "out"), "--from", str(tmp_path / "library"), "-N", "2"]  # fmt: skip
    assert main([*call, "--strength", "0.3"]) == 0
    assert "borrowed from same at +0 semitones" in capsys.readouterr().err
    sidecars = [json.loads((tmp_path / f"out/tiny/song-{k}/stemforge.json").read_text()) for k in (0, 1)]
    assert [each["recipe"]["from"]["song"] for each in sidecars] == ["same", "other"]
    assert sidecars[0]["recipe"]["from"]["strength"] == 0.3
    assert main([*call, "--strength", "0.3"]) == 0 and "2 already there" in capsys.readouterr().err
    written(tmp_path / "library" / "third", band(3, 9.0))
    assert main([*call, "--strength", "0.3"]) == 7 and "--overwrite" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--strength", "0.5"], 2, "Give --from LIBRARY or --sketch NAME too"),
        (["--from", "gone"], 4, "no such folder"),
        (["--from", "."], 4, "no other song in stems"),
        (["--from", ".", "--region", "drums=0:1"], 2, "--from with --region"),
        (["--from", ".", "--strength", "0"], 2, "more than 0"),
    ],
)
def test_libraries_that_cannot_be(
    arguments: list[str],
    code: int,
    said: str,
    checkpoint: Path,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One line, before anything is computed."""
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    assert main(["impute", "--keep", "bass", "-n", str(checkpoint), *arguments]) == code
    error = capsys.readouterr().err.strip()
    assert said in error and "\n" not in error
