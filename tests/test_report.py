"""The page of --report-html: pictures, sound, what is written on it, and the option on every command."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from shares import Shares, make_checkpoint
from stemforge import checkpoints
from stemforge.cli import pages
from stemforge.cli.main import main
from stemforge.models.registry import ARCHITECTURES
from stemforge.report import page, sound
from stemforge.report.colours import Colour, colour_of
from stemforge.report.pictures import BANDS, RANGE_DB, Spectrum, Wave, height_of, outline, painted
from stemforge.report.sheet import Lane, Sheet, added, part_of
from tiny import tiny_network

RATE = 8000
HOSTILE = "</h1><script>alert(1)</script> \" ' & {{ 7 * 7 }} \udcff"


def tone(hz: float, seconds: float = 1.0, rate: int = RATE, level: float = 1.0) -> Tensor:
    """(channel, time), the second channel half as loud."""
    wave = level * torch.sin(2 * torch.pi * hz * torch.arange(round(seconds * rate)) / rate)
    return torch.stack([wave, 0.5 * wave])


def sheet(*names: str, seconds: float = 1.0, **changes) -> Sheet:
    lanes = [Lane(name, "Stems", lambda k=k: iter([tone(200 * (k + 1), seconds)]), RATE, 2, colour_of(name), str(k),
                  f"{name}.wav") for k, name in enumerate(names)]  # fmt: skip
    return Sheet(**{"title": "song", "lead": "", "lanes": lanes, "seconds": seconds, "group": "Stems"} | changes)


@pytest.mark.parametrize("size", [7, 100, 1000])
def test_waves_are_those_of_all_samples(size: int) -> None:
    """Lowest, highest and RMS of each column, whatever the blocks are; what comes too late is left out."""
    samples = torch.randn(2, 1000, generator=torch.Generator().manual_seed(1))
    wave = Wave(30, 900)
    for block in samples.split(size, dim=-1):
        wave.add(block)
    parts = [samples[:, -(-900 * k // 30) : -(-900 * (k + 1) // 30)].numpy() for k in range(30)]
    assert np.array_equal(wave.low, np.float64([part.min() for part in parts]))
    assert np.array_equal(wave.high, np.float64([part.max() for part in parts]))
    assert np.allclose(wave.rms, [np.sqrt(np.square(part).mean()) for part in parts])
    assert wave.peak == samples[:, :900].abs().max() and Wave(3, 10).peak == 0


def test_an_outline_is_as_wide_and_high_as_its_sound() -> None:
    """Full scale reaches both edges, silence is a line one unit high, quiet parts are raised."""
    path = outline(np.float64([-1, 0, -0.01]), np.float64([1, 0, 0.01]), 1.0)
    assert path == "M0 0l1 100l1 -6V106l-1 -5l-1 99z"


def test_the_spectrum_of_a_tone_is_its_band() -> None:
    """A sine of full scale in one of two channels is near 0 dB where its pitch is, everything else far below."""
    spectrum = Spectrum(20, RATE, RATE)
    wave = tone(400)
    for block in wave.split(333, dim=-1):
        spectrum.add(block)
    levels = spectrum.levels()
    assert levels.shape == (BANDS, 20)
    middle = levels[:, 10]
    assert 10 * np.log10((10 ** (middle / 10)).sum()) == pytest.approx(10 * np.log10(1.25 / 2 * 1.5), abs=0.1)
    assert 1 - (middle.argmax() + 0.5) / BANDS == pytest.approx(height_of(400, RATE), abs=0.01)
    assert np.median(middle) < -RANGE_DB
    whole = Spectrum(20, RATE, RATE)
    whole.add(wave)
    assert np.allclose(whole.levels(), levels)


def test_a_spectrum_keeps_little_of_a_long_sound() -> None:
    """Ten minutes in blocks: what is held is never more than a block and a window."""
    spectrum, block = Spectrum(100, 600 * RATE, RATE), torch.zeros(1, 1 << 17)
    for _ in range(600 * RATE // block.shape[-1]):
        spectrum.add(block)
        assert spectrum._held is not None and spectrum._held.shape[-1] <= block.shape[-1] + 4096
    assert np.all(spectrum.levels() == -120)


def test_pictures_are_as_light_as_sounds_are_loud() -> None:
    """The ramp of a colour rises evenly in lightness; the image has a pixel a value, high bands on top, equal bytes."""
    for colour in (colour_of("bass"), colour_of("something else"), Colour(0.0, 0.0)):
        light = colour.ramp().astype(float) @ [0.2126, 0.7152, 0.0722]
        assert np.all(np.diff(light) >= -0.8) and light[0] < 20 and light[-1] > 230
    levels = np.full((BANDS, 40), -100.0)
    levels[-20:] = 0.0
    data = painted(levels, 0.0, colour_of("bass"))
    with Image.open(io.BytesIO(data)) as image:
        pixels = np.asarray(image.convert("L")).astype(float)
    assert pixels.shape == (BANDS, 40) and pixels[:16].mean() > 220 and pixels[24:].mean() < 30
    assert data == painted(levels, 0.0, colour_of("bass"))


def test_colours_are_steady_and_apart() -> None:
    """The usual stems differ, a strange name has always the same colour, mixtures are nearly grey."""
    names = ("bass", "drums", "guitar", "piano", "other", "vocals")
    assert len({colour_of(name).on_light for name in names}) == len(names)
    assert colour_of("Zither") == colour_of("zither") and colour_of("original").strength < 0.2
    assert re.fullmatch("#[0-9a-f]{6}", colour_of("\udcff").on_dark)


def test_long_songs_have_lower_bit_rates_and_then_none() -> None:
    """The sounds of a page stay within its bounds."""
    assert [sound.bitrate_for(seconds) for seconds in (10, 1200, 1800, 2200, 9000)] == [128, 96, 64, 64, None]


def test_sounds_keep_their_length() -> None:
    """An mp3 of the page decodes to what went in, as long as it was; LAME turns it down by 5 percent."""
    wave = tone(300, 1.5, 44100, 0.5)
    heard, rate = soundfile.read(io.BytesIO(sound.mp3(wave.split(1000, dim=-1), 44100, 2, 128)), dtype="float32")
    assert rate == 44100 and heard.shape == (66150, 2)
    assert np.abs(heard[3000:-3000] - 0.95 * wave.T.numpy()[3000:-3000]).max() < 0.01


def test_parts_and_sums_of_sounds() -> None:
    """A part of a sound, and the sum of several, in blocks."""
    blocks = list(torch.arange(20.0)[None].split(6, dim=-1))
    assert torch.cat(list(part_of(blocks, 4, 15)), dim=-1).tolist() == [list(range(4, 15))]
    assert torch.cat(list(added([blocks, blocks])), dim=-1).tolist() == [[2.0 * k for k in range(20)]]


@pytest.mark.parametrize(
    ("seconds", "digits", "words"), [(0, 0, "0:00"), (59.7, 0, "1:00"), (61.25, 2, "1:01.25"), (3599.96, 1, "60:00.0")]
)
def test_clock(seconds: float, digits: int, words: str) -> None:
    """Minutes and seconds, rounded once."""
    assert page.clock(seconds, digits) == words


def test_the_page_says_levels_times_and_settings() -> None:
    """Loudness and peak of each lane, ticks in the time of the song, regions, and what a sidecar says."""
    lanes = [Lane("a", "Stems", lambda: iter([tone(500)]), RATE, 2, colour_of("a"), marks=((0.25, 0.5),)),
             Lane("b", "Stems", lambda: iter([torch.zeros(1, 100)]), RATE, 1, colour_of("b"))]  # fmt: skip
    text = page.html(sheet(lanes=lanes, first=59.0, settings=[("seed", "7")]))
    levels = re.findall(r'class="level">([^<]+)<', text)
    assert re.fullmatch(r"\N{MINUS SIGN}\d\.\d LUFS, peak 0\.0 dBFS", levels[0]) and levels[1] == "silent"
    assert "left: 25.000%; width: 25.000%" in text and "Region 0:59.25 to 0:59.50" in text
    assert '<span class="last" style="left: 100.000%">1:00.0</span>' in text and "<dt>seed</dt><dd>7</dd>" in text


def test_names_cannot_break_the_page() -> None:
    """Markup, quotes, templates and bytes that are no text come out as what they are; equal sheets, equal bytes."""
    made = sheet("bass", HOSTILE, title=HOSTILE, lead=HOSTILE, settings=[(HOSTILE, HOSTILE)])
    text = page.html(made)
    assert text == page.html(made) and text.count("<script>") == 1 and "alert(1)</script>" not in text
    assert "<title>&lt;/h1&gt;&lt;script&gt;" in text and "{{ 7 * 7 }} \\udcff" in text
    assert 'src="http' not in text and "url(" not in text
    assert 'href="./%3C/h1%3E%3Cscript' in text and "default-src &#39;none&#39;" not in text


def test_sounds_too_long_for_the_page_are_taken_from_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The page says so, and stays small."""
    monkeypatch.setattr(sound, "MOST_BYTES", 1000)
    made = sheet("bass", "so low", seconds=2.0)
    original = replace(made.lanes[0], name="original", group="Original", file=None)
    text = page.html(replace(made, lanes=[original, *made.lanes]))
    assert 'src="./so%20low.wav"' in text and "audio/mpeg" not in text and "Too long to hold" in text
    assert text.count("<audio") == 2 and 'class="switch"' not in text
    assert len(text) < 120_000


