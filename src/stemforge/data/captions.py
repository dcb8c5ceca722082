"""Captions: what the renderer knows of a song, said in plain words and in many ways.

A `Scene` is what is to be heard in a passage: players with their instruments, style, tempo, who is left out. It is read
from song.json and the stems that sound; `captions` draws sentences about it, some complete, some short, as people would
ask for such music. words.toml holds the vocabulary.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np

DRIVEN_DB = 9.0
"""A part with a distortion of so much drive sounds distorted."""
SIZES = {1: ("solo",), 2: ("duo", "duet"), 3: ("trio",), 4: ("quartet", "band"), 5: ("band", "quintet", "group")}
SLOW, MEDIUM, FAST = ("slow", "relaxed"), ("medium-tempo", "steady"), ("fast", "up-tempo", "lively")
MOST = 5
"""Instruments that a caption lists at most."""


@dataclass(frozen=True)
class Player:
    """One instrument of a scene. plain: in a word; say: in several ways; before, after: words of how it is played."""

    stem: str
    family: str
    plain: str
    say: tuple[str, ...]
    before: str = ""
    after: tuple[str, ...] = ("",)


@dataclass(frozen=True)
class Scene:
    """What is heard. names: of its style, empty where it is not known; noun: they can stand alone ("a waltz").

    tempo: beats a minute as felt, None where it is not known; left_out: words for stems of the song that are silent.
    """

    players: tuple[Player, ...]
    names: tuple[str, ...] = ()
    noun: bool = False
    moods: tuple[str, ...] = ()
    tempo: float | None = None
    beats: int = 4
    left_out: tuple[str, ...] = ()

    @property
    def sung(self) -> bool:
        """Is there a voice?"""
        return any(player.stem == "vocals" or player.family in ("choir", "speech") for player in self.players)


@cache
def words() -> Mapping[str, Any]:
    """The vocabulary that comes with the package."""
    return tomllib.loads(files("stemforge.data").joinpath("words.toml").read_text(encoding="utf-8"))


def scene_of(row: Mapping[str, Any], heard: Collection[str]) -> Scene:
    """The scene of a passage. row: song.json; heard: the stems that sound in it."""
    song = row["song"]
    players = tuple(player for stem in row["stems"] if stem in heard for player in _players(stem, row["stems"][stem]))
    style = _style(song, players)
    beats = int(song.get("beats", 4))
    tempo = float(song["tempo"]) / {3: 1.1, 6: 2.2}.get(beats, 1.0) if "tempo" in song else None
    gone = [_players(stem, made)[0].plain for stem, made in row["stems"].items() if stem not in heard]
    left_out = tuple(gone) if len(heard) > 1 else ()
    said = (tuple(style["say"]), bool(style.get("noun")), tuple(style["moods"])) if style else ((), False, ())
    return Scene(players, *said, tempo=tempo, beats=beats, left_out=left_out)


def _players(stem: str, made: Mapping[str, Any]) -> list[Player]:
    """The instruments of a stem, each family once and at most three; melodies and parts of many notes first."""
    found: dict[str, Player] = {}
    for part in sorted(made["parts"], key=lambda part: (part["role"] not in ("lead", "vowels"), -part["notes"])):
        player = _player(stem, part)
        found.setdefault(player.family if stem in ("guitar", "other") else stem, player)
    return list(found.values())[:3]


def _player(stem: str, part: Mapping[str, Any]) -> Player:
    table = words()
    family = family_of(stem, str(part["voice"]), int(part["program"]))
    drive = max([settings.get("drive_db", 0.0) for _, settings in part["effects"]], default=0.0)
    if drive >= DRIVEN_DB:
        family = table["families"][family].get("driven", family)
    said = table["families"][family]
    manner = f"{part['name']} {part['role']}".lower()
    known = table["playing"].get(family) or table["playing"].get(stem, {})
    before, *after = next((how for key, how in known.items() if key in manner), ["", ""])
    return Player(stem, family, said["plain"], tuple(said["say"]), before, tuple(after))


def family_of(stem: str, voice: str, program: int) -> str:
    """The family of an instrument. voice: its label in song.json; program: General MIDI, what it was written for."""
    table = words()
    if voice in table["voices"]:
        return str(table["voices"][voice])
    if stem == "drums":
        kit = voice.partition(" kit ")[2]
        known = [family for start, family in table["kits"].items() if kit.startswith(start)]
        return str(known[0]) if known else "electronic-drums" if voice.startswith("one-shots") else "drums"
    if voice.startswith(("synth ", "one-shot")):
        return "synth-bass" if stem == "bass" else "synth"
    preset = re.fullmatch(r"\S+ (\d+) (.+)", voice)
    if preset is None:
        return str(table["stems"][stem])
    named = [family for part, family in table["presets"].items() if part in preset[2]]
    last = [family for number, family in table["programs"].items() if int(number) >= int(preset[1])]
    return str((named or last or [table["stems"][stem]])[0])


def _style(song: Mapping[str, Any], players: tuple[Player, ...]) -> Mapping[str, Any] | None:
    """The style of the groove, else that of the plan; of other songs only what distorted guitars give away."""
    groove = str(song.get("groove") or "").rpartition("/")[2].lower() or str(song.get("style") or "")
    if not groove and {"distorted-guitar", "overdriven-guitar"} & {p.family for p in players} and len(players) > 2:
        groove = "rock"
    for style in words()["styles"] if groove else ():
        if re.search(style["find"], groove):
            found: Mapping[str, Any] = style
            return found
    return None


def captions(rng: np.random.Generator, scene: Scene, count: int) -> tuple[str, ...]:
    """`count` different captions, or fewer where there is little to say; none for a scene without players."""
    found: dict[str, None] = {}
    for _ in range(4 * count if scene.players else 0):
        found.setdefault(_tidy(_drawn(rng, scene)))
        if len(found) == count:
            break
    return tuple(found)


def _drawn(rng: np.random.Generator, scene: Scene) -> str:
    """One caption: complete, or instruments alone, or style alone, or a list of tags."""
    simple = bool(rng.random() < 0.35)
    instruments = list(dict.fromkeys(_named(rng, player, simple) for player in _listed(rng, scene)))
    if len(scene.players) == 1:
        return _alone(rng, scene, instruments[0])
    kinds, weights = ["full", "instruments", "style", "tags"], [0.5, 0.28, 0.12 * bool(scene.names), 0.1]
    kind = rng.choice(kinds, p=np.array(weights) / sum(weights))
    if kind == "instruments":
        return _band(rng, scene, instruments)
    head = _head(rng, scene)
    if kind == "tags":
        return ", ".join([word for word in (*head, *instruments) if word])
    if kind == "style":
        return " ".join(word for word in (*head, _thing(rng, scene)) if word)
    return _full(rng, scene, " ".join(word for word in head if word), instruments)


def _listed(rng: np.random.Generator, scene: Scene) -> list[Player]:
    """All players or, where there are many, some of them; in the order of the song or in any other."""
    players = list(scene.players)
    few = len(players) > MOST or (len(players) > 3 and rng.random() < 0.2)
    if few or rng.random() < 0.5:
        order = rng.permutation(len(players))[: min(MOST, int(rng.integers(3, 6))) if few else None]
        players = [players[k] for k in order]
    return players


def _named(rng: np.random.Generator, player: Player, simple: bool) -> str:
    """What a player is called: bass, or walking upright bass, or electric guitar solo."""
    if simple:
        return player.plain
    name, before, after = str(rng.choice(player.say)), player.before, str(rng.choice(player.after))
    told = rng.random() < 0.5 and not (before and before in name)
    return f"{before} {name} {after}" if told else name


def _head(rng: np.random.Generator, scene: Scene) -> tuple[str, str, str]:
    """Mood, tempo and style, each empty at times; never tempo and mood that say the same."""
    mood = str(rng.choice(scene.moods)) if scene.moods and rng.random() < 0.4 else ""
    tempo = _tempo(rng, scene) if rng.random() < (0.15 if mood else 0.6) else ""
    style = str(rng.choice(scene.names)) if scene.names and rng.random() < 0.9 else ""
    mood = "" if mood[:5] in style else mood
    return (mood, "" if tempo in f"{mood} {style}" or "slow" in style else tempo, style)


def _tempo(rng: np.random.Generator, scene: Scene) -> str:
    if scene.tempo is None:
        return ""
    return str(rng.choice(SLOW if scene.tempo < 82 else MEDIUM if scene.tempo < 124 else FAST))


def _thing(rng: np.random.Generator, scene: Scene) -> str:
    """What a piece of music is called behind its style."""
    if scene.noun and rng.random() < 0.6:
        return ""
    if scene.sung:
        return "song"
    return str(rng.choice(["tune", "piece", "track", "instrumental", "groove", "song"]))


def _full(rng: np.random.Generator, scene: Scene, head: str, instruments: list[str]) -> str:
    """Style and instruments in one sentence."""
    group, both, thing = _size(rng, scene), listed(instruments), _thing(rng, scene)
    group = group if scene.noun else f"{head} {group}"
    if scene.left_out and rng.random() < 0.25:
        gone = rng.choice(scene.left_out)
        forms = [f"{head} band without {gone}"]
        if len(scene.left_out) == 1:
            forms += [f"everything but the {gone}", f"the rest of the band without {gone}", "the rest of the band"]
        return str(rng.choice(forms))
    if not head:
        thing = "song" if scene.sung else str(rng.choice(["music", "instrumental music", "tune"]))
    a = "a " if not thing.endswith("music") and rng.random() < 0.4 else ""
    by = "with" if scene.sung else str(rng.choice(["played by", "for", "by"]))
    meter = "in three-four time " if scene.beats == 3 and "waltz" not in head and rng.random() < 0.5 else ""
    forms = [
        f"{a}{head} {thing} {meter}with {both}",
        f"{a}{head} {thing} {meter}{by} {both}",
        f"{head} {thing}: {both}",
    ]
    forms += [f"{a}{group} {'with' if scene.sung else 'of'} {both}", f"{both} in a {head} {thing}" if head else both]
    return str(rng.choice(forms))


def _band(rng: np.random.Generator, scene: Scene, instruments: list[str]) -> str:
    """Instruments and how many play, nothing of style."""
    size, both = _size(rng, scene), listed(instruments)
    full = len(instruments) == len(scene.players)
    forms = [both, both, ", ".join(instruments), f"{both} playing together", f"{size} of {both}" if full else both]
    if scene.left_out:
        forms.append(f"{both}, no {rng.choice(scene.left_out)}")
    if full and len(instruments) == 2:
        forms.append(f"just {both}")
    return str(rng.choice(forms))


def _alone(rng: np.random.Generator, scene: Scene, name: str) -> str:
    """One instrument."""
    tempo, style = _tempo(rng, scene), str(rng.choice(scene.names)) if scene.names and not scene.noun else ""
    forms = [name, name, f"solo {name}", f"{name} alone", f"{name} on its own", f"unaccompanied {name}", f"only {name}"]
    forms += [f"{tempo} {style} {name}", f"{name} playing {style} music" if style else name, f"a recording of {name}"]
    chosen = str(rng.choice(forms))
    return chosen.replace("solo", "", 1) if chosen.count("solo") > 1 else chosen


def _size(rng: np.random.Generator, scene: Scene) -> str:
    return str(rng.choice(SIZES[min(len(scene.players), 5)]))


def listed(names: list[str]) -> str:
    """As a, b and c; nothing for none."""
    return "".join(names) if len(names) < 2 else f"{', '.join(names[:-1])} and {names[-1]}"


def _tidy(text: str) -> str:
    """Single spaces, none before a comma, "an" before a vowel."""
    text = re.sub(r"\s+([,:])", r"\1", " ".join(text.split())).strip(" :,")
    return re.sub(r"\b(a) (?=[aeiou])", "an ", text)
