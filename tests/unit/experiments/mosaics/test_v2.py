import math
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mnemoscope.experiments.mosaics.arms import count
from mnemoscope.experiments.mosaics.v2 import MOSAIC_V2, PAPER, SMALL
from mnemoscope.experiments.mosaics.v2_arms import V2Arm, levels_of, v2_config, without_long_level
from mnemoscope.experiments.mosaics.v2_recall import (
    Answers,
    RecallStudy,
    answers,
    bandwidths,
    distance_edges,
    exponents,
    recall,
    trainings,
)
from mnemoscope.experiments.published import find_experiment
from mnemoscope.experiments.reproducing import reproduce
from mnemoscope.experiments.reproduction_page import reproduction_of
from mnemoscope.models import build
from mnemoscope.tasks import build_task, task_rng
from mnemoscope.training import load_recipe
from mnemoscope.training.lessons import Staged

TINY = RecallStudy(
    length=64,
    stages=((16, 0.5),),
    vocab_size=64,
    d_model=16,
    persistent=32,
    short_window=8,
    long_delay=2,
    longest_delay=6,
    steps=2,
    batch_size=2,
    n_test=2,
)


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("out")


@pytest.mark.parametrize("arm", get_args(V2Arm))
def test_all_arms_have_the_parameters_of_v2(arm: V2Arm):
    ours, whole = (count(build(v2_config(each, SMALL.shape), 0)) for each in (arm, "v2"))
    assert ours == pytest.approx(whole, rel=0.02)


def test_arms_differ_in_what_they_are_compared_by():
    mixers = {arm: v2_config(arm, SMALL.shape).mixers for arm in get_args(V2Arm)}
    assert {arm: len(each) for arm, each in mixers.items()} == dict.fromkeys(mixers, 4)
    assert [mixer.kind for mixer in mixers["v2"]] == ["mosaic_v2", "feed_forward"] * 2
    assert mixers["v2_fixed"][0] == replace(mixers["v2"][0], longest_delay=None)
    assert [mixers["v2"][i].block_index for i in (0, 2)] == [0, 1]
    assert mixers["v2_short"][0].levels == "short"
    assert mixers["v2_short"][1].width > mixers["rotary"][1].width > mixers["v2"][1].width
    assert mixers["rotary"][0].positions == mixers["rotary_convolved"][0].positions == "rotary"
    assert (mixers["rotary"][0].convolution, mixers["rotary_convolved"][0].convolution) == (0, 4)


@torch.no_grad()
def test_without_the_long_level_is_v2_whose_long_levels_give_nothing():
    whole = build(v2_config("v2", TINY.shape), 0).eval()
    x = torch.randint(64, (2, 40))
    removed, before = without_long_level(whole), whole(x)
    assert count(removed) < count(whole)
    assert set(levels_of(removed)) == {"block 1 short", "block 2 short"}
    assert not torch.allclose(removed(x), before, atol=1e-3)
    for name, level in levels_of(whole).items():
        if name.endswith("long"):
            level.contribution.register_forward_hook(lambda _module, _args, output: torch.zeros_like(output))
    assert torch.allclose(removed(x), whole(x), atol=1e-5)


@pytest.mark.parametrize("arm", ["rotary", "v2_short"])
def test_only_a_model_with_both_levels_can_lose_one(arm: V2Arm):
    with pytest.raises(ValueError, match=r"needs a stack with a block of mosaic_v2\(levels='both'\), got"):
        without_long_level(build(v2_config(arm, TINY.shape), 0))


def test_shares_are_of_the_distances_asked_for():
    found = Answers(np.array([True, False, True, True]), np.array([1, 8, 9, 40]))
    assert found.share() == 0.75
    assert found.share(most=8) == 0.5
    assert found.share(above=8) == 1
    assert math.isnan(found.share(above=40))


def test_bins_of_distance_double_from_the_window_to_the_longest():
    assert distance_edges(TINY) == [0, 8, 16, 32, 64, 128, 256]


