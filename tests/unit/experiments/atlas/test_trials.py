"""The guide's trials: what each changes in a recipe, where they fit, and how they are named."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from mnemoscope.experiments.atlas.recipes import TINY_RECIPES
from mnemoscope.experiments.atlas.trials import PRESETS, STEEPEST, TO_TRY, changes_nothing, numbers, with_presets
from mnemoscope.experiments.recipes import find_recipe
from mnemoscope.experiments.settings import with_settings
from mnemoscope.experiments.trials import plan_of_presets
from mnemoscope.training import Recipe

TINY = TINY_RECIPES["atlas-tiny"]
COMPAT = TINY_RECIPES["atlas-tiny-compat"]


def floor(recipe: Recipe) -> Any:
    return recipe.remedies[0]


def memory(recipe: Recipe) -> Any:
    return recipe.model.mixers[0].memory


CHANGED: dict[str, tuple[Callable[[Recipe], object], object]] = {
    "longer-phase1": (lambda r: (floor(r).switches, r.train.steps), ((300, 420), 300)),
    "higher-retrieval-floor": (lambda r: floor(r).retrieval_floor, 0.5),
    "keep-phase3-floor": (lambda r: floor(r).floors, (0.3, 0.1, 0.05)),
    "faster-memory": (lambda r: memory(r).initial_step_size, 0.2 / 16),
    "fastest-memory": (lambda r: memory(r).initial_step_size, pytest.approx(0.3 / 16)),
    "lower-retention": (lambda r: memory(r).initial_retention, 0.95),
    "keep-degree": (lambda r: (memory(r).features, memory(r).degree), ("elementwise", 2)),
    "more-storage": (lambda r: r.task.n_storage, 10),
    "reset-episodes": (lambda r: r.lesson.between, "reset"),
    "fewer-masks": (lambda r: r.task.n_masks, 4),
    "heavier-retrieval": (lambda r: r.lesson.retrieval_weight, 10),
    "lighter-retrieval": (lambda r: r.lesson.retrieval_weight, 2),
    "small-weight-decay": (lambda r: r.train.weight_decay, 0.01),
    "option-a": (
        lambda r: (floor(r).retrieval_floor, floor(r).switches, r.lesson.retrieval_weight),
        (0.5, (300, 420), 10),
    ),
    "option-b": (
        lambda r: (memory(r).initial_step_size, memory(r).initial_retention, r.lesson.between),
        (0.2 / 16, 0.95, "reset"),
    ),
    "language": (lambda r: (r.train.learning_rate, r.train.weight_decay, r.train.loss), (3e-4, 0, "cross_entropy")),
    "math": (
        lambda r: (r.train.weight_decay, r.train.loss, r.train.orthogonal_gradient),
        (0.1, "stablemax", 0.5),
    ),
}

KEPT = {"keep-phase3-floor", "keep-degree", "reset-episodes"}
"""What atlas-tiny is already."""


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_changes_what_the_guide_changes(name: str):
    of, wanted = CHANGED[name]
    changed = find_recipe(f"atlas-tiny+{name}")
    assert of(changed) == wanted
    assert (of(TINY) == wanted) == (name in KEPT)
    assert changed.name == f"{TINY.name}, {name}"


def test_twelve_boxes_one_with_two_values():
    assert len(TO_TRY) == 13
    assert [name for name in TO_TRY if "init_eta" in PRESETS[name].says] == ["faster-memory", "fastest-memory"]
    assert set(PRESETS) - set(TO_TRY) == {"option-a", "option-b", "language", "math"}


def test_presets_add_up_and_settings_come_on_top():
    both = find_recipe("atlas-tiny+heavier-retrieval+fewer-masks")
    assert (both.lesson.retrieval_weight, both.task.n_masks) == (10, 4)
    assert with_settings(both, ["task.n_masks=3"]).task.n_masks == 3


@pytest.mark.parametrize("name", ["atlas-tiny-mac", "atlas-tiny-mal", "atlas-tiny-compat"])
def test_other_forms_take_what_is_of_the_memory_or_the_task(name: str):
    plain, changed = find_recipe(name), find_recipe(f"{name}+option-b+more-storage")
    assert changed.task.n_storage == 10
    written, before = (TypeAdapter(Recipe).dump_python(one, mode="json") for one in (changed, plain))
    assert '"initial_retention": 0.95' in json.dumps(written["model"])
    assert '"initial_retention": 0.95' not in json.dumps(before["model"])


@pytest.mark.parametrize("name", [name for name, one in PRESETS.items() if "gate_floor" in " ".join(one.sets)])
def test_compat_refuses_floors_which_the_public_code_never_reads(name: str):
    with pytest.raises(ValueError, match=f"preset {name}: ATLAS, tiny, as published .* never reads its floors"):
        with_presets(COMPAT, [name])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("atlas-tiny+option-c", "no preset is called 'option-c'; did you mean 'option-"),
        ("atlas-tniy+option-a", "no recipe and no file is called 'atlas-tniy'; did you mean 'atlas-tiny'"),
        ("atlas-tiny-mac+higher-retrieval-floor", "does not fit .* the recipe has no 'gate_floor'"),
        ("atlas-tiny-mac+longer-phase1", "no gate between memory and attention with floors"),
        ("recall-full-attention+more-storage", "preset more-storage: does not fit Recall, full attention"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(name: str, message: str):
    with pytest.raises(ValueError, match=message) as refused:
        find_recipe(name)
    assert "\n" not in str(refused.value)


def test_a_step_stays_below_one():
    steep = with_settings(TINY, ["omega.initial_step_size=0.4"])
    assert memory(with_presets(steep, ["faster-memory"])).initial_step_size == 0.8
    assert memory(with_presets(steep, ["fastest-memory"])).initial_step_size == STEEPEST


def test_the_default_step_is_doubled_where_the_recipe_names_none():
    unnamed = with_settings(TINY, ["omega.initial_step_size=None"])
    wanted = 2 * memory(unnamed).default_step_size
    assert memory(with_presets(unnamed, ["faster-memory"])).initial_step_size == pytest.approx(wanted, rel=1e-5)


def test_a_file_takes_presets_and_a_file_with_a_plus_in_its_name_is_a_file(tmp_path: Path):
    written = json.dumps(TypeAdapter(Recipe).dump_python(TINY, mode="json"))
    for name in ("mine.json", "a+b.json"):
        (tmp_path / name).write_text(written)
    assert find_recipe(f"{tmp_path / 'mine.json'}+heavier-retrieval").lesson.retrieval_weight == 10
    assert find_recipe(str(tmp_path / "a+b.json")) == TINY


@pytest.mark.parametrize(("starts", "lowered"), [(0.99, 0.95), (0.999, 0.995), (0.7, 0.05), (0.02, 0.02)])
def test_what_is_forgotten_is_multiplied_as_the_guide_does(starts: float, lowered: float):
    """A memory that forgets with every token forgets less each time than one that does so once a chunk."""
    plain = with_settings(TINY, [f"omega.initial_retention={starts}"])
    assert memory(with_presets(plain, ["lower-retention"])).initial_retention == pytest.approx(lowered)
    known = numbers(plain)
    assert known["lowest_retention"] == pytest.approx(max(1 - 10 * (1 - starts), min(0.05, starts)))
    assert known["higher_retention"] == pytest.approx(1 - (1 - starts) / 10)


def test_what_retains_everything_has_nothing_to_lower():
    with pytest.raises(ValueError, match="the recipe has no such setting"):
        with_presets(with_settings(TINY, ["omega.retains=false"]), ["lower-retention"])


IDLE = ("longer-phase1", "keep-phase3-floor", "keep-degree", "reset-episodes")


@pytest.mark.parametrize("name", PRESETS)
def test_a_trial_of_what_changes_nothing_is_refused(name: str):
    """The guide's phases beside its other floors, and what atlas-tiny is already."""
    assert changes_nothing(TINY, find_recipe(f"atlas-tiny+{name}")) == (name in IDLE)
    if name in IDLE:
        with pytest.raises(ValueError, match=f"no change here: ATLAS, tiny trains alike with {name}"):
            plan_of_presets(TINY, ["option-a", name], 3)
    acting = with_settings(TINY, ["gate_floor.retrieval_floor=0"])
    assert changes_nothing(acting, with_presets(acting, [name])) == (name in IDLE[1:])


def test_a_trial_of_presets_has_the_recipe_as_control():
    plan = plan_of_presets(TINY, ["option-a", "option-b"], 3)
    assert [arm.name for arm in plan.arms] == ["control", "option-a", "option-b"]
    assert plan.arms[0].recipe == TINY
    assert plan.arms[1].recipe == replace(find_recipe("atlas-tiny+option-a"))
    with pytest.raises(ValueError, match="at least one preset"):
        plan_of_presets(TINY, [], 3)
