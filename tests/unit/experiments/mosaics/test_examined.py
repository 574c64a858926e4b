import math
from dataclasses import replace
from pathlib import Path

import pytest

from mnemoscope.experiments.mosaics.examined import (
    LEVELS,
    MOONS,
    MOONS_RUN,
    MOSAIC_EXAMINED,
    PAPER,
    SMALL,
    ExaminedStudy,
    claims_of,
    curve_of,
    horizon_of,
    level_of,
    names_of,
    plots_of,
    recipes,
)
from mnemoscope.experiments.mosaics.language import MOSAIC_STORIES, LanguageStudy
from mnemoscope.experiments.mosaics.moons_training import MoonsTraining
from mnemoscope.experiments.mosaics.regbench import REGBENCH, RegBenchStudy
from mnemoscope.experiments.mosaics.trained import run_folder
from mnemoscope.experiments.reproducing import Experiment, reproduce
from mnemoscope.experiments.reproduction_page import write_page
from mnemoscope.runs import RunDirectory
from mnemoscope.runs.examination import Estimate, HorizonPoint, SiteRecord

TINY = ExaminedStudy(
    language=LanguageStudy(depths=(1,), length=24, d_model=8, n_heads=2, steps=4, batch_size=4, n_test=8),
    regbench=RegBenchStudy(
        environments=(4,),
        epochs=(2,),
        n_held_out=20,
        d_model=8,
        n_layers=1,
        n_heads=2,
        batch_size=4,
        max_string_length=4,
    ),
    moons=MoonsTraining(batch_size=2, length=30, steps=2),
    n_calibration=8,
    n_test=8,
    windows=(2,),
    moon_windows=(8,),
    n_moon_sequences=8,
    fit_steps=2,
)


def experiment() -> Experiment[ExaminedStudy]:
    sizes = replace(MOSAIC_EXAMINED, sizes={"small": TINY})
    return replace(sizes, claims=claims_of(TINY), plots=plots_of(TINY), shown={})


def unit(module: str, horizon: dict[int, float]) -> SiteRecord:
    points = [HorizonPoint(window=n, effect=Estimate(value=value, low=0.0, high=1.0)) for n, value in horizon.items()]
    return SiteRecord(name="a", role="memory", module=module, effects={}, horizon=points)


def test_the_horizon_is_that_of_the_unit_that_needs_most():
    short, long = unit("Contextual", {1: 0.5, 4: 0.001, 16: 0.0}), unit("Contextual", {1: 0.02, 4: 0.3, 16: 0.005})
    assert curve_of([long, short]) == {1: 0.5, 4: 0.3, 16: 0.005}
    assert (horizon_of([short], 0.01), horizon_of([short, long], 0.01)) == (4, 16)
    assert horizon_of([short, long], 0.001) == math.inf
    assert horizon_of([], 0.01) == math.inf


def test_levels_are_told_by_the_class_of_the_memory():
    assert [level_of(unit(module, {})) for module in ("Contextual", "Persistent")] == list(LEVELS)


def test_the_networks_are_those_that_other_experiments_train():
    """Of the same name and recipe, so that their run directories are shared."""
    stories, regbench = MOSAIC_STORIES.sizes["small"], REGBENCH.sizes["small"]
    theirs = [*(stories.recipe("mosaic", depth) for depth in stories.depths), regbench.recipe("mosaic", 500)]
    assert list(recipes(SMALL).values()) == theirs
    assert names_of(SMALL) == ["stories-1", "stories-2", "stories-4", "regbench-500"]
    assert names_of(PAPER) == ["stories-1", "stories-8", "stories-12", "stories-18", "regbench-500"]


@pytest.mark.long
def test_every_network_is_examined_and_keeps_its_verdicts(tmp_path: Path):
    tiny = experiment()
    found = reproduce(tiny, 1, "small", tmp_path, lambda line: None)
    assert {claim.figure for claim in tiny.claims} == found[0].figures.keys()
    assert found[0].figures["stories-1: units"] == 4
    assert found[0].figures["regbench-4: units"] == 4
    for folder in [run_folder(tmp_path, recipe.name, 0) for recipe in recipes(TINY).values()]:
        examination = RunDirectory.open(folder).read_examination()
        assert {group.name for group in examination.groups} >= set(LEVELS)
        assert (folder / "report.html").exists()
    assert (run_folder(tmp_path, MOONS_RUN, 0) / "verdicts.json").exists()
    assert found[0].series[f"{MOONS}: window"] == [4, 8]
    page = write_page(tiny, "small", found, 1, tmp_path, "mnemoscope reproduce mosaic-examined").read_text()
    assert "blocks.0.persistent[head 1]" in page
    assert "heads of memory" in page
