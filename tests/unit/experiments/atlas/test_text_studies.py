"""Studies of ATLAS on text: shared runs, figures of the test split, claims that are all measured."""

import itertools
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from mnemoscope.experiments import shared_runs
from mnemoscope.experiments.atlas.keys import Value
from mnemoscope.experiments.atlas.text_arms import ARMS, SHARED, recipe_of
from mnemoscope.experiments.atlas.text_examined import (
    ATLAS_EXAMINED,
    CONTROLLED,
    AtlasExamined,
    change,
    examined,
    figures_of,
    verdicts,
)
from mnemoscope.experiments.atlas.text_floors import HeldFloors, held_floor, worth_with
from mnemoscope.experiments.atlas.text_languages import ATLAS_LANGUAGES
from mnemoscope.experiments.atlas.text_recipe import BASE, IN_STEPS, OBSERVED, TextRecipe
from mnemoscope.experiments.atlas.text_runs import measured_arm, onset
from mnemoscope.experiments.atlas.text_studies import (
    ATLAS_TEXT,
    ATLAS_TRIALS,
    FLOOR_ARMS,
    NO_CHANGE,
    TextStudy,
    control_of,
    study,
    tables,
    trial_tables,
)
from mnemoscope.experiments.atlas.trials import PRESETS, changes_nothing
from mnemoscope.experiments.published import ATLAS, on_text
from mnemoscope.experiments.reproducing import Result, reproduce
from mnemoscope.experiments.reproduction_page import reproduction_of
from mnemoscope.experiments.stability import PERPGRAD
from mnemoscope.experiments.trained.truth import all_memories
from mnemoscope.models import build_model
from mnemoscope.runs import RunDirectory
from mnemoscope.training import load_run
from mnemoscope.training.remedies import GateFloor
from mnemoscope.training.remedies.places import find_places
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
GATES = {"storage_gate", "retrieval_gate", "used_gate"}
"""Of arms with floors."""
TINY = TextStudy(text=RECIPE, corpora=("stories",), steps=4, n_words=20)
OF_AN_ARM = {
    *("accuracy", "reset", "wrong", "words", "cosine", "gain", "gain_ses", "onset"),
    *("floored_accuracy", "floored_reset", "floored_wrong"),
    *(f"floored_{what}{end}" for what in ("utility", "specificity") for end in ("", "_se", "_ses")),
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
    """D4: as used in retrieval it cannot be below .3; before its floor it can, and storage's floor is not in it."""
    _, measured = made
    assert 0.3 <= measured.figures["compat: floored_gate_least"] < 0.55
    assert measured.figures["base: raw_gate"] == pytest.approx(measured.figures["base: floored_gate"], rel=0.2)


def test_published_arms_are_tested_with_their_floors_too(made: tuple[Path, Any]):
    """And an arm without floors has one test, whose figures stand under both names."""
    out, measured = made
    kept = {path.parent.name for path in (out / "atlas-arms").rglob("arm-0.json")}
    assert kept == {f"stories-1-4-{name}" for name in (*TINY.arms, "compat-floored", "compat-slow-floored")}
    for arm in ("compat", "compat-slow"):
        of_test = {name: measured.figures[f"{arm}: {name}"] for name in GATES}
        assert of_test["used_gate"] >= max(0.3, of_test["retrieval_gate"])
        gained = measured.figures[f"{arm}: floored_accuracy"] - measured.figures[f"{arm}: floored_reset"]
        assert measured.figures[f"{arm}: floored_utility"] == pytest.approx(gained)
    assert measured.figures["base: floored_utility"] == measured.figures["base: utility"]
    assert "base: used_gate" not in measured.figures
    decided = {claim.figure: claim.bar for claim in ATLAS_TEXT.claims}
    assert (decided["compat: floored_utility_ses"], decided["compat: utility_ses"]) == ("at most 2", "-")


@pytest.mark.parametrize("floor_mode", ["clamp", "affine"])
def test_floors_are_held_by_mode_in_evaluation_and_gone_afterwards(made: tuple[Path, Any], floor_mode: Any):
    out, _ = made
    run = load_run(out / "atlas-runs" / "stories-1-4-compat" / "seed-0")
    remedy = GateFloor(
        floors=(0.1,), switches=(), storage_floor=0.9, retrieval_floor=0.6, floor_mode=floor_mode, strength=0.5
    )
    run.model.eval()
    held = HeldFloors(remedy, run.model, 4)
    (place,) = find_places(run.model, (), "memory", "gate")
    raw = torch.full((1, 3, 2), 0.2)
    lifted = {}
    for mode in ("normal", "storage", "retrieval"):
        held.set_mode(mode)
        lifted[mode] = place.module(raw)[0, 0, 0].item()
    floors = {"normal": 0.05, "storage": 0.45, "retrieval": 0.3}
    clamped = {mode: max(0.2, floor) for mode, floor in floors.items()}
    affine = {mode: floor + (1 - floor) * 0.2 for mode, floor in floors.items()}
    assert lifted == pytest.approx(clamped if floor_mode == "clamp" else affine)
    assert held.gates() == pytest.approx({"storage_gate": 0.2, "retrieval_gate": 0.2, "used_gate": lifted["retrieval"]})
    held.detach()
    assert place.module(raw)[0, 0, 0].item() == pytest.approx(0.2)


def test_zero_floors_test_as_none_do(made: tuple[Path, Any]):
    """The same words and the same answers."""
    out, measured = made
    run = load_run(out / "atlas-runs" / "stories-1-4-compat" / "seed-0")
    none = GateFloor(floors=(0.0,), switches=(), storage_floor=0.0, retrieval_floor=0.0, floor_mode="clamp")
    figures = worth_with(run, none, 20)
    assert figures["floored_utility"] == measured.figures["compat: utility"]
    assert figures["floored_specificity"] == measured.figures["compat: specificity"]
    assert held_floor(replace(run.recipe, remedies=(none,))) is None


@pytest.mark.parametrize(("utilities", "wanted"), [((0.1, 0.2), math.inf), ((0.1, 0.5, 0.1), 20.0)])
def test_the_onset_is_the_first_use_above_noise(
    utilities: tuple[float, ...], wanted: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    run = RunDirectory(tmp_path)
    assert math.isnan(onset(run))
    run.manifest_path.write_text("{}")
    rows: list[dict[str, float]] = [{"step": 5, "loss": 1.0}]
    for n, utility in enumerate(utilities, start=1):
        rows.append({"step": 10 * n, "validation_utility": utility, "validation_utility_se": 0.1})
    monkeypatch.setattr(RunDirectory, "read_metrics", lambda self: rows)
    assert onset(run) == wanted


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
    texts, arms, floors, seeds = tables(TINY, [result, result])
    assert texts.rows[0][0] == "stories"
    titles = [ARMS[arm].title for arm in TINY.arms]
    assert [row[0] for row in arms.rows] == [row[0] for row in seeds.rows] == titles
    assert [row[0] for row in floors.rows] == titles[1:]
    for table in (arms, floors, seeds):
        assert all(len(row) == len(table.columns) for row in table.rows)
    assert [row[2] for row in seeds.rows] == [titles[0]] * len(titles)
    gain = measured.figures["compat: gain"] + 0.0
    assert seeds.rows[1][3] == f"{gain:.3f} [{gain:.3f}, {gain:.3f}]"


@pytest.mark.parametrize(
    "experiment", [each for each in ATLAS if each not in (ATLAS_EXAMINED, ATLAS_LANGUAGES)], ids=lambda each: each.name
)
def test_claims_and_plots_are_of_arms_that_are_trained(experiment: Any):
    settings = experiment.sizes["small"]
    names = {label + arm for label in settings.labels() for arm in settings.arms}
    figures = [claim.figure for claim in experiment.claims]
    assert len(set(figures)) == len(figures)
    for figure in figures:
        name, _, what = figure.partition(": ")
        assert name in names
        has_floors = held_floor(recipe_of(settings.text, "prose", name.rpartition(", ")[2], settings.steps)) is not None
        assert what in OF_AN_ARM | (GATES if has_floors else set())
    for plot in experiment.plots:
        assert {line.partition(": ")[0] for line in plot.lines.values()} <= names


@pytest.mark.parametrize("name", ARMS)
def test_every_arm_fits_the_recipe_and_differs_from_the_base(name: str):
    base, changed = (recipe_of(TextRecipe(), "prose", each, 400) for each in ("base", name))
    assert changed.name == f"prose-2-400-{name}" or changed.name.removeprefix("prose-2-400-") in SHARED
    same = replace(changed, name=base.name) == base
    assert same == (changed.name == base.name)
    assert same == (name in ("base", "none"))


def test_what_trains_as_its_control_is_not_trained_and_all_else_differs():
    """Also where only phases differ that no floor lets act; and the ones that are said to change nothing do not."""
    trials = ATLAS_TRIALS.sizes["small"]
    recipes = {name: recipe_of(trials.text, "prose", name, 400) for name in (*trials.arms, *NO_CHANGE)}
    for one, other in itertools.combinations(trials.arms, 2):
        assert not changes_nothing(recipes[one], recipes[other])
    for name in NO_CHANGE:
        assert recipes[name].name == "prose-1-400-affine"
    assert set(trials.arms) | set(NO_CHANGE) == {"affine", "gentle", "gentle-option-b", "carry", "phases", *PRESETS}
    controls = {name: control_of(name, trials) for name in trials.arms}
    assert {name: control for name, control in controls.items() if control != "affine"} == {
        "gentle": "carry",
        "gentle-option-b": "gentle",
        "longer-phase1": "phases",
    }
    assert recipes["carry"].lesson.between == "carry"
    assert control_of("affine", replace(trials, arms=FLOOR_ARMS)) == "none"


def test_a_longer_phase_is_asked_where_phases_act():
    """The floor of the step, in both modes."""
    trials = ATLAS_TRIALS.sizes["small"]
    floors = dict[str, list[float]]()
    for name in ("affine", "phases", "longer-phase1"):
        recipe = recipe_of(trials.text, "prose", name, 400)
        treatment = recipe.remedies[0].attach(build_model(recipe.model, 0))
        found = set[float]()
        for step in (1, 130, 400):
            treatment.on_step(step, 400)
            for mode in ("storage", "retrieval"):
                treatment.set_mode(mode)
                found.add(treatment.floor)
        floors[name] = sorted(found)
    assert floors == {"affine": [0.3, 0.8], "phases": [0.05, 0.1, 0.3], "longer-phase1": [0.3]}


def test_what_changes_nothing_is_said_and_the_carried_memory_trains(tmp_path: Path):
    small = replace(TINY, arms=("carry", "gentle"), steps=2)
    found = study(small, 0, tmp_path)
    assert found.figures["carry: gain"] == 0
    assert found.figures["gentle: gain"] == found.figures["gentle: utility"] - found.figures["carry: utility"]
    result = Result(
        experiment="atlas-trials",
        size="small",
        seed=0,
        settings={},
        figures=dict(found.figures),
        series={},
        texts={name: list(words) for name, words in found.texts.items()},
        seconds=1.0,
        versions={},
    )
    idle = trial_tables(small, [result])[-1]
    assert [row[0] for row in idle.rows] == ["keep-phase3-floor", "reset-episodes"]
    assert all(row[2].startswith("no change here: ") for row in idle.rows)


def test_studies_of_many_arms_are_evaluated_often_enough_for_a_phase():
    smaller, base = ATLAS_TRIALS.sizes["small"].text.recipe("prose"), TextRecipe().recipe("prose")
    assert smaller.train.steps // smaller.train.eval_every >= 10
    assert smaller.train.metrics is not None
    assert "grokking_phase" in smaller.train.metrics.names
    assert (base.train.eval_every, base.lesson.eval_words) == (100, 2000)


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
    assert {figure for _, _, figure in claimed} - {"change"} <= set(figures)
    assert {name for name, _, _ in claimed} == set(ATLAS_EXAMINED.sizes["small"].study.arms)
    together = all_memories(examination)
    assert figures["effect"] == together.effects["read"]["optimal_constant"].value
    assert figures["bears"] == float(str(together.verdict).startswith("load-bearing"))
    interval = together.effects["read"]["optimal_constant"]
    assert figures["effect_half"] == pytest.approx((interval.high - interval.low) / 2)


def test_what_a_remedy_changes_has_the_interval_of_both():
    figures = {"a: effect": 0.5, "a: effect_half": 0.03, "b: effect": 0.1, "b: effect_half": 0.04}
    assert change(figures, "a", "b") == pytest.approx({"change": 0.4, "change_half": 0.05})
    claims = {claim.figure: claim for claim in ATLAS_EXAMINED.claims}
    for name, control in CONTROLLED.items():
        assert claims[f"{name}: change"].by_interval
        assert {name, control} <= set(ATLAS_EXAMINED.sizes["small"].study.arms)
    result = Result(
        experiment="atlas-examined",
        size="small",
        seed=0,
        settings={},
        figures={"option-a: change": 0.4, "option-a: change_half": 0.05},
        series={},
        seconds=1.0,
        versions={},
    )
    (table,) = verdicts(replace(AtlasExamined(), study=replace(TINY, arms=())), [result])
    assert table.rows == [["option-a", "affine", "+0.400 [+0.350, +0.450]"]]


def test_windows_end_between_the_words_that_are_asked_for():
    """A word stands a text, two or three before its gap."""
    settings = AtlasExamined()
    length = int(settings.study.text.guide["max_seq_len"])
    assert [window // length for window in settings.windows] == [0, 1, 2, 3]
    assert all(window % length for window in settings.windows)


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