class Last(nn.Module):
    """Answers the value of the newest pair that was read, whatever is asked."""

    def forward(self, tokens: Tensor) -> Tensor:
        return nn.functional.one_hot(tokens[:, 7:8].expand_as(tokens), 64).float()


def test_answers_are_held_against_the_values_of_the_test():
    task = TINY.task(64)
    found = answers(Last(), task, 20)
    about = build_task(task).batch(task_rng(0, "test", 0), 20, "test").about
    item = about["item"][about["item"] >= 0]
    # Values of a sequence are distinct, so only the last of its four pairs is right.
    assert np.array_equal(found.right, item == 3)
    assert len(found.distance) == 80


@torch.no_grad()
def test_bandwidths_are_those_the_levels_read_with():
    model = build(v2_config("v2", TINY.shape), 0)
    level = levels_of(model)["block 2 long"]
    level.exponent[1], level.log_slope[1], level.log_floor[1] = -0.5, 0.0, 1.0
    found = bandwidths(model, 256)
    pairs = found["pairs: block 2 long"]
    assert (pairs[0], pairs[-1]) == (1, 256)
    assert found["pairs: block 2 short"][-1] == 8
    assert found["beta: block 2 long, head 2"] == pytest.approx([math.sqrt(n) + math.e for n in pairs], rel=1e-5)
    assert exponents(model)["exponent_long"] == pytest.approx((7 / 3 + 0.5) / 8)


def test_every_arm_goes_through_the_lengths_of_the_stages():
    recipe = TINY.recipe("v2")
    assert isinstance(recipe.lesson, Staged)
    assert [(stage.task.length, stage.task.n_pairs) for stage in recipe.lesson.stages] == [(16, 2)]
    assert recipe.task == TINY.task(64)
    assert [target.train.steps for target in trainings(TINY)] == [2] * 5
    PAPER.task(PAPER.length * max(PAPER.times))
    SMALL.task(SMALL.length * max(SMALL.times))


def test_a_seed_gives_every_figure_and_curve_that_is_shown(out: Path):
    tiny = replace(MOSAIC_V2, sizes={"small": TINY}, shown={})
    found = reproduce(tiny, 1, "small", out, lambda line: None)
    record = reproduction_of(tiny, "small", found, 1, "")
    assert {chart.title: len(chart.lines) for chart in record.charts} == {
        "Recall by length": 5,
        "Recall by distance, at the longest": 5,
        "Without the long level, by distance": 3,
        "Validation loss through training": 5,
        **{f"Adaptive bandwidth, block {block} {level}": 4 for block in (1, 2) for level in ("short", "long")},
    }
    figures = found[0].figures
    assert figures["drawn_gain"] == pytest.approx(figures["v2_4x"] - figures["v2_fixed_4x"])
    assert figures["removed_fall_far"] == pytest.approx(figures["v2_far"] - figures["removed_far"])
    assert all(0 <= figures[f"{arm}_{times}x"] <= 1 for arm in TINY.arms for times in TINY.times)
    kept = load_recipe(out / "mosaic-runs" / "v2-recall-rotary" / "seed-0")
    assert kept == replace(TINY.recipe("rotary"), train=replace(kept.train, seed=0))


def test_a_seed_of_some_arms_alone_compares_these(tmp_path: Path):
    measured = recall(replace(TINY, arms=("v2_short",), times=(1, 2)), 0, tmp_path)
    assert not {"gain", "removed_far", "v2_kept"} & set(measured.figures)
    assert {"v2_short_1x", "v2_short_2x", "v2_short_kept"} <= set(measured.figures)


def test_bounds_are_the_published_ones():
    bounded = {claim.figure: (claim.least, claim.most) for claim in MOSAIC_V2.claims if claim.bar != "-"}
    assert bounded == {
        "v2_kept": (0.78, None),
        "rotary_convolved_kept": (None, 0.5),
        "gain": (0.12, None),
        "drawn_gain": (0.15, None),
        "removed_fall_far": (0.33, None),
        "removed_fall_near": (None, 0.01),
    }
    assert find_experiment("mosaic-v2") is MOSAIC_V2
