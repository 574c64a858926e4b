"""Single settings of a recipe, changed by owner and name."""

from dataclasses import replace

import pytest

from mnemoscope.experiments.recipes import RECIPES
from mnemoscope.experiments.settings import with_settings
from mnemoscope.models import StackConfig
from mnemoscope.tasks import CuedRecallConfig
from mnemoscope.training import Recipe, TrainConfig
from mnemoscope.training.remedies import GateFloor

RECIPE = Recipe(
    name="Base",
    model=StackConfig.of("omega | attention(window=4), omega(n_heads=2)", vocab_size=200, d_model=16),
    task=CuedRecallConfig(),
    train=TrainConfig(steps=10, warmup_steps=1),
    remedies=(GateFloor(),),
)


def omegas(recipe: Recipe) -> list[float | None]:
    first, second = recipe.model.mixers
    return [first.memory.initial_step_size, second.initial_step_size]


def test_owners_are_parts_kinds_and_everything():
    changed = with_settings(RECIPE, ["train.weight_decay=0", "cued_recall.n_pairs=3", "*.initial_step_size=0.2"])
    assert (changed.train.weight_decay, changed.task.n_pairs) == (0, 3)
    assert omegas(changed) == [0.2, 0.2]
    assert changed.name == "Base, train.weight_decay=0, cued_recall.n_pairs=3, *.initial_step_size=0.2"
    assert omegas(with_settings(RECIPE, ["omega.initial_step_size=0.3"])) == [0.3, 0.3]
    assert omegas(RECIPE) == [None, None]


def test_values_are_json_or_python_or_text():
    changed = with_settings(
        RECIPE,
        ["gate_floor.floors=(0.5, 0.2)", "gate_floor.switches=[0.5]", "train.loss=stablemax", "train.grad_clip=None"],
    )
    (floor,) = changed.remedies
    assert floor == GateFloor(floors=(0.5, 0.2), switches=(0.5,))
    assert (changed.train.loss, changed.train.grad_clip) == ("stablemax", None)
    measured = with_settings(RECIPE, ['train.metrics={"every": 3}'])
    assert measured.train.metrics is not None
    assert with_settings(measured, ["train.metrics.every=4"]).train.metrics == replace(measured.train.metrics, every=4)


def test_nothing_changes_nothing():
    assert with_settings(RECIPE, []) is RECIPE
    whole = RECIPES["text-hybrid"]
    same = with_settings(whole, [f"train.seed={whole.train.seed}"])
    assert replace(same, name=whole.name) == whole


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("weight_decay", "must be OWNER.NAME=VALUE"),
        ("weight_decay=0", "must be OWNER.NAME=VALUE"),
        ("train.weight_decya=0", "did you mean 'weight_decay'?"),
        ("omgea.window=2", "did you mean 'omega'?"),
        ("*.initial_step=2", "did you mean 'initial_step_size'?"),
        ("train.metrics.every=2", "holds no settings here"),
        ("train.steps=many", "train.steps"),
        ("train.steps=0", "at least 1"),
        ("gate_floor.floors=[2]", "must be in"),
    ],
)
def test_mistakes_say_what_and_where(setting: str, says: str):
    with pytest.raises(ValueError, match=r".") as refused:
        with_settings(RECIPE, [setting])
    assert says in str(refused.value)
    assert setting.split("=")[0].split(".")[0] in str(refused.value)
