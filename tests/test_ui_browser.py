"""`stemforge ui` in a browser: a headless Chromium drops songs on the page, takes them apart, listens and edits."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("starlette", reason="starlette, of the extra [ui]")
pytest.importorskip("uvicorn", reason="uvicorn, of the extra [ui]")

from browser import CHROMIUM, HEARD, WATCHED, Browser, browser
from stemforge.ui.models import Models
from studios import Served, checkpoint, served, song

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")]

READY = 'document.querySelector(".work").hidden && !document.querySelector("form button").disabled'
ERROR = 'document.querySelector(".error").textContent'
PLAYING = 'document.querySelector(".song").classList.contains("playing")'
LOUD = "window.gains.map((gain) => Math.round(gain.gain.value)).join()"
MADE = '[...document.querySelectorAll(".made button")].map((button) => button.textContent)'
FIELD = 'Number(document.querySelector("form[data-task=regenerate]").elements.{}.value)'


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server with a tiny network."""
    top = tmp_path_factory.mktemp("ui")
    with served(top / "songs", Models(checkpoint(top / "tiny"), "cpu")) as found:
        yield found


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One browser for all tests, that counts the gains a page makes."""
    with browser(tmp_path_factory.mktemp("profile")) as found:
        found.call("Page.addScriptToEvaluateOnNewDocument", source=WATCHED)
        yield found


def lanes(tab: Browser, count: int) -> None:
    """Wait for so many lanes, and for the page to be at rest."""
    tab.until(f'document.querySelectorAll(".lane").length === {count} && {READY}')


def submit(tab: Browser, task: str) -> None:
    tab.ask(f"document.querySelector('form[data-task={task}] button').click()")


def test_a_bad_file_shows_its_line(tab: Browser, place: Served, tmp_path: Path) -> None:
    """The page opens without a word on the console; what is no sound is told in one line, and the page can go on."""
    tab.open(place.address)
    tab.until(READY)
    assert tab.ask("document.title") == "stemforge" and tab.problems == []
    bad = tmp_path / "notes & <b>.wav"
    bad.write_text("this is no sound at all")
    tab.give(".file-input", bad)
    tab.until(f"{READY} && !document.querySelector('.error').hidden")
    reason = "not a recognised audio format, or damaged at its start. Convert it to wav or flac."
    assert tab.ask(ERROR) == f"'notes & _b_.wav': {reason}"
    assert len(tab.problems) == 1 and "422" in tab.problems[0]
    tab.problems.clear()


def test_a_song_is_separated_heard_and_edited(tab: Browser, place: Served, tmp_path: Path) -> None:
    """Dropped, taken apart, soloed on one clock; a dragged part of a stem is made anew, and versions compared."""
    tab.open(place.address)
    tab.until(READY)
    tab.give(".file-input", song(tmp_path / "a song.wav", 3.0))
    lanes(tab, 1)
    assert tab.ask(MADE) == ["Original"] and tab.ask("document.querySelector('.title h2').textContent") == "a song"
    submit(tab, "separate")
    lanes(tab, 4)
    assert tab.ask(MADE) == ["Original", "Stems by tiny"] and tab.ask(HEARD) == ["bass", "drums", "other"]
    tab.press(" ")
    tab.until(f'{PLAYING} && {LOUD} === "0,1,1,1"')
    tab.ask("document.querySelectorAll('.solo')[1].click()")
    tab.until(f'{PLAYING} && {LOUD} === "0,0,1,0"')
    assert tab.ask(HEARD) == ["drums"]
    tab.press(" ")
    tab.until(f"!{PLAYING}")
    drag(tab, "drums", 0.25, 0.5)
    assert tab.ask(FIELD.format("from")) == pytest.approx(0.75, abs=0.02)
    assert tab.ask(FIELD.format("to")) == pytest.approx(1.5, abs=0.02)
    chosen = "[...document.querySelectorAll('form[data-task=regenerate] input:checked')].map((box) => box.value)"
    assert tab.ask(chosen) == ["drums"] and tab.ask("document.querySelectorAll('.chosen').length") == 1
    submit(tab, "regenerate")
    tab.until(f"{MADE}.length === 3 && {READY}")
    assert tab.ask(MADE)[2].startswith("drums anew 0:00.") and tab.ask(FIELD.format("seed")) == 1
    assert tab.ask("[...document.querySelectorAll('.downloads a')].map((link) => link.textContent)") == [
        "Download all stems (zip)", "Download their mix (wav)"]  # fmt: skip
    tab.ask("document.querySelectorAll('.made button')[0].click()")
    lanes(tab, 1)
    assert tab.problems == []


def drag(tab: Browser, name: str, start: float, stop: float) -> None:
    """The mouse across the pictures of a lane, from one share of their width to another."""
    box = tab.ask(f"""(() => {{
        const pictures = document.querySelector('.lane[data-name="{name}"] .pictures');
        pictures.scrollIntoView({{ block: "center" }});
        return pictures.getBoundingClientRect().toJSON();
    }})()""")
    y = box["y"] + box["height"] / 2
    for kind, share in (("mousePressed", start), ("mouseMoved", stop), ("mouseReleased", stop)):
        point = {"x": box["x"] + share * box["width"], "y": y, "button": "left", "buttons": 1, "clickCount": 1}
        tab.call("Input.dispatchMouseEvent", type=kind, **point)


def test_what_fails_is_told_and_loading_again_keeps_the_songs(tab: Browser, place: Served, tmp_path: Path) -> None:
    """A stem that is not chosen, a song that is removed; a page loaded anew has the last song."""
    told = place.drop(song(tmp_path / "second.wav", 1.0))
    place.run(told, task="separate", checkpoint="tiny")
    tab.open(place.address)
    lanes(tab, 4)
    assert tab.ask("document.querySelector('.title h2').textContent") == "second"
    submit(tab, "impute")
    tab.until(f"{READY} && {ERROR} === 'no stem is chosen. Choose those that are made, and leave others.'")
    tab.ask("document.querySelector('.remove').click()")
    tab.until(f"{READY} && document.querySelector('.title h2').textContent !== 'second'")
    assert tab.problems == []


def test_light_dark_and_narrow(tab: Browser, place: Served, tmp_path: Path) -> None:
    """Dark paper where the system is dark; nothing is wider than a telephone; every control has a name."""
    told = place.drop(song(tmp_path / "third.wav", 1.0))
    place.run(told, task="separate", checkpoint="tiny")
    paper = "getComputedStyle(document.body).backgroundColor.match(/[0-9]+/g).slice(0, 3).reduce((a, b) => a + +b, 0)"
    tab.open(place.address, dark=True)
    lanes(tab, 4)
    assert tab.ask(paper) < 3 * 40
    tab.open(place.address, width=360)
    lanes(tab, 4)
    assert tab.ask(paper) > 3 * 230 and tab.ask("document.documentElement.scrollWidth") <= 360
    roles = ("button", "image", "slider", "link", "checkbox", "spinbutton", "combobox")
    tree = tab.call("Accessibility.getFullAXTree")["nodes"]
    unnamed = [node["role"]["value"] for node in tree
               if not node["ignored"] and node["role"]["value"] in roles and not node["name"]["value"]]  # fmt: skip
    assert unnamed == [] and tab.problems == []
