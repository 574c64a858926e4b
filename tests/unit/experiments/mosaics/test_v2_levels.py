from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from mnemoscope.experiments.mosaics.v2_levels import KINDS, MOSAIC_V2_LEVELS, PAIR, LevelsStudy, kinds_of, trainings
from mnemoscope.experiments.published import find_experiment
from mnemoscope.experiments.reproducing import reproduce
from mnemoscope.experiments.reproduction_page import reproduction_of
from mnemoscope.tasks import build_task, task_rng

TINY = LevelsStudy(
    length=96, d_model=16, persistent=32, short_window=8, long_delay=2, longest_delay=6, steps=3, batch_size=2, n_test=8
)


def test_words_are_told_apart_by_how_far_back_their_fact_was():
    kinds = kinds_of(np.array([[-1, 0, 8, 9, 16, 17]]), TINY)
    assert {kind: np.flatnonzero(chosen[0]).tolist() for kind, chosen in kinds.items()} == {
        "new": [0],
        "near": [1, 2],
        "far": [5],
    }


def test_a_seed_says_what_each_kind_of_word_loses(tmp_path: Path):
    tiny = replace(MOSAIC_V2_LEVELS, sizes={"small": TINY}, shown={})
    found = reproduce(tiny, 1, "small", tmp_path, lambda line: None)
    record, figures = reproduction_of(tiny, "small", found, 1, ""), found[0].figures
    assert len(record.charts) == 5
    for kind in KINDS:
        fall = figures[f"v2_{kind}_accuracy"] - figures[f"removed_{kind}_accuracy"]
        assert figures[f"fall_{kind}"] == pytest.approx(fall)
    assert figures["gain"] == pytest.approx(figures["rotary_loss"] - figures["v2_loss"])
    assert figures["removed_loss"] != figures["v2_loss"]
    assert figures["v2_parameters"] == pytest.approx(figures["rotary_parameters"], rel=0.02)


@pytest.mark.parametrize("size", ["small", "paper"])
def test_windows_hold_words_of_every_kind(size: Literal["small", "paper"]):
    settings = MOSAIC_V2_LEVELS.sizes[size]
    batch = build_task(settings.task).batch(task_rng(0, "test", 0), settings.n_test, "test")
    assert all(chosen.sum() > 500 for chosen in kinds_of(batch.about["distance"], settings).values())


def test_bounds_are_the_published_ones():
    bounded = {claim.figure: (claim.least, claim.most) for claim in MOSAIC_V2_LEVELS.claims if claim.bar != "-"}
    assert bounded == {
        "fall_new": (None, 0.01),
        "fall_near": (None, 0.01),
        "fall_far": (0.07, None),
        "gain": (-0.03, None),
    }
    assert [target.name for target in trainings(TINY)] == [f"v2-stories-{arm}" for arm in PAIR]
    assert find_experiment("mosaic-v2-levels") is MOSAIC_V2_LEVELS
