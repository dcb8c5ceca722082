"""`stemforge ui` by its requests: songs in, stems out, what is refused, and what is left behind."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote
from zipfile import ZipFile

import numpy as np
import pytest
import soundfile
import torch

pytest.importorskip("starlette", reason="starlette, of the extra [ui]")
pytest.importorskip("uvicorn", reason="uvicorn, of the extra [ui]")

from stemforge.cli import ui_run
from stemforge.cli.main import main
from stemforge.errors import UsageError
from stemforge.separators.diffusion import DiffusionSeparator
from stemforge.tasks.cascade import Cascade
from stemforge.ui import jobs, songs, work
from stemforge.ui.guard import Names
from stemforge.ui.models import Models
from stemforge.ui.songs import Shelf, clean
from studios import RATE, SECONDS, Served, checkpoint, served, song
from test_sketched import drawing, own_table  # noqa: F401 (a fixture)

STEMS = ["bass", "drums", "other"]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    """A tiny network, which is offered first."""
    return Models(checkpoint(tmp_path_factory.mktemp("networks") / "tiny"), "cpu")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, models: Models) -> Iterator[Served]:
    """One server for all tests, that takes 500 kB of a song."""
    with served(tmp_path_factory.mktemp("songs"), models, most_bytes=500_000) as found:
        yield found


@pytest.fixture(scope="module")
def dropped(place: Served, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A song on the server, taken apart as version 1."""
    told = place.drop(song(tmp_path_factory.mktemp("drop") / "a & b.wav"))
    assert place.run(told, task="separate", checkpoint="tiny")["version"] == 1
    return place.json("GET", f"/api/songs/{told['id']}")


class Voice:
    """What takes a voice out."""

    names, rate, channels = ("vocals", "rest"), RATE, 2


def stem(place: Served, of: Any, version: int, name: str) -> np.ndarray:
    """Samples (time, channel) of a file as it is downloaded."""
    status, _, data = place.ask("GET", f"/songs/{of['id']}/{version}/{name}.wav")
    assert status == 200
    return soundfile.read(io.BytesIO(data), dtype="float32")[0]


def test_the_page_and_its_parts(place: Served) -> None:
    """What a browser loads is there, and is told to take nothing from elsewhere."""
    for name, kind in (("", "text/html"), ("ui.js", "javascript"), ("page.js", "javascript"), ("ui.css", "text/css"),
                       ("page.css", "text/css")):  # fmt: skip
        status, headers, text = place.ask("GET", f"/{name}")
        assert status == 200 and kind in headers["content-type"] and b"http:" not in text
        assert "default-src 'none'" in headers["content-security-policy"] and headers["cache-control"] == "no-store"
    first = place.json("GET", "/api/studio")["checkpoints"][0]
    assert (first["name"], first["stems"], first["makes"]) == ("tiny", STEMS, True)


def test_a_song_is_there_before_it_is_taken_apart(place: Served, dropped: Any) -> None:
    """Version 0 is the song as it was, with a picture and a player, to be had in parts."""
    assert dropped["name"] == "a & b" and dropped["seconds"] == SECONDS
    assert dropped["versions"][0] == {"number": 0, "title": "Original", "stems": [], "mix": None}
    _, headers, page = place.ask("GET", f"/api/songs/{dropped['id']}/versions/0")
    assert headers["content-type"].startswith("text/html") and page.count(b'class="lane"') == 1
    assert f'src="./songs/{dropped["id"]}/0/original.wav"'.encode() in page and b"<script" not in page
    status, headers, part = place.ask("GET", f"/songs/{dropped['id']}/0/original.wav", range="bytes=0-3")
    assert (status, part) == (206, b"RIFF") and headers["cross-origin-resource-policy"] == "same-origin"


def test_stems_add_up_to_the_song(place: Served, dropped: Any) -> None:
    """All stems, each with solo and mute, in a zip with their sidecar; their sum is the song."""
    assert dropped["versions"][1] == {"number": 1, "title": "Stems by tiny", "stems": STEMS, "mix": None}
    total = sum(stem(place, dropped, 1, name) for name in STEMS)
    assert np.abs(total - stem(place, dropped, 0, "original")).max() < 1e-6
    _, _, page = place.ask("GET", f"/api/songs/{dropped['id']}/versions/1")
    assert page.count(b'class="solo"') == page.count(b'class="mute"') == 3 and b"How it was made" in page
    _, headers, data = place.ask("GET", f"/songs/{dropped['id']}/1/stems.zip")
    assert quote("a & b 1.zip") in headers["content-disposition"]
    with ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == [f"a & b/{name}" for name in (*(f"{n}.wav" for n in STEMS), "stemforge.json")]
        facts = json.loads(archive.read("a & b/stemforge.json"))
    assert facts["recipe"]["checkpoint"]["name"] == "tiny" and facts["recipe"]["input"]["name"] == "a & b"


