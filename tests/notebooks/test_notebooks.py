"""The notebooks, run as scripts in this process, with settings of a second."""

import importlib.util
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mnemoscope.examination import Budget
from mnemoscope.experiments.mosaics.moons_training import MoonsTraining
from mnemoscope.training import TrainConfig

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
BUDGET = Budget(
    n_calibration=64,
    n_test=64,
    fit_steps=1,
    joint_fit_steps=1,
    windows=(1,),
    n_resamples=200,
    contribution=False,
    looks=1,
)
TRAINING = TrainConfig(steps=2, batch_size=8, warmup_steps=0, eval_every=2, eval_sequences=16)


def run(name: str, **defs: Any) -> dict[str, Any]:
    """What the cells of a notebook define, with other definitions in the place of some."""
    spec = importlib.util.spec_from_file_location(f"notebook_{name}", NOTEBOOKS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    _, found = module.app.run(defs=defs)
    return dict(found)


def test_each_notebook_is_tested():
    assert sorted(file.stem for file in NOTEBOOKS.glob("*.py")) == ["examine_your_model", "three_moons"]


def test_a_model_of_ones_own_is_examined():
    found = run("examine_your_model", training=TRAINING, budget=BUDGET)
    assert [site.name for site in found["examination"].sites] == ["blocks.0.memory", "blocks.1.memory"]
    assert [route.name for route in found["examination"].routes] == ["blocks.0.attention", "blocks.1.attention"]
    assert found["verdict"]
    assert found["site"].value.name == "blocks.0.memory"
    assert [drawing.title for drawing in found["drawings"]] == [
        "How far back the memory is used",
        "Effect of each intervention",
    ]
    assert {row["Outcome"] for row in found["controls"]} <= {"✓ passed", "✗ failed", "passed", "failed"}


@pytest.mark.long
def test_both_memories_are_missed_while_attention_is_short():
    found = run("examine_your_model")
    assert found["trained"].validation["validation_accuracy"] > 0.9
    verdicts = [site.verdict for site in found["examination"].sites]
    assert all(verdict.startswith("load-bearing") for verdict in verdicts), verdicts
    assert "load-bearing" in found["verdict"]


def test_identities_foresee_the_moons_apart_sooner_than_together():
    errors = {}
    for heads in (1, 3):
        controls = {
            "heads": SimpleNamespace(value=heads),
            "weights": SimpleNamespace(value="identity"),
            "context": SimpleNamespace(value=200),
        }
        found = run("three_moons", n_skies=2, **controls, training=MoonsTraining())
        errors[heads] = dict(zip(found["contexts"], found["error"], strict=True))
    assert errors[3][200] < errors[1][200] / 1.5
    assert errors[3][300] < errors[3][50] / 2
    assert errors[3][300] < found["expected_again"][-1] / 3
    assert len(found["numbers"]) == 30


def test_the_moons_are_trained():
    found = run("three_moons", n_skies=2, training=MoonsTraining(batch_size=2, length=40, steps=2))
    assert math.isfinite(found["deviation"])
    assert found["heads"].value == 3
    assert {name: len(rows) for name, rows in found["sizes"].items()} == {"W_k": 3, "W_v": 3, "W_z": 3}