def song(path: Path, seconds: float = 0.6) -> Path:
    x = 0.2 * np.random.default_rng(3).standard_normal((int(seconds * 44100), 2))
    soundfile.write(os.fsencode(path), x, 44100, format="WAV", subtype="PCM_16")
    return path


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in; the checkpoints are `bands`, which separates, and ../tiny, which does all else."""
    monkeypatch.setitem(ARCHITECTURES, "shares", Shares)
    make_checkpoint(tmp_path / "ck" / "bands")
    (tmp_path / "ck" / "own.toml").write_text(checkpoints.entry_for(tmp_path / "ck" / "bands", default=True))
    monkeypatch.setenv("STEMFORGE_CHECKPOINTS", str(tmp_path / "ck" / "own.toml"))
    torch.manual_seed(0)
    network = tiny_network()
    (tmp_path / "tiny").mkdir()
    save_file(network.state_dict(), tmp_path / "tiny" / "model.safetensors")
    (tmp_path / "tiny" / "config.json").write_text(json.dumps(network.to_config()))
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    return work


def lanes_of(text: str) -> list[tuple[str, str]]:
    return re.findall(r'data-key="(\d*)" data-name="([^"]+)"', text)


def test_separate_writes_a_page(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Beside the stems and in the sidecar; skipped with them, made alone when it is missing, gone when it is stale."""
    command = ["separate", str(song(Path("a & b.wav"))), "-q"]
    folder = Path("separated/bands/a & b")
    made, sidecar = folder / "report.html", folder / "stemforge.json"
    assert main([*command, "--report-html", "--json", "-j", "2"]) == 0
    text = made.read_text()
    assert lanes_of(text) == [("0", "original"), ("1", "bass"), ("2", "drums"), ("3", "other")]
    assert text.count("data:audio/mpeg") == 4 and "<h1>a &amp; b</h1>" in text and 'href="./bass.wav"' in text
    line = json.loads(capsys.readouterr().out.splitlines()[0])
    assert line["report"] == json.loads(sidecar.read_text())["report"] == "report.html"
    stamps = made.stat().st_mtime_ns, (folder / "bass.wav").stat().st_mtime_ns
    assert main([*command, "--report-html"]) == 0
    assert (made.stat().st_mtime_ns, (folder / "bass.wav").stat().st_mtime_ns) == stamps
    made.unlink()
    assert main([*command, "--report-html"]) == 0
    assert made.read_text() == text and (folder / "bass.wav").stat().st_mtime_ns == stamps[1]
    assert sorted(path.name for path in folder.iterdir()) == ["bass.wav", "drums.wav", "other.wav", "report.html",
                                                              "stemforge.json"]  # fmt: skip
    assert main([*command, "-y"]) == 0
    assert not made.exists() and "report" not in json.loads(sidecar.read_text())


