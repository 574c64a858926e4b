"""Studies of ATLAS on text: shared runs, figures of the test split, claims that are all measured."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mnemoscope.experiments import shared_runs
from mnemoscope.experiments.atlas.keys import Value
from mnemoscope.experiments.atlas.text_arms import ARMS, SHARED, recipe_of
from mnemoscope.experiments.atlas.text_examined import ATLAS_EXAMINED, AtlasExamined, examined, figures_of
from mnemoscope.experiments.atlas.text_recipe import BASE, IN_STEPS, OBSERVED, TextRecipe
from mnemoscope.experiments.atlas.text_runs import measured_arm
from mnemoscope.experiments.atlas.text_studies import (
    ATLAS_LANGUAGES,
    ATLAS_TEXT,
    ATLAS_TRIALS,
    FLOOR_ARMS,
    TextStudy,
    study,
    tables,
)
from mnemoscope.experiments.published import ATLAS, on_text
from mnemoscope.experiments.reproducing import Result, reproduce
from mnemoscope.experiments.reproduction_page import reproduction_of
from mnemoscope.experiments.stability import PERPGRAD
from mnemoscope.experiments.trained.truth import all_memories
from tests.unit.reporting.samples import examination as sample_examination

GUIDE: Mapping[str, Value] = {
    **BASE,
    "d_model": 16,
    "n_layers": 1,
    "d_ff": 16,
    "n_heads": 2,
    "vocab_size": 60,
    "max_seq_len": 8,
    "window_size": 4,
    "num_masks": 2,
    "batch_size": 2,
    "max_steps": 4,
    "warmup_steps": 1,
    "phase1_steps": 1,
    "phase2_steps": 1,
    "log_interval": 1,
    "metrics_interval": 2,
    "checkpoint_interval": 4,
}
RECIPE = TextRecipe(guide=GUIDE, memory=("omega.head_width=8",), eval_words=4, evaluations=2)
TINY = TextStudy(text=RECIPE, corpora=("stories",), steps=4, n_words=20)
OF_AN_ARM = {
    *("accuracy", "reset", "wrong", "words", "cosine", "gain", "gain_ses"),
    *(f"{what}{end}" for what in ("utility", "specificity") for end in ("", "_se", "_ses")),
    *(f"{what}{end}" for what in ("raw_gate", "floored_gate", "head", "embedding") for end in ("", "_least")),
}


def never(*arguments: Any, **rest: Any) -> Any:
    raise AssertionError("it was trained again")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """All arms of atlas-text at a tiny size."""
    out = tmp_path_factory.mktemp("atlas")
    return out, study(TINY, 0, out)


def test_a_seed_gives_all_figures_of_all_arms_and_names_the_text(made: tuple[Path, Any]):
    _, measured = made
    assert {claim.figure for claim in ATLAS_TEXT.claims} <= set(measured.figures)
    for arm in TINY.arms:
        assert {f"{arm}: {figure}" for figure in OF_AN_ARM} <= set(measured.figures)
        assert measured.figures[f"{arm}: words"] >= 20
        gain = measured.figures[f"{arm}: utility"] - measured.figures["base: utility"]
        assert measured.figures[f"{arm}: gain"] == pytest.approx(gain)
        assert measured.series[f"{arm}: step"] == [2, 4]
        assert measured.series[f"{arm}: evaluated"] == [2, 4]
    name, n_bytes, digest = measured.texts["text"]
    assert (name, len(digest)) == ("stories", 64)
    assert int(n_bytes) > 0


def test_every_line_of_every_plot_is_measured(made: tuple[Path, Any]):
    _, measured = made
    for plot in ATLAS_TEXT.plots:
        for line in plot.lines.values():
            assert set(line.split(" -> ")) <= set(measured.series)


def test_the_published_floor_hides_the_gate(made: tuple[Path, Any]):
    """D4: as used it cannot be below .3; before its floor it can."""
    _, measured = made
    assert measured.figures["compat: floored_gate_least"] >= 0.3
    assert measured.figures["compat: raw_gate_least"] < measured.figures["compat: floored_gate_least"]
    assert measured.figures["base: raw_gate"] == pytest.approx(measured.figures["base: floored_gate"])


def test_what_is_there_is_not_trained_or_tested_again(made: tuple[Path, Any], monkeypatch: pytest.MonkeyPatch):
    out, measured = made
    monkeypatch.setattr(shared_runs, "train_recipe", never)
    again = study(TINY, 0, out)
    assert again.figures == measured.figures
    assert (out / "atlas-runs" / "stories-1-4-base" / "seed-0" / "config.json").exists()
    with pytest.raises(ValueError, match="was measured with"):
        study(replace(TINY, n_words=30), 0, out)


def test_another_text_of_the_same_name_is_refused(made: tuple[Path, Any]):
    out, _ = made
    with pytest.raises(ValueError, match="was measured with"):
        measured_arm(out, recipe_of(RECIPE, "stories", "base", 4), 20, "0" * 64, 0)


def test_tables_have_a_row_for_every_arm(made: tuple[Path, Any]):
    _, measured = made
    result = Result(
        experiment="atlas-text",
        size="small",
        seed=0,
        settings={},
        figures=dict(measured.figures),
        series={},
        texts={name: list(words) for name, words in measured.texts.items()},
        seconds=1.0,
        versions={},
    )
    texts, arms = tables(TINY, [result])
    assert texts.rows[0][0] == "stories"
    assert [row[0] for row in arms.rows] == [ARMS[arm].title for arm in TINY.arms]
    assert all(len(row) == len(arms.columns) for row in arms.rows)


@pytest.mark.parametrize(
    "experiment", [each for each in ATLAS if each is not ATLAS_EXAMINED], ids=lambda each: each.name
)
def test_claims_and_plots_are_of_arms_that_are_trained(experiment: Any):
    settings = experiment.sizes["small"]
    names = {label + arm for label in settings.labels() for arm in settings.arms}
    figures = [claim.figure for claim in experiment.claims]
    assert len(set(figures)) == len(figures)
    for figure in figures:
        name, _, what = figure.partition(": ")
        assert name in names
        assert what in OF_AN_ARM
    for plot in experiment.plots:
        assert {line.partition(": ")[0] for line in plot.lines.values()} <= names


@pytest.mark.parametrize("name", ARMS)
def test_every_arm_fits_the_recipe_and_differs_from_the_base(name: str):
    base, changed = (recipe_of(TextRecipe(), "prose", each, 400) for each in ("base", name))
    assert changed.name == f"prose-2-400-{name}" or changed.name.removeprefix("prose-2-400-") in SHARED
    same = replace(changed, name=base.name) == base
    assert same == (changed.name == base.name)
    assert same == (name in ("base", "none"))


def test_what_keeps_the_guides_value_is_its_control():
    trials = ATLAS_TRIALS.sizes["small"]
    names = {name: recipe_of(trials.text, "prose", name, 400).name for name in trials.arms}
    assert names["affine"] == names["keep-phase3-floor"] == names["reset-episodes"] == "prose-1-400-affine"
    assert len(set(names.values())) == len(names) - 2


def test_floors_and_writes_are_as_their_arms_say():
    found = {name: recipe_of(TextRecipe(), "prose", name, 400) for name in FLOOR_ARMS}
    for name, recipe in found.items():
        kind, _, end = name.partition("-")
        (floor,), lesson, mixer = recipe.remedies, recipe.lesson, recipe.model.mixers[0]
        assert floor.mode_floor("storage") == (0 if kind == "none" else 0.8)
        assert floor.floor_mode == ("affine" if kind == "none" else kind)
        assert mixer.memory.detach_write == lesson.detach_write == (end == "detached")


def test_fewer_steps_shrink_what_is_counted_in_steps():
    whole, half = (TextRecipe().recipe("prose", steps=steps) for steps in (None, 200))
    assert half.train.steps * 2 == whole.train.steps
    assert half.train.warmup_steps * 2 == whole.train.warmup_steps
    assert half.train.metrics is not None
    assert half.train.metrics.names == OBSERVED
    assert [2 * at for at in half.remedies[0].switches] == list(whole.remedies[0].switches)
    with pytest.raises(ValueError, match=f"must have {IN_STEPS[0]}"):
        TextRecipe(guide={key: value for key, value in BASE.items() if key != IN_STEPS[0]})
    with pytest.raises(ValueError, match="evaluations: must be at least 1"):
        TextRecipe(evaluations=0)


def test_texts_are_taken_by_number():
    assert on_text(ATLAS_TEXT, "code").sizes["small"].corpora == ("code",)
    assert on_text(ATLAS_LANGUAGES, "code", "prose").sizes["small"].corpora == ("code", "prose")
    assert on_text(ATLAS_EXAMINED, "code").sizes["small"].study.corpora == ("code",)
    for experiment, texts in ((ATLAS_TEXT, ("code", "prose")), (ATLAS_LANGUAGES, ("code",))):
        with pytest.raises(ValueError, match=r"needs . of --text, got"):
            on_text(experiment, *texts)
    with pytest.raises(ValueError, match="perpgrad reads no text; leave out --text code prose"):
        on_text(PERPGRAD, "code", "prose")


def test_two_texts_have_runs_and_rows_of_their_own(tmp_path: Path):
    text = tmp_path / "roman.txt"
    text.write_text("".join(f"Le {7 * i % 31} mai {13 * i % 24} heures sonnaient. " for i in range(400)))
    small = replace(TINY, corpora=("stories", str(text)), arms=("base",), steps=2)
    experiment = replace(ATLAS_LANGUAGES, sizes={"small": small})
    found = reproduce(experiment, 1, "small", tmp_path / "out", lambda line: None)
    page = reproduction_of(experiment, "small", found, 1, "")
    assert [row[0] for row in page.tables[1].rows] == ["A, differentiable write", "B, differentiable write"]
    assert (tmp_path / "out" / "atlas-runs" / "roman-1-2-base" / "seed-0").is_dir()


def test_figures_of_an_examination_are_those_that_are_claimed():
    examination = sample_examination()
    figures = figures_of(examination)
    claimed = {claim.figure.partition(": ") for claim in ATLAS_EXAMINED.claims}
    assert {figure for _, _, figure in claimed} <= set(figures)
    assert {name for name, _, _ in claimed} == set(ATLAS_EXAMINED.sizes["small"].study.arms)
    together = all_memories(examination)
    assert figures["effect"] == together.effects["read"]["optimal_constant"].value
    assert figures["bears"] == float(str(together.verdict).startswith("load-bearing"))


@pytest.mark.long
def test_the_memory_of_a_run_is_examined(tmp_path: Path):
    small = AtlasExamined(
        study=replace(TINY, arms=("base",), steps=2), n_calibration=8, n_test=8, windows=(2, 8), fit_steps=2
    )
    measured = examined(small, 0, tmp_path)
    wanted = {claim.figure for claim in ATLAS_EXAMINED.claims if claim.figure.startswith("base: ")}
    assert wanted <= set(measured.figures)
    assert measured.figures["base: bears"] in (0.0, 1.0)
    assert len(measured.series["base: window"]) == len(measured.series["base: loss"]) >= 2
    assert (tmp_path / "atlas-runs" / "stories-1-2-base" / "seed-0" / "verdicts.json").exists()
    assert len(measured.texts["base: unit"]) == len(measured.texts["base: verdict"]) >= 2
