from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest

from mnemoscope.experiments.mosaics.arms import Arm, Shape, build_arm, count
from mnemoscope.experiments.mosaics.regbench import PAIR, REGBENCH, REGBENCH_OTHERS, RegBenchStudy, regbench
from mnemoscope.experiments.mosaics.trained import run_folder, trained
from mnemoscope.experiments.reproducing import reproduce
from mnemoscope.experiments.reproduction_page import reproduction_of
from mnemoscope.runs import RunDirectory

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
    (table,) = reproduction_of(tiny, "small", found, 1, "").tables
    assert table.columns == ["Model", "1,000 automata", "2,500", "40,000"]
    assert ["RetNet", ".502 / .665", ".801 / .392", ".919 / .212"] in table.rows