def test_some_stems_only(place: Served, dropped: Any) -> None:
    """Those that are chosen; one that the checkpoint has not is told."""
    job = place.run(dropped, task="separate", checkpoint="tiny", stems=["drums"])
    found = place.json("GET", f"/api/songs/{dropped['id']}")["versions"][job["version"]]
    assert found["stems"] == ["drums"]
    job = place.run(dropped, task="separate", checkpoint="tiny", stems=["horn"])
    assert job["state"] == "failed" and job["error"].startswith("stem 'horn': this checkpoint has bass, drums, other")


def test_a_part_of_a_stem_is_made_anew(place: Served, dropped: Any) -> None:
    """Inside of the region and its fades that stem changes, all else is bit by bit as it was; the mix goes along."""
    asked = {"task": "regenerate", "checkpoint": "tiny", "version": 1, "stems": ["drums"], "from": 0.5, "to": 1.0}
    job = place.run(dropped, **asked, seed=3)
    assert job["state"] == "done" and job["share"] == 1
    number = job["version"]
    found = place.json("GET", f"/api/songs/{dropped['id']}")["versions"][number]
    assert found["title"] == "drums anew 0:00.5 to 0:01.0, seed 3" and found["mix"] == "mix.wav"
    old, new = (stem(place, dropped, version, "drums") for version in (1, number))
    edges = round(0.45 * RATE), round(1.05 * RATE)
    changed = np.flatnonzero((old != new).any(axis=1))
    assert changed.size > 0.4 * RATE and changed.min() >= edges[0] and changed.max() < edges[1]
    for name in ("bass", "other"):
        assert np.array_equal(stem(place, dropped, 1, name), stem(place, dropped, number, name))
    total = sum(stem(place, dropped, number, name) for name in STEMS)
    assert np.abs(total - stem(place, dropped, number, "mix")).max() < 1e-6
    _, _, page = place.ask("GET", f"/api/songs/{dropped['id']}/versions/{number}")
    assert page.count(b'class="region"') == 1 and b"Region 0:00.50 to 0:01.00" in page


