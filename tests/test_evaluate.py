"""Scores of folders: the figures against a known leak, songs pooled, and every mismatch named."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch

from stemforge.errors import InputError, UsageError
from stemforge.tasks.evaluate import evaluate, means
from stemforge.tasks.score import separate_sums, sum_of_stems

RATE = 16000
HZ = {"bass": 250, "drums": 500, "other": 1000}


def tone(stem: str, seconds: float = 6.0) -> np.ndarray:
    """(time, 2): a tone of its own for each stem; two stems have no correlation in a window of 4 s."""
    wave = 0.1 * np.sin(2 * np.pi * HZ[stem] * np.arange(int(seconds * RATE)) / RATE)
    return np.stack([wave, 0.5 * wave], axis=1)


def write(folder: Path, stems: dict[str, np.ndarray], rate: int = RATE) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for stem, x in stems.items():
        sf.write(folder / f"{stem}.wav", x, rate, subtype="FLOAT")
    return folder


@pytest.fixture
def ref(tmp_path: Path) -> Path:
    """Two songs of three stems."""
    for song in ("first", "second"):
        write(tmp_path / "ref" / song, {stem: tone(stem) for stem in HZ})
    return tmp_path / "ref"


def leaky(leak: float) -> dict[str, np.ndarray]:
    """Estimates in which each stem holds `leak` times the sum of the others."""
    return {stem: tone(stem) + leak * sum(tone(other) for other in HZ if other != stem) for stem in HZ}


def test_known_leak(ref: Path, tmp_path: Path) -> None:
    """The gain over the mixture is the leak in dB, in each song; pooled figures are the mean of the songs."""
    est = tmp_path / "est"
    write(est / "first", leaky(0.1))
    write(est / "second", leaky(0.01))
    seen = []
    scores = evaluate(ref, est, on_song=lambda score: seen.append(score.name))
    assert seen == ["first", "second"]
    assert scores[0].means()["active"] == pytest.approx({**dict.fromkeys(HZ, 20), "all": 20}, abs=0.01)
    assert scores[1].means()["stereo"]["all"] == pytest.approx(40, abs=0.01)
    assert means(scores)["active"]["all"] == pytest.approx(30, abs=0.01)
    assert scores[0].sum_db == pytest.approx(20 * np.log10(0.2), abs=0.01)


def test_stems_chosen(ref: Path, tmp_path: Path) -> None:
    """With --stems only those count, and the mixture is their sum."""
    est = tmp_path / "est"
    for song in ("first", "second"):
        write(est / song, {stem: tone(stem) for stem in ("bass", "drums")})
    scores = evaluate(ref, est, ["bass", "drums"])
    assert set(means(scores)["active"]) == {"bass", "drums", "all"}
    assert scores[0].sum_db < -100


def test_stem_absent_from_a_song_is_silent(ref: Path, tmp_path: Path) -> None:
    """A reference without a file counts as silence: its estimate hurts the sum, nothing else."""
    (ref / "first" / "drums.wav").unlink()
    write(tmp_path / "est" / "first", {stem: tone(stem) for stem in HZ})
    write(tmp_path / "est" / "second", {stem: tone(stem) for stem in HZ})
    first, second = evaluate(ref, tmp_path / "est")
    assert "drums" not in first.gains["active"]
    assert first.sum_db == pytest.approx(20 * np.log10(np.sqrt(0.5)), abs=0.01)
    assert second.sum_db < -100


def test_mono_estimate_of_a_stereo_stem(ref: Path, tmp_path: Path) -> None:
    """A mono estimate counts for both channels."""
    for song in ("first", "second"):
        write(tmp_path / "est" / song, {stem: tone(stem).mean(axis=1) for stem in HZ})
    assert means(evaluate(ref, tmp_path / "est"))["active"]["all"] > 60


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ("no folder", "not a folder"),
        ("no song", "no folder for 'second'"),
        ("no stem", "no file for 'first/bass'"),
        ("short", "samples, the reference has"),
        ("uneven", "different lengths"),
        ("rate", "Hz, the reference has 16000"),
        ("channels", "3 channels"),
    ],
)
def test_mismatches_are_named(ref: Path, tmp_path: Path, broken: str, message: str) -> None:
    """Every mismatch is one line that names the place."""
    est, stems = tmp_path / "est", {stem: tone(stem) for stem in HZ}
    if broken != "no folder":
        write(est / "first", stems)
    if broken not in ("no folder", "no song"):
        write(est / "second", stems)
    if broken == "no stem":
        (est / "first" / "bass.wav").unlink()
    elif broken == "short":
        write(est / "first", {stem: x[:-1] for stem, x in stems.items()})
    elif broken == "uneven":
        write(est / "first", {"bass": stems["bass"][:-1]})
    elif broken == "rate":
        write(est / "first", stems, rate=22050)
    elif broken == "channels":
        write(est / "first", {"bass": np.repeat(stems["bass"], 2, axis=1)[:, :3]})
    with pytest.raises(InputError, match=message) as caught:
        evaluate(ref, est)
    assert "\n" not in str(caught.value)


def test_unknown_stem_is_a_usage_error(ref: Path) -> None:
    """A stem that no song has is a mistake in the request."""
    with pytest.raises(UsageError, match="no stem banjo"):
        evaluate(ref, ref, ["banjo"])


@pytest.mark.parametrize("empty", ["no songs", "no stems"])
def test_empty_reference(tmp_path: Path, empty: str) -> None:
    """A reference without songs, or with songs without sound, is named."""
    if empty == "no stems":
        (tmp_path / "song").mkdir()
    with pytest.raises(InputError, match="no song in it" if empty == "no songs" else "no audio file"):
        evaluate(tmp_path, tmp_path)


def test_mixture_file_is_no_stem(ref: Path) -> None:
    """A mixture.wav beside the stems is not taken for a stem."""
    write(ref / "first", {"mixture": tone("bass")})
    scores = evaluate(ref, ref)
    assert set(scores[0].means()["active"]) == {*HZ, "all"}
    assert sum_of_stems(ref / "first").samples.numpy() == pytest.approx(sum(tone(s) for s in HZ).T, abs=1e-6)


class Thirds:
    """A separator that gives each of its stems a third of the mixture."""

    names = tuple(HZ)
    rate, channels = RATE, 2

    def stream(self, blocks: Iterable[torch.Tensor]) -> Iterator[torch.Tensor]:
        """(channel, time) -> (stem, channel, time)."""
        for block in blocks:
            yield torch.stack([block / 3] * 3)


def test_separate_sums_feeds_the_score(ref: Path, tmp_path: Path) -> None:
    """A separator that gives each stem a third of the sum improves nothing, and its stems add up."""
    done = []
    separate_sums(ref, tmp_path / "est", Thirds(), on_song=done.append)
    assert done == ["first", "second"]
    scores = evaluate(ref, tmp_path / "est")
    assert means(scores)["active"]["all"] == pytest.approx(0, abs=1e-3)
    assert max(score.sum_db for score in scores) < -100


def test_sum_of_unlike_stems_is_refused(ref: Path) -> None:
    """Stems of different length have no sum."""
    write(ref / "first", {"bass": tone("bass")[:100]})
    with pytest.raises(InputError, match="differ from the other stems"):
        sum_of_stems(ref / "first")


def test_mono_stems_go_to_the_middle(ref: Path) -> None:
    """In a sum with stereo stems a mono stem is in both channels."""
    write(ref / "first", {"bass": tone("bass")[:, 0]})
    found = sum_of_stems(ref / "first").samples
    expected = tone("drums") + tone("other") + tone("bass")[:, :1]
    assert torch.allclose(found, torch.from_numpy(expected.T).float(), atol=1e-6)


def test_rendered_arrays_are_read(tmp_path: Path) -> None:
    """Stems in .npy, as `data render --format npy` writes them, score as the same samples in .wav do."""
    for suffix, folder in (("npy", tmp_path / "ref" / "song"), ("wav", tmp_path / "wav" / "song")):
        folder.mkdir(parents=True)
        for stem in HZ:
            samples = np.round(tone(stem) * 32767).astype(np.int16)
            if suffix == "npy":
                np.save(folder / f"{stem}.npy", samples)
            else:
                sf.write(folder / f"{stem}.wav", samples, 44100, subtype="PCM_16")
    leak = {stem: x.astype(np.float32) for stem, x in leaky(0.1).items()}
    write(tmp_path / "est" / "song", leak, rate=44100)
    found, wanted = (evaluate(tmp_path / kind, tmp_path / "est")[0] for kind in ("ref", "wav"))
    assert found.means() == wanted.means()
    mixture = sum_of_stems(tmp_path / "ref" / "song")
    assert mixture.rate == 44100
    assert torch.equal(mixture.samples, sum_of_stems(tmp_path / "wav" / "song").samples)


def test_arrays_that_are_no_stems(tmp_path: Path) -> None:
    """An array of floats, and a file that is none, are named."""
    (tmp_path / "ref" / "song").mkdir(parents=True)
    np.save(tmp_path / "ref" / "song" / "bass.npy", np.zeros((10, 2), np.float32))
    with pytest.raises(InputError, match=r"bass\.npy': cannot be read \(holds float32 \(10, 2\), not int16"):
        sum_of_stems(tmp_path / "ref" / "song")
    (tmp_path / "ref" / "song" / "bass.npy").write_bytes(b"no array")
    with pytest.raises(InputError, match=r"bass\.npy': cannot be read"):
        sum_of_stems(tmp_path / "ref" / "song")