def test_songs_of_one_folder_have_pages_of_their_own(place: Path) -> None:
    """With --filename, the page is called as the sidecar is, and stems are found from it."""
    options = ["--filename", "{stem}/{track}.{ext}", "--report-html", "--flac", "--stems", "bass", "-q"]
    assert main(["separate", str(song(Path("a.wav"))), str(song(Path("b.wav"))), *options]) == 0
    top = Path("separated/bands")
    assert {path.name for path in top.glob("*.html")} == {"a.report.html", "b.report.html"}
    assert 'href="./bass/b.flac"' in (top / "b.report.html").read_text()


def test_impossible_pages_are_usage_errors(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No page goes to stdout; a missing package is named with what to type."""
    song(Path("a.wav"))
    assert main(["separate", "a.wav", "--stems", "bass", "-o", "-", "--report-html"]) == 2
    monkeypatch.setattr(pages, "find_spec", lambda name: None if name == "PIL" else name)
    commands = (["separate", "a.wav"], ["generate"], ["impute", ".", "--keep", "bass"],
                ["edit", "inpaint", "a.wav", "--region", "0:1"])  # fmt: skip
    capsys.readouterr()
    for command in commands:
        assert main([*command, "--report-html"]) == 2
        assert "pip install pillow" in capsys.readouterr().err


def test_generate_and_impute_write_pages(place: Path) -> None:
    """The mixture first; without --mix it is added up. What was kept and what is new is said."""
    quick = ["-n", "../tiny", "--steps", "2", "-q", "--report-html"]
    assert main(["generate", "--duration", "1", *quick]) == 0
    text = Path("generated/tiny/seed-0/report.html").read_text()
    names = ["mixture", "bass", "drums", "other"]
    assert [name for _, name in lanes_of(text)] == names and "<h1>seed-0</h1>" in text
    assert main(["impute", "generated/tiny/seed-0", "--keep", "bass", *quick]) == 0
    folder = Path("imputed/tiny/seed-0")
    text = (folder / "report.html").read_text()
    assert [name for _, name in lanes_of(text)] == names and text.count("data:audio/mpeg") == 4
    assert re.findall(r"<h3>(\w+) <small>(\w+)", text) == [("bass", "kept"), ("drums", "new"), ("other", "new")]
    (folder / "report.html").unlink()
    assert main(["impute", "generated/tiny/seed-0", "--keep", "bass", *quick]) == 0
    assert (folder / "report.html").read_text() == text


def test_the_command_as_it_is_typed(place: Path) -> None:
    """A page of a name with markup, from another process; nothing but results on stdout."""
    name = "<b>$(x)'s.wav"
    song(Path(name))
    command = [sys.executable, Path(__file__).with_name("shares.py"), "separate", name, "--report-html"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    folder = Path(done.stdout.strip())
    text = (folder / "report.html").read_text()
    assert "<h1>&lt;b&gt;$(x)&#39;s</h1>" in text
    players = re.findall(r"audio/mpeg;base64,([^\"]+)", text)
    heard = [soundfile.read(io.BytesIO(base64.b64decode(player)), dtype="float32")[0] for player in players]
    assert [len(samples) for samples in heard] == [26460] * 4 and all(np.abs(samples).max() > 0.05 for samples in heard)