def test_a_part_that_forgets_what_was_there_is_drawn(
    drawing: Path,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At the right end of the slider, where a checkpoint draws for this one; with less the stem itself is the start."""
    own_table(tmp_path, checkpoint(tmp_path / "tiny"), drawing, monkeypatch)
    studio, own = Models("tiny", "cpu"), Shelf(tmp_path / "shelf")
    here = own.add(song(tmp_path / "song.wav", 1.0), "song.wav")
    work.separate(studio, here, {"checkpoint": "tiny"}, here.folder / "1", lambda share: None)
    here.add("apart", here.folder / "1")
    asked = {"checkpoint": "tiny", "version": 1, "stems": ["drums"], "from": 0.3, "to": 0.6, "seed": 1}

    def recipe(number: int, strength: float) -> dict[str, Any]:
        shares: list[float] = []
        work.regenerate(studio, here, {**asked, "strength": strength}, here.folder / str(number), shares.append)
        assert shares == sorted(shares) and shares[-1] == 1
        return json.loads((here.folder / str(number) / "stemforge.json").read_text())["recipe"]

    drawn = recipe(2, 1)
    assert drawn["sketch"]["name"] == "lines" and drawn["sampling"]["steps"] == 8
    assert "sketch" not in recipe(3, 0.95)
    old, new = (soundfile.read(here.folder / f"{n}/drums.wav", dtype="float32")[0] for n in (1, 2))
    assert np.array_equal(old[:1900], new[:1900]) and not np.array_equal(old[2500:4700], new[2500:4700])
    choice = studio.choice("tiny")
    assert studio.gap_sketcher(choice, ["vocals"]) is None and studio.gap_sketcher(choice, ["vocals", "bass"])


def test_stems_are_made_to_go_with_a_voice_that_is_not_known(models: Models, tmp_path: Path) -> None:
    """What the network knows is heard, a stem that it does not know is kept beside it, both to the last bit."""
    own = Shelf(tmp_path / "shelf")
    here = own.add(song(tmp_path / "song.wav", 1.0, channels=1), "song.wav")
    folder = here.folder / "1"
    work.separate(models, here, {"checkpoint": "tiny"}, folder, lambda share: None)
    (folder / "other.wav").rename(folder / "vocals.wav")
    facts = json.loads((folder / "stemforge.json").read_text())
    facts["outputs"] = {"bass": "bass.wav", "drums": "drums.wav", "vocals": "vocals.wav"}
    (folder / "stemforge.json").write_text(json.dumps(facts))
    here.add("by hand", folder)
    shares: list[float] = []
    asked = {"checkpoint": "tiny", "version": 1, "stems": ["drums", "other"], "seed": 1}
    title = work.impute(models, here, asked, here.folder / "2", shares.append)
    assert title == "New drums and other, seed 1" and shares == sorted(shares) and shares[-1] == 1
    made = here.add(title, here.folder / "2")
    assert made.stems == ("bass", "drums", "other", "vocals")
    heard = {name: soundfile.read(made.folder / f"{name}.wav", dtype="float32")[0] for name in (*made.stems, "mix")}
    for name in ("bass", "vocals"):
        assert np.array_equal(heard[name], soundfile.read(folder / f"{name}.wav", dtype="float32")[0])
    assert not np.array_equal(heard["drums"], soundfile.read(folder / "drums.wav", dtype="float32")[0])
    assert np.abs(sum(heard[name] for name in made.stems) - heard["mix"]).max() < 1e-6


def test_what_takes_many_steps_for_a_window_tells_each() -> None:
    """Sampling separators take minutes for the first block; their steps are the progress."""
    shares: list[float] = []
    separator = DiffusionSeparator.__new__(DiffusionSeparator)
    work._watched(separator, 2.0, shares.append)(2.0)
    for step in range(4):
        separator.on_step(step + 1, 4)
    assert shares == [0.25, 0.5, 0.75, 1.0]


def test_a_part_is_made_anew_beside_a_voice_that_is_not_known(models: Models) -> None:
    """A change of two stems goes to their rows, all others get silence."""
    change = torch.ones(2, 1, 3)
    assert work._among(change, [2, 0], 4)[:, 0, 0].tolist() == [1, 0, 1, 0]


def test_the_voice_is_taken_out_first_by_a_checkpoint_that_knows_it(
    models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind the one that has vocals and the fewest stems; a checkpoint that has them itself needs no other."""
    own = Models(next(iter(models.choices.values())).checkpoint.folder, "cpu")
    voice = replace(own.choices["tiny"].checkpoint, name="voice", stems=Voice.names)
    monkeypatch.setattr(own, "_voice", voice)
    monkeypatch.setattr("stemforge.ui.models.checkpoints.build", lambda found, device: Voice())
    choice = own._choice(own.choices["tiny"].checkpoint)
    assert choice.vocals and not own._choice(voice).vocals
    found = own.separator(choice, vocals=True)
    assert isinstance(found, Cascade) and found.names == ("vocals", *STEMS)


def test_a_bad_file_is_told_in_one_line(place: Served) -> None:
    """By the name that it came with; nothing of it stays."""
    before = sorted(place.folder.iterdir())
    status, line = place.error("POST", f"/api/songs?name={quote('../../notes.wav')}", b"this is no sound")
    assert status == 422
    known = "not a recognised audio format, or damaged at its start. Convert it to wav or flac."
    assert line == f"'_.._notes.wav': {known}"
    assert place.error("POST", "/api/songs?name=empty.flac", b"")[0] == 422
    assert sorted(place.folder.iterdir()) == before


def test_what_is_odd_about_a_file_is_told(place: Served, tmp_path: Path) -> None:
    """A wav that was cut short is used as far as it goes, and the page says so by its name."""
    whole = song(tmp_path / "cut.wav", 1.0).read_bytes()
    (tmp_path / "cut.wav").write_bytes(whole[: len(whole) // 2])
    told = place.drop(tmp_path / "cut.wav")
    assert told["seconds"] == pytest.approx(0.5, abs=0.01)
    assert told["notes"] == ["'cut.wav': is cut short, 0.5 s are missing; what is there is used."]


def test_what_is_too_large_or_too_long_is_refused(
    place: Served, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """By what is announced, by what comes, and by how long it lasts."""
    status, line = place.error("POST", "/api/songs?name=large.wav", b"x" * 500_001)
    assert status == 413 and line == "'large.wav': has more than 0.5 MB. Send a smaller one, or a part of it."
    assert place.error("POST", "/api/songs?name=large.wav", iter([b"x" * 300_000] * 2))[0] == 413
    monkeypatch.setattr(songs, "MOST_SECONDS", 60.0)
    long = song(tmp_path / "long.wav", 61.0, channels=1)
    with pytest.raises(songs.InputError, match=r"'long.mp3': lasts 1:01, more than 1 minutes"):
        Shelf(tmp_path).add(long, "long.mp3")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["long.wav"]


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "stems.example:80"},
        {"host": "127.0.0.1:1"},
        {"host": ""},
        {"origin": "http://stems.example"},
        {"origin": "null"},
        {"origin": "https://127.0.0.1"},
        {"sec_fetch_site": "cross-site", "sec_fetch_mode": "no-cors"},
        {"sec_fetch_site": "same-site", "sec_fetch_mode": "cors"},
    ],
)
def test_foreign_pages_are_refused(place: Served, headers: dict[str, str]) -> None:
    """A request for another host, or from another page, is not answered, whatever it asks for."""
    for method, path in (("GET", "/api/studio"), ("POST", "/api/songs?name=a.wav"), ("GET", "/")):
        status, line = place.error(method, path, b"" if method == "POST" else None, **headers)
        assert status == 403 and line.endswith("Open the address that stemforge ui has printed.")


def test_own_pages_are_answered(place: Served) -> None:
    """The page itself, and a link to it from elsewhere."""
    own = {"host": f"localhost:{place.port}", "origin": f"http://localhost:{place.port}"}
    assert place.ask("GET", "/api/studio", sec_fetch_site="same-origin", **own)[0] == 200
    assert place.ask("GET", "/", sec_fetch_site="cross-site", sec_fetch_mode="navigate")[0] == 200


def test_names_of_a_server_that_others_reach() -> None:
    """Any address in numbers, which cannot be made to point here; a name only if it is that of the machine."""
    names = Names("0.0.0.0", 8360)
    assert not names.local and Names("127.0.0.1", 1).local and Names("::1", 1).local
    assert names.own("192.168.1.7:8360") and names.own("[fe80::1]:8360") and not names.own("stems.example:8360")
    assert not Names("127.0.0.1", 8360).own("192.168.1.7:8360") and Names("127.0.0.1", 80).own("localhost")


@pytest.mark.parametrize(
    "path",
    [
        "/songs/{id}/1/..%2F..%2Fetc%2Fpasswd",
        "/songs/{id}/1/view.html",
        "/songs/{id}/0/stemforge.json",
        "/songs/{id}/0/stems.zip",
        "/songs/{id}/9/bass.wav",
        "/songs/..%2F..%2Fx/1/bass.wav",
        "/..%2Fapp.py",
        "/app.py",
        "/api/jobs/x",
        "/api/songs/x",
    ],
)
def test_only_what_is_listed_is_given(place: Served, dropped: Any, path: str) -> None:
    """No path leads out of a version, and no file that it does not name is sent."""
    status, _, text = place.ask("GET", path.replace("{id}", dropped["id"]))
    assert status == 404 and b"root:" not in text


@pytest.mark.parametrize(
    ("body", "line"),
    [
        (b"[1", "the request: is not a JSON object"),
        (b"[]", "the request: is not a JSON object"),
        (b'{"task": "paint"}', "task 'paint': unknown"),
        (b'{"task": ["separate"]}', "task ['separate']: unknown"),
        (b" " * 100_001, "the request: has more than 0.1 MB"),
    ],
)
def test_requests_that_make_no_sense(place: Served, dropped: Any, body: bytes, line: str) -> None:
    """Are refused at once, in one line."""
    status, found = place.error("POST", f"/api/songs/{dropped['id']}/jobs", body)
    assert status in (400, 413) and found.startswith(line)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"checkpoint": "nothing"}, "checkpoint 'nothing': is not among tiny"),
        ({"checkpoint": None}, "checkpoint: is missing"),
        ({"version": 0}, "the song is in one piece"),
        ({"version": 99}, "version 99 of 'a & b': is not there"),
        ({"stems": []}, "no stem is chosen"),
        ({"stems": "drums"}, "stems: is not a list of names"),
        ({"stems": ["horn"]}, "stem 'horn': cannot be made by tiny"),
        ({"to": 100}, "region 0.5:100: reaches out of the song"),
        ({"from": "now"}, "from: is not a number"),
        ({"strength": 0}, "strength 0: must be more than 0"),
        ({"seed": -1}, "seed -1: not a whole number"),
        ({"task": "impute", "stems": STEMS}, "every stem is chosen"),
        ({"task": "impute", "stems": []}, "no stem is chosen"),
    ],
)
def test_wishes_that_cannot_be(place: Served, dropped: Any, changes: dict[str, Any], line: str) -> None:
    """The job fails in one line, and there is no version of it."""
    asked = {"task": "regenerate", "checkpoint": "tiny", "version": 1, "stems": ["drums"], "from": 0.5, "to": 1.0}
    job = place.run(dropped, **asked | changes)
    assert job["state"] == "failed" and job["error"].startswith(line) and job["version"] is None


