"""Commands with prompts, through a tiny random checkpoint and an encoder that stands in for a language model."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
import soundfile
import torch
from torch import Tensor

from songs import put, tone
from stemforge import checkpoints, prompts
from stemforge.cli.main import main
from stemforge.train.config import TrainConfig
from stemforge.train.saving import save
from stemforge.train.trainer import start
from tiny import TINY
from worded import Encoder, hearing_checkpoint

LOAD = prompts.load_encoder
QUICK = ["--steps", "2", "-q", "-d", "cpu"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with text and one without, of a few thousand random weights."""
    top = tmp_path_factory.mktemp("ck")
    hearing_checkpoint(top / "text")
    save(start(TrainConfig(network=TINY)), top / "plain")
    return top


@pytest.fixture
def place(folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a song of a second; `forge-text` hears prompts, the default `forge` does not."""
    monkeypatch.chdir(tmp_path)
    for name in ("STEMFORGE_MODEL", "STEMFORGE_OUT", "STEMFORGE_DEVICE"):
        monkeypatch.delenv(name, raising=False)
    tables = [checkpoints.entry_for(folders / "text", name="forge-text"),
              checkpoints.entry_for(folders / "plain", name="forge", default=True)]  # fmt: skip
    (tmp_path / "own.toml").write_text("\n".join(tables))
    monkeypatch.setenv("STEMFORGE_CHECKPOINTS", str(tmp_path / "own.toml"))
    monkeypatch.setenv("STEMFORGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(prompts, "load_encoder", lambda name: Encoder())
    put(Path("song.wav"), tone(220.0, 0.6) + tone(70.0, 0.6))
    return tmp_path


def made(folder: str) -> dict:
    """The sidecar of a folder."""
    return json.loads(Path(folder, "stemforge.json").read_text())


def sound(path: str) -> Tensor:
    return torch.from_numpy(soundfile.read(path, dtype="float32", always_2d=True)[0])


def told(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().err.strip().splitlines()[-1]


def test_generate_makes_stems_of_prompts(place: Path) -> None:
    """A file for each prompt and their sum; the sidecar has the words, and what is there is not made again."""
    line = ["generate", "--prompt", "slow jazz trio", "--stem", "upright bass", "--stem", "piano", "--duration", "0.4"]
    assert main([*line, *QUICK]) == 0
    folder = "generated/forge-text/slow-jazz-trio-0"
    assert {path.name for path in Path(folder).iterdir()} == {
        "upright-bass.wav", "piano.wav", "mix.wav", "stemforge.json"
    }  # fmt: skip
    recipe = made(folder)["recipe"]
    assert recipe["prompts"] == {"upright-bass": "upright bass", "piano": "piano"}
    assert recipe["settings"]["prompt"] == "slow jazz trio" and recipe["settings"]["cfg"] == 3.0
    stems = [sound(f"{folder}/{name}.wav") for name in ("upright-bass", "piano")]
    assert torch.allclose(stems[0] + stems[1], sound(f"{folder}/mix.wav"), atol=1e-5)
    assert not torch.equal(*stems)
    before = Path(folder, "piano.wav").stat().st_mtime_ns
    assert main([*line, *QUICK]) == 0 and Path(folder, "piano.wav").stat().st_mtime_ns == before
    assert main([*line, *QUICK, "--cfg", "1"]) == 7


@pytest.mark.parametrize("more", [["--cfg", "2", "--negative", "noise"], ["--mixture-term", "added"], ["--seed", "1"]])
def test_prompts_and_their_settings_matter(more: list[str], place: Path) -> None:
    """Guidance, what is not wanted, and the mixture term change the sound."""
    line = ["generate", "--stem", "bass", "--stem", "piano", "--duration", "0.2", *QUICK]
    assert main([*line, "-o", "a"]) == 0 and main([*line, *more, "-o", "b"]) == 0
    seed = 1 if "--seed" in more else 0
    one, other = (sound(f"{out}/forge-text/bass-and-piano-{n}/bass.wav") for out, n in (("a", 0), ("b", seed)))
    assert one.shape == other.shape and not torch.allclose(one, other, atol=1e-4)


def test_a_file_of_prompts_is_a_piece_a_line(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each line with the next seed; one sound is `music.wav`, without a mixture."""
    lines = [{"prompt": "rock"}, {"stems": ["piano"], "cfg": 1}, {"stems": ["a", "b"], "negative": "noise"}]
    Path("wishes.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n\n")
    assert main(["generate", "--prompts-file", "wishes.jsonl", "--duration", "0.2", "--json", *QUICK]) == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [Path(event["folder"]).name for event in events[:-1]] == ["rock-0", "piano-1", "a-and-b-2"]
    assert [list(event["outputs"]) for event in events[:-1]] == [["music"], ["piano"], ["a", "b", "mix"]]
    assert events[-1]["ok"] == 3
    assert made(events[2]["folder"])["recipe"]["settings"]["negative"] == "noise"
    assert main(["generate", "--prompts-file", "wishes.jsonl", "--duration", "0.2", "--json", *QUICK]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["skipped"] == 3


def test_a_song_is_accompanied(place: Path) -> None:
    """The song comes out with the samples it had, beside it what was added, and with --mix their sum."""
    line = ["impute", "--keep-mix", "song.wav", "--add", "electric guitar solo", "--song-prompt", "two tones", "--mix"]
    assert main([*line, *QUICK, "--sampler", "dpmpp-2m"]) == 0
    folder = "imputed/forge-text/song"
    kept, new, mix = (sound(f"{folder}/{name}.wav") for name in ("song", "electric-guitar-solo", "mix"))
    assert torch.equal(kept, sound("song.wav")) and new.shape == kept.shape and new.abs().max() > 0
    assert torch.allclose(kept + new, mix, atol=1e-5)
    recipe = made(folder)["recipe"]
    assert recipe["prompt"] == "two tones and electric guitar solo"
    assert recipe["prompts"] == {"song": "two tones", "electric-guitar-solo": "electric guitar solo"}


def test_a_song_is_taken_apart_by_prompts(place: Path) -> None:
    """One file for each prompt, which add up to the song; the same again is skipped, other words are not."""
    line = ["separate", "song.wav", "--method", "text", "--stem", "Bass guitar", "--stem", "the rest"]
    assert main([*line, *QUICK]) == 0
    folder = "separated/forge-text/song"
    assert {path.stem for path in Path(folder).glob("*.wav")} == {"bass-guitar", "the-rest"}
    stems = [sound(f"{folder}/{name}.wav") for name in ("bass-guitar", "the-rest")]
    assert torch.allclose(stems[0] + stems[1], sound("song.wav"), atol=1e-5)
    assert made(folder)["recipe"]["settings"]["prompts"] == ["Bass guitar", "the rest"]
    assert main([*line, *QUICK]) == 0 and main([*line, *QUICK, "--stem", "drums"]) == 7


def test_each_stem_is_extracted_by_itself(place: Path) -> None:
    """With --extract stems and residual add up to the song; each is the separator's against the joined rest."""
    quick = ["song.wav", *QUICK, "--churn", "0"]
    assert main(["separate", *quick, "--stem", "a", "--stem", "b", "--stem", "c", "--extract"]) == 0
    folder = Path("separated/forge-text/song")
    assert {path.stem for path in folder.glob("*.wav")} == {"a", "b", "c", "residual"}
    whole = sum(sound(str(path)) for path in folder.glob("*.wav"))
    assert torch.allclose(whole, sound("song.wav"), atol=1e-5)
    assert main(["separate", *quick, "--stem", "a", "--stem", "b and c", "--stems", "a", "-o", "pair"]) == 0
    assert [path.stem for path in Path("pair/forge-text/song").glob("*.wav")] == ["a"]
    assert torch.equal(sound("pair/forge-text/song/a.wav"), sound(f"{folder}/a.wav"))


def test_the_page_does_what_it_says(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The commands of docs/text.md as typed, with fewer steps, and its lines of Python."""
    page = (Path(__file__).parents[1] / "docs" / "text.md").read_text(encoding="utf-8")
    (commands,) = re.findall(r"```sh\n(.*?)```", page, re.DOTALL)
    for line in commands.splitlines():
        words = shlex.split(line, comments=True)[1:]
        more = ["--duration", "0.2"] if words[0] == "generate" else []
        assert main([*words, *more, "--steps", "1", "-d", "cpu"]) == 0, (line, capsys.readouterr().err)
    assert Path("imputed/forge-text/song/electric-guitar-solo.wav").is_file()
    (lines,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    exec(compile(lines.replace("12.0,", "0.2,"), "text.md", "exec", dont_inherit=True), names := {})
    assert names["stems"].names == ("piano", "bass")


def test_without_the_language_model_it_says_what_to_type(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not pulled is 5, its package not installed is 2, each in one line; nothing is written."""
    monkeypatch.setattr(prompts, "load_encoder", LOAD)
    monkeypatch.setattr(prompts, "find_spec", lambda name: name)
    assert main(["generate", "--prompt", "jazz", *QUICK]) == 5
    assert "stemforge checkpoints pull minilm" in told(capsys)
    monkeypatch.setattr(prompts, "find_spec", lambda name: None)
    assert main(["separate", "song.wav", "--stem", "drums", "--stem", "rest", *QUICK]) == 2
    assert "pip install 'stemforge[text]'" in told(capsys)
    assert not list(Path().rglob("stemforge.json"))


def test_a_language_model_of_the_real_class(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once pulled, a BertModel of transformers says what prompts mean, and nothing opens a connection."""
    pytest.importorskip("transformers", reason="pip install 'stemforge[text]'")
    import texts

    monkeypatch.setattr(prompts, "load_encoder", LOAD)
    texts.pulled_minilm(place / "cache", monkeypatch)
    monkeypatch.setattr("socket.socket.connect", None)
    line = ["generate", "--duration", "0.2", *QUICK, "--cfg", "1", "--prompt"]
    assert main([*line, "slow jazz"]) == 0 and main([*line, "fast rock", "-o", "other"]) == 0
    one, other = sound("generated/forge-text/slow-jazz-0/music.wav"), sound("other/forge-text/fast-rock-0/music.wav")
    assert not torch.equal(one, other)


def test_a_dry_run_knows_the_names(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is loaded, and no language model read, to say what would be written."""
    monkeypatch.setattr(checkpoints, "network_of", None)
    monkeypatch.setattr(prompts, "load_encoder", None)
    assert main(["separate", "song.wav", "--stem", "two words", "--stem", "rest", "--dry-run"]) == 0
    assert "two-words.wav, rest.wav" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("line", "code", "says"),
    [
        ("generate --prompt jazz -n forge", 2, "checkpoint 'forge': hears no prompts, it was not trained with text"),
        ("generate --prompt jazz --stem piano", 2, "one stem is all of it"),
        ("generate --prompt ' '", 2, "prompt '': is empty"),
        ("generate --prompt 'a b c d e f g h i j k l m'", 2, "has 13 tokens, minilm reads 12"),
        ("generate --cfg 3", 2, "--cfg: is for prompts"),
        ("generate --prompt jazz --cfg -1", 2, "--cfg -1: must be at least 0"),
        ("generate --prompt jazz --cfg 1 --negative noise", 2, "would not be heard"),
        ("generate --prompt jazz --mixture-term twice", 2, "--mixture-term twice: unknown"),
        ("generate --prompt jazz --stems bass", 2, "--stems with prompts"),
        ("generate --prompts-file gone.jsonl", 4, "'gone.jsonl': cannot be read"),
        ("generate --prompts-file own.toml", 4, "line 1 is no wish"),
        ("generate --prompts-file own.toml --prompt jazz", 2, "give the one or the others"),
        ("impute --add piano", 2, "Give --keep-mix SONG too"),
        ("impute --keep-mix song.wav", 2, "Give --add TEXT too"),
        ("impute --keep-mix song.wav --add piano --keep bass", 2, "--keep-mix with --keep"),
        ("impute --keep bass --prompt jazz", 2, "--prompt: is for prompts"),
        ("impute --keep-mix gone.wav --add piano", 4, "'gone.wav'"),
        ("separate song.wav --method text", 2, "--method text: which stems?"),
        ("separate song.wav -n forge-text", 2, "checkpoint 'forge-text': knows stems by prompts only"),
        ("separate song.wav --stem drums", 2, "alone it would be the whole song"),
        ("separate song.wav --stem drums --stem rest -n forge", 2, "checkpoint 'forge': hears no prompts"),
        ("separate song.wav --stem drums --stem rest --method dirac", 2, "--stem with --method dirac"),
        ("separate song.wav --stem drums --stem rest --warm forge", 2, "--method text: fits no flows"),
        ("separate song.wav --stem drums --stem rest --negative noise", 2, "would not be heard"),
        ("separate song.wav --stem drums --stem rest --stems bass", 2, "this checkpoint has drums, rest"),
        ("separate song.wav --stem drums --stem rest --pinned bass", 2, "this checkpoint has drums, rest"),
        ("separate song.wav --extract", 2, "--extract: is for prompts"),
        ("separate song.wav --cfg 2", 2, "--cfg: is for prompts"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(
    line: str, code: int, says: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The exit code and what to do; nothing is written."""
    assert main(shlex.split(line)) == code
    assert says in told(capsys)
    assert not list(Path().rglob("*.part")) and not list(Path().rglob("stemforge.json"))
