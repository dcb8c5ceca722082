"""The page of --report-html in a browser: a headless Chromium opens the file, plays, solos and looks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import soundfile
import torch

from browser import CHROMIUM, HEARD, WATCHED, Browser, browser
from stemforge.report import page, sound
from stemforge.report.colours import colour_of
from stemforge.report.sheet import Lane, Sheet

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")]

RATE, SECONDS = 32000, 12.0
STEMS = ("bass", "drums", "</script>other")
PLAYING = 'document.body.classList.contains("playing")'
AT = 'Number(document.querySelector(".seek").value)'
LOUD = "window.gains.map((gain) => Math.round(gain.gain.value))"


def sheet() -> Sheet:
    """A song of three tones, before and after it was taken apart."""
    time = torch.arange(round(SECONDS * RATE)) / RATE
    tones = [0.2 * torch.sin(2 * torch.pi * hz * time).repeat(2, 1) for hz in (80, 500, 3000)]
    sounds = {"original": sum(tones), **dict(zip(STEMS, tones, strict=True))}
    lanes = [Lane(name, "Stems" if key else "Original", lambda x=x: iter(x.split(50000, dim=-1)), RATE, 2,
                  colour_of(name), str(key), f"{key}.wav") for key, (name, x) in enumerate(sounds.items())]  # fmt: skip
    return Sheet("A song", "Taken apart", lanes, SECONDS, "Stems", settings=[("seed", "0")])


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One browser for all tests, that counts the gains a page makes."""
    with browser(tmp_path_factory.mktemp("profile")) as found:
        found.call("Page.addScriptToEvaluateOnNewDocument", source=WATCHED)
        yield found


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page with its sounds inside."""
    path = tmp_path_factory.mktemp("page") / "report #1.html"
    page.write_page(path, page.html(sheet()))
    return path


def test_it_opens_without_an_error(tab: Browser, file: Path) -> None:
    """Every picture is there, every control has a name, nothing is told to the console."""
    tab.open(file)
    assert tab.ask("document.title") == "A song · stemforge"
    assert tab.ask("[...document.images].every((image) => image.complete && image.naturalWidth === 1000)")
    boxes = tab.ask('[...document.querySelectorAll(".wave path")].map((path) => path.getBBox().height)')
    assert len(boxes) == 8 and min(boxes) > 50
    tree = tab.call("Accessibility.getFullAXTree")["nodes"]
    roles = ("button", "image", "slider", "link", "Audio")
    named = [(node["role"]["value"], node["name"]["value"]) for node in tree
             if not node["ignored"] and node["role"]["value"] in roles]  # fmt: skip
    assert all(name for _, name in named) and ("button", "Solo </script>other") in named and ("button", "Play") in named
    assert sum(role == "image" for role, _ in named) == 8
    assert tab.problems == []


def test_it_plays_and_the_keyboard_works(tab: Browser, file: Path) -> None:
    """Space plays and pauses all stems on one clock, arrows move, numbers solo, 0 is the song as it was."""
    tab.open(file)
    assert tab.ask(HEARD) == list(STEMS)
    tab.press(" ")
    tab.until(f"{PLAYING} && {AT} > 0.2")
    tab.until(f'{LOUD}.join() === "0,1,1,1"')
    tab.press("ArrowRight")
    tab.until(f"{PLAYING} && {AT} > 5.2")
    tab.press("2")
    tab.until(f'{LOUD}.join() === "0,0,1,0"')
    assert tab.ask(HEARD) == ["drums"] and tab.ask(PLAYING)
    assert tab.ask('document.querySelectorAll(".solo")[1].getAttribute("aria-pressed")') == "true"
    tab.press("0")
    tab.until(f'{LOUD}.join() === "1,0,0,0"')
    tab.press("0")
    tab.until(f'{LOUD}.join() === "0,0,1,0"')
    tab.press("2")
    tab.until(f'{LOUD}.join() === "0,1,1,1"')
    tab.press(" ")
    tab.until(f"!{PLAYING}")
    at = tab.ask(AT)
    tab.press("ArrowLeft")
    assert tab.ask(AT) == pytest.approx(max(0.0, at - 5), abs=0.01)
    tab.press("Home")
    assert tab.ask(AT) == 0 and tab.ask('document.querySelector(".now").value') == "0:00.0"
    assert tab.problems == []


def test_it_stops_at_the_end(tab: Browser, file: Path) -> None:
    """A click into a picture near its end goes there; what is over stands at its beginning."""
    tab.open(file)
    tab.press(" ")
    tab.until(PLAYING)
    click = """(() => {
        const pictures = document.querySelector(".pictures"), box = pictures.getBoundingClientRect();
        const clientX = box.left + 0.98 * box.width;
        pictures.dispatchEvent(new MouseEvent("click", { clientX, bubbles: true }));
    })()"""
    tab.ask(click)
    assert tab.ask(AT) > 0.9 * SECONDS
    tab.until(f"!{PLAYING} && {AT} === 0")


def test_solo_and_mute_by_buttons(tab: Browser, file: Path) -> None:
    """Solo mutes the others, several solos add up, mute takes one out, before anything plays too."""
    tab.open(file)
    click = "document.querySelectorAll('.{}')[{}].click()"
    tab.ask(click.format("mute", 0))
    assert tab.ask(HEARD) == [*STEMS[1:]]
    tab.ask(click.format("solo", 0))
    tab.ask(click.format("solo", 2))
    assert tab.ask(HEARD) == [STEMS[0], STEMS[2]]
    tab.press(" ")
    tab.until(f'{PLAYING} && {LOUD}.join() === "0,1,0,1"')
    tab.ask("document.querySelector('.switch button').click()")
    assert tab.ask(HEARD) == ["original"]


def test_light_dark_and_narrow(tab: Browser, file: Path) -> None:
    """Dark paper where the system is dark; on a telephone nothing is wider than the screen."""
    lightness = (
        "getComputedStyle(document.body).backgroundColor.match(/[0-9]+/g).slice(0, 3).reduce((a, b) => a + +b, 0)"
    )
    tab.open(file)
    assert tab.ask(lightness) > 3 * 230 and "invert" in tab.ask("getComputedStyle(document.images[0]).filter")
    tab.open(file, dark=True)
    assert tab.ask(lightness) < 3 * 40 and tab.ask("getComputedStyle(document.images[0]).filter") == "none"
    tab.open(file, width=360)
    assert tab.ask("document.documentElement.scrollWidth") <= 360


def test_without_scripts_there_are_pictures_and_players(tab: Browser, file: Path) -> None:
    """Every lane has its pictures and a player of its own; controls that would do nothing are not shown."""
    tab.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        tab.open(file)
        shown = "[...document.querySelectorAll('{}')].filter((node) => node.getClientRects().length).length"
        assert [tab.ask(shown.format(what)) for what in ("audio", "img", ".wave", ".transport", ".solo")] == [
            4,
            4,
            4,
            0,
            0,
        ]
    finally:
        tab.call("Emulation.setScriptExecutionDisabled", value=False)


def test_long_songs_are_played_from_the_files_beside(
    tab: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The players keep together within 50 ms, and solo mutes the others; a missing file is told in words."""
    monkeypatch.setattr(sound, "MOST_BYTES", 1000)
    made = sheet()
    for lane in made.lanes:
        soundfile.write(tmp_path / str(lane.file), torch.cat(list(lane.blocks()), dim=-1).T.numpy(), RATE)
    page.write_page(tmp_path / "report.html", page.html(made))
    tab.open(tmp_path / "report.html")
    tab.press(" ")
    tab.until(f"{PLAYING} && {AT} > 1")
    times = "[...document.querySelectorAll('audio')].map((player) => player.currentTime)"
    tab.until(f"(() => {{ const at = {times}; return Math.max(...at) - Math.min(...at) < 0.05; }})()")
    tab.press("1")
    assert tab.ask("[...document.querySelectorAll('audio')].map((player) => player.muted)") == [True, False, True, True]
    assert tab.problems == []
    (tmp_path / "2.wav").unlink()
    tab.open(tmp_path / "report.html")
    tab.press(" ")
    tab.until("document.querySelector('.status').textContent.includes('beside this page')")
    tab.problems.clear()