def test_a_job_can_be_stopped(place: Served, dropped: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """At its next step; what waits behind it is done, and nothing half-made stays."""

    def endless(models: Models, song: songs.Song, asked: Any, folder: Path, tell: work.Tell) -> str:
        folder.mkdir()
        while True:
            tell(0.5)
            time.sleep(0.01)

    monkeypatch.setitem(work.TASKS, "endless", endless)  # type: ignore[arg-type]
    before = sorted((place.folder / dropped["id"]).iterdir())
    address = f"/api/songs/{dropped['id']}/jobs"
    first, second = (place.json("POST", address, {"task": "endless"}) for _ in range(2))
    assert second["ahead"] == 1 and second["state"] == "waiting"
    for job in (second, first):
        place.json("DELETE", f"/api/jobs/{job['id']}")
    for job in (first, second):
        while (state := place.json("GET", f"/api/jobs/{job['id']}")["state"]) in ("working", "waiting"):
            time.sleep(0.01)
        assert state == "stopped"
    assert sorted((place.folder / dropped["id"]).iterdir()) == before


def test_what_nobody_expected_is_one_line_too() -> None:
    """The thread of the jobs goes on after it, and there is an end to how many may wait."""

    def broken(tell: work.Tell) -> int:
        raise ZeroDivisionError("by zero")

    with jobs.Jobs() as queue:
        job = queue.add(jobs.Job("song", "a job", broken))
        while job.state in ("waiting", "working"):
            time.sleep(0.01)
        assert (job.state, job.error) == ("failed", "unexpected ZeroDivisionError: by zero")
        after = queue.add(jobs.Job("song", "another", lambda tell: 7))
        while after.state in ("waiting", "working"):
            time.sleep(0.01)
        assert after.version == 7
    full = jobs.Jobs()
    for _ in range(jobs.MOST_WAITING):
        full.add(jobs.Job("song", "waits", broken))
    with pytest.raises(UsageError, match="16 jobs are waiting already"):
        full.add(jobs.Job("song", "waits", broken))


def test_a_song_can_be_removed(place: Served, tmp_path: Path) -> None:
    """With all its files."""
    told = place.drop(song(tmp_path / "gone.wav", 0.2))
    assert (place.folder / told["id"]).is_dir()
    assert place.ask("DELETE", f"/api/songs/{told['id']}")[0] == 204
    assert not (place.folder / told["id"]).exists()
    assert place.error("GET", f"/api/songs/{told['id']}")[0] == 404


def test_names_are_made_fit_for_a_folder() -> None:
    """No path, no control characters, never empty."""
    assert clean("a/../b\\c\0.wav") == "a_.._b_c_.wav" and clean("..") == clean("") == "song"


def test_without_the_extra_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line, exit 2."""
    monkeypatch.setattr(ui_run, "find_spec", lambda name: None)
    assert main(["ui"]) == 2
    line = "stemforge ui: starlette is not installed. Run `pip install 'stemforge[ui]'`."
    assert capsys.readouterr() == ("", f"stemforge: error: {line}\n")


def test_a_port_that_is_taken_is_told(place: Served, capsys: pytest.CaptureFixture[str]) -> None:
    """One line, exit 2."""
    assert main(["ui", "--port", str(place.port), "--no-open", "-d", "cpu"]) == 2
    assert "cannot be listened to" in capsys.readouterr().err


def test_the_command_serves_until_it_is_stopped(tmp_path: Path) -> None:
    """It prints its address, answers, and ends with 0 and without its folder when it is told to."""
    environment = {**os.environ, "TMPDIR": str(tmp_path), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "stemforge", "ui", "--port", "0", "--no-open", "-d", "cpu"]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        with urllib.request.urlopen(address, timeout=60) as answer:
            assert b"Drop a song here" in answer.read()
        assert len(list(tmp_path.iterdir())) == 1
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0 and out == "" and err.count("\n") == 1 and "Ctrl-C" in err
    assert list(tmp_path.iterdir()) == []
