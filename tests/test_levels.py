"""Noise levels: what each task shows, gives, hides and makes."""

from __future__ import annotations

import numpy as np
import pytest

from stemforge.train.levels import ABSENT, FEWER, MADE, TASKS, levels_of, sigmas_of

PLAYING = np.array([True, False, True, True, False, True])


def drawn(task, playing=PLAYING, time=16, count=400):
    """Levels (count, stem, 1 or time) and hidden stems (count, stem)."""
    rows = [levels_of(task, np.float32(3), np.random.default_rng(k), playing, time) for k in range(count)]
    sigma, hidden = zip(*rows, strict=True)
    return np.stack(sigma), np.stack(hidden)


@pytest.mark.parametrize("task", MADE)
def test_what_does_not_play_is_mostly_hidden_where_stems_are_made(task):
    """Nine times of ten; what plays is hidden in some items, never where a stretch of time is filled."""
    _, hidden = drawn(task)
    assert abs(hidden[:, ~PLAYING].mean() - ABSENT) < 0.05
    fewer = hidden[:, PLAYING].any(axis=1).mean()
    assert fewer == 0 if task == "inpaint" else abs(fewer - FEWER) < 0.08
    assert not hidden.all(axis=1).any()


@pytest.mark.parametrize("playing", [PLAYING, PLAYING & False, PLAYING | True], ids=["some", "none", "all"])
def test_imputation_gives_a_stem_and_makes_another(playing):
    """Of the stems that are not hidden one at least is known and one is not, whatever plays."""
    sigma, hidden = drawn("impute", playing)
    known = (sigma[..., 0] == 0) & ~hidden
    made = (sigma[..., 0] == 3) & ~hidden
    assert known.any(axis=1).all() and made.any(axis=1).all()
    assert (known | made | hidden).all()


def test_beside_a_mixture_all_is_shown_or_all_is_hidden():
    """Separation hides everything; denoising hides nothing and gives a stem now and then."""
    assert drawn("separate")[1].all()
    sigma, hidden = drawn("denoise")
    assert not hidden.any() and 0.2 < (sigma == 0).any(axis=(1, 2)).mean() < 0.4


def test_a_stretch_of_time_is_filled():
    """One span of each stem, the same for all, at most half of the time; the rest is given."""
    sigma, _ = drawn("inpaint", time=64)
    made = sigma > 0
    assert (made == made[:, :1]).all() and made.mean(axis=(1, 2)).max() <= 0.5 and made.any(axis=(1, 2)).all()
    edges = np.abs(np.diff(made[:, 0].astype(int), axis=1)).sum(axis=1)
    assert edges.max() <= 2


def test_music_that_is_made_is_made_at_higher_noise():
    """Log-normal levels, higher by a factor of 2.5 where there is no mixture."""
    medians = {task: np.median(sigmas_of(task, np.random.default_rng(0), 4001)) for task in TASKS}
    assert medians["generate"] == medians["impute"] == medians["inpaint"]
    assert 2.2 < medians["generate"] / medians["denoise"] < 2.7
