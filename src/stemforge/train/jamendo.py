"""Tags of MTG-Jamendo as captions (Bogdanov et al. 2019, https://github.com/MTG/mtg-jamendo-dataset)."""

from __future__ import annotations

from collections.abc import Sequence

from stemforge.data.captions import listed

_APART = {
    "acousticbassguitar": "acoustic bass guitar",
    "acousticguitar": "acoustic guitar",
    "classicalguitar": "classical guitar",
    "doublebass": "double bass",
    "drummachine": "drum machine",
    "easylistening": "easy listening",
    "electricguitar": "electric guitar",
    "electricpiano": "electric piano",
    "hiphop": "hip hop",
    "newage": "new age",
    "pipeorgan": "pipe organ",
    "popfolk": "pop folk",
    "rnb": "rhythm and blues",
    "triphop": "trip hop",
    "worldfusion": "world fusion",
}
"""Tags that are several words."""


def sentences(tags: Sequence[str]) -> tuple[str, ...]:
    """Captions of one track. tags: as genre---rock, instrument---drums, mood/theme---happy; others are left out."""
    said: dict[str, list[str]] = {"genre": [], "instrument": [], "mood/theme": []}
    for tag in tags:
        kind, mark, word = tag.strip().partition("---")
        if mark and kind in said and word:
            said[kind].append(_APART.get(word, word))
    genre, instruments, mood = " ".join(said["genre"][:2]), listed(said["instrument"]), " ".join(said["mood/theme"][:1])
    head = " ".join(word for word in (mood, genre) if word)
    found = [
        f"{head} music with {instruments}" if instruments else f"{head} music",
        f"{genre} with {instruments}" if genre and instruments else "",
        instruments,
        f"{genre} music" if genre else "",
        ", ".join(word for words in said.values() for word in words),
    ]
    return tuple(dict.fromkeys(" ".join(each.split()) for each in found if each.strip() and (head or instruments)))
