"""Sounds with captions: lists of every kind, batches that are mixtures, and never a stem."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from songs import put, tone
from stemforge.errors import InputError
from stemforge.train import captioned
from stemforge.train.captioned import CaptionedCrops, Recording, Shape, embedded, find_recordings, read_list, texts_of
from stemforge.train.data import parts_of
from stemforge.train.files import StemFile
from stemforge.train.jamendo import sentences
from tiny import tiny_network

RATE = 8000


def listed(folder: Path) -> Path:
    """Two sounds in audio/, the first with two sections; beside each a folder with stems of it."""
    for k in range(2):
        put(folder / "audio" / f"{k}.flac", tone(200 * (k + 1), 2.0))
        for name in ("bass", "drums", "music"):
            put(folder / "audio" / str(k) / f"{name}.wav", tone(50))
            put(folder / f"{name}.wav", tone(50))
    lines = [
        {"file": "audio/0.flac", "start": 0.0, "seconds": 1.0, "captions": ["bass", "a bass  guitar"]},
        {"file": "audio/0.flac", "start": 1.0, "seconds": 1.0, "captions": ["bass and drums"]},
        {"file": "1.flac", "caption": "piano"},
    ]
    (folder / "captions.jsonl").write_text("\n".join(json.dumps(line) for line in lines) + "\n\n")
    return folder


def crops(folder: Path, **changes) -> CaptionedCrops:
    """Half a second each, four at a time; caption k has the embedding that is 1 at k."""
    songs = find_recordings(folder, RATE)
    texts = texts_of(songs)
    songs = embedded(songs, dict(zip(texts, torch.eye(6)[: len(texts)], strict=True)))
    config = tiny_network(names=["music"], text="minilm").config
    shape = Shape(config.rate, config.channels, config.level_db, config.prompt_width)
    wanted = {"batch_size": 4, "seed": 0, "shares": (0, 0, 1.0, 0, 0), "dropout": 0.0} | changes
    return CaptionedCrops(songs, shape, 0.5, **wanted)


def test_only_listed_mixtures_are_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a folder full of stems nothing but the named files is opened, and a batch has one slot: no stem comes back."""
    opened, read = set(), StemFile._raw

    def noted(self, start, count):
        opened.add(self.path)
        return read(self, start, count)

    monkeypatch.setattr(StemFile, "_raw", noted)
    looked, look = set(), soundfile.info
    monkeypatch.setattr(soundfile, "info", lambda path: (looked.add(Path(os.fsdecode(path))), look(path))[1])
    drawn = crops(listed(tmp_path))
    for step in range(20):
        batch = drawn.batch(step)
        assert batch.stems.shape == (4, 1, 2, RATE // 2) and batch.mixture is None and batch.hidden.sum() == 0
    named = {tmp_path / "audio" / f"{k}.flac" for k in range(2)}
    assert opened == looked == named
    assert all(set(song.stems) == {"music"} and len(song.stems["music"].files) == 1 for song in drawn.songs)


def test_a_crop_lies_in_its_section_and_has_its_caption(tmp_path: Path) -> None:
    """The sound is that of the file whose caption comes with it, inside the section, at the level of the network."""
    put(listed(tmp_path) / "audio" / "0.flac", np.concatenate([tone(200, 1.0), tone(1600, 1.0)]))
    drawn = crops(tmp_path, quieter=False)
    texts, found = texts_of(drawn.songs), set()
    assert texts == ["bass", "a bass guitar", "bass and drums", "piano"]
    for step in range(30):
        batch = drawn.batch(step)
        for sound, prompt in zip(batch.stems[:, 0], batch.prompt, strict=True):
            text = texts[int(prompt.argmax())]
            peak = torch.fft.rfft(sound[0] * torch.hann_window(len(sound[0]))).abs().argmax() * 2
            assert abs(int(peak) - {"bass and drums": 1600, "piano": 400}.get(text, 200)) <= 2
            assert 20 * float(sound.square().mean().sqrt().log10()) == pytest.approx(-20, abs=0.1)
            found.add(text)
    assert found == set(texts)


def test_captions_are_dropped_and_levels_vary(tmp_path: Path) -> None:
    """As many prompts are empty as asked for; crops are up to 9 dB softer than the level."""
    drawn = crops(listed(tmp_path), dropout=0.25)
    batches = [drawn.batch(step) for step in range(100)]
    empty = torch.cat([batch.prompt.norm(dim=1) == 0 for batch in batches]).float().mean()
    levels = torch.cat([20 * batch.stems.square().mean(dim=(1, 2, 3)).sqrt().log10() for batch in batches])
    assert 0.17 < empty < 0.33 and -29.1 < levels.min() < -28 and -21 < levels.max() < -19.9


def test_a_batch_is_a_function_of_seed_and_step(tmp_path: Path) -> None:
    """Drawn again it is the same; parts of it, read alone or cut from the whole, are the same items."""
    drawn = crops(listed(tmp_path), shares=(0, 0, 0.5, 0, 0.5))
    for step in range(4):
        whole, again = drawn.batch(step), crops(tmp_path, shares=(0, 0, 0.5, 0, 0.5)).batch(step)
        assert torch.equal(whole.stems, again.stems) and torch.equal(whole.prompt, again.prompt)
        for k, cut in enumerate(parts_of(whole, 2)):
            read = drawn.batch(step, (k, 2))
            assert all(torch.equal(getattr(cut, name), getattr(read, name)) for name in ("stems", "prompt", "sigma"))
    assert {drawn.batch(step).task for step in range(20)} == {"generate", "inpaint"}
    assert not torch.equal(drawn.batch(0).stems, drawn.batch(1).stems)


def test_tables_are_read_like_lines(tmp_path: Path) -> None:
    """CSV with and without times, and a list that is given itself."""
    put(tmp_path / "a b.wav", tone(100, 2.0))
    (tmp_path / "mine.csv").write_text('File,Caption,start,seconds\na b.wav,"bass, drums",0.5,1\na b.wav,all of it,,\n')
    (song,) = find_recordings(tmp_path / "mine.csv", RATE)
    assert isinstance(song, Recording)
    assert [(each.first, each.last, each.captions) for each in song.passages] == [
        (4000, 12000, ("bass, drums",)),
        (0, 16000, ("all of it",)),
    ]


def test_tags_of_mtg_jamendo_become_sentences(tmp_path: Path) -> None:
    """Its table is read as it is, its low-quality files are found, tracks without words are left out."""
    put(tmp_path / "audio" / "14" / "214.low.wav", tone(100)).rename(tmp_path / "audio" / "14" / "214.low.mp3")
    head = "TRACK_ID\tARTIST_ID\tALBUM_ID\tPATH\tDURATION\tTAGS\n"
    tags = "genre---rock\tinstrument---electricguitar\tinstrument---drums\tmood/theme---happy"
    rows = f"track_0000214\ta\tb\t14/214.mp3\t124.6\t{tags}\ntrack_1\ta\tb\t15/1.mp3\t1.0\tother---x\n"
    (tmp_path / "autotagging.tsv").write_text(head + rows)
    (song,) = find_recordings(tmp_path, RATE)
    assert texts_of([song]) == [
        "happy rock music with electric guitar and drums",
        "rock with electric guitar and drums",
        "electric guitar and drums",
        "rock music",
        "rock, electric guitar, drums, happy",
    ]
    assert sentences(["genre---ambient"]) == ("ambient music", "ambient") and sentences(["x"]) == ()


def test_lists_that_cannot_be_used_are_told(tmp_path: Path) -> None:
    """Nothing there, two tables, no file column, no number, a word that is no sound; each names the place."""
    with pytest.raises(InputError, match=r"no captions\.jsonl or captions\.csv"):
        find_recordings(tmp_path, RATE)
    for name, text, say in (
        ("a.jsonl", '{"file": "x.wav"}\n', r"entry 1: lacks 'caption'"),
        ("b.jsonl", '{"file": "x.wav", "caption": "bass"}\n{"fi\n', "entry 2: "),
        ("c.csv", "file,caption,start\nx.wav,bass,late\n", "entry 1: could not convert"),
        ("d.jsonl", '{"file": "x.wav", "captions": [3]}\n', "captions are not texts"),
        ("e.csv", "file,caption,seconds\nx.wav,bass,-1\n", "no part of a file"),
        ("f.tsv", "PATH\tGENRE\n", "TAGS"),
        ("g.txt", "x.wav bass\n", "ends in none of"),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(InputError, match=say):
            read_list(tmp_path / name)
    (tmp_path / "words.wav").write_text("words")
    (tmp_path / "h.csv").write_text("file,caption\nwords.wav,bass\ngone.wav,drums\n")
    with pytest.raises(InputError, match="no file can be used"):
        find_recordings(tmp_path / "h.csv", RATE)
    (tmp_path / "i.tsv").write_text("")
    with pytest.raises(InputError, match="2 lists"):
        find_recordings(tmp_path, RATE)


def test_embeddings_beside_the_captions(tmp_path: Path) -> None:
    """What was kept is found by caption, for its encoder only; a damaged file is told."""
    folder, rows = listed(tmp_path), torch.randn(2, 6)
    assert captioned.kept_prompts(folder, "minilm") == {}
    captioned.keep_prompts(folder, "minilm", ["bass", "piano"], rows)
    found = captioned.kept_prompts(folder / "captions.jsonl", "minilm")
    assert set(found) == {"bass", "piano"} and torch.equal(found["piano"], rows[1])
    assert captioned.kept_prompts(folder, "t5:x") == {}
    (folder / captioned.PROMPTS).write_bytes(b"no")
    with pytest.raises(InputError, match="cannot be read"):
        captioned.kept_prompts(folder, "minilm")
