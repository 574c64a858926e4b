from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest

from mnemoscope.experiments.mosaics.arms import Arm, Shape, build_arm, count
from mnemoscope.experiments.mosaics.regbench import (
    PAIR,
    REGBENCH,
    REGBENCH_OTHERS,
    TEST_SEED,
    RegBenchStudy,
    _growth,
    _new_languages,
    regbench,
)
from mnemoscope.experiments.mosaics.regbench_published import on_new_languages
from mnemoscope.experiments.mosaics.trained import run_folder, trained
from mnemoscope.experiments.reproducing import reproduce
from mnemoscope.experiments.reproduction_page import reproduction_of
from mnemoscope.runs import RunDirectory
from mnemoscope.tasks import RegBench, build_task, task_rng
from mnemoscope.tasks.streams import SPLITS

TINY = RegBenchStudy(
    environments=(8, 12), epochs=(2, 1), n_held_out=4, d_model=16, n_heads=2, batch_size=4, max_string_length=4
)


@pytest.mark.parametrize("arm", get_args(Arm))
def test_all_arms_have_the_parameters_of_the_mosaic(arm: Arm):
    shape = Shape(vocab_size=20, d_model=64, n_layers=2, n_heads=4, max_tokens=32)
    model = build_arm(arm, shape, 0)
    positions = 64 * 32 if arm == "transformer" else 0
    assert count(model) - positions == pytest.approx(count(build_arm("mosaic", shape, 0)), rel=0.015)


def test_a_seed_trains_each_arm_once_and_scores_it_on_new_and_on_trained_languages(tmp_path: Path):
    measured = regbench(TINY, 0, tmp_path)
    for arm in PAIR:
        for n in TINY.environments:
            assert 0 <= measured.figures[f"{arm}_{n}_ood_accuracy"] <= 1
            assert 0 <= measured.figures[f"{arm}_{n}_iid_tvd"] <= 1
    assert measured.figures["3gram_accuracy"] > measured.figures["2gram_accuracy"] > 0.5
    ended = [RunDirectory(run_folder(tmp_path, f"regbench-8-{arm}", 0)).read_manifest().ended for arm in PAIR]
    assert regbench(TINY, 0, tmp_path).figures == measured.figures
    again = [RunDirectory(run_folder(tmp_path, f"regbench-8-{arm}", 0)).read_manifest().ended for arm in PAIR]
    assert ended == again


def test_claims_name_figures_that_are_measured(tmp_path: Path):
    tiny = replace(REGBENCH, sizes={"small": replace(TINY, environments=(100, 500), epochs=(1, 1))})
    names = {claim.figure for claim in REGBENCH.claims}
    expected = {f"{arm}_{n}_{what}" for arm in PAIR for n in (100, 500) for what in ("ood_accuracy", "iid_tvd")}
    assert expected <= names
    bounded = {claim.figure: (claim.least, claim.most) for claim in REGBENCH.claims if claim.bar != "-"}
    assert bounded == {"mosaic_500_ood_accuracy": (0.9, None), "transformer_500_ood_accuracy": (None, 0.7)}
    assert not [claim for claim in REGBENCH_OTHERS.claims if claim.bar != "-"]
    assert tiny.sizes["small"].recipe("mosaic", 500).train.steps == 125


def test_a_folder_of_another_recipe_is_refused(tmp_path: Path):
    trained(tmp_path, TINY.recipe("mosaic", 8), 0)
    with pytest.raises(ValueError, match="was trained by another recipe than regbench-8-mosaic"):
        trained(tmp_path, replace(TINY, learning_rate=1.0).recipe("mosaic", 8), 0)


def test_the_page_keeps_the_two_sources_apart(tmp_path: Path):
    tiny = replace(REGBENCH, sizes={"small": TINY}, claims=(), plots=())
    found = reproduce(tiny, 1, "small", tmp_path, lambda line: None)
    first, other = reproduction_of(tiny, "small", found, 1, "").tables
    assert first.columns == ["Model", "100", "500", "1,000", "2,500", "40,000"]
    assert len(first.rows) == 11
    assert ["RetNet", "0.375 / 0.768", "0.480 / 0.695", "0.525 / 0.648"] in [row[:4] for row in first.rows]
    assert other.columns == ["Model", "1,000", "2,500", "5,000", "10,000", "20,000", "40,000"]
    assert ["RetNet", ".502 / .665", ".801 / .392"] in [row[:3] for row in other.rows]


def test_new_languages_are_of_data_on_which_nothing_was_chosen():
    trained_on = build_task(TINY.task(8))
    assert isinstance(trained_on, RegBench)
    assert trained_on.config.data_seed != TEST_SEED
    fresh = {row.tobytes() for row in _new_languages(TINY, 8).inputs}
    of_training = {
        row.tobytes()
        for split in SPLITS
        for row in trained_on.batch(task_rng(0, split, 0), TINY.n_held_out, split).inputs
    }
    assert len(fresh) == TINY.n_held_out
    assert not fresh & of_training


def test_figure_11_has_ours_and_what_was_published():
    series = _growth(
        TINY, {f"{arm}_{n}_ood_{what}": n for arm in PAIR for n in (8, 12) for what in ("accuracy", "tvd")}
    )
    assert series["mosaic: accuracy"] == [8, 12]
    assert series["published: automata"] == [100, 500, 1000, 2500, 40_000]
    assert on_new_languages("mosaic", 500) == (0.928, 0.254)
    assert on_new_languages("mosaic", 8) is None
    named = {line for plot in REGBENCH.plots if "figure 11" in plot.title for line in plot.lines.values()}
    assert {part for line in named for part in line.split(" -> ")} <= set(series)
