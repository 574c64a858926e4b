from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import torch

from mnemoscope.experiments.mosaics.arms import Shape, count
from mnemoscope.experiments.mosaics.profile_study import BEYOND, TITLES, ProfilesStudy, Reader, reader_config, windows
from mnemoscope.experiments.mosaics.profiles import MOSAIC_PROFILES, retentions
from mnemoscope.experiments.reproducing import Result, reproduce
from mnemoscope.experiments.reproduction_page import reproduction_of
from mnemoscope.models import build_model

TINY = ProfilesStudy(length=48, d_model=16, n_heads=4, steps=2, batch_size=2, n_windows=6)
EXPERIMENT = replace(MOSAIC_PROFILES, sizes={"small": TINY})


def test_transformers_differ_in_their_positions_alone_and_have_the_parameters_of_the_mosaic():
    shape = Shape(vocab_size=20, d_model=64, n_layers=1, n_heads=8, max_tokens=32)
    counts = {reader: count(build_model(reader_config(reader, shape), 0)) for reader in get_args(Reader)}
    assert counts["rotary"] == counts["alibi"] == counts["learned"] - 64 * 32
    assert counts["rotary"] == pytest.approx(counts["mosaic"], rel=0.015)


def test_windows_begin_anywhere_in_a_story_and_targets_are_what_follows():
    inputs, targets = windows(replace(TINY, n_windows=64))
    assert inputs.shape == targets.shape == (64, 144)
    assert torch.equal(inputs[:, 1:], targets[:, :-1])
    assert len(inputs[:, 0].unique()) > 10
    assert torch.equal(windows(replace(TINY, n_windows=64))[0], inputs)


def test_retentions_are_those_a_key_is_made_with():
    model = build_model(TINY.recipe("mosaic").model, 0)
    assert retentions(model) == pytest.approx(np.exp(-np.linspace(0.5, 5, 4)))
    with pytest.raises(ValueError, match="needs a mosaic with leaky keys, got a Stack"):
        retentions(build_model(TINY.recipe("rotary").model, 0))


def test_published_windows_have_marks_and_a_bound_of_their_own():
    small, paper = (MOSAIC_PROFILES.at(size) for size in ("small", "paper"))
    assert [each.plots[1].marks for each in (small, paper)] == [
        {"training length back": 256.0},
        {"training length back": 1024.0},
    ]
    bounds = [{claim.figure: claim.least for claim in each.claims}["leak_rank"] for each in (small, paper)]
    assert bounds == [0.642, 0.503]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[Result]:
    return reproduce(EXPERIMENT, 1, "small", tmp_path_factory.mktemp("profiles"), lambda line: None)


def test_a_seed_gives_profiles_of_all_and_of_long_windows_where_positions_go_on(found: list[Result]):
    figures, series = found[0].figures, found[0].series
    assert {claim.figure for claim in MOSAIC_PROFILES.claims} <= set(figures)
    assert sum(series["mosaic_trained: mean"]) == pytest.approx(1)
    assert len(series["mosaic_long: mean"]) == len(series["long place"]) == 143
    assert "learned_long: mean" not in series
    for reader in BEYOND:
        means = np.array(series[f"{reader}_long: mean"])
        assert figures[f"{reader}_long_recent"] == pytest.approx(means[-16:].sum())
        assert figures[f"{reader}_long_far_times"] == pytest.approx(means[:96].sum() * 143 / 96)
        losses = np.array(series[f"{reader}: loss"])
        assert figures[f"{reader}_loss_beyond"] == pytest.approx(losses[3:].mean())
    assert figures["mosaic_trained_first_times"] == pytest.approx(series["mosaic_trained: mean"][0] * 47)


def test_the_page_has_a_row_for_every_head(found: list[Result]):
    page = reproduction_of(EXPERIMENT, "small", found, 1, "")
    first, second = page.heat_maps
    assert first.rows == [f"{reader} {i}" for reader in TITLES for i in (1, 2, 3, 4)]
    assert len(second.rows) == len(second.values) == 12
    assert [row[:2] for row in page.tables[0].rows] == [["0", f"{i}"] for i in (1, 2, 3, 4)]
    assert len(page.charts) == 4


@pytest.mark.parametrize("options", [{"length": 40}, {"length": 32}, {"times": 1}])
def test_a_study_refuses(options: dict[str, int]):
    with pytest.raises(ValueError, match="length must be a multiple of 16 from 48 on, and times at least 2"):
        replace(TINY, **options)


def test_windows_come_in_two_halves():
    with pytest.raises(ValueError, match="n_windows must be even and at least 2, got 5"):
        replace(TINY, n_windows=5)
